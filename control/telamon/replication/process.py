"""The replicator's process: started in a session of its own, adopted again after a restart of the
agent, killed by id.

Invariants: the process outlives the agent and holds no descriptor of it; at most one replicator per
module runs (the process holds a lock on its pid file, taken over from the agent, for as long as it
lives, so that a reused process id is never taken for it); nothing but this exact process is ever
signalled.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from telamon.errors import NotFoundError, TelamonError, TimedOutError

PROGRAM = "telamon-replicator"
PACKAGED = Path("/usr/lib/telamon") / PROGRAM
LOG_LIMIT_BYTES = 8 << 20
KILL_LIMIT_S = 10.0
LAST_WORDS_BYTES = 4096


def find_program() -> Path:
    """The replicator: beside this interpreter's package, on PATH, or where the package puts it."""
    tree = Path(__file__).resolve().parents[3] / "target" / "release" / PROGRAM
    on_path = shutil.which(PROGRAM)
    candidates = [Path(on_path)] if on_path else []
    candidates += [PACKAGED, Path(sys.executable).parent / PROGRAM, tree]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    looked = ", ".join(map(str, candidates))
    raise NotFoundError(
        f"the program {PROGRAM} was not found in PATH nor at {looked}; install or build it"
    )


class ReplicatorProcess:
    """The one replicator process of a module."""

    def __init__(self, module: str, run_directory: Path, log_file: Path, program: Path) -> None:
        self._module = module
        self._program = program
        self._log_file = log_file
        self._pid_file = run_directory / "replicator.pid"
        self._child: subprocess.Popen[bytes] | None = None
        self.control_socket = run_directory / "replicator.sock"

    def running_pid(self) -> int | None:
        """The id of the process that runs now, ours or an earlier agent's."""
        try:
            with self._pid_file.open("rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(stream.read() or b"0") or None
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None

    async def start(self) -> int:
        """Starts the process unless it runs; returns its id."""
        running = self.running_pid()
        return running if running is not None else await asyncio.to_thread(self._spawn)

    async def wait_ended(self) -> None:
        """Returns when no process of this module runs."""
        descriptor = self._open_pidfd()
        if descriptor is not None:
            try:
                await _readable(descriptor)
            finally:
                os.close(descriptor)
        if self._child is not None:
            self._child.poll()

    async def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        descriptor = self._open_pidfd()
        if descriptor is None:
            return
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)
        try:
            async with asyncio.timeout(KILL_LIMIT_S):
                await self.wait_ended()
        except TimeoutError as error:
            raise TimedOutError(
                f"the replicator of module {self._module} is still there {KILL_LIMIT_S:g} s after "
                "SIGKILL; it hangs in the kernel: see its stack in /proc, and restart the node"
            ) from error

    def last_words(self) -> str:
        """How it ended, as far as known: the signal or its last line; and where its log is."""
        status = self._child.poll() if self._child is not None else None
        if status is not None and status < 0:
            return f"killed by {signal.Signals(-status).name} (log: {self._log_file})"
        try:
            with self._log_file.open("rb") as stream:
                stream.seek(max(stream.seek(0, os.SEEK_END) - LAST_WORDS_BYTES, 0))
                lines = stream.read().decode(errors="replace").split("\n")
        except FileNotFoundError:
            lines = []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"{last[:300]} (log: {self._log_file})"

    def _open_pidfd(self) -> int | None:
        pid = self.running_pid()
        if pid is None:
            return None
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        # The lock is looked at again: it proves that the id had not been reused when it was opened.
        if self.running_pid() != pid:
            os.close(descriptor)
            return None
        return descriptor

    def _spawn(self) -> int:
        try:
            self._pid_file.parent.mkdir(parents=True, exist_ok=True)
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            turn_over(self._log_file)
            self.control_socket.unlink(missing_ok=True)
            with (
                os.fdopen(os.open(self._pid_file, os.O_RDWR | os.O_CREAT, 0o600), "rb+") as lock,
                self._log_file.open("ab") as output,
            ):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.truncate(0)
                # The shell records its own id, which exec keeps: an agent killed right here leaves
                # no process behind whose id is not written. We write it as well, not to wait.
                record_and_become = f'echo $$ 1<>/proc/self/fd/{lock.fileno()} && exec "$@"'
                self._child = subprocess.Popen(
                    [
                        "/bin/sh",
                        "-c",
                        record_and_become,
                        "sh",
                        self._program,
                        "--control",
                        self.control_socket,
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                )
                os.pwrite(lock.fileno(), f"{self._child.pid}\n".encode(), 0)
        except OSError as error:
            raise TelamonError(
                f"the replicator of module {self._module} could not be started from "
                f"{self._program}: "
                f"{error.strerror}; check the program, and the space in {self._pid_file.parent}"
            ) from error
        return self._child.pid


def turn_over(path: Path) -> None:
    """Sets a log that has grown large aside as the older one."""
    try:
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".older"))
    except FileNotFoundError:
        return


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        loop.remove_reader(descriptor)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, end)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
