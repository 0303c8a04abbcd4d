"""The acknowledgement oracle for PostgreSQL: a commit that the server acknowledged to a client is
there for ever after.

commit_client.py is that client and writes the log. `missing` compares the log with the table,
`longest_gap` is what the client had to endure.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

# What the server is asked for the numbers that it has.
PRESENT = "SELECT number FROM promised"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One commit that was promised, and when (CLOCK_MONOTONIC)."""

    number: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Gap:
    """The time between two acknowledged commits that follow each other."""

    began_ns: int
    ended_ns: int

    @property
    def length_s(self) -> float:
        """Its length."""
        return (self.ended_ns - self.began_ns) / 1e9


def read_log(log: Path) -> list[Acknowledged]:
    """What the client was promised; a last line without its end was never promised to anybody."""
    complete, _, _ = log.read_text().rpartition("\n")
    pairs = (line.split() for line in complete.splitlines())
    return [Acknowledged(int(number), int(at_ns)) for number, at_ns in pairs]


def missing(promised: Iterable[Acknowledged], present: Container[int]) -> list[int]:
    """The numbers that were acknowledged and are not among those in the table."""
    return [one.number for one in promised if one.number not in present]


def longest_gap(promised: Sequence[Acknowledged], since_ns: int = 0) -> Gap:
    """The longest time without an acknowledgement that ended after `since_ns`."""
    gaps = [
        Gap(one.at_ns, next_one.at_ns)
        for one, next_one in pairwise(promised)
        if next_one.at_ns >= since_ns
    ]
    return max(gaps, key=lambda gap: gap.length_s, default=Gap(since_ns, since_ns))
