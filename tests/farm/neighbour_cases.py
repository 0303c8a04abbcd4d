"""Who has the address: ARP requests and neighbour solicitations."""

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet
from tests.farm.filter_bench import (
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    OWN_MAC,
    SELF,
    VIP4,
    VIP6,
    VIRTUAL_MAC,
    World,
)
from tests.farm.packet_case import (
    DISPATCHED,
    DISPATCHER,
    NO_LEASE,
    NO_MEMBER,
    NOT_OWNER,
    dropped,
    ignored,
    sent,
)

from telamon.farm.layout import Mode

DISPATCHER_NO_LEASE = World(mode=Mode.DISPATCH, dispatcher=SELF, lease_holds=False)
BROADCAST = Ether(src=CLIENT_MAC, dst="ff:ff:ff:ff:ff:ff")
TAG = Dot1Q(vlan=7)


def who_has(target: str = VIP4, sender: str = CLIENT4, **fields: object) -> Packet:
    return BROADCAST / ARP(op=1, hwsrc=CLIENT_MAC, psrc=sender, pdst=target, **fields)


def is_at(answer: str, asker: str = CLIENT4) -> Packet:
    reply = ARP(op=2, hwsrc=answer, psrc=VIP4, hwdst=CLIENT_MAC, pdst=asker)
    return Ether(src=OWN_MAC, dst=CLIENT_MAC) / reply


UNDER_TAG = BROADCAST / TAG / who_has().payload
ANSWER_UNDER_TAG = Ether(src=OWN_MAC, dst=CLIENT_MAC) / TAG / is_at(VIRTUAL_MAC).payload
REPLY = Ether(src=CLIENT_MAC, dst=OWN_MAC) / ARP(op=2, hwsrc=CLIENT_MAC, psrc=CLIENT4, pdst=VIP4)
PROBE_ANSWER = is_at(VIRTUAL_MAC, "0.0.0.0")

ARP_CASES = [
    sent("The requester's owner answers", (who_has(), is_at(VIRTUAL_MAC)), "ANSWER_ARP"),
    sent(
        "A probe before taking the address", (who_has(sender="0.0.0.0"), PROBE_ANSWER), "ANSWER_ARP"
    ),
    sent("Under a tag", (UNDER_TAG, ANSWER_UNDER_TAG), "ANSWER_ARP"),
    sent("The dispatcher, with its own MAC", (who_has(), is_at(OWN_MAC)), "ANSWER_ARP", DISPATCHER),
    dropped("Not the requester's owner", who_has(), "ARP", NOT_OWNER),
    dropped("Not without a lease", who_has(), "ARP", NO_LEASE),
    dropped("Not as no member", who_has(), "ARP", NO_MEMBER),
    dropped("Another node's announcement", who_has(sender=VIP4), "ARP"),
    dropped("Not the dispatcher, though the owner", who_has(), "ARP", DISPATCHED),
    dropped("Not a dispatcher without a lease", who_has(), "ARP", DISPATCHER_NO_LEASE),
    ignored("For another address", who_has("10.9.9.1")),
    ignored("A reply", REPLY),
    ignored("Of another hardware", who_has(hwtype=6)),
    ignored("Cut short", bytes(who_has())[:40]),
]

SOURCE = ICMPv6NDOptSrcLLAddr(lladdr=CLIENT_MAC)
NONCE = ICMPv6NDOptUnknown(type=14, len=1, data=b"nonce!")
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"


def solicitation(
    *options: Packet, target: str = VIP6, source: str = CLIENT6, hops: int = 255
) -> Packet:
    question: Packet = ICMPv6ND_NS(tgt=target)
    for option in options:
        question = question / option
    multicast = IPv6(src=source, dst="ff02::1:ff00:64", hlim=hops)
    return Ether(src=CLIENT_MAC, dst="33:33:ff:00:00:64") / multicast / question


def advertisement(
    answer: str, asker: str = CLIENT6, asker_mac: str = CLIENT_MAC, solicited: int = 1
) -> Packet:
    says = ICMPv6ND_NA(tgt=VIP6, R=0, S=solicited, O=1) / ICMPv6NDOptDstLLAddr(lladdr=answer)
    return Ether(src=OWN_MAC, dst=asker_mac) / IPv6(src=VIP6, dst=asker, hlim=255) / says


ASKED = solicitation(SOURCE)
VIRTUAL = advertisement(VIRTUAL_MAC)
TO_ALL = advertisement(VIRTUAL_MAC, ALL_NODES, ALL_NODES_MAC, solicited=0)
PROBE = solicitation(NONCE, source="::")

ND_CASES = [
    sent("The requester's owner answers", (ASKED, VIRTUAL), "ANSWER_ND"),
    sent("A question without option grows", (solicitation(), VIRTUAL), "ANSWER_ND"),
    sent("One with two options shrinks", (solicitation(SOURCE, NONCE), VIRTUAL), "ANSWER_ND"),
    sent("A probe is answered to all", (PROBE, TO_ALL), "ANSWER_ND"),
    sent("The dispatcher, its own MAC", (ASKED, advertisement(OWN_MAC)), "ANSWER_ND", DISPATCHER),
    dropped("Not the requester's owner", ASKED, "ND", NOT_OWNER),
    dropped("Not without a lease", ASKED, "ND", NO_LEASE),
    dropped("Not the dispatcher, though the owner", ASKED, "ND", DISPATCHED),
    dropped("What came through a router is forged", solicitation(SOURCE, hops=254), "ND"),
    ignored("For another address", solicitation(SOURCE, target="fd00:9:9::1")),
]
