"""Announcements as they arrive at the other end of the wire, dissected."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from telamon.errors import NetworkError
from telamon.net.addresses import Interface, interface_named
from telamon.net.announce import announce_once, keep_announcing

pytestmark = pytest.mark.usefixtures("network_namespace")

ETH_P_ALL = 3
V4 = ip_address("10.9.0.100")
V6 = ip_address("fd09::100")


@pytest.fixture
def wire(network_namespace: None) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as far:
        far.bind(("far0", ETH_P_ALL))
        far.settimeout(5)
        yield far


def _frames(wire: socket.socket, count: int) -> list[Ether]:
    found: list[Ether] = []
    for _ in range(1000):
        frame = Ether(wire.recv(2048))
        if frame.haslayer(ARP) or frame.haslayer(ICMPv6ND_NA):
            found.append(frame)
        if len(found) == count:
            return found
    raise AssertionError(f"only {len(found)} of {count} announcements arrived")


async def test_ipv4_is_announced_as_request_and_as_reply(wire: socket.socket) -> None:
    near = await interface_named("near0")
    assert announce_once(near, [V4]) == 2
    frames = _frames(wire, 2)
    assert [frame[ARP].op for frame in frames] == [1, 2]
    for frame in frames:
        assert frame.dst == "ff:ff:ff:ff:ff:ff"
        assert frame.src == frame[ARP].hwsrc == near.mac
        assert frame[ARP].psrc == frame[ARP].pdst == str(V4)


async def test_ipv6_is_announced_as_an_overriding_advertisement(wire: socket.socket) -> None:
    near = await interface_named("near0")
    assert announce_once(near, [V6]) == 1
    (frame,) = _frames(wire, 1)
    assert frame.dst == "33:33:00:00:00:01"
    assert (frame[IPv6].src, frame[IPv6].dst, frame[IPv6].hlim) == (str(V6), "ff02::1", 255)
    advertisement = frame[ICMPv6ND_NA]
    assert (advertisement.tgt, advertisement.O, advertisement.S) == (str(V6), 1, 0)
    assert frame[ICMPv6NDOptDstLLAddr].lladdr == near.mac
    recomputed = frame.copy()
    del recomputed[ICMPv6ND_NA].cksum
    assert Ether(bytes(recomputed))[ICMPv6ND_NA].cksum == advertisement.cksum


async def test_an_announcement_is_repeated_because_frames_are_lost(wire: socket.socket) -> None:
    near = await interface_named("near0")
    async with asyncio.timeout(5):
        announcing = asyncio.create_task(keep_announcing(near, [V4, V6]))
        frames = await asyncio.to_thread(_frames, wire, 9)
        announcing.cancel()
    assert sum(frame.haslayer(ARP) for frame in frames) == 6


async def test_a_link_without_ethernet_has_nothing_to_announce() -> None:
    assert announce_once(await interface_named("lo"), [V4]) == 0


async def test_a_missing_link_is_an_error_with_a_cure() -> None:
    gone = Interface(index=99, name="gone0", mac="02:00:00:00:00:01", is_up=True)
    with pytest.raises(NetworkError, match="check that the interface is up"):
        announce_once(gone, [V4])
