"""Farm nodes whose applications are watched: clients of a dead one move and come back, a check may
only close the traffic, and load balancers find the nodes of a farm without virtual addresses.
"""

import sys
import time
from collections.abc import Callable, Iterator

import pytest
from farms import (
    CLIENT,
    MODULE,
    NODES,
    PORT,
    connect,
    farm_in_lab,
    lab_file,
    make_module,
)
from probes import HEALTH, Probe

from telamon.agent.models import CheckStatus
from telamon.lab.farm import FarmInLab
from telamon.lab.lab import Lab
from telamon.lab.oracles.connections import Connections, by_node

WAIT_S = 40.0
POLL_S = 0.1
ADDRESSES = {"n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "10.0.0.3"}
FAST = {"interval": "200ms", "timeout": "200ms"}


def until(is_so: Callable[[], bool], seen: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s, seen()
        time.sleep(POLL_S)


def checks_of(farm: FarmInLab, node: str) -> dict[str, CheckStatus]:
    return {check.name: check for check in farm.status()[node].checks}


def kill_application(farm: FarmInLab, node: str) -> None:
    farm.lab.host(node).run(["pkill", "--signal=KILL", "--full", "scripts/server"])


def times_down(farm: FarmInLab, node: str) -> int:
    return farm.telamon(node, "events", "--limit=500").count("check port is down")


def shown_on_lo(farm: FarmInLab, node: str) -> str:
    return farm.lab.host(node).run(["ip", "address", "show", "lo"]).stdout


@pytest.fixture
def watched(lab_name: str) -> Iterator[FarmInLab]:
    """Each node's application is restarted; a mark on the node closes its traffic."""
    mark = {"name": "mark", "custom": {"script": "scripts/mark"}, "action": "wait", **FAST}
    port = {"name": "port", "tcp": {"port": PORT}, **FAST}
    with farm_in_lab(
        lab_name,
        checks=[port, mark],
        scripts={"mark": "#!/bin/sh\n[ ! -e /etc/closed ] || { echo closed; exit 1; }\n"},
        failures={"limit": 2, "window": "1h"},
        health=HEALTH,
    ) as made:
        yield made


def test_clients_of_a_dead_application_move_and_come_back(watched: FarmInLab) -> None:
    probe = Probe(watched.lab, ADDRESSES)
    until(lambda: set(probe.statuses().values()) == {200}, probe.ask)
    with Connections(watched.lab.host(CLIENT)) as clients:
        for times in (1, 2):
            kill_application(watched, "n2")
            until(lambda: times_down(watched, "n2") == times, watched.status)  # noqa: B023
            until(lambda: checks_of(watched, "n2")["port"].state == "up", watched.status)
            watched.await_serving(*NODES)
        # One too many in the window: the node stops, and its buckets move for good.
        kill_application(watched, "n2")
        watched.await_serving("n1", "n3")
        stopped = watched.await_status(lambda now: now["n2"].state == "STOP", "stopped")["n2"]
        assert "failed more than 2 times within 1h" in stopped.reason
        assert "check port" in stopped.reason
        assert set(by_node(connect(watched, clients, 30))) == {"n1", "n3"}
    assert probe.statuses() == {"n1": 200, "n2": 503, "n3": 200}
    watched.telamon("n1", "module", "start", MODULE, "--node", "n2", "--wait")
    watched.await_serving(*NODES)
    until(lambda: set(probe.statuses().values()) == {200}, probe.ask)


def test_a_check_that_waits_only_closes_the_traffic(watched: FarmInLab) -> None:
    probe = Probe(watched.lab, ADDRESSES)
    with Connections(watched.lab.host(CLIENT)) as clients:
        connect(watched, clients, 60)
        watched.lab.host("n3").run(["touch", "/etc/closed"])
        now = watched.await_serving("n1", "n2")
        assert now["n3"].state == "UP"
        assert now["n3"].reason == "check mark: script mark exited with 1: closed"
        until(lambda: probe.statuses() == {"n1": 200, "n2": 200, "n3": 503}, probe.ask)
        echoed = clients.echo()
        assert echoed.broken == []
        assert echoed.works["n3"] > 0
        assert set(by_node(connect(watched, clients, 30))) == {"n1", "n2"}
        watched.lab.host("n3").run(["rm", "/etc/closed"])
        watched.await_serving(*NODES)
        assert clients.echo().broken == []


def test_draining_and_a_restart_of_the_agent_are_told_to_load_balancers(
    watched: FarmInLab,
) -> None:
    probe = Probe(watched.lab, ADDRESSES)
    until(lambda: set(probe.statuses().values()) == {200}, probe.ask)
    watched.telamon("n1", "farm", "drain", "n3")
    assert probe.ask()["n3"] == (503, "drained: serves no new clients")
    watched.telamon("n1", "farm", "undrain", "n3", "--wait")
    until(lambda: set(probe.statuses().values()) == {200}, probe.ask)


def test_a_farm_without_virtual_addresses_is_found_by_load_balancers(lab_name: str) -> None:
    with Lab.up(lab_name, lab_file()) as lab:
        farm = FarmInLab(lab, MODULE)
        probe = Probe(lab, ADDRESSES)
        source = make_module(
            lab.host("n1"), virtual_ips=[], health={**HEALTH, "notice": "2s"}, drain_timeout="30s"
        )
        farm.telamon("n1", "module", "install", str(source))
        farm.telamon("n1", "module", "start", MODULE, "--wait")
        until(lambda: set(probe.statuses().values()) == {200}, probe.ask)
        assert {here.state for here in farm.status().values()} == {"UP"}
        kill_application(farm, "n2")
        until(lambda: probe.statuses() == {"n1": 200, "n2": 503, "n3": 200}, probe.ask)
        until(lambda: set(probe.statuses().values()) == {200}, probe.ask)
        began_s = time.monotonic()
        farm.telamon("n1", "module", "stop", MODULE, "--node", "n3")
        # It still serves while load balancers may not have noticed.
        assert probe.ask()["n3"][0] == 503
        lab.host(CLIENT).run(
            [
                sys.executable,
                "-c",
                f"import socket; socket.create_connection(('10.0.0.3', {PORT}), 3)",
            ]
        )
        farm.await_status(lambda now: now["n3"].state == "STOP", "stopped")
        assert time.monotonic() - began_s >= 2.0
        assert probe.statuses() == {"n1": 200, "n2": 200, "n3": 503}


def test_what_stopstart_stop_and_another_module_lead_to(lab_name: str) -> None:
    nothing = "#!/bin/sh\n"
    with Lab.up(lab_name, lab_file()) as lab:
        farm = FarmInLab(lab, MODULE)
        n1 = lab.host("n1")
        checks: list[dict[str, object]] = [
            {"name": "address", "ip": {}, **FAST},
            {
                "name": "licence",
                "custom": {"script": "scripts/licence"},
                "action": "stop",
                **FAST,
            },
            {"name": "gate", "module": {"name": "gate", "node": "n2", "states": ["UP"]}},
        ]
        licence = "#!/bin/sh\n[ ! -e /etc/expired ] || { echo expired; exit 1; }\n"
        source = make_module(n1, scripts={"licence": licence}, checks=checks, drain_timeout="2s")
        farm.telamon("n1", "module", "install", str(source))
        farm.telamon("n1", "module", "start", MODULE)

        # Every node waits for a module of n2, which is not there yet.
        wanted = "check gate: module gate is not installed on node n2"
        farm.await_status(
            lambda now: all(here.state == "UP" and here.reason == wanted for here in now.values()),
            wanted,
        )
        assert not any(here.ready for here in farm.status().values())
        other = make_module(
            n1,
            scripts={"start": nothing, "stop": nothing},
            module="gate",
            nodes=["n2"],
            virtual_ips=[],
            services=[{"protocol": "udp", "ports": [5353]}],
            health={"port": 9020},
        )
        farm.telamon("n1", "module", "install", str(other))
        farm.telamon("n2", "module", "start", "gate", "--wait")
        farm.await_serving(*NODES)

        # Leaves the farm and comes back with its address.
        lab.host("n3").run(["ip", "address", "del", "10.0.0.100/32", "dev", "lo"])
        until(lambda: "check address is down" in farm.telamon("n3", "events"), farm.status)
        until(lambda: "10.0.0.100" in shown_on_lo(farm, "n3"), farm.status)
        farm.await_serving(*NODES)
        told = farm.telamon("n3", "events")
        assert told.index("failed: check address: this node does not have") < told.index("stopped")

        # Stops until somebody corrects it.
        lab.host("n1").run(["touch", "/etc/expired"])
        farm.await_serving("n2", "n3")
        stopped = farm.await_status(lambda now: now["n1"].state == "STOP", "stopped")["n1"]
        assert stopped.reason.startswith("check licence: script licence exited with 1: expired")
        assert stopped.intent == "stopped"
        refused = lab.host("n1").run(["telamon", "module", "status", MODULE]).stdout
        assert "check licence" in refused
