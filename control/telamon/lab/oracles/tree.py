"""The dual-tree oracle: are two directory trees the same, in everything a program can see?

Compared are names (as bytes), type, owner, mode, modification time (ns), size, content, holes, link
targets, device numbers, extended attributes (and with them ACLs), and which names are links to one
object. Not compared are access and change times, inode numbers, what `Excludes` leaves out, and
which parts of a reserved range (extents.py) are written zeroes.

The trees must hold still meanwhile. Run it on the backing trees, below mounts and fences.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from telamon.lab.oracles.exclude import Excludes
from telamon.lab.oracles.extents import Range, extents

_CHUNK_BYTES = 1 << 20
_SHOWN_BYTES = 16
_SHOWN_DIFFERENCES = 40


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same; `path` is relative to the trees' roots."""

    path: bytes
    aspect: str
    left: str
    right: str

    def __str__(self) -> str:
        name = os.fsdecode(self.path or b".")
        return f"{name!a}: {self.aspect}: {self.left} | {self.right}"


@dataclass(frozen=True, slots=True)
class _Object:
    status: os.stat_result
    # The first name, in order, of the same object: equal trees link the same names together.
    first_name: bytes


class _Tree:
    """All names below a root."""

    def __init__(self, root: Path, excludes: Excludes) -> None:
        self.root = os.fsencode(root)
        self._excludes = excludes
        self._first_names: dict[int, bytes] = {}
        self.objects = {name: self._object(name, status) for name, status in self._walk()}

    def path(self, name: bytes) -> bytes:
        return os.path.join(self.root, name)  # noqa: PTH118 -- Path cannot hold every name

    def _object(self, name: bytes, status: os.stat_result) -> _Object:
        return _Object(status, self._first_names.setdefault(status.st_ino, name))

    def _walk(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Every name with its status, in an order that depends on names only."""
        yield b"", os.stat(self.root)  # noqa: PTH116
        pending = [b""]
        while pending:
            directory = pending.pop()
            with os.scandir(self.path(directory)) as found:
                names = sorted(entry.name for entry in found)
            for name in names:
                relative = directory + b"/" + name if directory else name
                if self._excludes.leaves_out(relative):
                    continue
                status = os.lstat(self.path(relative))
                yield relative, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(relative)


def compare(left: Path, right: Path, excludes: Excludes | None = None) -> list[Difference]:
    """Everything in which the trees differ; empty if they are the same."""
    leave_out = excludes or Excludes.of(())
    one, two = _Tree(left, leave_out), _Tree(right, leave_out)
    differences = []
    for name in sorted(one.objects.keys() | two.objects.keys()):
        first, second = one.objects.get(name), two.objects.get(name)
        if first is None or second is None:
            here, there = ("missing", "present") if first is None else ("present", "missing")
            differences.append(Difference(name, "name", here, there))
            continue
        has_loose_time = leave_out.holds_left_out(name)
        differences += _status_differences(name, first, second, has_loose_time)
        differences += _extended_differences(name, one.path(name), two.path(name))
        differences += _content_differences(name, first, second, one.path(name), two.path(name))
    return differences


def describe(differences: Sequence[Difference]) -> str:
    """The differences for a reader, the first of them if there are many."""
    lines = [str(one) for one in differences[:_SHOWN_DIFFERENCES]]
    if len(differences) > _SHOWN_DIFFERENCES:
        lines.append(f"... and {len(differences) - _SHOWN_DIFFERENCES} more")
    return "\n".join(lines)


def _status_differences(
    name: bytes, one: _Object, two: _Object, has_loose_time: bool
) -> Iterator[Difference]:
    first, second = one.status, two.status
    if stat.S_IFMT(first.st_mode) != stat.S_IFMT(second.st_mode):
        yield Difference(name, "type", stat.filemode(first.st_mode), stat.filemode(second.st_mode))
        return
    for aspect, here, there in (
        ("mode", oct(first.st_mode), oct(second.st_mode)),
        ("owner", f"{first.st_uid}:{first.st_gid}", f"{second.st_uid}:{second.st_gid}"),
        ("device", first.st_rdev, second.st_rdev),
        ("linked with", os.fsdecode(one.first_name), os.fsdecode(two.first_name)),
    ):
        if here != there:
            yield Difference(name, aspect, f"{here}", f"{there}")
    if first.st_mtime_ns != second.st_mtime_ns and not has_loose_time:
        yield Difference(name, "mtime (ns)", f"{first.st_mtime_ns}", f"{second.st_mtime_ns}")
    # A directory's number also counts subdirectories that are left out.
    if not stat.S_ISDIR(first.st_mode) and first.st_nlink != second.st_nlink:
        yield Difference(name, "number of links", f"{first.st_nlink}", f"{second.st_nlink}")
    if stat.S_ISREG(first.st_mode) and first.st_size != second.st_size:
        yield Difference(name, "size", f"{first.st_size}", f"{second.st_size}")


def _extended_differences(name: bytes, left: bytes, right: bytes) -> Iterator[Difference]:
    here, there = (
        {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        }
        for path in (left, right)
    )
    for key in sorted(here.keys() | there.keys()):
        if here.get(key) != there.get(key):
            yield Difference(name, f"xattr {key}", _shown(here.get(key)), _shown(there.get(key)))


def _content_differences(
    name: bytes, one: _Object, two: _Object, left: bytes, right: bytes
) -> Iterator[Difference]:
    kinds = {stat.S_IFMT(one.status.st_mode), stat.S_IFMT(two.status.st_mode)}
    if kinds == {stat.S_IFLNK}:
        targets = os.readlink(left), os.readlink(right)  # noqa: PTH115
        if targets[0] != targets[1]:
            yield Difference(name, "target", _shown(targets[0]), _shown(targets[1]))
    # Of several names for one object the first is enough.
    if kinds != {stat.S_IFREG} or one.first_name != name:
        return
    first, second = (os.open(path, os.O_RDONLY | os.O_NOATIME) for path in (left, right))
    try:
        size_bytes = min(one.status.st_size, two.status.st_size)
        here, there = (extents(file, size_bytes) for file in (first, second))
        if here.differs_from(there):
            ranges = _ranges_shown(here.data), _ranges_shown(there.data)
            yield Difference(name, "data ranges", *ranges)
        for start, end in sorted({*here.data, *there.data}):
            if (at := _first_difference(first, second, start, min(end, size_bytes))) is not None:
                shown = [_shown(os.pread(file, _SHOWN_BYTES, at)) for file in (first, second)]
                yield Difference(name, f"content at {at}", *shown)
                return
    finally:
        os.close(first)
        os.close(second)


def _first_difference(first: int, second: int, start: int, end: int) -> int | None:
    for offset in range(start, end, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, end - offset)
        here, there = (os.pread(file, length, offset) for file in (first, second))
        if here != there:
            pairs = enumerate(zip(here, there, strict=False))
            return offset + next((n for n, (a, b) in pairs if a != b), min(len(here), len(there)))
    return None


def _ranges_shown(ranges: Sequence[Range]) -> str:
    shown = ", ".join(f"{start}-{end}" for start, end in ranges[:4])
    return f"{shown}, ... ({len(ranges)})" if len(ranges) > 4 else shown or "none"


def _shown(value: bytes | None) -> str:
    return "absent" if value is None else repr(value[:64])
