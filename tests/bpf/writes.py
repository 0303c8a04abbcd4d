"""The ways by which content gets into a file; each returns the range it wrote."""

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

BLOCK = 4096
FILE_BYTES = 64 * BLOCK
TO_THE_END = (1 << 64) - 1
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 0x01, 0x02, 0x08, 0x10, 0x20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

Write = Callable[[Path], tuple[int, int]]


def fallocate(path: Path, mode: int, offset: int, length: int) -> None:
    with path.open("r+b") as file:
        if _libc.fallocate(file.fileno(), mode, offset, length) < 0:
            raise OSError(ctypes.get_errno(), "fallocate", str(path))


def opened(path: Path, flags: int, write: Callable[[int], object]) -> None:
    descriptor = os.open(path, flags)
    try:
        write(descriptor)
    finally:
        os.close(descriptor)


def aligned(length: int) -> mmap.mmap:
    """O_DIRECT wants memory aligned to blocks: anonymous pages are."""
    memory = mmap.mmap(-1, length)
    memory.write(b"d" * length)
    return memory


def sequential(path: Path) -> tuple[int, int]:
    opened(path, os.O_WRONLY, lambda fd: os.write(fd, b"x" * 10_000))
    return 0, 10_000


def positioned(path: Path) -> tuple[int, int]:
    opened(path, os.O_WRONLY, lambda fd: os.pwrite(fd, b"x" * 5000, 12_345))
    return 12_345, 5000


def vectored(path: Path) -> tuple[int, int]:
    opened(path, os.O_WRONLY, lambda fd: os.pwritev(fd, [b"a" * 3000, b"b" * 9000], 777))
    return 777, 12_000


def appended(path: Path) -> tuple[int, int]:
    opened(path, os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"x" * 100))
    return FILE_BYTES, 100


def far_beyond(path: Path) -> tuple[int, int]:
    opened(path, os.O_WRONLY, lambda fd: os.pwrite(fd, b"x", 1 << 40))
    return 1 << 40, 1


def large(path: Path) -> tuple[int, int]:
    opened(path, os.O_WRONLY, lambda fd: os.pwrite(fd, bytes(8 << 20), 1))
    return 1, 8 << 20


def spliced(path: Path) -> tuple[int, int]:
    reader, writer = os.pipe()
    os.write(writer, b"s" * 6000)
    os.close(writer)
    opened(path, os.O_WRONLY, lambda fd: os.splice(reader, fd, 6000, offset_dst=BLOCK))
    os.close(reader)
    return BLOCK, 6000


def sent(path: Path) -> tuple[int, int]:
    source = path.with_suffix(".source")
    source.write_bytes(b"f" * 20_000)
    with source.open("rb") as file:
        opened(path, os.O_WRONLY, lambda fd: os.sendfile(fd, file.fileno(), 0, 20_000))
    return 0, 20_000


def copied(path: Path) -> tuple[int, int]:
    source = path.with_suffix(".source")
    source.write_bytes(b"c" * 20_000)
    with source.open("rb") as file:
        opened(
            path,
            os.O_WRONLY,
            lambda fd: os.copy_file_range(file.fileno(), fd, 20_000, offset_dst=BLOCK),
        )
    return BLOCK, 20_000


def direct(path: Path) -> tuple[int, int]:
    with aligned(4 * BLOCK) as memory:
        opened(path, os.O_WRONLY | os.O_DIRECT, lambda fd: os.pwritev(fd, [memory], 8 * BLOCK))
    return 8 * BLOCK, 4 * BLOCK


def direct_extending(path: Path) -> tuple[int, int]:
    with aligned(4 * BLOCK) as memory:
        opened(path, os.O_WRONLY | os.O_DIRECT, lambda fd: os.pwritev(fd, [memory], FILE_BYTES))
    return FILE_BYTES, 4 * BLOCK


def direct_into_hole(path: Path) -> tuple[int, int]:
    fallocate(path, PUNCH_HOLE | KEEP_SIZE, 0, FILE_BYTES)
    return direct(path)


def mapped(path: Path) -> tuple[int, int]:
    def store(descriptor: int) -> None:
        with mmap.mmap(descriptor, FILE_BYTES) as memory:
            memory[5 * BLOCK + 10 : 7 * BLOCK] = b"m" * (2 * BLOCK - 10)

    opened(path, os.O_RDWR, store)
    return 5 * BLOCK + 10, 2 * BLOCK - 10


SYNCHRONOUS: list[Write] = [
    sequential,
    positioned,
    vectored,
    appended,
    far_beyond,
    large,
    spliced,
    sent,
    copied,
    direct,
    direct_extending,
    direct_into_hole,
    mapped,
]
ASYNCHRONOUS = ["aio", "aio-direct", "uring", "uring-direct"]
