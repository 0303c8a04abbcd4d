"""`telamon lab exec`: the command runs as if it ran here."""

import os
import pty
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import TELAMON

from telamon.lab.lab import Lab

DEADLINE_S = 20.0


def words(lab: Lab, *command: str) -> list[str]:
    return [str(TELAMON), "lab", "exec", "--name", lab.name, "n1", "--", *command]


def run(lab: Lab, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(lab, *command),
        input=text,
        text=True,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_status(bare_lab: Lab, status: int) -> None:
    assert run(bare_lab, "sh", "-c", f"exit {status}").returncode == status


def test_status_of_a_signal_and_of_what_cannot_run(bare_lab: Lab) -> None:
    assert run(bare_lab, "sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    assert run(bare_lab, "no-such-command").returncode == 127
    assert run(bare_lab, "/etc/passwd").returncode == 126


def test_streams_are_apart(bare_lab: Lab) -> None:
    done = run(bare_lab, "sh", "-c", "cat; echo error >&2", text="through\n")
    assert (done.stdout, done.stderr) == ("through\n", "error\n")


def test_large_streams_are_whole(bare_lab: Lab) -> None:
    text = "0123456789abcdef" * 65536
    assert run(bare_lab, "cat", text=text).stdout == text


def test_all_namespaces_are_the_host_s(bare_lab: Lab) -> None:
    done = run(bare_lab, "sh", "-c", "hostname; ls /sys/class/net; cat /proc/1/comm; echo $$")
    name, *links, first, own = done.stdout.split()
    assert name == "n1"
    assert sorted(links) == ["lan", "lo", "repl"]
    assert "python" in first
    assert int(own) < 100
    for kind in ("mnt", "net", "uts", "ipc", "pid"):
        inside = run(bare_lab, "readlink", f"/proc/self/ns/{kind}").stdout.strip()
        assert inside != str(Path(f"/proc/self/ns/{kind}").readlink())


def test_options_of_the_command_are_the_command_s(bare_lab: Lab) -> None:
    done = run(bare_lab, "printf", "%s|", "--name", "x", "--help", "--", "-n")
    assert done.stdout == "--name|x|--help|--|-n|"


def test_the_working_directory_is_kept_where_the_host_has_it(bare_lab: Lab, tmp_path: Path) -> None:
    def directory(start: Path) -> str:
        done = subprocess.run(
            words(bare_lab, "pwd"), cwd=start, text=True, capture_output=True, check=True
        )
        return done.stdout.strip()

    assert directory(Path("/usr/share")) == "/usr/share"
    assert directory(tmp_path) == str(tmp_path)
    assert directory(Path("/run")) == "/run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(bare_lab: Lab, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.02; done"
    # A shell cannot trap what its caller ignores, as nohup does.
    heeding = ("env", f"--default-signal={number.name[3:]}")
    with subprocess.Popen(
        words(bare_lab, *heeding, "sh", "-c", script), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=DEADLINE_S)[0] == "got\n"
        assert process.returncode == 9


def on_a_terminal(command: Sequence[str]) -> tuple[int, int]:
    """Starts a command on a terminal of its own; returns its process and the terminal's end."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(command[0], command)
    return process, terminal


def read_until(terminal: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + DEADLINE_S
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        seen += os.read(terminal, 4096)
    return seen


def test_a_terminal_is_passed_on_and_its_signals_arrive_once(bare_lab: Lab) -> None:
    script = "test -t 0 && test -t 1 && echo terminal; n=0; trap 'n=$((n+1)); echo int $n' INT;"
    script += " echo ready; read line; echo got $line; exit 5"
    process, terminal = on_a_terminal(words(bare_lab, "bash", "-c", script))
    try:
        assert b"terminal" in read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        read_until(terminal, b"int 1")
        os.write(terminal, b"word\n")
        assert b"int 2" not in read_until(terminal, b"got word")
        _, status = os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(status) == 5
    finally:
        os.close(terminal)
