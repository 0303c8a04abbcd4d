"""The mounts of a module over its directories: the fence and the served file system, as
/proc/self/mountinfo shows them.

The replicator makes and removes them (replicator/src/mount). The agent only bares the directories
of a module that leaves this node: afterwards they are what they were before the module came. Mounts
of others are left alone.
"""

import ctypes
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from telamon.errors import RefusedError, TelamonError

KIND = "fuse.telamon"
MNT_DETACH = 2
MAXIMUM_STACKED = 8
_ESCAPED = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc(5))."""

    id: int
    parent: int
    device: str
    root: Path
    point: Path
    is_read_only: bool
    kind: str
    origin: str


def parse(text: bytes) -> tuple[Mount, ...]:
    """The mount table; lines that do not have its form are left out."""
    return tuple(mount for line in text.splitlines() if (mount := _parse_line(line)) is not None)


def topmost(mounts: Sequence[Mount], point: Path) -> Mount | None:
    """The mount that a walk to `point` ends on, if one is mounted exactly there."""
    here = [mount for mount in mounts if mount.point == point]
    covered = {mount.parent for mount in here}
    return next((mount for mount in here if mount.id not in covered), None)


def is_fence(mounts: Sequence[Mount], mount: Mount) -> bool:
    """Whether it is a read-only bind mount of the directory that its parent shows at the same
    place.
    """
    below = next((other for other in mounts if other.id == mount.parent), None)
    if below is None or not mount.point.is_relative_to(below.point):
        return False
    shown = below.root / mount.point.relative_to(below.point)
    return mount.is_read_only and mount.device == below.device and mount.root == shown


def bare(module: str, directories: Iterable[Path]) -> None:
    """Removes the module's mounts from its directories. The module must not run."""
    for directory in directories:
        for _ in range(MAXIMUM_STACKED):
            mounts = parse(Path("/proc/self/mountinfo").read_bytes())
            top = topmost(mounts, directory)
            if top is None or not (top.kind == KIND or is_fence(mounts, top)):
                break
            if top.kind == KIND and top.origin != f"telamon:{module}":
                raise RefusedError(
                    f"{directory} is served for another module ({top.origin}); remove that module "
                    "first"
                )
            _detach(directory)


def _detach(directory: Path) -> None:
    if _libc.umount2(os.fsencode(directory), MNT_DETACH) != 0:
        code = ctypes.get_errno()
        raise TelamonError(
            f"the mount over {directory} could not be removed: {os.strerror(code)}; run `umount "
            "-l` on it"
        )


def _parse_line(line: bytes) -> Mount | None:
    fields = line.split(b" ")
    try:
        separator = fields.index(b"-")
        return Mount(
            id=int(fields[0]),
            parent=int(fields[1]),
            device=fields[2].decode(),
            root=_path(fields[3]),
            point=_path(fields[4]),
            is_read_only=b"ro" in fields[5].split(b","),
            kind=fields[separator + 1].decode(),
            origin=os.fsdecode(_unescaped(fields[separator + 2])),
        )
    except (ValueError, IndexError):
        return None


def _path(field: bytes) -> Path:
    return Path(os.fsdecode(_unescaped(field)))


def _unescaped(field: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field)
