"""The frames that tell the neighbours where an address lives now: gratuitous ARP and unsolicited
neighbour advertisement.

RFC 5227 section 3 and RFC 4861 section 7.2.6. Both ARP forms are made, request and reply, because
some hosts renew their caches only on one of them. Importing this module loads scapy (about half a
second): the agent does it in a thread at start-up.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "ff02::1"
ALL_NODES_MAC = "33:33:00:00:00:01"
ARP_REQUEST = 1
ARP_REPLY = 2


@lru_cache(maxsize=256)
def announcements(address: IPv4Address | IPv6Address, mac: str) -> tuple[bytes, ...]:
    """The frames that bind `address` to `mac` in the caches of every neighbour."""
    if isinstance(address, IPv4Address):
        return _gratuitous_arp(str(address), mac)
    return (_unsolicited_advertisement(str(address), mac),)


def _gratuitous_arp(address: str, mac: str) -> tuple[bytes, ...]:
    ether = Ether(src=mac, dst=BROADCAST)
    request = ARP(op=ARP_REQUEST, hwsrc=mac, psrc=address, hwdst="00:00:00:00:00:00", pdst=address)
    reply = ARP(op=ARP_REPLY, hwsrc=mac, psrc=address, hwdst=BROADCAST, pdst=address)
    return bytes(ether / request), bytes(ether / reply)


def _unsolicited_advertisement(address: str, mac: str) -> bytes:
    return bytes(
        Ether(src=mac, dst=ALL_NODES_MAC)
        / IPv6(src=address, dst=ALL_NODES, hlim=255)
        / ICMPv6ND_NA(tgt=address, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )
