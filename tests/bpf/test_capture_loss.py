"""A full ring loses events, and says so: globally, and per inode with the end of what was lost."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bpf.watcher import Inode, Loss, Watcher

from telamon.bpf.capture import CaptureSet

RING_BYTES = 4096
DEADLINE_MS = 20_000


@pytest.fixture
def small(ext4: Path, pins: Path) -> Iterator[Watcher]:
    capture = CaptureSet("small", pins, ring_bytes=RING_BYTES, watched_inodes=16)
    loaded = capture.ensure([ext4])
    assert loaded.pins is not None, loaded.reason
    try:
        with Watcher(loaded.pins) as reader:
            yield reader
    finally:
        capture.remove()


def new_file(path: Path) -> Inode:
    path.write_bytes(b"")
    return Inode.of(path)


def write_bytes_one_by_one(path: Path, count: int) -> None:
    with path.open("r+b", buffering=0) as file:
        for _ in range(count):
            file.write(b"x")


def test_loss_is_counted_for_the_inode_and_globally(small: Watcher, ext4: Path) -> None:
    loud, quiet = ext4 / "loud", ext4 / "quiet"
    loud_inode, quiet_inode = new_file(loud), new_file(quiet)
    small.watch(loud_inode)
    small.watch(quiet_inode)
    write_bytes_one_by_one(quiet, 1)
    write_bytes_one_by_one(loud, 500)
    events = small.drain()
    kept = [event for event in events if event.inode == loud_inode]
    lost = small.loss(loud_inode)
    assert len(kept) + lost.events == 500
    assert lost.events == small.drop_count > 0
    assert lost.end == 500
    assert small.loss(quiet_inode) == Loss(0, 0)


def test_counts_only_grow_and_stop_when_the_ring_has_room(small: Watcher, ext4: Path) -> None:
    path = ext4 / "grows"
    inode = new_file(path)
    small.watch(inode)
    write_bytes_one_by_one(path, 500)
    first = small.loss(inode)
    small.drain()
    write_bytes_one_by_one(path, 10)
    assert len(small.drain()) == 10
    assert small.loss(inode) == first
    assert small.drop_count == first.events


def test_highest_lost_end_survives_lower_losses(small: Watcher, ext4: Path) -> None:
    path = ext4 / "high"
    inode = new_file(path)
    small.watch(inode)
    write_bytes_one_by_one(path, 500)
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"x", 1 << 30)
        os.pwrite(file.fileno(), b"x", 5)
    assert small.loss(inode).end == (1 << 30) + 1


def test_parallel_writers_lose_nothing_uncounted(small: Watcher, ext4: Path) -> None:
    paths = [ext4 / f"parallel{index}" for index in range(4)]
    inodes = [new_file(path) for path in paths]
    for inode in inodes:
        small.watch(inode)
    threads = [threading.Thread(target=write_bytes_one_by_one, args=(p, 2000)) for p in paths]
    for thread in threads:
        thread.start()
    events = []
    while any(thread.is_alive() for thread in threads):
        events += small.drain()
    for thread in threads:
        thread.join(timeout=DEADLINE_MS / 1000)
    events += small.drain()
    losses = [small.loss(inode) for inode in inodes]
    assert len(events) + sum(loss.events for loss in losses) == 8000
    assert small.drop_count == sum(loss.events for loss in losses)


def test_reader_is_woken_when_enough_waits(small: Watcher, ext4: Path) -> None:
    path = ext4 / "wakes"
    small.watch(new_file(path))
    small.set_wake_bytes(20 * 48)
    writer = threading.Thread(target=write_bytes_one_by_one, args=(path, 40))
    writer.start()
    events = small.poll(DEADLINE_MS)
    writer.join(timeout=DEADLINE_MS / 1000)
    assert events
    assert len(events) + len(small.drain()) == 40
