"""Whether a script of the module exits with 0.

Invariants: a script gets the environment of docs/scripts.md and /dev/null as input; of what it says
the last bytes are kept. One that says too much is killed with its whole process group, as is one
whose time is over. One that cannot be killed is left behind, and no second one begun beside it.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from telamon.detect.outcome import GOOD, Outcome, bad, unseen

KEPT_BYTES = 4096
READ_BYTES = 1 << 16
SAID_LIMIT = 200
OUTPUT_LIMIT_BYTES = 1 << 20
GONE_LIMIT_S = 1.0


@dataclass(slots=True)
class CustomDetector:
    """Looks by one script."""

    script: Path
    arguments: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    _left_behind: asyncio.subprocess.Process | None = field(default=None, init=False)

    async def __call__(self) -> Outcome:
        """One look; when it is cancelled it kills the script first."""
        if self._left_behind is not None and self._left_behind.returncode is None:
            return bad(
                f"script {self.script.name} (process {self._left_behind.pid}) hangs and cannot be"
                " killed: see its stack in /proc"
            )
        output = _Tail()
        try:
            process = await self._spawn(output)
        except OSError as error:
            output.close()
            return unseen(
                f"script {self.script.name} could not be run: {error.strerror}; check that it"
                " exists, is executable and begins with #! and its interpreter"
            )
        output.overflows = lambda: _kill_group(process)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await self._kill(process)
            raise
        finally:
            output.close()
        if output.has_overflowed:
            return bad(
                f"script {self.script.name} said more than {OUTPUT_LIMIT_BYTES >> 20} MiB and was"
                " killed"
            )
        if status == 0:
            return GOOD
        how = f"exited with {status}" if status > 0 else f"died of signal {-status}"
        said = output.last_line()
        return bad(f"script {self.script.name} {how}" + (f": {said}" if said else ""))

    async def _spawn(self, output: "_Tail") -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                self.script,
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.writing,
                stderr=output.writing,
                cwd=self.directory,
                env=dict(self.environment),
                start_new_session=True,
            )
        finally:
            output.close_writing()

    async def _kill(self, process: asyncio.subprocess.Process) -> None:
        _kill_group(process)
        try:
            async with asyncio.timeout(GONE_LIMIT_S):
                await process.wait()
        except TimeoutError:
            self._left_behind = process


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Tail:
    """The end of what is written into a pipe. Reads as it comes, so that no writer ever waits; what
    processes in the background write after the script has ended goes nowhere.
    """

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reading, False)
        self._kept = b""
        self._size_bytes = 0
        self.overflows: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reading, self._read)

    def _read(self) -> None:
        try:
            part = os.read(self._reading, READ_BYTES)
        except BlockingIOError:
            return
        self._kept = (self._kept + part)[-KEPT_BYTES:]
        self._size_bytes += len(part)
        if self.has_overflowed:
            self.overflows()
        if not part or self.has_overflowed:
            self._loop.remove_reader(self._reading)

    @property
    def has_overflowed(self) -> bool:
        """Whether too much was written."""
        return self._size_bytes > OUTPUT_LIMIT_BYTES

    def close_writing(self) -> None:
        """The script has its own."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def close(self) -> None:
        """Takes what is there, and no more."""
        self.close_writing()
        if self._reading >= 0:
            self._read()
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1

    def last_line(self) -> str:
        """The last line that says something."""
        lines = self._kept.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:SAID_LIMIT]
