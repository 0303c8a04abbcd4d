"""Twenty failovers in a row under a working PostgreSQL: no acknowledged commit is lost, and both
trees are the same after every one of them.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import other, sequence
from mirrors import START_TIMEOUT_S, STEP_TIMEOUT_S, assert_equal_trees

from telamon.lab import database
from telamon.lab.demo.clients import Clients, fill_database, running
from telamon.lab.lab import Lab
from telamon.lab.mirror import MirrorInLab
from telamon.lab.oracles import commits
from telamon.lab.spec import DEFAULT

FAILOVERS = 20
PROGRESS_COMMITS = 50


@pytest.fixture
def mirror(lab_name: str) -> Iterator[MirrorInLab]:
    with Lab.up(lab_name, DEFAULT) as lab:
        made = MirrorInLab(lab, database.MODULE_NAME, {database.DATA: database.EXCLUDES})
        for node in lab.spec.nodes:
            database.prepare(lab.host(node.name))
        made.install(database.MODULE)
        made.begin("n1", START_TIMEOUT_S)
        database.admit_clients(lab.host("n1"))
        yield made


def await_progress(clients: Clients) -> None:
    """Waits until commits are acknowledged again and go on being acknowledged."""
    wanted = len(clients.acknowledged()) + PROGRESS_COMMITS
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while len(clients.acknowledged()) < wanted:
        assert time.monotonic() < deadline, "no commit is acknowledged any more"
        time.sleep(0.05)


def assert_nothing_lost(mirror: MirrorInLab, clients: Clients, primary: str) -> None:
    """Both oracles."""
    host = mirror.lab.host(primary)
    promised = clients.acknowledged()
    present = set(map(int, database.query(host, commits.PRESENT).split()))
    assert commits.missing(promised, present) == []
    with database.held_still(host):
        assert_equal_trees(mirror)


@pytest.mark.timeout(1200)
def test_twenty_failovers_lose_nothing(
    mirror: MirrorInLab, tmp_path: Path, chosen: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_database(mirror.lab.host("c1"))
    primary = "n1"
    with running(mirror.lab.host("c1"), tmp_path) as clients:
        for fault in sequence(random.Random(chosen), FAILOVERS):
            await_progress(clients)
            began_ns = time.monotonic_ns()
            fault.strike(mirror, primary)
            await_progress(clients)
            gap = commits.longest_gap(clients.acknowledged(), began_ns)
            fault.heal(mirror, primary)
            primary = other(primary) if fault.moves_primary else primary
            assert_nothing_lost(mirror, clients, primary)
            with capsys.disabled():
                print(f"{fault.name:24} {gap.length_s:6.2f} s without a commit, nothing lost")
    assert database.corruptions(mirror.lab.host(primary)) == ""
