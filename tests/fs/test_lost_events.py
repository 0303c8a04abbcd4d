"""A capture ring that is far too small: events are lost, no byte is, and every fsync returns."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bpf.conftest import mounted
from tests.fs.served import Options, ServedDirectory

from telamon.bpf.capture import BackEnd, CaptureSet

RING_BYTES = 4096
BURSTS = 5
WRITES = 2000
FILE_BYTES = 1 << 20


@pytest.fixture
def served_with_small_ring(ext4: Path, ground: Path, tmp_path: Path) -> Iterator[ServedDirectory]:
    with mounted(tmp_path / "bpffs", "-t", "bpf", "bpf") as root:
        (root / "telamon").mkdir()
        capture = CaptureSet("double", root / "telamon", ring_bytes=RING_BYTES)
        loaded = capture.ensure([ext4])
        assert loaded.back_end is BackEnd.TP_BTF, loaded.reason
        served = ServedDirectory(ground, Options(capture=loaded.pins))
        try:
            yield served
        finally:
            served.remove()
            capture.remove()


def starve(process_id: int) -> None:
    """Gives its threads only what this one leaves of a processor: else they empty even this ring in
    time, where they have one to themselves.
    """
    shared = {min(os.sched_getaffinity(0))}
    os.sched_setaffinity(0, shared)
    for thread in Path(f"/proc/{process_id}/task").iterdir():
        os.sched_setaffinity(int(thread.name), shared)
        os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


@pytest.fixture
def one_processor() -> Iterator[None]:
    """This process has all its processors again afterwards."""
    processors = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, processors)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("one_processor")
def test_lost_events_lose_nothing(served_with_small_ring: ServedDirectory) -> None:
    served = served_with_small_ring
    starve(served.pid)
    chance = random.Random(1)
    files = [os.open(served.path / f"file{n}", os.O_RDWR | os.O_CREAT, 0o644) for n in range(3)]
    for number in range(BURSTS):
        for _ in range(WRITES):
            os.pwrite(chance.choice(files), bytes([number + 1]), chance.randrange(FILE_BYTES))
        for file in files:
            os.fdatasync(file)
    os.ftruncate(files[0], FILE_BYTES // 2)
    for file in files:
        os.close(file)
    drops = served.status()["capture_drops"]
    assert isinstance(drops, int)
    assert drops > 0
    served.assert_settled_and_equal()
