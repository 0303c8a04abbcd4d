"""Every path by which content gets into a file makes events that cover it, and no others do."""

import ctypes
import mmap
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bpf.watcher import Inode, Kind, Watcher, covered

from telamon.bpf.program import Program

BLOCK = 4096
FILE_BYTES = 64 * BLOCK
TO_THE_END = (1 << 64) - 1
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 0x01, 0x02, 0x08, 0x10, 0x20
RWF_DSYNC = 0x2

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


@pytest.fixture
def file(ext4: Path, request: pytest.FixtureRequest) -> Path:
    path = ext4 / request.node.name.replace("/", "_")
    path.write_bytes(b"0" * FILE_BYTES)
    # Clean pages, or a store through a mapping would not be the first into its page.
    with path.open("rb") as opened_file:
        os.fsync(opened_file.fileno())
    return path


def check(watcher: Watcher, inode: Inode, tree: int, expected: tuple[int, int]) -> None:
    events = watcher.drain()
    assert {(event.inode, event.tree) for event in events} == {(inode, tree)}
    start, length = expected
    union = covered(events, {Kind.WRITE, Kind.MAPPED})
    assert any(low <= start and start + length <= high for low, high in union), union
    assert watcher.drop_count == 0


@pytest.mark.parametrize("write", SYNCHRONOUS, ids=lambda write: write.__name__)
def test_write_is_covered(watcher: Watcher, file: Path, write: Write) -> None:
    inode = Inode.of(file)
    watcher.watch(inode, tree=7)
    expected = write(file)
    check(watcher, inode, 7, expected)


@pytest.mark.parametrize("mode", ASYNCHRONOUS)
def test_asynchronous_write_is_covered(
    watcher: Watcher, file: Path, asynchronous_writer: Path, mode: str
) -> None:
    inode = Inode.of(file)
    watcher.watch(inode, tree=3)
    command = [asynchronous_writer, mode, file, str(3 * BLOCK), str(2 * BLOCK)]
    subprocess.run(command, check=True, timeout=30)
    check(watcher, inode, 3, (3 * BLOCK, 2 * BLOCK))


@pytest.mark.parametrize("write", SYNCHRONOUS, ids=lambda write: write.__name__)
def test_unwatched_write_makes_no_event(watcher: Watcher, file: Path, write: Write) -> None:
    write(file)
    assert watcher.drain() == []


def test_forgotten_inode_makes_no_event(watcher: Watcher, file: Path) -> None:
    inode = Inode.of(file)
    watcher.watch(inode)
    watcher.forget(inode)
    sequential(file)
    assert watcher.drain() == []


def test_inode_number_of_another_generation_is_another_file(watcher: Watcher, file: Path) -> None:
    inode = Inode.of(file)
    watcher.watch(Inode(inode.inode, inode.device, inode.generation ^ 1))
    sequential(file)
    assert watcher.drain() == []


def test_direct_read_makes_no_event(watcher: Watcher, file: Path) -> None:
    watcher.watch(Inode.of(file))
    with aligned(4 * BLOCK) as memory:
        opened(file, os.O_RDONLY | os.O_DIRECT, lambda fd: os.preadv(fd, [memory], 0))
    assert watcher.drain() == []


def test_direct_read_after_a_refused_direct_write_makes_no_event(
    watcher: Watcher, file: Path
) -> None:
    """The refused write may leave its range behind under an address that the read uses again."""
    watcher.watch(Inode.of(file))
    with aligned(4 * BLOCK) as memory:
        with pytest.raises(OSError, match="Invalid argument"):
            opened(file, os.O_WRONLY | os.O_DIRECT, lambda fd: os.pwritev(fd, [memory], 100))
        watcher.drain()
        opened(file, os.O_RDONLY | os.O_DIRECT, lambda fd: os.preadv(fd, [memory], 0))
    assert watcher.drain() == []


