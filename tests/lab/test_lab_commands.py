"""The commands as a script sees them."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telamon.lab.spec import DEFAULT

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text(f"{DEFAULT}agents: false\n")
    return path


@pytest.fixture
def up(command: Command, lab_file: Path) -> Iterator[None]:
    assert command("up", str(lab_file)).returncode == 0
    yield
    command("down")


def hosts(command: Command, *words: str) -> dict[str, dict[str, object]]:
    done = command(*words, "--json")
    assert done.returncode == 0, done.stderr
    (lab,) = json.loads(done.stdout)["labs"]
    return {host["name"]: host for host in lab["hosts"]}


@pytest.mark.usefixtures("up")
def test_power_and_cuts_show(command: Command) -> None:
    assert hosts(command, "cut", "n1", "--network", "repl", "--direction", "out")["n1"]["cuts"] == [
        "repl out"
    ]
    assert hosts(command, "off", "n2")["n2"]["power"] == "off"
    assert hosts(command, "on", "n2")["n2"]["power"] == "on"
    assert hosts(command, "heal", "n1")["n1"]["cuts"] == []


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("off", "n9"), "its hosts are n1, n2, c1"),
        (("kill", "n1", "agent"), "n1 runs no telamond"),
        (("pause", "c1", "replicator"), "c1 runs no telamon-replicator"),
        (("kill", "n1", "agent", "--signal", "NONSENSE"), "is not a signal"),
        (("up",), "is up already"),
    ],
)
def test_refusals_say_the_cure(command: Command, words: tuple[str, ...], says: str) -> None:
    done = command(*words)
    assert done.returncode not in (0, 2)
    assert says in " ".join(done.stderr.split())


def test_a_faulty_file_makes_nothing(command: Command, tmp_path: Path, lab_name: str) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("hosts: {}\nnetworks: {lan: {ipv4: ten}}\n")
    done = command("up", str(path))
    assert done.returncode != 0
    assert "lab.yaml:1" in done.stderr
    assert "lab.yaml:2" in done.stderr
    assert not Path("/run/telamon-lab", lab_name).exists()


def test_down_of_nothing_is_an_error(command: Command, lab_name: str) -> None:
    done = command("down")
    assert done.returncode != 0
    assert f"no lab called {lab_name}" in " ".join(done.stderr.split())
