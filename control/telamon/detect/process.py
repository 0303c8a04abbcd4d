"""Whether processes run: the one that a pid file names, or those of a name, command line and user.

Invariants: only processes of the agent's own PID namespace count, so that a container's are not
taken for the host's; one that has ended and waits for its parent does not run; a file's number
counts only if what runs under it is described so too. Reading a process that hangs in the kernel
may hang as well, so a look is a thread of its own.
"""

import contextlib
import pwd
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from telamon.detect.aside import Aside, StillHangsError
from telamon.detect.outcome import GOOD, Outcome, bad, unseen
from telamon.module.check_target import ProcessTarget

PROC = Path("/proc")
PID_FILE_LIMIT_BYTES = 64
COMMAND_LIMIT_BYTES = 4096
"""Longer ones are cut off: a look takes time by the square of it."""
_ENDED = frozenset({"Z", "X", "x"})


@dataclass(frozen=True, slots=True)
class _Process:
    """What is looked at of one process."""

    name: str
    command: str
    user_id: int


class ProcessDetector:
    """Looks at all processes of this host."""

    def __init__(self, target: ProcessTarget) -> None:
        self._target = target
        self._command = re.compile(target.command) if target.command is not None else None
        self._aside: Aside[Outcome] = Aside("looking at processes")

    async def __call__(self) -> Outcome:
        """One look."""
        try:
            return await self._aside.run(self._look)
        except StillHangsError as error:
            return unseen(str(error))

    def _look(self) -> Outcome:
        user_id: int | None = None
        if self._target.user is not None:
            try:
                user_id = pwd.getpwnam(self._target.user).pw_uid
            except KeyError:
                return bad(f"user {self._target.user} does not exist")
        if self._target.pid_file is not None:
            return self._look_at_file(Path(self._target.pid_file), user_id)
        count = sum(self._is_meant(process, user_id) for process in _processes())
        least, most = self._target.at_least, self._target.at_most
        if count < least:
            return bad(f"{count} processes of {self._meant()}, at least {least} must run")
        if most is not None and count > most:
            return bad(f"{count} processes of {self._meant()}, at most {most} may run")
        return GOOD

    def _look_at_file(self, file: Path, user_id: int | None) -> Outcome:
        try:
            with file.open("rb") as stream:
                first = stream.read(PID_FILE_LIMIT_BYTES).split(b"\n")[0].strip()
        except OSError as error:
            return bad(f"{file}: {error.strerror}")
        if not first.isdigit() or int(first) == 0:
            return bad(f"{file} does not begin with a process's number")
        number = int(first)
        process = _read(PROC / str(number))
        if process is None:
            return bad(f"process {number}, named by {file}, does not run")
        if not self._is_meant(process, user_id):
            return bad(f"process {number}, named by {file}, is {process.name!r}")
        return GOOD

    def _is_meant(self, process: _Process, user_id: int | None) -> bool:
        return (
            self._target.name in (None, process.name)
            and user_id in (None, process.user_id)
            and (self._command is None or self._command.search(process.command) is not None)
        )

    def _meant(self) -> str:
        named = [
            f"{key} {value!r}"
            for key in ("name", "command", "user")
            if (value := getattr(self._target, key)) is not None
        ]
        return ", ".join(named)


def _processes() -> Iterator[_Process]:
    own = _namespace(PROC / "self")
    for place in PROC.iterdir():
        if place.name.isdigit() and _namespace(place) == own:
            process = _read(place)
            if process is not None:
                yield process


def _namespace(place: Path) -> str | None:
    """The PID namespace of a process; None if it is gone."""
    try:
        return str((place / "ns" / "pid").readlink())
    except OSError:
        return None


def _read(place: Path) -> _Process | None:
    """A process that runs; None if it has ended."""
    with contextlib.suppress(OSError):
        # The name stands in parentheses and may hold any byte, parentheses too.
        status = (place / "stat").read_bytes().decode(errors="surrogateescape")
        name, _, rest = status.partition("(")[2].rpartition(")")
        if not rest or rest.split()[0] in _ENDED:
            return None
        with (place / "cmdline").open("rb") as stream:
            words = stream.read(COMMAND_LIMIT_BYTES).rstrip(b"\0")
        command = words.replace(b"\0", b" ").decode(errors="surrogateescape")
        return _Process(name, command, place.stat().st_uid)
    return None
