"""The replicator's side of ebpf/capture.h in a few lines: watch files, read their events."""

import fcntl
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bpf.writes import FILE_BYTES

from telamon.bpf.map import Map
from telamon.bpf.ring import RingReader

_GET_GENERATION = 0x80087601  # FS_IOC_GETVERSION
_KEY = struct.Struct("=QII")
_WATCH = struct.Struct("=IIQQ")
_EVENT = struct.Struct("=QQQIIII")


class Kind(IntEnum):
    WRITE = 1
    MAPPED = 2
    PUNCH = 3
    ZERO = 4
    ALLOCATE = 5
    TRUNCATE = 6
    SYNC = 7
    FAULTED = 8


@dataclass(frozen=True, slots=True)
class Inode:
    inode: int
    device: int
    generation: int

    @classmethod
    def of(cls, path: Path) -> Self:
        found = path.stat()
        with path.open("rb") as file:
            answer = fcntl.ioctl(file, _GET_GENERATION, bytes(8))
        return cls(found.st_ino, _kernel_device(found.st_dev), struct.unpack("=I", answer[:4])[0])

    @classmethod
    def of_file_system(cls, path: Path) -> Self:
        return cls(0, _kernel_device(path.stat().st_dev), 0)

    def packed(self) -> bytes:
        return _KEY.pack(self.inode, self.device, self.generation)


@dataclass(frozen=True, slots=True)
class Event:
    inode: Inode
    offset: int
    length: int
    tree: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Loss:
    events: int
    end: int


class Watcher:
    """Opens the pins as the replicator does and gathers events."""

    def __init__(self, pins: Path) -> None:
        self._watched = Map.open_pin(pins / "watched")
        self._settings = Map.open_pin(pins / "settings")
        self._ring = Map.open_pin(pins / "events")
        with Map.open_pin(pins / "drop_count") as count:
            self._drop_count = count.mapping()
        self._gathered: list[Event] = []
        self._reader = RingReader(self._ring, self._receive)

    def watch(self, inode: Inode, tree: int = 0) -> None:
        self._watched.update(inode.packed(), _WATCH.pack(tree, 0, 0, 0))

    def forget(self, inode: Inode) -> None:
        assert self._watched.delete(inode.packed())

    def loss(self, inode: Inode) -> Loss:
        value = self._watched.lookup(inode.packed())
        assert value is not None
        _, _, events, end = _WATCH.unpack(value)
        return Loss(events, end)

    def set_wake_bytes(self, wake_bytes: int) -> None:
        self._settings.update(bytes(4), struct.pack("=Q", wake_bytes))

    @property
    def drop_count(self) -> int:
        return int(struct.unpack("=Q", self._drop_count[:8])[0])

    def drain(self) -> list[Event]:
        """Everything since the last call. Events stand in the ring before a call returns, so
        nothing is waited for.
        """
        self._reader.consume()
        taken, self._gathered = self._gathered, []
        return taken

    def poll(self, timeout_ms: int) -> list[Event]:
        self._reader.poll(timeout_ms)
        taken, self._gathered = self._gathered, []
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()
        self._drop_count.close()
        for held in (self._ring, self._settings, self._watched):
            held.close()

    def _receive(self, data: bytes) -> None:
        inode, offset, length, generation, device, tree, kind = _EVENT.unpack(data)
        self._gathered.append(
            Event(Inode(inode, device, generation), offset, length, tree, Kind(kind))
        )


def covered(events: list[Event], kinds: set[Kind]) -> list[tuple[int, int]]:
    """The union of the events' ranges as sorted, disjoint (start, end)."""
    union: list[tuple[int, int]] = []
    for start, end in sorted(
        (event.offset, event.offset + event.length) for event in events if event.kind in kinds
    ):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((start, end))
    return union


def check(watcher: Watcher, inode: Inode, tree: int, expected: tuple[int, int]) -> None:
    """The events since the last call are this inode's, and cover the range."""
    events = watcher.drain()
    assert {(event.inode, event.tree) for event in events} == {(inode, tree)}
    start, length = expected
    union = covered(events, {Kind.WRITE, Kind.MAPPED})
    assert any(low <= start and start + length <= high for low, high in union), union
    assert watcher.drop_count == 0


def new_file(path: Path) -> Path:
    """A file with clean pages, so that a store through a mapping is the first into its page."""
    path.write_bytes(b"0" * FILE_BYTES)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


def _kernel_device(device: int) -> int:
    return os.major(device) << 20 | os.minor(device)
