"""What is wrong on a host is told with its cure, and the agent lives on."""

import signal
import stat

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
