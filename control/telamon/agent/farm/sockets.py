"""The TCP connections of this host to virtual addresses, as the kernel lists them.

A connection that only waits for its end (TIME-WAIT) does not count: nobody misses it.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from telamon.farm.layout import Address
from telamon.net.ss import ask_ss

SS_TIMEOUT_S = 10.0
_NO_CONNECTION = frozenset({"LISTEN", "UNCONN", "TIME-WAIT"})


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection of a client."""

    address: Address  # the virtual one
    port: int
    client: Address
    client_port: int


async def connections(addresses: Collection[Address]) -> list[Connection]:
    """The connections of other hosts to these addresses."""
    listed = await ask_ss("--all", attempt="list the connections", limit_s=SS_TIMEOUT_S)
    return await asyncio.to_thread(_parsed, listed, frozenset(addresses))


def _parsed(output: str, addresses: frozenset[Address]) -> list[Connection]:
    found = []
    for line in output.splitlines():
        state, _, _, local, peer, *_ = line.split()
        if state in _NO_CONNECTION:
            continue
        address, port = _endpoint(local)
        if address not in addresses:
            continue
        client, client_port = _endpoint(peer)
        # The node's own look at its application goes over lo and is no client.
        if client not in addresses:
            found.append(Connection(address, port, client, client_port))
    return found


def _endpoint(text: str) -> tuple[Address, int]:
    host, _, port = text.rpartition(":")
    address = ip_address(host.strip("[]").partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address, int(port)
