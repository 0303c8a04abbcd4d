"""The clients of the demo: pgbench for load, and the commit logger that believes every promise.

Both run on the client host, through the virtual IP, and go on through every loss of the server.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from telamon.lab import database
from telamon.lab.host import RunningHost
from telamon.lab.oracles.commits import Acknowledged, read_log

_SCALE = 10
_CLIENTS = 4
_TRANSACTIONS = re.compile(r"number of transactions actually processed: (\d+)")
# pgbench ends when it loses its server, and prints what it had done until then.
_FOR_EVER = (
    "while :; do pgbench --host={address} --username={user} --client={clients} --jobs=2 --time=5"
    " --no-vacuum postgres; sleep 0.2; done"
)


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients while they run; their logs are on the machine and survive everything."""

    commit_log: Path
    load_log: Path

    def acknowledged(self) -> list[Acknowledged]:
        """Every commit that was promised so far."""
        return read_log(self.commit_log)

    def transactions(self) -> int:
        """How many transactions of pgbench's ended well, as far as finished rounds tell."""
        return sum(map(int, _TRANSACTIONS.findall(self.load_log.read_text())))


def fill_database(client: RunningHost) -> None:
    """pgbench's tables."""
    client.run(
        [
            "pgbench",
            f"--host={database.VIRTUAL_IP}",
            f"--username={database.USER}",
            "--initialize",
            "--quiet",
            f"--scale={_SCALE}",
            "postgres",
        ],
        timeout_s=300.0,
    )


@contextmanager
def running(client: RunningHost, directory: Path) -> Iterator[Clients]:
    """Starts the clients, and stops them at the end of the block."""
    clients = Clients(directory / "commits.log", directory / "pgbench.log")
    load = _FOR_EVER.format(address=database.VIRTUAL_IP, user=database.USER, clients=_CLIENTS)
    logger = [
        sys.executable,
        "-m",
        "telamon.lab.oracles.commit_client",
        database.VIRTUAL_IP,
        database.USER,
        "postgres",
    ]
    with (
        clients.commit_log.open("w") as commit_log,
        clients.load_log.open("w") as load_log,
        (directory / "commits.errors").open("w") as errors,
    ):
        started = [
            client.start(logger, stdout=commit_log.fileno(), stderr=errors.fileno()),
            client.start(["sh", "-c", load], stdout=load_log.fileno(), stderr=load_log.fileno()),
        ]
        try:
            yield clients
        finally:
            for process in started:
                RunningHost.end(process)
