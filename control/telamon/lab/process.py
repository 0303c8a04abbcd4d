"""Processes as a lab knows them: named so that a reused number is never mistaken for its old owner,
and found by the PID namespace they live in.

Knows nothing of labs and hosts.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_PROC = Path("/proc")


class Daemon(StrEnum):
    """The processes of a node that `lab kill` and `lab pause` aim at."""

    AGENT = "agent"
    REPLICATOR = "replicator"

    @property
    def program(self) -> str:
        """The name under which the daemon is started."""
        return {Daemon.AGENT: "telamond", Daemon.REPLICATOR: "telamon-replicator"}[self]


@dataclass(frozen=True, slots=True)
class _Stat:
    """What /proc/PID/stat says, as far as it matters here."""

    state: str
    started_ticks: int


@dataclass(frozen=True, slots=True)
class Process:
    """One process for all time: its number and when it was started."""

    id: int
    started_ticks: int

    @classmethod
    def numbered(cls, process_id: int) -> "Process":
        """The process that has this number now; ProcessLookupError if none has."""
        stat = _stat(process_id)
        if stat is None:
            raise ProcessLookupError(f"process {process_id} has ended")
        return cls(process_id, stat.started_ticks)

    @property
    def is_alive(self) -> bool:
        """False as soon as the process has ended, even while nobody has reaped it."""
        stat = _stat(self.id)
        return stat is not None and stat.started_ticks == self.started_ticks and stat.state != "Z"

    @property
    def is_paused(self) -> bool:
        """True between SIGSTOP and SIGCONT."""
        stat = _stat(self.id)
        return stat is not None and stat.started_ticks == self.started_ticks and stat.state == "T"

    def send(self, number: signal.Signals) -> bool:
        """Sends a signal to this process and no other; False when it has ended already."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.id)
            try:
                if self.is_alive:
                    signal.pidfd_send_signal(descriptor, number)
                    return True
            finally:
                os.close(descriptor)
        return False

    def wait_until_ended(self, timeout_s: float) -> bool:
        """Waits for the end of a process that need not be a child; False when time ran out."""
        try:
            descriptor = os.pidfd_open(self.id)
        except ProcessLookupError:
            return True
        try:
            if not self.is_alive:
                return True
            return bool(select.select([descriptor], [], [], timeout_s)[0])
        finally:
            os.close(descriptor)


def processes_of(init: Process) -> Iterator[Process]:
    """Every process of the PID namespace that `init` heads, itself included."""
    namespace = _namespace(init.id)
    if namespace is None:
        return
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and _namespace(int(entry.name)) == namespace:
            with suppress(ProcessLookupError):
                yield Process.numbered(int(entry.name))


def daemons_of(init: Process, daemon: Daemon) -> list[Process]:
    """The processes of a host that run the given daemon."""
    return [one for one in processes_of(init) if _runs(one.id, daemon.program)]


def _namespace(process_id: int) -> str | None:
    """None for processes that are gone, and for those that root in a container may not see."""
    try:
        return str((_PROC / str(process_id) / "ns" / "pid").readlink())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def _runs(process_id: int, program: str) -> bool:
    """True if the process is `program` itself, or an interpreter whose script it is."""
    try:
        words = (_PROC / str(process_id) / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(os.fsdecode(word.rpartition(b"/")[2]) == program for word in words[:2])


def _stat(process_id: int) -> _Stat | None:
    try:
        line = (_PROC / str(process_id) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; proc(5) numbers the fields behind it from 3.
    fields = line.rpartition(")")[2].split()
    return _Stat(state=fields[0], started_ticks=int(fields[22 - 3]))
