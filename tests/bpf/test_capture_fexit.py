"""The capture for any file system, where the kernel admits fexit. An overlay stands in for the
passthrough mount: both write through the same functions of the kernel.
"""

import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.bpf.conftest import PASSTHROUGH_SINCE, kernel_version, mounted, run
from tests.bpf.watcher import Inode, Kind, Watcher, check, new_file
from tests.bpf.writes import (
    ASYNCHRONOUS,
    BLOCK,
    KEEP_SIZE,
    PUNCH_HOLE,
    SYNCHRONOUS,
    ZERO_RANGE,
    Write,
    copied,
    fallocate,
    opened,
    sequential,
)

from telamon.bpf import capture
from telamon.bpf.capture import BackEnd, CaptureSet

RWF_DSYNC = 0x2


# On a passthrough mount copy_file_range goes to the replicator, never to the backing file.
SEEN = [write for write in SYNCHRONOUS if write is not copied]


@pytest.fixture(scope="module")
def watcher(pins: Path) -> Iterator[Watcher]:
    loader = CaptureSet("fexit", pins)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "suitable", lambda _directories: (BackEnd.FEXIT,))
        loaded = loader.ensure([])
    if loaded.back_end is BackEnd.RELAY and "not permitted" in loaded.reason:
        pytest.skip("this kernel refuses fexit to everyone; the guests' kernels do not")
    if kernel_version() < PASSTHROUGH_SINCE:
        pytest.skip("without FUSE passthrough there is nothing to capture")
    assert loaded.back_end is BackEnd.FEXIT, loaded.reason
    try:
        with Watcher(pins / "fexit") as reader:
            yield reader
    finally:
        loader.remove()


@dataclass(frozen=True, slots=True)
class Mount:
    """The directory that is written, and the one in which the backing files are."""

    served: Path
    backing: Path


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def mount(
    watcher: Watcher, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    if shutil.which(f"mkfs.{request.param}") is None:
        pytest.skip(f"mkfs.{request.param} is not installed")
    base = tmp_path_factory.mktemp(request.param)
    with mounted(base / "memory", "-t", "tmpfs", "tmpfs") as memory:
        with (memory / "image").open("wb") as image:
            image.truncate(400 << 20)
        run(f"mkfs.{request.param}", "-q", memory / "image")
        with mounted(base / "disk", "-o", "loop", memory / "image") as disk:
            for name in ("lower", "upper", "work"):
                (disk / name).mkdir()
            layers = f"lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work"
            with mounted(base / "served", "-t", "overlay", "-o", layers, "overlay") as served:
                yield Mount(served, disk / "upper")


@pytest.fixture
def file(mount: Mount, watcher: Watcher, request: pytest.FixtureRequest) -> Path:
    """A watched file of tree 5, with nothing in the ring."""
    path = new_file(mount.served / request.node.name)
    watcher.watch(backing(mount, path), tree=5)
    assert watcher.drain() == []
    return path


def backing(mount: Mount, path: Path) -> Inode:
    return Inode.of(mount.backing / path.name)


@pytest.mark.parametrize("write", SEEN, ids=lambda write: write.__name__)
def test_write_is_covered(watcher: Watcher, mount: Mount, file: Path, write: Write) -> None:
    check(watcher, backing(mount, file), 5, write(file))


@pytest.mark.parametrize("mode", ASYNCHRONOUS)
def test_asynchronous_write_is_covered(
    watcher: Watcher, mount: Mount, file: Path, asynchronous_writer: Path, mode: str
) -> None:
    command = [asynchronous_writer, mode, file, str(3 * BLOCK), str(2 * BLOCK)]
    subprocess.run(command, check=True, timeout=60)
    check(watcher, backing(mount, file), 5, (3 * BLOCK, 2 * BLOCK))


def test_unwatched_write_makes_no_event(watcher: Watcher, mount: Mount, file: Path) -> None:
    watcher.forget(backing(mount, file))
    sequential(file)
    assert watcher.drain() == []


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (0, Kind.ALLOCATE),
        (KEEP_SIZE | PUNCH_HOLE, Kind.PUNCH),
        (ZERO_RANGE, Kind.ZERO),
    ],
    ids=["allocate", "punch", "zero"],
)
def test_allocation_is_reported(watcher: Watcher, file: Path, mode: int, kind: Kind) -> None:
    fallocate(file, mode, 4 * BLOCK, 3 * BLOCK)
    events = [event for event in watcher.drain() if event.kind is kind]
    assert [event.offset for event in events] == [4 * BLOCK]
    assert all(event.length >= 3 * BLOCK for event in events)


def test_truncate_is_reported(watcher: Watcher, file: Path) -> None:
    os.truncate(file, 5000)
    events = watcher.drain()
    assert (5000, Kind.TRUNCATE) in {(event.offset, event.kind) for event in events}


def test_syncs_past_the_replicator_are_reported(watcher: Watcher, file: Path) -> None:
    def synced() -> bool:
        return any(event.kind is Kind.SYNC for event in watcher.drain())

    def store(descriptor: int) -> None:
        with mmap.mmap(descriptor, BLOCK) as memory:
            memory[:1] = b"m"
            assert not synced()
            memory.flush()

    opened(file, os.O_RDWR, store)
    assert synced(), "msync"
    opened(file, os.O_WRONLY, lambda fd: os.pwritev(fd, [b"x"], 0, RWF_DSYNC))
    assert synced(), "RWF_DSYNC"
