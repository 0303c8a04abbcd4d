"""What an operator types, on real hosts: every command of a mirror's life, and the sentences that
say the cure when something of the host stands in the way.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mirrors import DIRECTORY, STEP_TIMEOUT_S
from services import make_service

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.mirror import MirrorInLab
from telamon.lab.spec import DEFAULT

MODULE = "web"
PORT = 7000
ADDRESSES = ["10.0.0.100/24", "fd00:0:0:1::100/64"]
REFUSED, INVALID, NOT_FOUND, NOT_READY = 3, 6, 7, 8


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up("test-commands", DEFAULT) as made:
        yield made


@pytest.fixture
def n1(lab: Lab) -> Iterator[RunningHost]:
    """A node on which the module is installed and stopped, as on the other one."""
    for node in ("n1", "n2"):
        lab.host(node).run(["mkdir", "--parents", DIRECTORY])
    host = lab.host("n1")
    done(host, "module", "install", str(make_service(host, MODULE, DIRECTORY, PORT, ADDRESSES)))
    yield host
    done(host, "module", "stop", MODULE, "--force", "--wait")
    done(host, "module", "remove", MODULE)


def telamon(host: RunningHost, *words: str) -> subprocess.CompletedProcess[str]:
    return host.run(["telamon", *words], is_checked=False, timeout_s=STEP_TIMEOUT_S)


def done(host: RunningHost, *words: str) -> str:
    result = telamon(host, *words)
    assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
    return result.stdout


def told(host: RunningHost, *words: str) -> Any:
    return json.loads(done(host, *words, "--json"))


def states(host: RunningHost) -> dict[str, str]:
    return {
        node: here["state"]
        for node, here in told(host, "module", "status", MODULE)["nodes"].items()
    }


def events_of(host: RunningHost) -> set[str]:
    """What this node tells of the module."""
    lines = done(host, "events", "--json", "--module", MODULE, "--limit", "500").splitlines()
    return {json.loads(line)["text"] for line in lines}


def serve(host: RunningHost) -> None:
    """Brings the module into service, n1 primary."""
    done(host, "module", "prim", MODULE, "--wait")
    done(host, "module", "start", MODULE, "--wait")


def test_a_life_in_commands(n1: RunningHost, lab: Lab) -> None:
    assert told(n1, "module", "list") == {
        MODULE: {"kind": "mirror", "nodes": {"n1": "STOP", "n2": "STOP"}}
    }
    assert telamon(n1, "module", "status", MODULE, "--check").returncode == NOT_READY
    serve(n1)
    assert states(n1) == {"n1": "PRIM", "n2": "SECOND"}
    assert telamon(n1, "module", "status", MODULE, "--check").returncode == 0

    screen = done(n1, "status")
    for word in ("n1", "n2", "lan", "repl", MODULE, "PRIM", "SECOND", "live", "10.0.0.100"):
        assert word in screen, screen
    n1.run(["sh", "-c", f"echo x > {DIRECTORY}/x && sync {DIRECTORY}/x"])
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while True:
        here = told(n1, "status")["modules"][MODULE]["nodes"]["n1"]
        if here["commit_latency_us"]["last"]:
            break
        assert time.monotonic() < deadline_s, "the commit is not in the status"
    assert here["lag"]["bytes"] == 0
    assert re.search(r"\d+ µs", done(n1, "status"))
    for present in here["virtual_ips"]:
        assert present["present"], present
    addresses = n1.run(["ip", "address", "show", "lan"]).stdout
    assert all(address in addresses for address in ADDRESSES)

    assert "swap is done" in done(n1, "module", "swap", MODULE, "--wait")
    assert states(n1) == {"n1": "SECOND", "n2": "PRIM"}
    assert "restart is done" in done(n1, "module", "restart", MODULE, "--wait")
    assert "swap is done" in done(lab.host("n2"), "module", "swap", MODULE, "--wait")
    assert states(n1) == {"n1": "PRIM", "n2": "SECOND"}
    answer = told(n1, "module", "stop", MODULE, "--wait")
    assert {node: one["accepted"] for node, one in answer["nodes"].items()} == {
        "n1": True,
        "n2": True,
    }
    assert states(n1) == {"n1": "STOP", "n2": "STOP"}

    texts = events_of(n1)
    assert any(text.startswith("the start script ended after") for text in texts)
    assert {"swap ordered", "stop ordered"} <= texts
    assert "restart ordered" in events_of(lab.host("n2")), "it went to where the application ran"


def test_events_are_followed_as_they_happen(n1: RunningHost) -> None:
    following = n1.start(["telamon", "events", "--follow", "--json", "--limit", "0"])
    assert following.stdout is not None
    try:
        while told(n1, "module", "start", MODULE, "--node", "n1"):
            event = json.loads(following.stdout.readline())
            if event["module"] == MODULE:
                break
        assert event["node"] == "n1" and event["severity"] == "info"
    finally:
        RunningHost.end(following)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("module", "start", "nothing"), NOT_FOUND, "module nothing is not installed"),
        (("module", "status", "nothing"), NOT_FOUND, "`telamon module list` shows"),
        (("module", "start", MODULE, "--node", "n9"), NOT_FOUND, "its nodes are n1, n2"),
        (("module", "install", "/usr"), NOT_FOUND, "it has no module.yaml"),
        (("module", "remove", "nothing"), NOT_FOUND, "is not installed"),
        (("module", "swap", MODULE), REFUSED, "no node is primary"),
        (("module", "restart", MODULE), REFUSED, "runs on no node"),
        (("module", "second", MODULE), REFUSED, "is not primary: run `telamon module prim web`"),
        (("config", "check", "/nowhere"), NOT_FOUND, "/nowhere does not exist"),
        (("config", "check", "/etc/hostname"), INVALID, "/etc/hostname"),
    ],
)
def test_what_is_wrong_is_said_with_the_cure(
    n1: RunningHost, words: tuple[str, ...], status: int, says: str
) -> None:
    refused = telamon(n1, *words)
    assert (refused.returncode, says in refused.stderr) == (status, True), refused
    fault = json.loads(telamon(n1, *words, "--json").stdout)
    assert says in json.dumps(fault), fault


def test_what_runs_is_neither_removed_nor_replaced(n1: RunningHost) -> None:
    done(n1, "module", "start", MODULE)
    for words in (("remove", MODULE), ("install", f"/run/modules/{MODULE}")):
        refused = telamon(n1, "module", *words)
        assert refused.returncode == REFUSED
        assert f"run `telamon module stop {MODULE}`" in refused.stderr


def reason_on(lab: Lab, node: str, says: str) -> None:
    MirrorInLab(lab, MODULE, {}).await_reason(STEP_TIMEOUT_S, node, says)


def test_a_directory_that_is_missing_is_named_and_waited_for(n1: RunningHost, lab: Lab) -> None:
    lab.host("n2").run(["rm", "--recursive", DIRECTORY])
    done(n1, "module", "prim", MODULE, "--wait")
    done(n1, "module", "start", MODULE)
    reason_on(lab, "n2", f"{DIRECTORY}, which module {MODULE} replicates, is no directory")
    lab.host("n2").run(["mkdir", DIRECTORY])
    MirrorInLab(lab, MODULE, {}).await_states(STEP_TIMEOUT_S, n1="PRIM", n2="SECOND")


def test_a_replication_port_that_is_taken_is_named(n1: RunningHost, lab: Lab) -> None:
    port = told(n1, "module", "status", MODULE)["nodes"]["n1"]["replication_port"]
    program = f"import socket, time; s = socket.create_server(('', {port})); time.sleep(600)"
    taker = n1.start(["/usr/bin/python3", "-c", program])
    try:
        n1.run(["sh", "-c", f"until ss -Hltn 'sport = :{port}' | grep -q .; do sleep 0.1; done"])
        done(n1, "module", "start", MODULE, "--node", "n1")
        reason_on(lab, "n1", str(port))
    finally:
        RunningHost.end(taker)
    reason_on(lab, "n1", f"prim {MODULE}")


def test_a_host_without_fuse_is_told_how_to_get_it(n1: RunningHost, lab: Lab) -> None:
    n1.run(["mount", "--bind", "/dev/null", "/dev/fuse"])
    try:
        done(n1, "module", "start", MODULE, "--node", "n1")
        reason_on(lab, "n1", "modprobe fuse")
    finally:
        n1.run(["umount", "/dev/fuse"])
    reason_on(lab, "n1", f"prim {MODULE}")


def test_scripts_have_a_time_limit_and_their_output_is_kept(n1: RunningHost, lab: Lab) -> None:
    source = f"/run/modules/{MODULE}"
    text = n1.path(f"{source}/module.yaml").read_text()
    n1.write(f"{source}/module.yaml", f"{text}application: {{start_timeout: 1s}}\n")
    start = "#!/bin/sh\necho about to hang\nsleep 600\n"
    n1.write(f"{source}/scripts/start", start, mode=0o755)
    done(n1, "module", "install", source)
    done(n1, "module", "prim", MODULE)
    reason_on(lab, "n1", "did not start")
    here = told(n1, "module", "status", MODULE)["nodes"]["n1"]
    assert "did not end within 1 s and was killed" in here["reason"], here["reason"]
    n1.run(["sh", "-c", "grep -l 'about to hang' /var/lib/telamon/modules/web/scripts/*start*"])
