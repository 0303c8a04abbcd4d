"""Answers to "who has this virtual address?": ARP (RFC 826) and neighbour solicitation (RFC 4861).

Pure. The answer binds the address to the virtual MAC, but leaves from the interface's own MAC, so
that no switch ever learns where the virtual one lives. Importing this module loads scapy.
"""

from ipaddress import IPv4Address, IPv6Address

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from telamon.farm.responder import Claim

_REQUEST, _REPLY = 1, 2
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = "33:33:00:00:00:01"
_HOP_LIMIT = 255


def answer(frame: bytes, own_mac: str, claim: Claim) -> bytes | None:
    """Return the answer to a frame, if it is a question and ours to answer."""
    asked = Ether(frame)
    if ARP in asked and asked[ARP].op == _REQUEST:
        return _arp_reply(asked, own_mac, claim)
    if ICMPv6ND_NS in asked and asked[IPv6].hlim == _HOP_LIMIT:
        return _advertisement(asked, own_mac, claim)
    return None


def _arp_reply(asked: Ether, own_mac: str, claim: Claim) -> bytes | None:
    request = asked[ARP]
    target, requester = IPv4Address(request.pdst), IPv4Address(request.psrc)
    if target == requester:  # an announcement, not a question
        return None
    mac = claim(target, requester)
    if mac is None:
        return None
    reply = ARP(op=_REPLY, hwsrc=mac, psrc=target, hwdst=request.hwsrc, pdst=request.psrc)
    return bytes(Ether(src=own_mac, dst=request.hwsrc) / reply)


def _advertisement(asked: Ether, own_mac: str, claim: Claim) -> bytes | None:
    target, requester = IPv6Address(asked[ICMPv6ND_NS].tgt), IPv6Address(asked[IPv6].src)
    mac = claim(target, requester)
    if mac is None:
        return None
    # Duplicate address detection asks without an address of its own: all nodes are told.
    is_probe = requester.is_unspecified
    ether = Ether(src=own_mac, dst=_ALL_NODES_MAC if is_probe else asked.src)
    to = IPv6(src=str(target), dst=str(_ALL_NODES if is_probe else requester), hlim=_HOP_LIMIT)
    advertisement = ICMPv6ND_NA(tgt=str(target), R=0, S=0 if is_probe else 1, O=1)
    return bytes(ether / to / advertisement / ICMPv6NDOptDstLLAddr(lladdr=mac))
