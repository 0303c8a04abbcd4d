"""A lab leaves nothing behind, however it ends; several stand side by side."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from remains import DEADLINE_S, Footprint

from telamon.errors import InvalidError, NotFoundError, RefusedError
from telamon.lab import record
from telamon.lab.lab import Lab, labs
from telamon.lab.spec import DEFAULT

BARE = f"{DEFAULT}agents: false\n"


def test_down_leaves_nothing(lab_name: str) -> None:
    lab = Lab.up(lab_name, BARE)
    lab.host("n1").start(["sleep", "1000"])
    lab.cut("n1")
    lab.off("n2")
    footprint = Footprint.of(lab_name)
    lab.down()
    footprint.await_gone()
    assert not record.directory(lab_name).exists()
    assert lab_name not in labs()


@pytest.mark.parametrize("is_attached", [True, False])
def test_a_killed_keeper_leaves_a_record_only(lab_name: str, is_attached: bool) -> None:
    lab = Lab.up(lab_name, BARE, is_attached=is_attached)
    footprint = Footprint.of(lab_name)
    lab.record.keeper.send(signal.SIGKILL)
    footprint.await_gone()
    with pytest.raises(NotFoundError, match="telamon lab up"):
        Lab(lab_name)
    Lab.up(lab_name, BARE).down()
    assert not record.directory(lab_name).exists()


def python(lines: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, text=True)


def test_an_attached_lab_ends_with_its_creator(lab_name: str) -> None:
    creator = python(
        f"from telamon.lab.lab import Lab; lab = Lab.up({lab_name!r}, {BARE!r});"
        " print('up', flush=True); input()"
    )
    with creator:
        assert creator.stdout is not None
        assert creator.stdout.readline() == "up\n"
        footprint = Footprint.of(lab_name)
        creator.kill()
    footprint.await_gone()


def test_a_detached_lab_outlives_its_creator(lab_name: str) -> None:
    with python(
        f"from telamon.lab.lab import Lab; Lab.up({lab_name!r}, {BARE!r}, is_attached=False)"
    ):
        pass
    assert lab_name in labs()
    assert Lab(lab_name).host("c1").run(["hostname"]).stdout == "c1\n"


@pytest.mark.parametrize("delay_ms", [10, 60, 110, 160, 210, 260, 310])
def test_up_killed_halfway_leaves_nothing(lab_name: str, delay_ms: int) -> None:
    """Kills the creation after it wrote its record, at several distances from that."""
    creator = python(f"from telamon.lab.lab import Lab; Lab.up({lab_name!r}, {BARE!r})")
    deadline = time.monotonic() + DEADLINE_S
    while not (record.directory(lab_name) / "record.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    keeper = record.load(lab_name).keeper
    with creator:
        time.sleep(delay_ms / 1000)  # not awaiting anything: choosing where to strike
        creator.kill()
    assert keeper.wait_until_ended(DEADLINE_S)
    Lab.up(lab_name, BARE).down()
    assert not record.directory(lab_name).exists()


def test_labs_with_equal_addresses_do_not_see_each_other(lab_name: str) -> None:
    with Lab.up(lab_name, BARE) as one, Lab.up(f"{lab_name}-b", BARE) as other:
        one.host("n1").write("/srv/where", "one")
        assert not other.host("n1").path("/srv/where").exists()
        one.off("n1")
        assert other.host("n1").run(["hostname"]).stdout == "n1\n"
        assert {one.name, other.name} <= set(labs())


def test_a_name_in_use_is_refused_and_the_lab_stands(bare_lab: Lab) -> None:
    with pytest.raises(RefusedError, match="telamon lab down"):
        Lab.up(bare_lab.name, BARE)
    assert bare_lab.host("n1").run(["true"]).returncode == 0


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "-a", "x" * 33])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        Lab.up(name, BARE)


IN_A_CHROOT = """
mkdir root
mount --rbind / root
mount -t tmpfs tmpfs root/mnt
touch root/mnt/only-in-the-chroot
exec chroot root "$@"
"""


def test_works_in_a_chroot(lab_name: str, tmp_path: Path) -> None:
    """As build systems make them: hosts see the tree of the chroot, not that of the machine."""
    lines = (
        f"from telamon.lab.lab import Lab; lab = Lab.up({lab_name!r}, {BARE!r});"
        " print(lab.host('n1').run(['ls', '/mnt']).stdout)"
    )
    chroot = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", IN_A_CHROOT, "sh"]
    done = subprocess.run(
        [*chroot, sys.executable, "-c", lines],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["only-in-the-chroot"], done.stderr


def test_the_machine_is_not_touched(bare_lab: Lab) -> None:
    """A host writes where it likes: its own directories, and those that the machine lacks."""
    host = bare_lab.host("n1")
    before = {name: Path(name).exists() for name in ("/data", "/etc/telamon", "/var/lib/telamon")}
    for name in ("/data/x", "/etc/telamon/x", "/var/lib/telamon/x", "/run/x", "/etc/x"):
        host.run(["touch", name])
        assert not Path(name).exists()
    assert {name: Path(name).exists() for name in before} == before


def test_up_takes_less_than_three_seconds(lab_name: str) -> None:
    """The limit is far above what it takes; it would notice a wait that crept in."""
    began = time.monotonic()
    with Lab.up(lab_name, BARE):
        took_s = time.monotonic() - began
    limit_s = 3.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert took_s < limit_s
