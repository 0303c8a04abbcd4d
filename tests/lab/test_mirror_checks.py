"""A mirror whose application is watched: a dead one is restarted, one that dies too often moves to
the other node, and load balancers are told who serves.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from probes import HEALTH, Probe

from telamon.agent.models import CheckStatus
from telamon.lab.lab import Lab
from telamon.lab.mirror import MirrorInLab
from telamon.lab.spec import DEFAULT

MODULE = "shop"
DIRECTORY = "/srv/shop"
PORT = 8000
WAIT_S = 60.0
POLL_S = 0.1

START = f"""#!/bin/sh
echo start >>/var/log/starts
[ ! -e /etc/broken ] || exit 0
cd {DIRECTORY} && exec {sys.executable} -m http.server {PORT} &
"""
STOP = f"""#!/bin/sh
pkill --full 'http.server {PORT}' || true
while pgrep --full 'http.server {PORT}' >/dev/null; do sleep 0.05; done
"""


@pytest.fixture
def shop(lab_name: str) -> Iterator[MirrorInLab]:
    with Lab.up(lab_name, DEFAULT) as lab:
        mirror = MirrorInLab(lab, MODULE, {DIRECTORY: ()})
        for node in lab.spec.nodes:
            lab.host(node.name).run(["mkdir", "--parents", DIRECTORY])
        host = lab.host("n1")
        source = Path("/run/module")
        module = {
            "module": MODULE,
            "kind": "mirror",
            "nodes": ["n1", "n2"],
            "virtual_ips": [{"address": "10.0.0.100/24", "network": "lan"}],
            "replicate": {"directories": [{"path": DIRECTORY}]},
            "checks": [
                {
                    "name": "web",
                    "http": {"url": f"http://10.0.0.100:{PORT}/page", "contains": "wares"},
                    "interval": "300ms",
                    "timeout": "300ms",
                    "grace": "3s",
                },
                {
                    "name": "clients",
                    "ping": {"addresses": ["10.0.0.3"]},
                    "interval": "300ms",
                    "timeout": "300ms",
                },
            ],
            "failures": {"limit": 2, "window": "1h"},
            "health": HEALTH,
        }
        host.write(source / "module.yaml", yaml.safe_dump(module))
        for name, text in (("start", START), ("stop", STOP)):
            host.write(source / "scripts" / name, text, mode=0o755)
        mirror.install(source)
        # The page must be there when the application is looked at first.
        lab.host("n1").write(Path(DIRECTORY) / "page", "wares and prices\n")
        mirror.begin("n1", WAIT_S)
        yield mirror


@pytest.fixture
def probe(shop: MirrorInLab) -> Probe:
    return Probe(shop.lab, {"n1": "10.0.0.1", "n2": "10.0.0.2"})


def until(is_so: Callable[[], bool], seen: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s, seen()
        time.sleep(POLL_S)


def check_of(mirror: MirrorInLab, node: str) -> CheckStatus:
    return mirror.status()[node].checks[0]


def starts(mirror: MirrorInLab, node: str) -> int:
    done = mirror.lab.host(node).run(["cat", "/var/log/starts"], is_checked=False)
    return done.stdout.count("start")


def kill_application(mirror: MirrorInLab, node: str) -> None:
    mirror.lab.host(node).run(["pkill", "--signal=KILL", "--full", f"http.server {PORT}"])


def test_a_dead_application_is_restarted_and_one_too_many_moves_it(
    shop: MirrorInLab, probe: Probe
) -> None:
    until(lambda: check_of(shop, "n1").state == "up", shop.status)
    assert check_of(shop, "n2").state == "idle"
    for count in (2, 3):
        kill_application(shop, "n1")
        until(lambda: starts(shop, "n1") == count, shop.status)  # noqa: B023
        until(lambda: check_of(shop, "n1").state == "up", shop.status)
        # The peer saw nothing of it.
        assert shop.status()["n2"].state == "SECOND"
    kill_application(shop, "n1")
    shop.await_states(WAIT_S, ready=False, n1="STOP")
    shop.await_states(WAIT_S, n2="ALONE")
    until(lambda: check_of(shop, "n2").state == "up", shop.status)
    until(lambda: probe.statuses() == {"n1": 503, "n2": 200}, probe.ask)
    reason = shop.status()["n1"].reason
    assert "failed more than 2 times within 1 h" in reason
    assert "check web" in reason
    assert starts(shop, "n1") == 3
    # An operator's order begins a new count, and the node follows.
    shop.order("start", "n1", "--node", "n1")
    shop.await_states(WAIT_S, n1="SECOND", n2="PRIM")


def test_load_balancers_follow_a_swap(shop: MirrorInLab, probe: Probe) -> None:
    until(lambda: probe.statuses() == {"n1": 200, "n2": 503}, probe.ask)
    assert probe.ask()["n1"] == (200, "PRIM")
    assert probe.ask("HEAD")["n2"] == (503, "")
    shop.order("swap", "n1")
    never_both = []
    while (now := probe.statuses()) != {"n1": 503, "n2": 200}:
        never_both.append(now)
        assert len(never_both) < 500, never_both[-1]
    assert {"n1": 200, "n2": 200} not in never_both
    shop.await_states(WAIT_S, n1="SECOND", n2="PRIM")
    # An application that does not answer is no place for clients, long before it is cured.
    shop.lab.host("n2").write(Path("/etc/broken"), "")
    kill_application(shop, "n2")
    until(lambda: probe.statuses()["n2"] == 503, probe.ask)
    until(lambda: "check web" in probe.ask()["n2"][1], probe.ask)


def test_an_application_broken_on_one_node_ends_on_the_other(
    shop: MirrorInLab, probe: Probe
) -> None:
    until(lambda: check_of(shop, "n1").state == "up", shop.status)
    shop.lab.host("n1").write(Path("/etc/broken"), "")
    kill_application(shop, "n1")
    # Each start on n1 fails after its grace; the third failure stops n1.
    shop.await_states(WAIT_S, ready=False, n1="STOP")
    shop.await_states(WAIT_S, n2="ALONE")
    until(lambda: probe.statuses() == {"n1": 503, "n2": 200}, probe.ask)


def test_a_node_without_its_clients_hands_over_and_does_not_take_over(shop: MirrorInLab) -> None:
    shop.lab.cut("n1", "lan")
    shop.await_states(WAIT_S, ready=False, n1="WAIT")
    shop.await_states(WAIT_S, n2="ALONE")
    assert "check clients: no answer within 0.3 s" in shop.status()["n1"].reason
    shop.lab.heal("n1", "lan")
    shop.await_states(WAIT_S, n1="SECOND", n2="PRIM")
    # The secondary goes on receiving, and says that it would not take over.
    shop.lab.cut("n1", "lan")
    until(lambda: shop.status()["n1"].ready is False, shop.status)
    now = shop.status()["n1"]
    assert (now.state, now.link) == ("SECOND", "live")
    assert "check clients" in now.reason
    refused = shop.lab.host("n2").run(["telamon", "module", "swap", MODULE], is_checked=False)
    assert refused.returncode != 0
    assert "check clients" in refused.stderr
    shop.lab.heal("n1", "lan")
    shop.await_states(WAIT_S, n1="SECOND", n2="PRIM")
