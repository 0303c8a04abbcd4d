"""The command line as a person or a script uses it, without an agent where none is needed."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from telamon.cli import agent as cli_agent
from telamon.cli.exits import HELP, Exit
from telamon.errors import UnreachableError

MODULE = """\
module: db
kind: mirror
nodes: [n1, n2]
replicate: {directories: [{path: /srv/db}]}
"""
NODES = ("--node=n1=lan:127.0.0.1,repl:127.0.1.1", "--node=n2=lan:192.0.2.7,repl:192.0.2.8")


def _telamon(
    root: Path, *words: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from telamon.cli.main import main; main()",
            f"--run={root / 'run'}",
            f"--configuration={root / 'etc'}",
            *map(str, words),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def _module(directory: Path, text: str = MODULE) -> Path:
    (directory / "scripts").mkdir(parents=True)
    (directory / "module.yaml").write_text(text)
    for name in ("start", "stop"):
        (directory / "scripts" / name).write_text("#!/bin/sh\n")
        (directory / "scripts" / name).chmod(0o755)
    return directory


def test_a_cluster_is_made_joined_and_checked(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    made = _telamon(
        first, "cluster", "init", "east", *NODES, "--replication=repl=preferred",
        f"--bundles={bundles}", "--json",
    )  # fmt: skip
    assert made.returncode == Exit.DONE, made.stderr
    told = json.loads(made.stdout)
    bundle = Path(told["bundles"]["n2"])
    assert (told["node"], bundle.stat().st_mode & 0o777) == ("n1", 0o600)
    joined = _telamon(second, "cluster", "join", bundle, "--json")
    assert json.loads(joined.stdout) == {"id": told["id"], "node": "n2"}
    for root in (first, second):
        assert _telamon(root, "config", "check").returncode == Exit.DONE
    again = _telamon(first, "cluster", "init", "west", *NODES)
    assert again.returncode == Exit.REFUSED
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize("node", ["n1", "n1=lan", "n1=lan:", "=", "n1=lan:10.0.0.1,repl"])
def test_a_node_that_is_not_understood_is_named(tmp_path: Path, node: str) -> None:
    refused = _telamon(tmp_path, "cluster", "init", "east", "--node", node, "--this-node=n1")
    assert refused.returncode == Exit.INVALID
    assert "telamon:" in refused.stderr


def test_every_fault_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    module = _module(tmp_path / "db", MODULE + "suprise: 1\nchecks: [{tcp: {port: 99999}}]\n")
    refused = _telamon(tmp_path, "config", "check", module)
    assert refused.returncode == Exit.INVALID
    lines = refused.stderr.splitlines()
    assert any("module.yaml:5:" in line and "suprise" in line for line in lines)
    assert any("module.yaml:6:" in line and "port" in line for line in lines)
    as_json = json.loads(_telamon(tmp_path, "config", "check", module, "--json").stdout)
    assert as_json["code"] == "invalid"
    assert len(as_json["faults"]) == len(lines) - 1


def test_check_needs_no_cluster_for_a_module_alone(tmp_path: Path) -> None:
    checked = _telamon(tmp_path, "config", "check", _module(tmp_path / "db"), "--json")
    assert checked.returncode == Exit.DONE, checked.stderr
    assert json.loads(checked.stdout)["faults"] == []


def test_check_finds_what_is_missing(tmp_path: Path) -> None:
    nothing = _telamon(tmp_path, "config", "check")
    assert nothing.returncode == Exit.INVALID
    assert "telamon cluster init" in nothing.stderr
    assert _telamon(tmp_path, "config", "check", tmp_path / "none").returncode == Exit.NOT_FOUND


@pytest.mark.parametrize(
    "words",
    [("status",), ("events",), ("cluster", "show"), ("module", "list"), ("module", "start", "db")],
)
def test_without_an_agent_every_command_says_how_to_start_it(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    refused = _telamon(tmp_path, *words)
    assert refused.returncode == Exit.UNREACHABLE
    assert refused.stderr.count("\n") == 1
    assert "systemctl start telamond" in refused.stderr
    fault = json.loads(_telamon(tmp_path, *words, "--json").stdout)
    assert fault["code"] == "unreachable"


def test_an_agent_that_hangs_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_agent, "QUESTION_LIMIT_S", 0.1)
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(str(tmp_path / "agent.sock"))
        hangs.listen()
        with pytest.raises(UnreachableError, match=r"it hangs, .*systemctl restart telamond"):
            cli_agent.Agent(tmp_path / "agent.sock").status()


def test_who_may_not_use_the_socket_is_told_how() -> None:
    # Nobody, who may read everything: the sources may lie in root's own directory.
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    telamon = Path(sys.executable).parent / "telamon"
    with (
        # Not below pytest's own directory, which is root's alone.
        tempfile.TemporaryDirectory() as run,
        socket.socket(socket.AF_UNIX) as agent,
    ):
        Path(run).chmod(0o755)
        agent.bind(f"{run}/agent.sock")
        Path(f"{run}/agent.sock").chmod(0o660)
        agent.listen()
        refused = subprocess.run(
            [*nobody, *reads, telamon, f"--run={run}", "status"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert refused.returncode == Exit.UNREACHABLE, refused.stderr
    assert "use sudo, or join the group" in refused.stderr


@pytest.mark.parametrize("typed", [("module", "st"), ("cl",), ("module", "start", "--no")])
def test_commands_and_options_are_completed(typed: tuple[str, ...]) -> None:
    words = {"COMP_WORDS": " ".join(("telamon", *typed)), "COMP_CWORD": str(len(typed))}
    shown = subprocess.run(
        [Path(sys.executable).parent / "telamon"],
        env={**os.environ, "_TELAMON_COMPLETE": "complete_bash", **words},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = shown.stdout.split()
    assert found and all(word.startswith(typed[-1]) for word in found), shown


def test_wrong_usage_is_its_own_exit_status(tmp_path: Path) -> None:
    for words in (("nonsense",), ("module", "start"), ("status", "--nonsense")):
        refused = _telamon(tmp_path, *words)
        assert refused.returncode == Exit.USAGE
        assert "Traceback" not in refused.stderr


def test_exit_statuses_are_documented_and_in_the_help(tmp_path: Path) -> None:
    document = (Path(__file__).parents[3] / "docs" / "exit-codes.md").read_text()
    for status in Exit:
        assert f"| {status.value} |" in document
    shown = " ".join(_telamon(tmp_path, "module", "--help").stdout.split())
    assert "8 not ready (--check)" in shown
    assert "8 not ready (--check)" in HELP


def test_modules_are_completed_without_an_agent(tmp_path: Path) -> None:
    for name in ("db", "web"):
        (tmp_path / "etc" / "modules" / name).mkdir(parents=True)
    program = (
        "import sys, typer; from telamon.cli.options import complete_module; from telamon.paths "
        "import Paths; "
        "from pathlib import Path; from types import SimpleNamespace as S; root = "
        "Path(sys.argv[1]); "
        "found = S(obj=Paths(configuration=root / 'etc', run=root / 'run')); "
        "print(*complete_module(S(find_root=lambda: found)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["db", "web"]


def test_status_loads_neither_the_agent_nor_what_is_slow(tmp_path: Path) -> None:
    program = (
        "import sys, telamon.cli.main, telamon.cli.status, telamon.cli.module\n"
        "print(*sorted(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    agent = {name for name in loaded if name.startswith("telamon.agent.")}
    assert agent == {"telamon.agent.models"}
    assert not {"rich", "cryptography", "httpx", "pyroute2", "scapy", "fastapi"} & set(loaded)
