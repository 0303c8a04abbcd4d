"""Every branch of the farm filter, by fixtures, in the kernel (BPF_PROG_TEST_RUN)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from tests.farm.filter_bench import (
    CLIENT_MAC,
    CONNECTION_TABLE,
    PEER,
    SELF,
    TABLE,
    VIP4,
    VIP6,
    VIRTUAL_MAC,
    FilterBench,
    World,
    attached_bench,
    make_interface,
    mounted_bpffs,
)
from tests.farm.neighbour_cases import ARP_CASES, ND_CASES
from tests.farm.own_network import own_network
from tests.farm.packet_case import Case
from tests.farm.path_cases import DISPATCH, FRAGMENTS, ICMP_ERRORS
from tests.farm.traffic_cases import (
    DATAGRAMS,
    ESTABLISHED,
    FOREIGN,
    MALFORMED,
    OPENING,
    UNCOVERED,
)

from telamon.farm.hash import BUCKETS
from telamon.farm.layout import Counter, TableImage

CASES: dict[str, list[Case]] = {
    "foreign": FOREIGN,
    "opening": OPENING,
    "established": ESTABLISHED,
    "datagram": DATAGRAMS,
    "uncovered": UNCOVERED,
    "malformed": MALFORMED,
    "error": ICMP_ERRORS,
    "fragment": FRAGMENTS,
    "dispatch": DISPATCH,
    "arp": ARP_CASES,
    "nd": ND_CASES,
}
ALL = [(kind, case) for kind, cases in CASES.items() for case in cases]
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "farm_hash.json").read_text()
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilterBench]:
    with own_network(), mounted_bpffs(tmp_path_factory.mktemp("bpffs")) as pins:
        make_interface()
        with attached_bench(pins) as ready:
            yield ready


@pytest.mark.parametrize(
    "case", [case for _, case in ALL], ids=[f"{kind}: {case.sentence}" for kind, case in ALL]
)
def test_packet(bench: FilterBench, case: Case) -> None:
    bench.arrange(case.world)
    for earlier in case.before:
        bench.put(earlier)
    verdict, frame, counter = bench.put(case.frame)
    assert (verdict, counter) == (case.verdict, case.counter)
    if case.out is not None:
        assert frame == case.out, Ether(frame).show(dump=True)


def test_every_counter_but_those_of_sockets_is_met() -> None:
    """Sockets have a file of their own, and a bound test: what is listed nowhere is untested."""
    met = {case.counter for _, case in ALL}
    assert set(Counter) - met == {Counter.PASS_SOCKET, Counter.PASS_COOKIE}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['key']}-{vector['seed']}")
def test_hash_agrees_with_the_vectors(bench: FilterBench, vector: dict[str, Any]) -> None:
    """We own the vector's bucket alone: it passes. We own all others: it drops."""
    bench.arrange(World())
    table, port = (TABLE, 80) if vector["port"] is None else (CONNECTION_TABLE, 81)
    source = vector["client"]
    network = IPv6(src=source, dst=VIP6) if ":" in source else IP(src=source, dst=VIP4)
    transport = TCP(sport=vector["port"] or 40000, dport=port, flags="S")
    frame = Ether(src=CLIENT_MAC, dst=VIRTUAL_MAC) / network / transport
    for inside, outside, expected in (
        (SELF, PEER, Counter.PASS_NEW),
        (PEER, SELF, Counter.DROP_NOT_OWNER),
    ):
        buckets = bytearray(bytes([outside, 0]) * BUCKETS)
        buckets[2 * vector["bucket"]] = inside
        bench.show(table, TableImage(bytes(buckets), 1, vector["seed"]))
        assert bench.put(frame)[2] is expected
