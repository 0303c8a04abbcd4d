"""What comes about a client's packets or in pieces: ICMP errors, fragments, redirected frames."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet, Raw
from tests.farm.filter_bench import (
    CLIENT4,
    CLIENT6,
    PEER,
    PEER_MAC,
    SELF,
    STRANGER,
    THIRD,
    THIRD_MAC,
    VIP4,
    VIP6,
    World,
)
from tests.farm.packet_case import (
    DATA4,
    DISPATCHED,
    DISPATCHER,
    GRACE,
    NOBODY,
    NOT_OWNER,
    SYN4,
    SYN6,
    Case,
    dropped,
    ethernet,
    ipv4,
    ipv6,
    onward,
    passed,
    sent,
    tcp,
    udp,
)

from telamon.farm.layout import Mode

REPLY = TCP(sport=80, dport=40000, flags="A")
ANSWER = UDP(sport=53, dport=40000)


def error4(quoted: Packet, source: str = VIP4, **fields: object) -> Packet:
    """A router's error about a packet that the address sent to the client."""
    about = Raw(bytes(IP(src=source, dst=CLIENT4, **fields) / quoted))
    return ethernet() / IP(src="10.9.0.254", dst=VIP4) / ICMP(type=3, code=4) / about


def error6(kind: Packet, quoted: Packet) -> Packet:
    about = Raw(bytes(IPv6(src=VIP6, dst=CLIENT6) / quoted))
    return ethernet() / IPv6(src="fd00::fe", dst=VIP6) / kind / about


TOO_BIG6 = error6(ICMPv6PacketTooBig(), REPLY)
ABOUT_DATAGRAM6 = error6(ICMPv6DestUnreach(), ANSWER)
BROKEN_QUOTE = ipv4(ICMP(type=11) / Raw(bytes(40)))

ICMP_ERRORS = [
    passed("About a settled connection", error4(REPLY), "ICMP_ERROR"),
    dropped("About another's connection", error4(REPLY), "ICMP_ERROR", NOT_OWNER),
    dropped("About a connection that is not here", error4(REPLY), "ICMP_ERROR", GRACE),
    passed("About the owner's datagram", error4(ANSWER), "ICMP_ERROR"),
    dropped("About another's datagram", error4(ANSWER), "ICMP_ERROR", NOT_OWNER),
    passed("Too big, over IPv6", TOO_BIG6, "ICMP_ERROR"),
    dropped("Too big, over IPv6, another's", TOO_BIG6, "ICMP_ERROR", NOT_OWNER),
    passed("Unreachable, over IPv6", ABOUT_DATAGRAM6, "ICMP_ERROR"),
    dropped("About a port that is no service", error4(TCP(sport=22, dport=40000)), "OTHER"),
    dropped("With too little quoted", bytes(error4(REPLY))[:66], "MALFORMED"),
    dropped("With a broken quotation", BROKEN_QUOTE, "MALFORMED"),
    dropped("About what someone else sent", error4(REPLY, "10.9.9.1"), "MALFORMED"),
    dropped("About the middle of a packet", error4(Raw(bytes(40)), frag=8), "MALFORMED"),
    sent("To the owner", onward(PEER_MAC, error4(REPLY)), "REDIRECT_OWNER", DISPATCHER),
]

PAYLOAD = bytes(UDP(sport=1, dport=53) / Raw(bytes(64)))


def first4(identity: int, protocol: int = 17) -> Packet:
    return ipv4(Raw(PAYLOAD[:32]), id=identity, proto=protocol, flags="MF")


def later4(identity: int, protocol: int = 17) -> Packet:
    return ipv4(Raw(PAYLOAD[32:]), id=identity, proto=protocol, frag=4)


def first6(identity: int) -> Packet:
    return ipv6(IPv6ExtHdrFragment(nh=17, id=identity, m=1) / Raw(PAYLOAD[:32]))


def later6(identity: int) -> Packet:
    return ipv6(IPv6ExtHdrFragment(nh=17, id=identity, offset=4) / Raw(PAYLOAD[32:]))


ATOMIC = ipv6(IPv6ExtHdrFragment(nh=17, id=9) / UDP(sport=1, dport=53))
LOST = "FRAGMENT"


def after(first: Packet) -> tuple[bytes]:
    return (bytes(first),)


