"""What the capture adds to a write: 4 KiB into a cached page, on a loop ext4 on tmpfs.

The same calls from the same process, in turns: no capture loaded, then one that watches the file
and whose ring is drained between the turns.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bpf.conftest import mounted, run
from tests.bpf.watcher import Inode, Watcher

from bench.figure import Figure, Goal, GoalKind
from telamon.bpf.capture import CaptureSet

ROUNDS = 15
WRITES = 5000
CONTENT = bytes(4096)
IMAGE_BYTES = 300 << 20
ADDED_US = 1.0


def captured_write() -> Iterator[Figure]:
    """Microseconds for one write."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telamon-bench-")))
        memory = stack.enter_context(mounted(base / "memory", "-t", "tmpfs", "tmpfs"))
        with (memory / "image").open("wb") as image:
            image.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", memory / "image")
        disk = stack.enter_context(mounted(base / "disk", "-o", "loop", memory / "image"))
        pins = stack.enter_context(mounted(base / "bpffs", "-t", "bpf", "bpf")) / "telamon"
        rounds = [_round(disk, pins) for _ in range(ROUNDS)]
    ours, reference = (statistics.median(column) for column in zip(*rounds, strict=True))
    goal = Goal(GoalKind.AT_MOST_MORE, ADDED_US)
    yield Figure("captured 4 KiB write", "us", ours, reference, goal)


def _round(disk: Path, pins: Path) -> tuple[float, float]:
    path = disk / "file"
    path.write_bytes(CONTENT)
    plain_us = _write_us(path)
    capture = CaptureSet("bench", pins)
    capture.ensure([disk])
    try:
        with Watcher(pins / "bench") as reader:
            reader.set_wake_bytes(1 << 20)
            reader.watch(Inode.of(path))
            captured_us = _write_us(path)
            assert len(reader.drain()) == WRITES
    finally:
        capture.remove()
    return captured_us, plain_us


def _write_us(path: Path) -> float:
    file = os.open(path, os.O_WRONLY)
    try:
        started_ns = time.perf_counter_ns()
        for _ in range(WRITES):
            os.pwrite(file, CONTENT, 0)
        return (time.perf_counter_ns() - started_ns) / WRITES / 1000
    finally:
        os.close(file)
