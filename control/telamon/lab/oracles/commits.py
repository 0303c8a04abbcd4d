"""The acknowledgement oracle for PostgreSQL: a commit that the server acknowledged to a client is
there for ever after.

`promise` is the client, on a host that does not fail. It commits one number after the other, and
writes a number to standard output (a file, flushed) only after the server said that it is there.
What was in flight when a connection broke may be there or not: that number is never used again.
`missing` compares the log with the table, `longest_gap` is what the client had to endure.

    python -m telamon.lab.oracles.commits ADDRESS USER DATABASE >> LOG
"""

import os
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

import psycopg

_PORT = 5432
_PACE_S = 0.004
_PROBE_TIMEOUT_S = 0.2
_PROBE_PAUSE_S = 0.02
# A server that lost its power answers nothing; these bound how long the client waits for it.
_DEAD_SERVER = "tcp_user_timeout=500 keepalives_idle=1 keepalives_interval=1 keepalives_count=1"


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


def missing(promised: Iterable[Acknowledged], connection: psycopg.Connection) -> list[int]:
    """The numbers that were acknowledged and are not in the table."""
    rows = connection.execute("SELECT number FROM promised").fetchall()
    present = {number for (number,) in rows}
    return [one.number for one in promised if one.number not in present]


def longest_gap(promised: Sequence[Acknowledged], since_ns: int = 0) -> Gap:
    """The longest time without an acknowledgement that ended after `since_ns`."""
    gaps = [
        Gap(one.at_ns, next_one.at_ns)
        for one, next_one in pairwise(promised)
        if next_one.at_ns >= since_ns
    ]
    return max(gaps, key=lambda gap: gap.length_s, default=Gap(since_ns, since_ns))


def promise(address: str, user: str, database: str) -> None:
    """Commits for ever, through every loss of the server."""
    numbers = count(time.time_ns())
    while True:
        _await_server(address)
        try:
            with psycopg.connect(
                f"host={address} port={_PORT} user={user} dbname={database} connect_timeout=2"
                f" {_DEAD_SERVER}",
                autocommit=True,
            ) as connection:
                _commit_until_lost(connection, numbers)
        except psycopg.Error as error:
            print(f"{time.monotonic():.3f} {error}", file=sys.stderr)


def _commit_until_lost(connection: psycopg.Connection, numbers: Iterable[int]) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS promised (number bigint PRIMARY KEY)")
    for number in numbers:
        connection.execute("INSERT INTO promised VALUES (%s)", (number,))
        os.write(1, f"{number} {time.monotonic_ns()}\n".encode())
        os.fsync(1)
        time.sleep(_PACE_S)


def _await_server(address: str) -> None:
    """Returns when something listens at the address. A SYN that is lost is sent again only after a
    second, so each try is short and new.
    """
    while True:
        try:
            with socket.create_connection((address, _PORT), _PROBE_TIMEOUT_S):
                return
        except OSError:
            time.sleep(_PROBE_PAUSE_S)


if __name__ == "__main__":
    promise(*sys.argv[1:])
