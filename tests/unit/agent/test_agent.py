"""A real agent, real scripts and addresses, and a replicator that only says what the test wants."""

import os
import signal
import subprocess
import sys

import pytest
from host import Host

NOTHING_STARTED: list[str] = []


def _prim(host: Host) -> None:
    done = host.telamon("module", "prim", "db", "--wait")
    assert done.returncode == 0, done.stderr


def test_prim_takes_the_address_and_starts_the_application(n1: Host) -> None:
    assert n1.module()["state"] == "STOP"
    _prim(n1)
    here = n1.until_state("ALONE")
    assert here["virtual_ips"][0]["present"]
    assert here["commits"] == "alone"
    assert here["data_state"] == "UpToDate"
    assert n1.has_virtual_ip()
    assert n1.marks() == ["start"]
    done = n1.telamon("module", "stop", "db", "--node=n1", "--wait")
    assert done.returncode == 0, done.stderr
    assert n1.marks() == ["start", "stop"]
    assert not n1.has_virtual_ip()
    assert n1.module()["replicator_pid"] is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_agent_harms_nobody_and_the_next_one_adopts(
    n1: Host, number: signal.Signals
) -> None:
    _prim(n1)
    replicator = n1.until_state("ALONE")["replicator_pid"]
    n1.end_agent(number)
    os.kill(replicator, 0)
    assert n1.has_virtual_ip()
    n1.start_agent()
    here = n1.until_state("ALONE")
    assert here["replicator_pid"] == replicator
    assert n1.marks() == ["start"]
    assert n1.has_virtual_ip()


def test_a_killed_replicator_ends_the_application_by_force_and_the_node_recovers(n1: Host) -> None:
    _prim(n1)
    replicator = n1.until_state("ALONE")["replicator_pid"]
    os.kill(replicator, signal.SIGKILL)
    n1.until(lambda: n1.marks()[-1:] == ["start"] and len(n1.marks()) > 1, "it starts again")
    assert n1.marks() == ["start", "stop force", "start"]
    assert n1.until_state("ALONE")["replicator_pid"] != replicator
    assert any("ended without being told to" in text for text in n1.events())


def test_a_hung_replicator_is_killed_by_its_id(n1: Host) -> None:
    _prim(n1)
    replicator = n1.until_state("ALONE")["replicator_pid"]
    os.kill(replicator, signal.SIGSTOP)
    n1.until(lambda: any("questions" in text for text in n1.events()), "it is noticed")
    n1.until(lambda: n1.module()["replicator_pid"] not in (None, replicator), "a new one runs")
    n1.until_state("ALONE")


def test_an_application_that_does_not_start_is_told_in_its_own_words(n1: Host) -> None:
    (n1.root / "marks.fails").touch()
    assert n1.telamon("module", "prim", "db").returncode == 0
    n1.until(lambda: "the port is taken" in n1.module()["reason"], "the reason is shown")
    assert not n1.has_virtual_ip()


def test_a_shutdown_stops_in_order_and_the_next_boot_starts_again(n1: Host) -> None:
    _prim(n1)
    command = n1.inside(
        sys.executable, "-m", "telamon.agent.main", "--stop-modules", *n1.directories()
    )
    subprocess.run(command, check=True, timeout=60)
    assert n1.marks() == ["start", "stop"]
    assert n1.module()["state"] == "STOP"
    assert n1.end_agent(signal.SIGTERM) == 0
    n1.start_agent()
    # Its lineage proves that it went alone, so it needs nobody's order.
    n1.until_state("ALONE")
    assert n1.marks() == ["start", "stop", "start"]


def test_a_running_module_is_neither_removed_nor_replaced(n1: Host) -> None:
    _prim(n1)
    refused = n1.telamon("module", "remove", "db", "--node=n1")
    assert refused.returncode == 3
    assert "run `telamon module stop db` first" in refused.stderr
    refused = n1.telamon("module", "install", str(n1.root / "source"), "--node=n1")
    assert refused.returncode == 3
    n1.telamon("module", "stop", "db", "--node=n1", "--wait")
    assert n1.telamon("module", "remove", "db", "--node=n1").returncode == 0
    assert n1.status()["modules"] == {}


def test_orders_go_to_the_other_node_and_both_are_shown(hosts: dict[str, Host]) -> None:
    n1, n2 = hosts["n1"], hosts["n2"]
    for host in hosts.values():
        host.start_agent()
    installed = n1.telamon("module", "install", str(n1.write_module()))
    assert (installed.returncode, installed.stdout) == (0, "n1: installed\nn2: installed\n")
    started = n1.telamon("module", "start", "db")
    assert started.returncode == 0, started.stderr
    # Nobody holds data: both wait for the operator, who may say it anywhere.
    n1.until_state("WAIT", ready=False)
    n2.until_state("WAIT", ready=False)
    assert n1.telamon("module", "prim", "db", "--node=n2").returncode == 0
    n2.until_state("ALONE", ready=False)
    assert n1.marks() == NOTHING_STARTED
    n2.inject(status={"link": "live"}, event={"event": "peer", "link": "live", "reason": ""})
    n2.until_state("PRIM")
    shown = n1.status()
    assert shown["modules"]["db"]["nodes"]["n2"]["state"] == "PRIM"
    assert shown["nodes"]["n2"]["reachable"]
    assert shown["nodes"]["n1"]["heartbeats"]["n2"]["lan"]["state"] == "alive"
    n2.end_agent(signal.SIGKILL)
    silent = n1.status()
    assert not silent["nodes"]["n2"]["reachable"]
    assert silent["modules"]["db"]["nodes"]["n2"]["state"] is None
    refused = n1.telamon("module", "stop", "db", "--node=n2")
    assert refused.returncode == 5
    assert "check that the host is up and telamond runs on it" in refused.stderr
