"""A packet fixture of the farm filter: a sentence, the frame, the world, and what becomes of it."""

from dataclasses import dataclass, field

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from tests.farm.filter_bench import (
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    DROP,
    OWN_MAC,
    PASS,
    PEER,
    SELF,
    TRANSMIT,
    VIP4,
    VIP6,
    VIRTUAL_MAC,
    World,
    mac,
)

from telamon.farm.layout import Counter, Mode

OWNER = World()
NOT_OWNER = World(owner=PEER)
NOBODY = World(owner=0)
NO_LEASE = World(lease_holds=False)
NO_MEMBER = World(member=0, owner=0)
GRACE = World(previous=PEER)
FORMER = World(owner=PEER, previous=SELF)
DISPATCHER = World(mode=Mode.DISPATCH, dispatcher=SELF, owner=PEER)
DISPATCHED = World(mode=Mode.DISPATCH, dispatcher=PEER)


@dataclass(frozen=True, slots=True)
class Case:
    """`out` is the frame afterwards, None where it does not matter; `before` came earlier."""

    sentence: str
    frame: bytes
    verdict: int
    counter: Counter
    out: bytes | None = None
    world: World = field(default=OWNER)
    before: tuple[bytes, ...] = ()


def ignored(sentence: str, frame: Packet | bytes, world: World = OWNER) -> Case:
    return Case(sentence, bytes(frame), PASS, Counter.FOREIGN, bytes(frame), world)


def passed(
    sentence: str,
    frame: Packet | bytes,
    counter: str,
    world: World = OWNER,
    before: tuple[bytes, ...] = (),
) -> Case:
    """To the stack, for our own MAC."""
    out = mac(OWN_MAC) + bytes(frame)[6:]
    return Case(sentence, bytes(frame), PASS, Counter[f"PASS_{counter}"], out, world, before)


def dropped(
    sentence: str,
    frame: Packet | bytes,
    counter: str,
    world: World = OWNER,
    before: tuple[bytes, ...] = (),
) -> Case:
    return Case(sentence, bytes(frame), DROP, Counter[f"DROP_{counter}"], None, world, before)


def sent(
    sentence: str,
    exchange: tuple[Packet, Packet],
    counter: str,
    world: World = OWNER,
    before: tuple[bytes, ...] = (),
) -> Case:
    """Answered or redirected: the frame, and what left for it."""
    frame, out = exchange
    return Case(sentence, bytes(frame), TRANSMIT, Counter[counter], bytes(out), world, before)


def ethernet(destination: str = VIRTUAL_MAC) -> Packet:
    return Ether(src=CLIENT_MAC, dst=destination)


def ipv4(payload: Packet, to: str = VIP4, **fields: object) -> Packet:
    return ethernet() / IP(src=CLIENT4, dst=to, **fields) / payload


def ipv6(payload: Packet, to: str = VIP6, **fields: object) -> Packet:
    return ethernet() / IPv6(src=CLIENT6, dst=to, **fields) / payload


def onward(member_mac: str, frame: Packet) -> tuple[Packet, Packet]:
    """A frame, and how a redirecting node sends it: to the member, from itself, one hop fewer."""
    redirected = frame.copy()
    redirected.dst, redirected.src = member_mac, OWN_MAC
    if IP in redirected:
        redirected[IP].ttl -= 1
    else:
        redirected[IPv6].hlim -= 1
    return frame, redirected


def tcp(flags: str, port: int = 80) -> Packet:
    return TCP(sport=40000, dport=port, flags=flags, seq=1, ack=1)


def udp(port: int = 53) -> Packet:
    return UDP(sport=40000, dport=port) / Raw(b"question")


SYN4, SYN6 = ipv4(tcp("S")), ipv6(tcp("S"))
DATA4, DATA6 = ipv4(tcp("PA") / Raw(b"request")), ipv6(tcp("PA") / Raw(b"request"))
