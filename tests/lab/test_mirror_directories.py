"""Several directories in one module: whatever their names and wherever they lie, they share one log
and one order.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import FAULTS, other
from mirrors import START_TIMEOUT_S, STEP_TIMEOUT_S, assert_equal_trees, installed, mirrored
from promises import promising

from telamon.lab.lab import Lab
from telamon.lab.mirror import ALONE, PRIM, SECOND
from telamon.lab.spec import DEFAULT

ODD_NAMES = ("/srv/with  space", os.fsdecode(b"/srv/not utf-8 \xff\xfe"), '/data/"quoted"')
PROGRESS = 300

# Commits in the first directory, changes a name there without a commit, then commits in the second.
CHAIN = """
import itertools, os, sys
first, second = sys.argv[1:]
early, late = (open(f"{one}/log", "ab", buffering=0) for one in (first, second))
open(f"{first}/0", "x").close()
for number in itertools.count(1):
    early.write(number.to_bytes(8, "big"))
    os.fdatasync(early.fileno())
    os.rename(f"{first}/{number - 1}", f"{first}/{number}")
    late.write(number.to_bytes(8, "big"))
    os.fdatasync(late.fileno())
    print(number, flush=True)
"""

EVERYTHING = """
import os, sys
for directory in sys.argv[1:]:
    for number in range(200):
        path = f"{directory}/file {number}"
        with open(path, "wb") as file:
            file.write(os.urandom(3000))
        os.rename(path, os.fsencode(path) + b"\\xfe") if number % 3 else os.unlink(path)
    os.makedirs(f"{directory}/a/b/c")
    os.link(os.fsencode(f"{directory}/file 1") + b"\\xfe", f"{directory}/a/b/linked")
    os.fsync(os.open(directory, os.O_RDONLY))
"""
LEFT_BY_EVERYTHING = 134  # names in the directory: every third file was removed


def numbers(log: Path) -> int:
    return log.stat().st_size // 8


def test_a_commit_in_one_directory_comes_after_what_was_done_in_another(
    lab_name: str, tmp_path: Path
) -> None:
    """One log, one order: the peer has the names of the first directory as they were at the commit
    in the second one. (What was written to other files and not synced follows on its own.)
    """
    first, second, _ = ODD_NAMES
    with mirrored(lab_name, DEFAULT, ODD_NAMES) as mirror:
        with promising(mirror.lab.host("n1"), CHAIN, tmp_path / "log", first, second) as promises:
            promises.await_progress(PROGRESS)
            mirror.lab.off("n1")
        mirror.await_states(STEP_TIMEOUT_S, n2=ALONE)
        host = mirror.lab.host("n2")
        early, late = (numbers(host.path(one) / "log") for one in (first, second))
        assert late >= promises.last() > 0
        assert early >= late
        names = [int(one.name) for one in host.path(first).iterdir() if one.name != "log"]
        assert len(names) == 1
        assert names[0] >= late
        mirror.lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=SECOND, n2=PRIM)
        assert_equal_trees(mirror)


def test_odd_names_through_a_failover(lab_name: str) -> None:
    with mirrored(lab_name, DEFAULT, ODD_NAMES) as mirror:
        mirror.lab.host("n1").run(["python3", "-c", EVERYTHING, *ODD_NAMES])
        assert_equal_trees(mirror)
        mirror.lab.off("n1")
        mirror.await_states(STEP_TIMEOUT_S, n2=ALONE)
        mirror.lab.host("n2").run(["rm", "-r", *(f"{one}/a" for one in ODD_NAMES)])
        mirror.lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=SECOND, n2=PRIM)
        assert_equal_trees(mirror)


@pytest.fixture
def system_disk() -> Iterator[Path]:
    """A place on the disk that the machine's own system lies on."""
    with tempfile.TemporaryDirectory(prefix="telamon-system-", dir="/var/tmp") as place:
        yield Path(place)


def test_a_directory_on_the_system_disk(lab_name: str, system_disk: Path) -> None:
    """Its device is shared with everything else on the machine. (It cannot lose its power.)"""
    place = "/srv/system"
    with Lab.up(lab_name, DEFAULT) as lab:
        for node in lab.spec.nodes:
            (system_disk / node.name).mkdir()
            host = lab.host(node.name)
            for at in (place, f"/disk{place}"):
                host.run(["mkdir", "--parents", at])
                host.run(["mount", "--bind", system_disk / node.name, at])
        mirror = installed(lab, [place])
        mirror.begin("n1", START_TIMEOUT_S)
        primary = "n1"
        for fault in [one for one in FAULTS if one.name in ("replicator killed", "swap")]:
            lab.host(primary).run(["python3", "-c", EVERYTHING, place])
            fault.strike(mirror, primary)
            fault.heal(mirror, primary)
            primary = other(primary)
            assert_equal_trees(mirror)
            assert len(list((system_disk / primary).iterdir())) == LEFT_BY_EVERYTHING
            lab.host(primary).run(["find", place, "-mindepth", "1", "-delete"])
        assert_equal_trees(mirror)
