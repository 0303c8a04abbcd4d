"""The user-space filter's decision: whose packet, and no packet that breaks it."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import inet
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from telamon.farm.hash import BUCKETS, Affinity, bucket
from telamon.farm.layout import AddressRule, Counter, Mode, Other, Service, TableImage
from telamon.farm.ownership import Ownership
from telamon_nfqueue.verdict import Judge, parsed, passes

ME, SEED, NOW = 3, 99, 1000
CLIENT, SERVER = "192.0.2.7", "198.51.100.1"
CLIENT6, SERVER6 = "2001:db8::7", "2001:db8::100"


def judge(owned: set[int], other: Other = Other.OWNER, lease_until: int = NOW + 1) -> Judge:
    buckets = bytearray(2 * BUCKETS)
    for each in owned:
        buckets[2 * each] = ME
    rule = AddressRule(0, Mode.FLOOD, other, bytes(6))
    addresses = [ip_address(SERVER), ip_address(SERVER6)]
    image = TableImage(bytes(buckets), 1, SEED)
    ownership = Ownership(ME, lease_until, dict.fromkeys(addresses, rule), {0: image})
    made = Judge(ownership)
    made.set_services(
        [
            *(Service(each, 6, 80, 0, Affinity.CLIENT, Mode.FLOOD) for each in addresses),
            *(Service(each, 17, 53, 0, Affinity.CONNECTION, Mode.FLOOD) for each in addresses),
            *(Service(each, 6, 0, 0, Affinity.CONNECTION, Mode.FLOOD) for each in addresses),
        ]
    )
    return made


def packet(layer: Packet, client: str = CLIENT, server: str = SERVER) -> bytes:
    ip = IPv6 if ":" in client else inet.IP
    return bytes(ip(src=client, dst=server) / layer)


def test_new_tcp_is_the_owners() -> None:
    syn = packet(inet.TCP(sport=1234, dport=80))
    mine = {bucket(CLIENT, None, SEED)}
    assert judge(mine).verdict(syn, NOW) is Counter.PASS_NEW
    assert judge(set()).verdict(syn, NOW) is Counter.DROP_NOT_OWNER
    assert judge(mine, lease_until=NOW).verdict(syn, NOW) is Counter.DROP_LEASE


def test_affinity_by_connection_takes_the_port() -> None:
    mine = {bucket(CLIENT6, 1234, SEED)}
    question = packet(inet.UDP(sport=1234, dport=53), CLIENT6, SERVER6)
    other_port = packet(inet.UDP(sport=1235, dport=53), CLIENT6, SERVER6)
    assert judge(mine).verdict(question, NOW) is Counter.PASS_DATAGRAM
    assert judge(mine).verdict(other_port, NOW) is Counter.DROP_NOT_OWNER


def test_port_zero_stands_for_every_port_without_its_own_service() -> None:
    mine = {bucket(CLIENT, 1234, SEED)}
    assert judge(mine).verdict(packet(inet.TCP(sport=1234, dport=8080)), NOW) is Counter.PASS_NEW


def test_extension_headers_are_looked_through() -> None:
    syn = packet(IPv6ExtHdrHopByHop() / inet.TCP(sport=1234, dport=80), CLIENT6, SERVER6)
    assert judge({bucket(CLIENT6, None, SEED)}).verdict(syn, NOW) is Counter.PASS_NEW


def test_what_no_service_covers_follows_the_addresss_rule() -> None:
    echo = packet(inet.ICMP())
    mine = {bucket(CLIENT, None, SEED)}
    assert judge(mine).verdict(echo, NOW) is Counter.PASS_OTHER
    assert judge(set()).verdict(echo, NOW) is Counter.DROP_OTHER
    assert judge(mine, Other.DROP).verdict(echo, NOW) is Counter.DROP_OTHER
    assert judge(set(), Other.PASS).verdict(echo, NOW) is Counter.PASS_OTHER
    assert judge(set()).verdict(packet(inet.ICMP(), server="192.0.2.1"), NOW) is Counter.FOREIGN


@given(st.binary(max_size=80), st.sampled_from([0x45, 0x60, 0x4F]))
def test_no_packet_breaks_it(rest: bytes, first: int) -> None:
    data = bytes([first]) + rest
    assert isinstance(judge(set()).verdict(data, NOW), Counter)


@given(st.integers(1, 60))
def test_a_packet_cut_short_drops(length: int) -> None:
    whole = packet(inet.TCP(sport=1, dport=80) / Raw(b"x"), CLIENT6, SERVER6)
    cut = whole[: min(length, 41)]
    assert parsed(cut) is None
    assert not passes(judge(set()).verdict(cut, NOW))
