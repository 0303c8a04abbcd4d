"""What clients send: foreign, opening, established, datagrams, uncovered, malformed."""

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_RA,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.layers.sctp import SCTP
from scapy.packet import Raw
from tests.farm.filter_bench import CLIENT4, OTHER_VIP4, OWN_MAC, PEER, PEER_MAC, SELF, VIP4, World
from tests.farm.packet_case import (
    DATA4,
    DATA6,
    FORMER,
    GRACE,
    NO_LEASE,
    NO_MEMBER,
    NOBODY,
    NOT_OWNER,
    SYN4,
    SYN6,
    dropped,
    ethernet,
    ignored,
    ipv4,
    ipv6,
    onward,
    passed,
    sent,
    tcp,
    udp,
)

from telamon.farm.layout import Mode, Other

# Not a virtual address, but with the same bit in `address_bits` as VIP4.
SAME_BIT4 = "9.10.9.100"
NEAR = ipv4(tcp("S"), SAME_BIT4)
THREE_TAGS = Dot1AD(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3)

FOREIGN = [
    ignored("Another protocol", ethernet() / Raw(bytes(60))),
    ignored("IPv4 to another address", ipv4(tcp("S"), "10.9.9.1")),
    ignored("IPv6 to another address", ipv6(tcp("S"), "fd00:9:9::1")),
    ignored("An IPv4 header cut short", bytes(SYN4)[:30]),
    ignored("An IPv6 header cut short", bytes(SYN6)[:50]),
    ignored("IPv4 that says it is version 5", ipv4(tcp("S"), version=5)),
    ignored("IPv4 with an impossible header length", ipv4(tcp("S"), ihl=4)),
    ignored("Three tags are one too many", ethernet() / THREE_TAGS / SYN4.payload),
    ignored("A tag cut short", bytes(ethernet() / Dot1Q(vlan=1))[:16]),
    ignored("A router's advertisement", ethernet() / IPv6(dst="ff02::1") / ICMPv6ND_RA()),
    ignored("An address with a virtual one's bit", NEAR),
    ignored("The same, cut short", bytes(NEAR)[:-4]),
    ignored("The same, a first fragment", ipv4(Raw(bytes(32)), SAME_BIT4, flags="MF")),
    ignored("The same, a later fragment", ipv4(Raw(bytes(32)), SAME_BIT4, frag=4)),
    ignored("Also where there is no member", NEAR, NO_MEMBER),
]

OPTIONS = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting()
AUTHENTICATION = AH(nh=6, payloadlen=4, icv=bytes(12))

OPENING = [
    passed("The owner takes a SYN", SYN4, "NEW"),
    passed("The owner takes a SYN over IPv6", SYN6, "NEW"),
    passed("A SYN for our own MAC stays as it is", ethernet(OWN_MAC) / SYN4.payload, "NEW"),
    passed("A SYN under a tag", ethernet() / Dot1Q(vlan=5) / SYN4.payload, "NEW"),
    passed("Under two", ethernet() / Dot1AD(vlan=5) / Dot1Q(vlan=6) / SYN6.payload, "NEW"),
    passed("Behind IPv4 options", ipv4(tcp("S"), options=[IPOption_NOP()] * 8), "NEW"),
    passed("Behind hop-by-hop options", ipv6(IPv6ExtHdrHopByHop() / tcp("S")), "NEW"),
    passed("Behind a chain of options", ipv6(OPTIONS / tcp("S")), "NEW"),
    passed("Behind an authentication header", ipv6(AUTHENTICATION / tcp("S")), "NEW"),
    passed("A SYN with congestion flags", ipv4(tcp("SEC")), "NEW"),
    dropped("Another's SYN", SYN4, "NOT_OWNER", NOT_OWNER),
    dropped("Another's SYN over IPv6", SYN6, "NOT_OWNER", NOT_OWNER),
    dropped("A SYN of a bucket on its way", SYN4, "NOBODY", NOBODY),
    dropped("An own SYN when the agent is gone", SYN4, "LEASE", NO_LEASE),
    passed("A SYN goes by the owner, not by who was it", SYN4, "NEW", GRACE),
    dropped("A former owner takes no SYN", SYN4, "NOT_OWNER", FORMER),
    dropped("No member takes nothing", SYN4, "NOT_OWNER", NO_MEMBER),
    passed("Affinity by connection", ipv4(tcp("S", 81)), "NEW"),
    dropped("Another address, another table", ipv4(tcp("S", 9999), OTHER_VIP4), "NOT_OWNER"),
    dropped("A table that does not exist", ipv4(tcp("S", 82)), "NO_TABLE"),
]