@pytest.mark.parametrize(
    ("mode", "kind", "length"),
    [
        (0, Kind.ALLOCATE, 3 * BLOCK),
        (KEEP_SIZE | PUNCH_HOLE, Kind.PUNCH, 3 * BLOCK),
        (ZERO_RANGE, Kind.ZERO, 3 * BLOCK),
        (COLLAPSE_RANGE, Kind.ALLOCATE, TO_THE_END - 4 * BLOCK),
        (INSERT_RANGE, Kind.ALLOCATE, TO_THE_END - 4 * BLOCK),
    ],
    ids=["allocate", "punch", "zero", "collapse", "insert"],
)
def test_allocation_is_reported(
    watcher: Watcher, file: Path, mode: int, kind: Kind, length: int
) -> None:
    inode = Inode.of(file)
    watcher.watch(inode)
    fallocate(file, mode, 4 * BLOCK, 3 * BLOCK)
    events = [event for event in watcher.drain() if event.kind is kind]
    assert [(event.inode, event.offset, event.length) for event in events] == [
        (inode, 4 * BLOCK, length)
    ]


def test_truncate_is_reported(watcher: Watcher, file: Path) -> None:
    inode = Inode.of(file)
    watcher.watch(inode)
    os.truncate(file, 5000)
    events = watcher.drain()
    assert [(event.inode, event.offset, event.kind) for event in events] == [
        (inode, 5000, Kind.TRUNCATE)
    ]


def test_syncs_past_the_replicator_are_reported(watcher: Watcher, file: Path) -> None:
    inode = Inode.of(file)
    watcher.watch(inode)

    def synced() -> bool:
        return any(event.kind is Kind.SYNC and event.inode == inode for event in watcher.drain())

    def store(descriptor: int) -> None:
        with mmap.mmap(descriptor, BLOCK) as memory:
            memory[:1] = b"m"
            assert not synced()
            memory.flush()

    opened(file, os.O_RDWR, store)
    assert synced(), "msync"
    opened(file, os.O_WRONLY, lambda fd: os.pwritev(fd, [b"x"], 0, RWF_DSYNC))
    assert synced(), "RWF_DSYNC"
    opened(file, os.O_WRONLY | os.O_DSYNC, lambda fd: os.write(fd, b"x"))
    assert synced(), "O_DSYNC"
    opened(file, os.O_WRONLY, lambda fd: os.write(fd, b"x"))
    assert not synced()


def test_sync_of_the_file_system_is_reported_to_who_watches_it(
    watcher: Watcher, ext4: Path
) -> None:
    file_system = Inode.of_file_system(ext4)

    def sync() -> list[tuple[Inode, Kind, int]]:
        opened(ext4, os.O_RDONLY, _libc.syncfs)
        return [(event.inode, event.kind, event.tree) for event in watcher.drain()]

    assert sync() == []
    watcher.watch(file_system, tree=2)
    assert sync() == [(file_system, Kind.SYNC, 2)]
    watcher.forget(file_system)


def test_the_claimants_own_calls_make_no_event_and_its_childs_do(
    ext4: Path, pins: Path, watcher: Watcher, file: Path
) -> None:
    inode = Inode.of(file)
    watcher.watch(inode)
    claimant = os.fork()
    if claimant == 0:
        # Claims, writes, and has a child write one byte elsewhere.
        with Program.open_pin(pins / "writes" / "prog_claim") as claim:
            claim.test_run()
        opened(file, os.O_WRONLY, lambda fd: (os.pwrite(fd, b"own", 0), os.fsync(fd)))
        fallocate(file, PUNCH_HOLE | KEEP_SIZE, 0, BLOCK)
        code = subprocess.run(
            ["dd", "if=/dev/zero", f"of={file}", "bs=1", "count=1", "seek=9000", "conv=notrunc"],
            check=False,
            capture_output=True,
        ).returncode
        os._exit(code)
    _, status = os.waitpid(claimant, 0)
    assert status == 0
    events = watcher.drain()
    assert [(event.inode, event.offset, event.length) for event in events] == [(inode, 9000, 1)]
    sequential(file)
    assert watcher.drain(), "the claim ended with its process"
