"""The PostgreSQL of the lab: the ready-made module, and clients of the lab's network let in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telamon.lab.host import RunningHost

MODULE = Path(__file__).resolve().parents[3] / "modules" / "postgresql"
MODULE_NAME = "postgresql"
DATA = "/var/lib/postgresql/15/main"
EXCLUDES = ("pg_stat_tmp/**", "postmaster.pid", "postmaster.opts")
VIRTUAL_IP = "10.0.0.100"
USER = "postgres"

_CLIENTS = "10.0.0.0/24"
_AMCHECK = "/usr/lib/postgresql/15/bin/pg_amcheck"


def prepare(host: RunningHost) -> None:
    """Makes the data directory on a node, as the installation of PostgreSQL would have."""
    host.run(["install", "--directory", f"--owner={USER}", f"--group={USER}", "--mode=700", DATA])


def admit_clients(host: RunningHost) -> None:
    """Lets the lab's clients in without a password, on the host where the server runs."""
    rule = f"host all all {_CLIENTS} trust"
    host.run(["sh", "-c", f"echo '{rule}' >> {DATA}/pg_hba.conf"])
    query(host, "SELECT pg_reload_conf()")


def query(host: RunningHost, text: str) -> str:
    """Asks the server on this host through its socket."""
    return host.run(
        ["runuser", "-u", USER, "--", "psql", "--no-align", "--tuples-only", f"--command={text}"]
    ).stdout.strip()


def corruptions(host: RunningHost) -> str:
    """What pg_amcheck complains about; empty if the database is sound."""
    done = host.run(
        ["runuser", "-u", USER, "--", _AMCHECK, "--install-missing", "--all", "--heapallindexed"],
        timeout_s=300.0,
        is_checked=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@contextmanager
def held_still(host: RunningHost) -> Iterator[None]:
    """Stops every process of the server where it stands, so that nothing is written."""
    host.run(["pkill", "--signal=STOP", f"--uid={USER}"])
    try:
        yield
    finally:
        host.run(["pkill", "--signal=CONT", f"--uid={USER}"])
