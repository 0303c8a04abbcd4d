"""What the farm filter costs a packet, by BPF_PROG_TEST_RUN, and what a switch of its table costs.

The reference of a packet is a program of two instructions that passes everything, so that the
harness itself is in both figures. The packets and their worlds are those of tests/farm.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.farm.filter_bench import (
    SELF,
    TABLE,
    FilterBench,
    World,
    attached_bench,
    make_interface,
    mounted_bpffs,
    uniform,
)
from tests.farm.own_network import own_network
from tests.farm.packet_case import DATA4, DATA6, GRACE, NOT_OWNER, OWNER, SYN4, SYN6, ipv4, tcp
from tests.farm.traffic_cases import NEAR

from bench.figure import Figure, Goal, GoalKind
from telamon.bpf.program import Program, assemble_xdp

PASS_EVERYTHING = bytes.fromhex("b7000000020000009500000000000000")
RUNS = 25
REPEAT = 100_000
SWITCHES = 200

FOREIGN_NS, DECISION_NS, SOCKET_NS = 35, 80, 150
PACKETS: list[tuple[str, World, bytes, float]] = [
    (
        "filter: frame of another address",
        OWNER,
        bytes(ipv4(tcp("S"), "10.9.9.1")),
        FOREIGN_NS,
    ),
    ("filter: another address, same bit", OWNER, bytes(NEAR), DECISION_NS),
    ("filter: own SYN", OWNER, bytes(SYN4), DECISION_NS),
    ("filter: own SYN, IPv6", OWNER, bytes(SYN6), DECISION_NS),
    ("filter: another's SYN", NOT_OWNER, bytes(SYN4), DECISION_NS),
    ("filter: settled connection", OWNER, bytes(DATA4), DECISION_NS),
    ("filter: socket lookup", GRACE, bytes(DATA4), SOCKET_NS),
    ("filter: socket lookup, IPv6", GRACE, bytes(DATA6), SOCKET_NS),
]


def decisions() -> Iterator[Figure]:
    """Nanoseconds for each kind of packet. All kinds take turns, so that a slow stretch of the
    machine is in a few runs of each and not in all of one.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    with _bench() as bench, assemble_xdp("pass_everything", PASS_EVERYTHING) as reference:
        for _ in range(RUNS):
            for name, world, frame, _goal_ns in PACKETS:
                bench.arrange(world)
                pair = (bench.run_ns(frame, REPEAT), _run_ns(reference, frame))
                pairs.setdefault(name, []).append(pair)
    for name, _world, _frame, goal_ns in PACKETS:
        yield Figure(name, "ns", *_median(pairs[name]), Goal(GoalKind.AT_MOST_MORE, goal_ns))


def table_switch() -> Iterator[Figure]:
    """Microseconds until packets see a new table of 65536 buckets; the reference is its copying."""
    with _bench() as bench:
        images = (uniform(SELF, 0), uniform(SELF, 2))

        def switch() -> float:
            started_ns = time.perf_counter_ns()
            for number in range(SWITCHES):
                bench.filter.switch_table(TABLE, images[number % 2])
            return (time.perf_counter_ns() - started_ns) / SWITCHES / 1000

        def copy() -> float:
            started_ns = time.perf_counter_ns()
            for number in range(SWITCHES):
                bytearray(images[number % 2].buckets)
            return (time.perf_counter_ns() - started_ns) / SWITCHES / 1000

        ours, reference = _side_by_side(switch, copy)
        goal = Goal(GoalKind.AT_MOST_MORE, 1000)
        yield Figure("filter: table switch", "us", ours, reference, goal)


def _side_by_side(ours: Callable[[], float], reference: Callable[[], float]) -> tuple[float, float]:
    return _median([(ours(), reference()) for _ in range(RUNS)])


def _median(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """The pair with the median difference: both of one moment."""
    return sorted(pairs, key=lambda pair: pair[0] - pair[1])[len(pairs) // 2]


def _run_ns(program: Program, frame: bytes) -> float:
    return program.test_run(frame, REPEAT).duration_ns


@contextmanager
def _bench() -> Iterator[FilterBench]:
    with (
        tempfile.TemporaryDirectory(prefix="telamon-bench-") as place,
        own_network(),
        mounted_bpffs(Path(place)) as pins,
    ):
        make_interface()
        with attached_bench(pins) as bench:
            yield bench
