"""Processes and disks that hang instead of dying are waited for as little as dead ones."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from mirrors import DIRECTORY, STEP_TIMEOUT_S, assert_equal_trees, mirrored
from writers import await_promises, writing

from telamon.lab.host import RunningHost
from telamon.lab.mirror import PRIM, SECOND, MirrorInLab
from telamon.lab.oracles import registers
from telamon.lab.process import Daemon
from telamon.lab.root import DISK
from telamon.lab.spec import DEFAULT

# More than all sockets and queues between the nodes take in.
BULK_MB = 120
# Five times `peer_timeout`, asking the peer's agent, and the writing itself.
HELD_UP_S = 25.0

Hang = Callable[[RunningHost], AbstractContextManager[None]]


@contextmanager
def frozen_disk(host: RunningHost) -> Iterator[None]:
    """Nothing is written to the host's disk meanwhile."""
    host.run(["fsfreeze", "--freeze", DISK])
    try:
        yield
    finally:
        host.run(["fsfreeze", "--unfreeze", DISK])


@contextmanager
def frozen_replicator(host: RunningHost) -> Iterator[None]:
    """Until its agent ends it, which does not get an answer."""
    host.signal(Daemon.REPLICATOR, signal.SIGSTOP)
    yield


def write_in_bulk(mirror: MirrorInLab, node: str) -> None:
    bulk = ["dd", "if=/dev/urandom", f"of={DIRECTORY}/bulk", "bs=1M", f"count={BULK_MB}"]
    mirror.lab.host(node).run([*bulk, "conv=fsync"], timeout_s=STEP_TIMEOUT_S)


@pytest.mark.parametrize("hangs", [frozen_replicator, frozen_disk])
def test_the_secondary_hangs(lab_name: str, tmp_path: Path, chosen: int, hangs: Hang) -> None:
    history = tmp_path / "history"
    history.touch()
    with mirrored(lab_name, f"{DEFAULT}disk: 1GiB\n") as mirror:
        with writing(mirror.lab, "n1", history, chosen):
            await_promises(history)
            with hangs(mirror.lab.host("n2")):
                began_s = time.monotonic()
                write_in_bulk(mirror, "n1")
                await_promises(history)
                assert time.monotonic() - began_s < HELD_UP_S
            mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
            await_promises(history)
        assert_equal_trees(mirror)
        assert registers.violations(history, mirror.lab.host("n2").backing(DIRECTORY)) == []


def test_the_primarys_replicator_hangs(lab_name: str, tmp_path: Path, chosen: int) -> None:
    history = tmp_path / "history"
    history.touch()
    with mirrored(lab_name, DEFAULT) as mirror:
        with writing(mirror.lab, "n1", history, chosen), frozen_replicator(mirror.lab.host("n1")):
            mirror.await_states(STEP_TIMEOUT_S, n2=PRIM, n1=SECOND)
        with writing(mirror.lab, "n2", history, chosen):
            await_promises(history)
        assert_equal_trees(mirror)
        assert registers.violations(history, mirror.lab.host("n1").backing(DIRECTORY)) == []
