"""An application that keeps registers on the primary, and its history outside of the host."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirrors import DIRECTORY, STEP_TIMEOUT_S

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.oracles import registers

PROGRESS_PROMISES = 200


@contextmanager
def writing(lab: Lab, node: str, history: Path, seed: int) -> Iterator[None]:
    """Runs the writer on a node."""
    words = [sys.executable, "-m", "telamon.lab.oracles.registers", DIRECTORY]
    with history.open("a") as output, history.with_suffix(".errors").open("a") as errors:
        process = lab.host(node).start(
            [*words, str(seed), str(time.time_ns())],
            stdout=output.fileno(),
            stderr=errors.fileno(),
        )
        try:
            yield
        finally:
            RunningHost.end(process)


def await_promises(history: Path) -> float:
    """Waits until fsyncs are acknowledged and go on; returns how long that took, in seconds."""
    began_s = time.monotonic()
    wanted = registers.promises(history) + PROGRESS_PROMISES
    while registers.promises(history) < wanted:
        waited_s = time.monotonic() - began_s
        assert waited_s < STEP_TIMEOUT_S, "no fsync is acknowledged any more"
        time.sleep(0.02)
    return time.monotonic() - began_s
