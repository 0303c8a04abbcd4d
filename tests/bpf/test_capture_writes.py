"""Every path by which content gets into a file makes events that cover it, and no others do."""

import ctypes
import mmap
import os
import subprocess
from pathlib import Path

import pytest
from tests.bpf.watcher import Inode, Kind, Watcher, check, new_file
from tests.bpf.writes import (
    ASYNCHRONOUS,
    BLOCK,
    COLLAPSE_RANGE,
    INSERT_RANGE,
    KEEP_SIZE,
    PUNCH_HOLE,
    SYNCHRONOUS,
    TO_THE_END,
    ZERO_RANGE,
    Write,
    aligned,
    fallocate,
    opened,
    sequential,
)

from telamon.bpf.program import Program

RWF_DSYNC = 0x2


@pytest.fixture
def file(ext4: Path, request: pytest.FixtureRequest) -> Path:
    return new_file(ext4 / request.node.name)


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
        opened(ext4, os.O_RDONLY, ctypes.CDLL(None).syncfs)
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
