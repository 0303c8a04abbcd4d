"""Which parts of a file hold data, which are holes, and which are only reserved.

A reserved range (fallocate) reads as zeroes like a hole, but the file system may at any time fill
parts of it with written zeroes, in portions of its own choosing, and counts what is cached of it as
data. So two equal files may differ in data ranges that fall into a reserved one, and in no others.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Range = tuple[int, int]
"""First byte, and the one behind the last."""

# FS_IOC_FIEMAP, struct fiemap and struct fiemap_extent of linux/fiemap.h.
_FIEMAP = 0xC020660B
_HEADER = struct.Struct("=QQLLLL")
_EXTENT = struct.Struct("=QQQ16xL12x")
_WRITE_OUT = 0x1
_LAST = 0x1
_UNWRITTEN = 0x800
_EXTENTS_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Extents:
    """The layout of one file."""

    data: Sequence[Range]
    reserved: Sequence[Range]

    def differs_from(self, other: "Extents") -> bool:
        """Whether one has data where the other has a hole that nobody reserved."""
        return bool(
            _without(_without(self.data, other.data), other.reserved)
            or _without(_without(other.data, self.data), self.reserved)
        )


def extents(descriptor: int, size_bytes: int) -> Extents:
    """The layout up to `size_bytes`, as it will be on the disk."""
    reserved = list(_reserved(descriptor))
    if reserved:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return Extents(_data(descriptor, size_bytes), reserved)


def _data(descriptor: int, size_bytes: int) -> list[Range]:
    ranges = []
    end = 0
    while end < size_bytes:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole follows
            break
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        ranges.append((start, end))
    return ranges


def _reserved(descriptor: int) -> Iterator[Range]:
    """Allocated ranges that were never written. Waiting pages are written out first, but not with
    fdatasync, which the capture would report as somebody who went past the replicator.
    """
    start = 0
    while True:
        header = _HEADER.pack(start, (1 << 64) - 1 - start, _WRITE_OUT, 0, _EXTENTS_AT_ONCE, 0)
        answer = bytearray(header + bytes(_EXTENT.size * _EXTENTS_AT_ONCE))
        try:
            fcntl.ioctl(descriptor, _FIEMAP, answer)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
                return  # a file system in memory: nothing is reserved and not written
            raise
        count = _HEADER.unpack_from(answer)[3]
        if count == 0:
            return
        flags = 0
        for number in range(count):
            place = _HEADER.size + number * _EXTENT.size
            first, _, length, flags = _EXTENT.unpack_from(answer, place)
            start = first + length
            if flags & _UNWRITTEN:
                yield first, start
        if flags & _LAST:
            return


def _without(ranges: Sequence[Range], removed: Sequence[Range]) -> list[Range]:
    """The parts of sorted `ranges` outside of sorted `removed`."""
    left = []
    for start, end in ranges:
        at = start
        for other_start, other_end in removed:
            if other_end <= at or other_start >= end:
                continue
            if other_start > at:
                left.append((at, other_start))
            at = max(at, other_end)
        if at < end:
            left.append((at, end))
    return left
