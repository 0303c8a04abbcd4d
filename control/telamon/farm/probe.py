"""Opens connections half and looks who answers: SYNs to a service, every SYN-ACK that comes back, a
RST for each of them.

It sees what a client sees, on the wire, and needs neither an agent nor the cluster. A farm that
works answers every SYN from exactly one node. Nothing is repeated: a SYN that is lost, or meets a
bucket on its way, shows as unanswered.

Answers are told apart by the Ethernet address that they come from and by their sequence number:
each node draws its own, also behind a router. Importing this module loads scapy.
"""

import asyncio
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from telamon.errors import NetworkError

Address = IPv4Address | IPv6Address

_ETH_P_ALL = 0x0003
_FRAME_BYTES = 2048
_BUFFER_BYTES = 1 << 24
_TCP_HEADER_BYTES = 20
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_AT_ONCE = 64


@dataclass(frozen=True, slots=True, order=True)
class Answer:
    """One that answered a SYN: from which MAC, and the sequence number that it chose."""

    mac: str
    sequence: int


@dataclass(slots=True)
class Probe:
    """One SYN, and what came of it."""

    client: Address
    client_port: int
    answers: set[Answer] = field(default_factory=set)
    refusals: set[str] = field(default_factory=set)  # MACs that sent RST


async def probe(
    target: Address, port: int, count: int, *, sources: Sequence[Address], wait_s: float
) -> list[Probe]:
    """Send `count` SYNs to the target from new ports of these addresses in turn (none: what the
    route takes), and listen for so long after the last.
    """
    interface, usual = await _route(target)
    with ExitStack() as held:
        wire = held.enter_context(_listening(interface))
        chosen = sources or [usual]
        senders = {each: held.enter_context(_sending(each)) for each in chosen}
        probes = {}
        for number in range(count):
            client = chosen[number % len(chosen)]
            own_port = _reserved(held, client)
            probes[client, own_port] = Probe(client, own_port)
        exchange = _Exchange(target, port, wire, senders, probes)
        loop = asyncio.get_running_loop()
        loop.add_reader(wire, exchange.listen)
        try:
            await exchange.send_all()
            await asyncio.sleep(wait_s)
        finally:
            loop.remove_reader(wire)
        exchange.listen()
    return list(probes.values())


class _Exchange:
    """The frames of one run."""

    def __init__(
        self,
        target: Address,
        port: int,
        wire: socket.socket,
        senders: dict[Address, socket.socket],
        probes: dict[tuple[Address, int], Probe],
    ) -> None:
        self._target = target
        self._port = port
        self._wire = wire
        self._senders = senders
        self._probes = probes

    async def send_all(self) -> None:
        """Send every SYN, a few at a time, so that answers are read meanwhile."""
        for number, one in enumerate(self._probes.values()):
            sequence = random.getrandbits(32)
            self._send(one.client, TCP(sport=one.client_port, flags=_SYN, seq=sequence))
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0.01)

    def listen(self) -> None:
        """Take every frame that waits."""
        for frame in _waiting(self._wire):
            if self._target.packed not in frame[:64]:
                continue
            ether = Ether(frame)
            if TCP not in ether or not (IP in ether or IPv6 in ether):
                continue
            network = ether[IP] if IP in ether else ether[IPv6]
            segment = ether[TCP]
            if ip_address(network.src) != self._target or segment.sport != self._port:
                continue
            one = self._probes.get((ip_address(network.dst), segment.dport))
            if one is not None:
                self._note(one, ether.src, segment)

    def _note(self, one: Probe, mac: str, segment: TCP) -> None:
        if segment.flags & _RST:
            one.refusals.add(mac)
        elif segment.flags & (_SYN | _ACK) == _SYN | _ACK:
            one.answers.add(Answer(mac, int(segment.seq)))
            self._send(one.client, TCP(sport=one.client_port, flags=_RST, seq=segment.ack))

    def _send(self, client: Address, segment: TCP) -> None:
        layer = IPv6 if client.version == 6 else IP
        segment.dport = self._port
        # Built behind its IP layer for the checksum; the kernel makes the IP layer itself.
        packet = bytes(layer(src=str(client), dst=str(self._target)) / segment)
        self._senders[client].sendto(packet[-_TCP_HEADER_BYTES:], (str(self._target), 0))


async def _route(target: Address) -> tuple[str, Address]:
    """The interface and the own address by which the target is reached."""
    try:
        async with AsyncIPRoute() as netlink:
            for route in await netlink.route("get", dst=str(target)):
                interface = socket.if_indextoname(route.get("oif"))
                source = ip_address(route.get("prefsrc"))
                if interface != "lo":
                    return interface, source
    except NetlinkError as error:
        raise NetworkError(
            f"{target} cannot be reached from this host: {error.args[1]}; check its routes"
        ) from error
    raise NetworkError(
        f"{target} is an address of this host itself: trace it from a client, a host that is no"
        " node of the farm"
    )


def _listening(interface: str) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    wire.setblocking(False)
    wire.bind((interface, _ETH_P_ALL))
    return wire


def _sending(client: Address) -> socket.socket:
    kind = socket.AF_INET6 if client.version == 6 else socket.AF_INET
    sender = socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_TCP)
    try:
        sender.bind((str(client), 0))
    except OSError as error:
        sender.close()
        raise NetworkError(
            f"{client} is no address of this host: {error.strerror}; name one that it has"
        ) from error
    return sender


def _reserved(held: ExitStack, client: Address) -> int:
    """A port that no connection of this host takes meanwhile."""
    kind = socket.AF_INET6 if client.version == 6 else socket.AF_INET
    holder = held.enter_context(socket.socket(kind, socket.SOCK_STREAM))
    holder.bind((str(client), 0))
    return int(holder.getsockname()[1])


def _waiting(wire: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            frame, (_, _, kind, _, _) = wire.recvfrom(_FRAME_BYTES)
        except BlockingIOError:
            return
        if kind != socket.PACKET_OUTGOING:
            yield frame
