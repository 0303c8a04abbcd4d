"""The client of the acknowledgement oracle for PostgreSQL, on a host that does not fail.

It commits one number after the other, and writes a number and the time (CLOCK_MONOTONIC, ns) to
standard output, a file, flushed, only after the server said that it is there. What was in flight
when a connection broke may be there or not: that number is never used again.

    python -m telamon.lab.oracles.commit_client ADDRESS USER DATABASE >> LOG
"""

import os
import socket
import sys
import time
from collections.abc import Iterable
from itertools import count

import psycopg

_PORT = 5432
_PACE_S = 0.004
_PROBE_TIMEOUT_S = 0.2
_PROBE_PAUSE_S = 0.02
# A server that lost its power answers nothing; these bound how long the client waits for it.
_DEAD_SERVER = "tcp_user_timeout=500 keepalives_idle=1 keepalives_interval=1 keepalives_count=1"


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
            time.sleep(_PROBE_PAUSE_S)


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
