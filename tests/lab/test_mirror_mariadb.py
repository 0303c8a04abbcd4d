"""MariaDB on a mirror: what it promised to a client survives failovers, its tables are sound."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import mariadb_client
import pytest
import yaml
from faults import FAULTS, other
from mirrors import START_TIMEOUT_S, STEP_TIMEOUT_S, assert_equal_trees
from promises import promising

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.mirror import PRIM, SECOND, STOP, MirrorInLab
from telamon.lab.spec import DEFAULT

MODULE = Path(__file__).resolve().parents[2] / "modules" / "mariadb"
DATA = "/var/lib/mysql"
VIRTUAL_IP = "10.0.0.100"
# Debian's core package makes no user of its own.
SERVER_USER = "daemon"
PROGRESS = 100
STRUCK = ("power failure", "replicator killed", "clean stop")


def query(host: RunningHost, text: str) -> list[str]:
    command = ["mariadb", "--socket=/run/mysqld/mysqld.sock", "--batch", "--skip-column-names"]
    return host.run([*command, "work"], input_text=text, timeout_s=STEP_TIMEOUT_S).stdout.split(
        "\n"
    )


@pytest.fixture
def mirror(lab_name: str, tmp_path: Path) -> Iterator[MirrorInLab]:
    source = tmp_path / "mariadb"
    shutil.copytree(MODULE, source)
    module = yaml.safe_load((source / "module.yaml").read_text())
    module["application"]["variables"]["MARIADB_USER"] = SERVER_USER
    (source / "module.yaml").write_text(yaml.safe_dump(module))
    with Lab.up(lab_name, DEFAULT) as lab:
        made = MirrorInLab(lab, "mariadb", {DATA: ()})
        made.install(source)
        made.begin("n1", START_TIMEOUT_S)
        client = "CREATE DATABASE work; CREATE USER client; GRANT ALL ON work.* TO client;"
        host = lab.host("n1")
        host.run(["mariadb", "--socket=/run/mysqld/mysqld.sock", f"--execute={client}"])
        yield made


def assert_kept_and_sound(host: RunningHost, promised: set[str]) -> None:
    assert promised
    assert promised - set(query(host, "SELECT number FROM promised;")) == set()
    checked = query(host, "CHECK TABLE promised, work EXTENDED;")
    verdicts = [line.split("\t")[1:] for line in checked if line]
    assert verdicts == [["check", "status", "OK"]] * 2, checked


@pytest.mark.timeout(600)
def test_mariadb(mirror: MirrorInLab, tmp_path: Path) -> None:
    primary = "n1"
    program = Path(mariadb_client.__file__).read_text()
    with promising(mirror.lab.host("c1"), program, tmp_path / "log", VIRTUAL_IP) as promises:
        for fault in [one for one in FAULTS if one.name in STRUCK]:
            promises.await_progress(PROGRESS)
            fault.strike(mirror, primary)
            promises.await_progress(PROGRESS)
            fault.heal(mirror, primary)
            primary = other(primary)
            assert_kept_and_sound(mirror.lab.host(primary), promises.all())
    mirror.order("stop", primary, "--node", primary)
    mirror.await_states(STEP_TIMEOUT_S, ready=False, **{primary: STOP})
    mirror.order("start", primary, "--node", primary)
    mirror.await_states(STEP_TIMEOUT_S, **{primary: SECOND, other(primary): PRIM})
    host = mirror.lab.host(other(primary))
    assert_kept_and_sound(host, promises.all())
    host.run(["pkill", "--signal=STOP", f"--uid={SERVER_USER}", "mariadbd"])
    assert_equal_trees(mirror)
    host.run(["pkill", "--signal=CONT", f"--uid={SERVER_USER}", "mariadbd"])
