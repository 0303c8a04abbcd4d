"""What is wrong on a host is told with its cure, and the agent lives on."""

import signal
import stat
import sys

from host import Host


def test_a_missing_directory_is_told_and_waited_for(n1: Host) -> None:
    data = n1.root / "data"
    data.rmdir()
    assert n1.telamon("module", "start", "db", "--node=n1").returncode == 0
    agent = n1.agent
    assert agent is not None

    def says_it() -> bool:
        return f"{data}, which module db replicates, is no directory" in n1.module()["reason"]

    n1.until(says_it, "the status names the directory")
    assert agent.poll() is None
    data.mkdir()
    n1.until(lambda: "prim db" in n1.module()["reason"], "it goes on by itself")


def test_a_file_in_place_of_a_directory_is_told(n1: Host) -> None:
    data = n1.root / "data"
    data.rmdir()
    data.write_text("not a directory")
    assert n1.telamon("module", "start", "db", "--node=n1").returncode == 0
    n1.until(lambda: "is no directory" in n1.module()["reason"], "the status names it")


def test_a_damaged_record_harms_no_other_module_and_is_told(n1: Host) -> None:
    record = n1.root / "var" / "modules" / "db" / "agent.json"
    done = n1.telamon("module", "prim", "db", "--wait")
    assert done.returncode == 0, done.stderr
    n1.end_agent(signal.SIGKILL)
    record.write_text("{half")
    n1.start_agent()
    here = n1.until_state("ALONE")
    assert here["intent"] == "started", "what runs was started"
    assert any(f"{record} is damaged" in text for text in n1.events())
    assert n1.marks() == ["start"]


def test_a_program_that_is_missing_is_told(n1: Host) -> None:
    program = n1.root / "bin" / "telamon-replicator"
    program.chmod(stat.S_IRUSR)
    assert n1.telamon("module", "start", "db", "--node=n1").returncode == 0
    n1.until(lambda: "telamon-replicator" in n1.module()["reason"], "the reason names the program")
    program.chmod(0o755)
    n1.until(lambda: "prim db" in n1.module()["reason"], "it goes on by itself")


def test_an_output_that_cannot_be_written_fails_the_start_and_not_the_agent(n1: Host) -> None:
    scripts = n1.root / "var" / "modules" / "db" / "scripts"
    scripts.parent.mkdir(parents=True, exist_ok=True)
    scripts.write_text("in the way")
    n1.telamon("module", "prim", "db")
    n1.until(lambda: n1.module()["intent"] == "stopped", "the start failed")
    assert n1.agent is not None and n1.agent.poll() is None
    assert any("did not start" in text for text in n1.events())
    scripts.unlink()


SENDER = """\
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind((sys.argv[1], 0))
    for _ in range(3):
        sender.sendto(b"TLMH" + bytes([9]) + bytes(80), ("10.66.0.1", 7420))
"""


def test_a_node_of_another_version_is_told_once_and_a_stranger_not(
    n1: Host, hosts: dict[str, Host]
) -> None:
    n2 = hosts["n2"]
    n2.run_inside("ip", "address", "add", "10.66.0.77/24", "dev", "lan0")
    for address in ("10.66.0.77", "10.66.0.2"):
        n2.run_inside(sys.executable, "-c", SENDER, address)

    def refusals() -> list[str]:
        return [text for text in n1.events() if "are refused" in text]

    n1.until(lambda: bool(refusals()), "the refusal is told")
    (told,) = refusals()
    assert told.startswith("heartbeats from 10.66.0.2 on network lan are refused: ")
    assert "bring the nodes to the same version of telamon" in told
    assert n1.status()["nodes"]["n1"]["refused_datagrams"] >= 6
