"""Addresses as sockets take them."""

import socket
from ipaddress import IPv4Address, IPv6Address


def destination(
    address: IPv4Address | IPv6Address, port: int
) -> tuple[str, int] | tuple[str, int, int, int]:
    """The destination of a connection or datagram, with the interface of a link-local address."""
    if isinstance(address, IPv4Address):
        return str(address), port
    scope = address.scope_id
    plain = str(address).partition("%")[0]
    if scope is None:
        return plain, port, 0, 0
    return plain, port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
