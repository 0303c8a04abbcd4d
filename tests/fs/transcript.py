"""The same calls on two directories, and what came of each: a value, or the error's name."""

import errno
import json
import os
import stat
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Case = Callable[["Transcript"], None]


class Transcript:
    """Runs a case below `root` and keeps what it sees."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[str] = []

    def note(self, what: str, value: object) -> None:
        """One observation."""
        self.lines.append(f"{what}: {value!r}")

    def call(self, what: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Calls and notes the outcome; returns the result, or None after an error."""
        try:
            result = function(*arguments, **named)
        except OSError as error:
            self.note(what, errno.errorcode.get(error.errno or 0, str(error)))
            return None
        shown = (
            result if isinstance(result, str | bytes | bool | list | tuple | type(None)) else "ok"
        )
        self.note(what, shown)
        return result

    def status(self, path: Path | int, *, follow: bool = False) -> None:
        """What stat tells, without what must differ."""
        try:
            status = os.stat(path, follow_symlinks=follow or isinstance(path, int))
        except OSError as error:
            self.note(f"stat {self.shown(path)}", errno.errorcode[error.errno or 0])
            return
        is_directory = stat.S_ISDIR(status.st_mode)
        self.note(
            f"stat {self.shown(path)}",
            (
                stat.filemode(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_nlink,
                status.st_rdev,
                0 if is_directory else status.st_size,
            ),
        )

    def shown(self, path: Path | int) -> str:
        """The path without its root."""
        return str(path).replace(str(self.root), "")

    def as_user(
        self,
        uid: int,
        gid: int,
        groups: Sequence[int],
        what: str,
        case: Callable[["Transcript"], None],
    ) -> None:
        """Runs part of a case as somebody else, in a child process."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            inner = Transcript(self.root)
            try:
                os.setgroups(list(groups))
                os.setgid(gid)
                os.setuid(uid)
                case(inner)
            except BaseException:  # noqa: BLE001 -- the parent shows it
                inner.lines.append(traceback.format_exc())
            with os.fdopen(writer, "w") as stream:
                json.dump(inner.lines, stream)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            lines = json.load(stream)
        os.waitpid(child, 0)
        self.lines += [f"{what} as {uid}: {line}" for line in lines]


def run(case: Case, root: Path) -> list[str]:
    """Everything that a case sees below a directory, with a umask of 022."""
    transcript = Transcript(root)
    before = os.umask(0o022)
    try:
        case(transcript)
    finally:
        os.umask(before)
        os.chdir("/")
    return transcript.lines
