"""Plain files: what fsync promised survives the loss of the node that promised it."""

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import FAULTS, other, seed
from mirrors import DIRECTORY, STEP_TIMEOUT_S, assert_equal_trees, mirrored

from telamon.lab.host import RunningHost
from telamon.lab.mirror import MirrorInLab
from telamon.lab.oracles import registers
from telamon.lab.spec import DEFAULT

PROGRESS = 200


@pytest.fixture
def mirror(lab_name: str) -> Iterator[MirrorInLab]:
    with mirrored(lab_name, DEFAULT) as made:
        yield made


@contextmanager
def application(mirror: MirrorInLab, node: str, history: Path, chosen: int) -> Iterator[None]:
    """The writer on the primary; its history is kept outside of the host."""
    words = [sys.executable, "-m", "telamon.lab.oracles.registers", DIRECTORY]
    with history.open("a") as output, (history.with_suffix(".errors")).open("a") as errors:
        process = mirror.lab.host(node).start(
            [*words, str(chosen), str(time.time_ns())],
            stdout=output.fileno(),
            stderr=errors.fileno(),
        )
        try:
            yield
        finally:
            RunningHost.end(process)


def await_promises(history: Path) -> None:
    wanted = registers.promises(history) + PROGRESS
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while registers.promises(history) < wanted:
        assert time.monotonic() < deadline, "no fsync is acknowledged any more"
        time.sleep(0.05)


@pytest.mark.timeout(900)
def test_every_promise_is_kept_through_every_fault(
    mirror: MirrorInLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = seed()
    with capsys.disabled():
        print(f"\nTELAMON_SEED={chosen}")
    history = tmp_path / "history"
    history.touch()
    primary = "n1"
    faults = list(FAULTS)
    random.Random(chosen).shuffle(faults)
    for fault in faults:
        with application(mirror, primary, history, chosen):
            await_promises(history)
            fault.strike(mirror, primary)
        fault.heal(mirror, primary)
        primary = other(primary) if fault.moves_primary else primary
        served = mirror.lab.host(primary).path(DIRECTORY)
        assert registers.violations(history, served) == [], fault.name
        assert_equal_trees(mirror)
