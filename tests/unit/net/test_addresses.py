"""Virtual IPs on real links of a namespace."""

import socket
import subprocess
import time
from ipaddress import ip_address, ip_interface

import pytest

from telamon.errors import NetworkError
from telamon.net.addresses import (
    add_address,
    assigned_addresses,
    interface_named,
    interface_with,
    remove_address,
)

pytestmark = pytest.mark.usefixtures("network_namespace")

V4 = ip_interface("10.9.0.100/24")
V6 = ip_interface("fd09::100/64")


def _ip(command: str) -> list[str]:
    shown = subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)
    return shown.stdout.splitlines()


async def test_the_interface_is_found_by_its_addresses_and_by_name() -> None:
    found = await interface_with(ip_address("10.9.0.1"))
    assert found == await interface_with(ip_address("fd09::1"))
    assert found == await interface_named("near0")
    assert found.is_up
    assert found.mac is not None


async def test_loopback_has_nobody_to_tell() -> None:
    assert (await interface_named("lo")).mac is None


async def test_a_missing_interface_is_an_error_with_a_cure() -> None:
    with pytest.raises(NetworkError, match=r"eth9 does not exist.*cluster\.yaml"):
        await interface_named("eth9")
    with pytest.raises(NetworkError, match=r"10\.8\.0\.1.*cluster\.yaml"):
        await interface_with(ip_address("10.8.0.1"))


@pytest.mark.parametrize("address", [V4, V6])
async def test_adding_and_removing_are_idempotent(address) -> None:
    interface = await interface_named("near0")
    for _ in range(2):
        await add_address(interface, address)
    assert address in await assigned_addresses()
    for _ in range(2):
        await remove_address(interface, address)
    assert address not in await assigned_addresses()


async def test_an_address_is_usable_at_once() -> None:
    interface = await interface_named("near0")
    started = time.monotonic()
    for address in (V4, V6):
        await add_address(interface, address)
        with socket.create_server(
            (str(address.ip), 0), family=socket.AF_INET6 if address.version == 6 else socket.AF_INET
        ):
            pass
    # A generous deadline: an address under duplicate address detection takes at least a second.
    assert time.monotonic() - started < 0.9


async def test_an_ipv6_virtual_address_is_never_a_source_of_our_own_connections() -> None:
    await add_address(await interface_named("near0"), V6)
    line = next(line for line in _ip("-6 address show dev near0") if "fd09::100" in line)
    assert "deprecated" in line
    assert "tentative" not in line


async def test_an_interface_that_went_away_is_an_error_when_adding() -> None:
    interface = await interface_named("near0")
    _ip("link del near0")
    with pytest.raises(NetworkError, match=r"could not add 10\.9\.0\.100/24 to near0"):
        await add_address(interface, V4)
    await remove_address(interface, V4)