ESTABLISHED = [
    passed("A settled owner leaves strangers to the stack, which answers RST", DATA4, "SETTLED"),
    passed("The same over IPv6", DATA6, "SETTLED"),
    passed("A RST to a settled owner", ipv4(tcp("R")), "SETTLED"),
    passed("A SYN-ACK opens nothing", ipv4(tcp("SA")), "SETTLED"),
    dropped("An owner in grace does not answer for the former owner", DATA4, "GRACE", GRACE),
    dropped("The same over IPv6", DATA6, "GRACE", GRACE),
    dropped("A former owner without the connection", DATA4, "NO_SOCKET", FORMER),
    dropped("Someone who never owned the bucket", DATA4, "NO_SOCKET", NOT_OWNER),
    dropped("A bucket on its way", DATA4, "NO_SOCKET", NOBODY),
    dropped("Without a lease a settled owner is as good as in grace", DATA4, "GRACE", NO_LEASE),
    dropped("No member has no connection", DATA4, "NOT_OWNER", NO_MEMBER),
]

DATAGRAMS = [
    passed("The owner takes a datagram", ipv4(udp()), "DATAGRAM"),
    passed("The owner takes a datagram over IPv6", ipv6(udp()), "DATAGRAM"),
    dropped("Another's datagram", ipv4(udp()), "NOT_OWNER", NOT_OWNER),
    dropped("A datagram of a bucket on its way", ipv6(udp()), "NOBODY", NOBODY),
    dropped("An own datagram when the agent is gone", ipv4(udp()), "LEASE", NO_LEASE),
    passed("A service of every port", ipv4(SCTP(dport=3868) / Raw(bytes(4))), "DATAGRAM"),
]

BY_OWNER = World(other=Other.OWNER)
BY_ANOTHER = World(other=Other.OWNER, owner=PEER)
BY_GONE = World(other=Other.OWNER, lease_holds=False)
BY_ALL = World(other=Other.PASS, owner=PEER)
BY_DISPATCH = World(other=Other.OWNER, owner=PEER, mode=Mode.DISPATCH, dispatcher=SELF)
PING4, PING6 = ipv4(ICMP()), ipv6(ICMPv6EchoRequest())

UNCOVERED = [
    dropped("Refused where the rule says so", ipv4(tcp("S", 22)), "OTHER"),
    dropped("UDP is not TCP", ipv4(udp(80)), "OTHER"),
    dropped("An echo request", PING4, "OTHER"),
    passed("The owner's stack answers an echo request", PING4, "OTHER", BY_OWNER),
    passed("The owner's stack answers one over IPv6", PING6, "OTHER", BY_OWNER),
    passed("A protocol without ports", ipv4(Raw(bytes(20)), proto=47), "OTHER", BY_OWNER),
    dropped("Only the owner's", PING4, "OTHER", BY_ANOTHER),
    dropped("Not without a lease", PING4, "OTHER", BY_GONE),
    passed("Every node's stack", ipv4(tcp("S", 22)), "OTHER", BY_ALL),
    sent("The dispatcher sends it on", onward(PEER_MAC, PING4), "REDIRECT_OWNER", BY_DISPATCH),
]

SEVEN_OPTIONS = IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / OPTIONS
ENDLESS = SEVEN_OPTIONS / IPv6ExtHdrDestOpt() / tcp("S")
TOO_SMALL = TCP(dport=80, flags="S", dataofs=4)
TOO_LONG = Raw(b"\x06\xff" + bytes(60))

MALFORMED = [
    dropped("TCP cut short", bytes(SYN4)[:-4], "MALFORMED"),
    dropped("TCP with an impossible header length", ipv4(TOO_SMALL), "MALFORMED"),
    dropped("UDP cut short", bytes(ipv4(UDP(dport=53)))[:-1], "MALFORMED"),
    dropped("ICMP cut short", bytes(PING4)[:-2], "MALFORMED"),
    dropped("A chain of extension headers without end", ipv6(ENDLESS), "MALFORMED"),
    dropped("An extension header cut short", bytes(ipv6(IPv6ExtHdrDestOpt()))[:-4], "MALFORMED"),
    dropped("An extension header longer than the packet", ipv6(TOO_LONG, nh=60), "MALFORMED"),
    dropped(
        "Options that leave no room", bytes(ethernet() / IP(src=CLIENT4, dst=VIP4, ihl=15)), "OTHER"
    ),
]
