"""A capture ring that is far too small: events are lost all the time, and not one byte is.

The loss is counted where an operator sees it; what a commit promised is on the peer.
"""

import random
import sys
import time
from pathlib import Path

from mirrors import (
    DIRECTORY,
    MODULE,
    START_TIMEOUT_S,
    STEP_TIMEOUT_S,
    assert_equal_trees,
    installed,
)
from promises import promising

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.mirror import ALONE, PRIM, SECOND, MirrorInLab
from telamon.lab.process import Daemon
from telamon.lab.spec import DEFAULT

RING_BYTES = 4096
ROUNDS = 20

# The agent adopts pins that it finds, with the ring that they have.
LOAD = f"""
import sys
from pathlib import Path
from telamon.bpf.capture import CaptureSet
print(CaptureSet("{MODULE}", ring_bytes={RING_BYTES}).ensure([Path("{DIRECTORY}")]).back_end)
"""

# A burst of scattered writes to several files, then a commit of each; a burst has one number in it.
# The replicator has only what the writer leaves of a processor: where it has one to itself, it
# empties even this ring in time.
BURSTS = """
import itertools, os, random, sys
shared = {min(os.sched_getaffinity(0))}
os.sched_setaffinity(0, shared)
for thread in map(int, os.listdir(f"/proc/{sys.argv[2]}/task")):
    os.sched_setaffinity(thread, shared)
    os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
files = [os.open(f"{sys.argv[1]}/file{n}", os.O_RDWR | os.O_CREAT) for n in range(4)]
for number in itertools.count(1):
    chance = random.Random(number)
    for _ in range(3000):
        os.pwrite(chance.choice(files), number.to_bytes(8, "big"), 8 * chance.randrange(1 << 17))
    for file in files:
        os.pwrite(file, number.to_bytes(8, "big"), 0)
        os.fdatasync(file)
    print(number, flush=True)
"""


def load_small_ring(host: RunningHost) -> None:
    loaded = host.run([sys.executable, "-c", LOAD]).stdout.strip()
    assert loaded == "tp_btf", loaded


def await_counted_losses(mirror: MirrorInLab) -> None:
    """Waits until an operator sees them: the agent asks its replicator once a second."""
    deadline = time.monotonic() + STEP_TIMEOUT_S
    while mirror.status()["n1"].counters["capture_drops"] == 0:
        assert time.monotonic() < deadline, "no event was lost, or none was counted"
        time.sleep(0.1)


def expected(last: int) -> list[bytearray]:
    """The files after the burst of that number."""
    files = [bytearray(8 << 17) for _ in range(4)]
    for number in range(1, last + 1):
        chance = random.Random(number)
        for _ in range(3000):
            file, at = chance.choice(files), 8 * chance.randrange(1 << 17)
            file[at : at + 8] = number.to_bytes(8, "big")
        for file in files:
            file[:8] = number.to_bytes(8, "big")
    return files


def test_lost_events_lose_nothing(lab_name: str, tmp_path: Path) -> None:
    with Lab.up(lab_name, DEFAULT) as lab:
        mirror = installed(lab)
        load_small_ring(lab.host("n1"))
        mirror.begin("n1", START_TIMEOUT_S)
        reader = lab.host("n1").run(["pidof", Daemon.REPLICATOR.program]).stdout.strip()
        with promising(lab.host("n1"), BURSTS, tmp_path / "log", DIRECTORY, reader) as promises:
            promises.await_progress(ROUNDS)
            await_counted_losses(mirror)
            promises.await_progress(1)
            lab.off("n1")
        mirror.await_states(STEP_TIMEOUT_S, n2=ALONE)
        last = promises.last()
        for number, file in enumerate(expected(last)):
            found = (lab.host("n2").path(DIRECTORY) / f"file{number}").read_bytes()
            for at in range(0, len(file), 8):
                promised = int.from_bytes(file[at : at + 8], "big")
                stored = int.from_bytes(found[at : at + 8], "big")
                assert stored in (promised, last + 1), (number, at)
        lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=SECOND, n2=PRIM)
        assert_equal_trees(mirror)
