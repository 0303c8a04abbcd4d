"""A program on a host that prints a number after each thing it did: what it printed is promised.

The numbers go to a file of the machine, which no failing host can take back.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from mirrors import STEP_TIMEOUT_S

from telamon.lab.host import RunningHost


@dataclass(frozen=True, slots=True)
class Promises:
    """What the program printed so far."""

    log: Path
    process: Popen[str]

    def all(self) -> set[str]:
        """Every number, as it was printed."""
        return set(self.log.read_text().rpartition("\n")[0].split())

    def last(self) -> int:
        """The highest number, 0 before the first; a line without its end was never printed."""
        complete, _, _ = self.log.read_text().rpartition("\n")
        return int(complete.split()[-1]) if complete else 0

    def await_progress(self, count: int) -> int:
        """Waits until so many more numbers are printed; returns the last."""
        wanted = self.last() + count
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while (reached := self.last()) < wanted:
            assert self.process.poll() is None, "the program ended"
            assert time.monotonic() < deadline, f"no promise after number {reached}"
            time.sleep(0.02)
        return reached


@contextmanager
def promising(host: RunningHost, program: str, log: Path, *words: str) -> Iterator[Promises]:
    """Runs a Python program on a host for the time of the block."""
    with log.open("w") as output:
        process = host.start(
            [sys.executable, "-c", program, *words], stdout=output.fileno(), stderr=None
        )
        try:
            yield Promises(log, process)
        finally:
            RunningHost.end(process)
