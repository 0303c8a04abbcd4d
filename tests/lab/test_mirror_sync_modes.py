"""What each mode promises: `sync: always` and `async`, `acknowledge: memory`, mapped files."""

import time
from pathlib import Path

import pytest
from mirrors import DIRECTORY, STEP_TIMEOUT_S, assert_equal_trees, mirrored
from promises import promising
from writers import await_promises, writing

from telamon.lab.mirror import ALONE, PRIM, SECOND, MirrorInLab
from telamon.lab.oracles import registers
from telamon.lab.spec import DEFAULT

PROGRESS = 300
NUMBER_BYTES = 8
LAG_LIMIT_BYTES = 4 << 20
# What one write may carry beyond the limit: it is refused entry, never cut in two.
ONE_WRITE_BYTES = 1 << 20
# Longer than a commit takes on a busy machine, shorter than a peer that does not answer is kept.
NO_WAIT_S = 4.0
SILENCE = "10s"

# No fsync anywhere.
PLAIN = """
import itertools, os, sys
log = os.open(f"{sys.argv[1]}/log", os.O_WRONLY | os.O_CREAT)
for number in itertools.count(1):
    os.pwrite(log, number.to_bytes(8, "big"), 8 * (number - 1))
    os.close(os.open(f"{sys.argv[1]}/name{number}", os.O_WRONLY | os.O_CREAT))
    if number > 10:
        os.rename(f"{sys.argv[1]}/name{number - 10}", f"{sys.argv[1]}/old")
    print(number, flush=True)
"""

MAPPED = """
import itertools, mmap, sys
file = open(f"{sys.argv[1]}/mapped", "w+b")
file.truncate(1 << 20)
memory = mmap.mmap(file.fileno(), 0)
for number in itertools.count(1):
    at = 8 * (number % (1 << 17))
    memory[at : at + 8] = number.to_bytes(8, "big")
    memory.flush()
    print(number, flush=True)
"""


def test_always_every_call_is_a_commit(lab_name: str, tmp_path: Path) -> None:
    """Both nodes lose their power in the middle of plain writes; only the secondary comes back."""
    with mirrored(lab_name, DEFAULT, sync="always") as mirror:
        with promising(mirror.lab.host("n1"), PLAIN, tmp_path / "log", DIRECTORY) as promises:
            promises.await_progress(PROGRESS)
            mirror.lab.off("n2")
            mirror.lab.off("n1")
        mirror.lab.on("n2")
        found = mirror.lab.host("n2").backing(DIRECTORY)
        last = promises.last()
        content = (found / "log").read_bytes()
        expected = b"".join(number.to_bytes(NUMBER_BYTES, "big") for number in range(1, last + 1))
        assert content[: len(expected)] == expected
        assert (found / f"name{last}").exists()
        assert not (found / f"name{last - 10}").exists()
        mirror.lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
        assert_equal_trees(mirror)


def lag_bytes(mirror: MirrorInLab) -> int:
    lag = mirror.status()["n1"].lag
    assert lag is not None
    return lag.bytes


def test_async_nothing_waits_and_the_lag_is_shown_and_bounded(
    lab_name: str, tmp_path: Path, chosen: int
) -> None:
    history = tmp_path / "history"
    history.touch()
    with mirrored(
        lab_name, DEFAULT, sync="async", async_lag="4MiB", peer_timeout=SILENCE
    ) as mirror:
        host = mirror.lab.host("n1")
        with writing(mirror.lab, "n1", history, chosen):
            await_promises(history)
            mirror.lab.cut("n2", "repl")
            before = registers.promises(history)
            deadline = time.monotonic() + NO_WAIT_S
            while (lag := lag_bytes(mirror)) == 0 or registers.promises(history) < before + 10:
                promised = registers.promises(history) - before
                assert time.monotonic() < deadline, f"{promised} commits, {lag} bytes of lag"
                time.sleep(0.02)
        filler = host.start(
            ["dd", "if=/dev/urandom", f"of={DIRECTORY}/large", "bs=64K", "count=256"]
        )
        deadline = time.monotonic() + NO_WAIT_S
        while time.monotonic() < deadline:
            assert lag_bytes(mirror) <= LAG_LIMIT_BYTES + ONE_WRITE_BYTES
            time.sleep(0.1)
        mirror.lab.heal("n2", "repl")
        assert filler.wait(STEP_TIMEOUT_S) == 0
        mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
        assert_equal_trees(mirror)
        assert registers.violations(history, mirror.lab.host("n2").backing(DIRECTORY)) == []


def test_memory_is_enough_for_the_loss_of_one_node(
    lab_name: str, tmp_path: Path, chosen: int
) -> None:
    history = tmp_path / "history"
    history.touch()
    with mirrored(lab_name, DEFAULT, acknowledge="memory") as mirror:
        with writing(mirror.lab, "n1", history, chosen):
            await_promises(history)
            mirror.lab.off("n1")
        mirror.await_states(STEP_TIMEOUT_S, n2=ALONE)
        assert registers.violations(history, mirror.lab.host("n2").path(DIRECTORY)) == []
        mirror.lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=SECOND, n2=PRIM)
        assert_equal_trees(mirror)


@pytest.mark.parametrize("mapped", [True, ["mapped"]], ids=["all", "by name"])
def test_mapped_files_promise_at_msync(lab_name: str, tmp_path: Path, mapped: object) -> None:
    with mirrored(lab_name, DEFAULT, of_directory={"mapped": mapped}) as mirror:
        with promising(mirror.lab.host("n1"), MAPPED, tmp_path / "log", DIRECTORY) as promises:
            promises.await_progress(PROGRESS)
            mirror.lab.off("n2")
            mirror.lab.off("n1")
        mirror.lab.on("n2")
        stored = (mirror.lab.host("n2").backing(DIRECTORY) / "mapped").read_bytes()
        for number in range(1, promises.last() + 1):
            at = NUMBER_BYTES * number
            assert stored[at : at + NUMBER_BYTES] == number.to_bytes(NUMBER_BYTES, "big"), number
        mirror.lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
        assert_equal_trees(mirror)