FRAGMENTS: list[Case] = [
    passed("The first one is a datagram like any", first4(1), "DATAGRAM"),
    passed("The rest follow it", later4(2), "FRAGMENT", before=after(first4(2))),
    dropped("Another's first one", first4(3), "NOT_OWNER", NOT_OWNER),
    dropped("The rest follow it down", later4(4), LOST, NOT_OWNER, after(first4(4))),
    dropped("One that overtook the first", later4(5), LOST),
    dropped("Of another packet than the first", later4(6), LOST, before=after(first4(7))),
    passed("IPv6: the rest follow", later6(8), "FRAGMENT", before=after(first6(8))),
    dropped("IPv6: the rest follow down", later6(9), LOST, NOT_OWNER, after(first6(9))),
    sent(
        "The rest are redirected like the first",
        onward(PEER_MAC, later4(10)),
        "REDIRECT_OWNER",
        DISPATCHER,
        after(first4(10)),
    ),
    dropped(
        "The rest of what no rule covers", later4(11, 132), LOST, NOBODY, after(first4(11, 132))
    ),
    dropped(
        "A first one without whole ports", ipv4(Raw(b"1234"), proto=17, flags="MF"), "MALFORMED"
    ),
    passed("A fragment header on a whole packet", ATOMIC, "DATAGRAM"),
]

DISPATCHER_OWNER = World(mode=Mode.DISPATCH, dispatcher=SELF)
DISPATCHER_NO_LEASE = World(mode=Mode.DISPATCH, dispatcher=SELF, owner=PEER, lease_holds=False)
DISPATCHER_NOBODY = World(mode=Mode.DISPATCH, dispatcher=SELF, owner=0)
DISPATCHER_MOVING = World(mode=Mode.DISPATCH, dispatcher=SELF, owner=0, previous=THIRD)
TO_STRANGER = World(mode=Mode.DISPATCH, dispatcher=SELF, owner=STRANGER)
OWNER_GRACE = World(mode=Mode.DISPATCH, dispatcher=PEER, previous=THIRD)
DISPATCHER_GRACE = World(mode=Mode.DISPATCH, dispatcher=SELF, previous=THIRD)
FORMER_CHAIN = World(mode=Mode.DISPATCH, dispatcher=PEER, owner=PEER, previous=THIRD)
FORMER_LAST = World(mode=Mode.DISPATCH, dispatcher=PEER, owner=PEER, previous=SELF)
NEITHER = World(mode=Mode.DISPATCH, dispatcher=PEER, owner=PEER)
FLOOD_CHAIN = World(owner=PEER, previous=THIRD)


def to_owner(sentence: str, frame: Packet, world: World = DISPATCHER) -> Case:
    return sent(sentence, onward(PEER_MAC, frame), "REDIRECT_OWNER", world)


def to_previous(sentence: str, world: World) -> Case:
    return sent(sentence, onward(THIRD_MAC, DATA4), "REDIRECT_PREVIOUS", world)


DISPATCH = [
    to_owner("The dispatcher sends a SYN to its owner", SYN4),
    to_owner("Over IPv6", SYN6),
    to_owner("Under a tag", ethernet() / Dot1Q(vlan=3) / SYN4.payload),
    to_owner("And a datagram", ipv4(udp())),
    to_owner("And a connection that is not its own", DATA4),
    to_owner("The checksum wraps", ipv4(tcp("S"), id=0x54CF)),
    to_owner("Without a lease as well: that owns nothing", SYN4, DISPATCHER_NO_LEASE),
    passed("What the dispatcher owns it takes", SYN4, "NEW", DISPATCHER_OWNER),
    passed("The owner takes what was sent to it", SYN4, "NEW", DISPATCHED),
    passed("A SYN never goes to a former owner", SYN4, "NEW", OWNER_GRACE),
    dropped("Who is neither drops", SYN4, "NOT_OWNER", NEITHER),
    dropped("A bucket on its way has nowhere to go", SYN4, "NOBODY", DISPATCHER_NOBODY),
    to_previous("An owner in grace sends a connection to who had the bucket", OWNER_GRACE),
    to_previous("So does a dispatcher that owns the bucket", DISPATCHER_GRACE),
    to_previous("So does a former owner that does not have it", FORMER_CHAIN),
    to_previous("So does the dispatcher while the bucket is on its way", DISPATCHER_MOVING),
    dropped("The last of the chain drops", DATA4, "NO_SOCKET", FORMER_LAST),
    dropped("Flood mode never redirects", DATA4, "NO_SOCKET", FLOOD_CHAIN),
    dropped("A member whose MAC is unknown", SYN4, "NEIGHBOUR", TO_STRANGER),
    dropped("The last hop", ipv4(tcp("S"), ttl=1), "TTL", DISPATCHER),
    dropped("The last hop over IPv6", ipv6(tcp("S"), hlim=1), "TTL", DISPATCHER),
]
