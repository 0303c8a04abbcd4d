"""A host of the lab that is switched on: run commands in it, read and write its files, signal its
daemons.

Everything goes through the host's process 1: its namespaces and its view of the file system.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from telamon.errors import RefusedError
from telamon.lab.process import Daemon, Process, daemons_of
from telamon.lab.root import DISK

_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def environment() -> dict[str, str]:
    """The environment of commands in a host: the caller's, with this installation's own programs
    and the system's on the path.
    """
    found = os.environ.get("PATH", "").split(":")
    path = dict.fromkeys([str(Path(sys.executable).parent), *filter(None, found), *_SYSTEM_PATH])
    return {**os.environ, "PATH": ":".join(path)}


@dataclass(frozen=True, slots=True)
class RunningHost:
    """One host, from power on to power off."""

    name: str
    init: Process

    def path(self, inside: str | Path) -> Path:
        """Where the machine sees a path of this host."""
        return Path(f"/proc/{self.init.id}/root") / Path(inside).relative_to("/")

    def backing(self, inside: str | Path) -> Path:
        """Where the machine sees a data directory of this host below everything mounted over it."""
        return self.path(DISK / Path(inside).relative_to("/"))

    def write(self, inside: str | Path, text: str, mode: int = 0o644) -> None:
        """Writes a file of the host, safe from a power failure when this returns."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def start(
        self,
        command: Sequence[str | Path],
        extra_environment: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Starts a command in all namespaces of the host, in `/`, as a process group of its own."""
        return subprocess.Popen(
            [*self._enter(), *command],
            env={**environment(), **(extra_environment or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        command: Sequence[str | Path],
        timeout_s: float = 60.0,
        is_checked: bool = True,
        input_text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end. A failure raises RefusedError with its output unless
        `is_checked` is False; running longer than the limit always does.
        """
        stdin = subprocess.DEVNULL if input_text is None else subprocess.PIPE
        words = " ".join(str(word) for word in command)
        with self.start(command, stdin=stdin) as process:
            try:
                output, errors = process.communicate(input_text, timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, errors = process.communicate()
                raise RefusedError(
                    f"{self.name}: `{words}` did not end within {timeout_s:g} s; it said: "
                    f"{output}{errors}"
                ) from None
        if is_checked and process.returncode != 0:
            raise RefusedError(
                f"{self.name}: `{words}` ended with status {process.returncode}: "
                f"{(output + errors).strip()}"
            )
        return subprocess.CompletedProcess(
            list(map(str, command)), process.returncode, output, errors
        )

    @staticmethod
    def end(process: subprocess.Popen[str]) -> None:
        """Kills what `start` started, with its children, and waits for the end."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def daemons(self, daemon: Daemon) -> list[Process]:
        """The running processes of that daemon; every mirror module has a replicator."""
        return daemons_of(self.init, daemon)

    def signal(self, daemon: Daemon, number: signal.Signals) -> None:
        """Sends a signal to the daemon; refused when it does not run."""
        if not [one for one in self.daemons(daemon) if one.send(number)]:
            raise RefusedError(
                f"{self.name} runs no {daemon.program}: `telamon lab list` shows what runs"
            )

    def _enter(self) -> list[str]:
        return [
            "nsenter",
            f"--target={self.init.id}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--",
        ]
