"""Connections of an address are reset, those of its neighbour are not."""

import asyncio
import socket
from ipaddress import ip_address

import pytest

from telamon.net.connections import ResetOutcome, reset_connections

pytestmark = pytest.mark.usefixtures("network_namespace")


def _connected(address: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        # From loopback, so that only the server's end bears the address.
        source = "::1" if ":" in address else "127.0.0.1"
        client = socket.create_connection(server.getsockname()[:2], source_address=(source, 0))
        accepted, _ = server.accept()
    for end in (client, accepted):
        end.settimeout(5)
    return client, accepted


@pytest.mark.parametrize(("leaving", "staying"), [("10.9.0.1", "127.0.0.1"), ("fd09::1", "::1")])
async def test_only_the_connections_of_the_address_are_reset(leaving: str, staying: str) -> None:
    client, server = _connected(leaving)
    other_client, other_server = _connected(staying)
    with client, server, other_client, other_server:
        assert await reset_connections(ip_address(leaving)) == ResetOutcome(1, 0)
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(client.recv, 1)
        other_client.sendall(b"alive")
        assert await asyncio.to_thread(other_server.recv, 5) == b"alive"


async def test_an_address_without_connections_has_nothing_to_reset() -> None:
    assert await reset_connections(ip_address("10.9.0.1")) == ResetOutcome(0, 0)
