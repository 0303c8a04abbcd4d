"""Checks and the health endpoint of a mirror module in a real agent."""

import signal
import subprocess
import sys
from pathlib import Path

import yaml
from host import Host

PORT = 5555
HEALTH_PORT = 9010

SERVER = """
import http.server, socketserver
class Server(socketserver.TCPServer):
    allow_reuse_address = True
Server(("", 5555), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def _equip(host: Host, **keys: object) -> None:
    """Gives the module an application that serves a port, and what a test asks for."""
    done = host.telamon("module", "install", str(_source(host, **keys)), "--node=n1")
    assert done.returncode == 0, done.stderr


def _source(host: Host, **keys: object) -> Path:
    directory = host.root / "source"
    module = yaml.safe_load((directory / "module.yaml").read_text())
    (directory / "module.yaml").write_text(yaml.safe_dump({**module, **keys}))
    (directory / "scripts" / "server").write_text(SERVER)
    start = (directory / "scripts" / "start").read_text()
    own = f"{sys.executable} $TELAMON_MODULE_DIRECTORY/scripts/server {host.root}/run"
    if "scripts/server" not in start:
        start += f"[ -e $BASE/deaf ] || {{ {own} & echo $! >$BASE/pid; }}\n"
        (directory / "scripts" / "start").write_text(start)
        stop = "[ ! -e $BASE/pid ] || kill -9 $(cat $BASE/pid) || true; rm -f $BASE/pid\n"
        with (directory / "scripts" / "stop").open("a") as stream:
            stream.write(stop)
    return directory


def _check(**keys: object) -> dict[str, object]:
    return {"interval": "200ms", "timeout": "200ms", "grace": "2s", **keys}


def _kill_application(host: Host) -> None:
    pid = int((host.root.parent / "pid").read_text())
    host.run_inside("kill", "-9", str(pid))


def _starts(host: Host) -> int:
    return host.marks().count("start")


def _health(host: Host) -> tuple[int, str]:
    shown = host.run_inside(
        "python3",
        "-c",
        "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9010, timeout=5);"
        "c.request('GET', '/ready'); a = c.getresponse(); print(a.status, a.read().decode())",
    )
    status, _, body = shown.partition(" ")
    return int(status), body.strip()


def _prim(host: Host) -> None:
    done = host.telamon("module", "prim", "db", "--wait")
    assert done.returncode == 0, done.stderr


def _checks(host: Host) -> dict[str, dict[str, object]]:
    return {check["name"]: check for check in host.module()["checks"]}


def test_a_dead_application_is_restarted_and_one_too_many_stops_the_module(n1: Host) -> None:
    _equip(
        n1,
        checks=[_check(name="port", tcp={"port": PORT})],
        failures={"limit": 2},
        health={"port": HEALTH_PORT, "path": "/ready"},
    )
    n1.until(lambda: bool(n1.module()["health"]["listens_on"]), "the health endpoint listens")
    assert _health(n1)[0] == 503
    _prim(n1)
    n1.until(lambda: _checks(n1)["port"]["state"] == "up", "the check is up")
    assert _health(n1) == (200, "ALONE")
    for starts in (2, 3):
        _kill_application(n1)
        n1.until(lambda: _starts(n1) == starts, f"started {starts} times")  # noqa: B023
        n1.until_state("ALONE")
        n1.until(lambda: _checks(n1)["port"]["state"] == "up", "the check is up again")
        n1.until(lambda: _health(n1)[0] == 200, "healthy again")
    _kill_application(n1)
    here = n1.until_state("STOP", ready=False)
    assert "failed more than 2 times within 24 h" in here["reason"]
    assert "check port: 10.66.0.100 port 5555: Connection refused" in here["reason"]
    assert here["intent"] == "stopped"
    status, reason = _health(n1)
    assert status == 503
    assert reason.startswith("STOP: failed more than 2 times")
    shown = here["checks"][0]
    assert (shown["state"], shown["action"], shown["detector"]) == ("idle", "restart", "tcp")
    assert shown["last_error"] == "10.66.0.100 port 5555: Connection refused"
    assert not n1.has_virtual_ip()
    events = n1.events()
    assert events.count("check port is up") == 3
    assert "check port is down: 10.66.0.100 port 5555: Connection refused" in events
    text = n1.telamon("module", "status", "db").stdout
    assert "name port, detector tcp, action restart, state idle" in text


def test_an_application_has_its_grace_to_answer_first(n1: Host) -> None:
    (n1.root.parent / "deaf").touch()
    _equip(
        n1,
        checks=[_check(name="port", tcp={"port": PORT})],
        health={"port": HEALTH_PORT, "path": "/ready"},
    )
    _prim(n1)
    n1.until(lambda: bool(_checks(n1)["port"]["last_error"]), "it has looked")
    assert _checks(n1)["port"]["state"] == "starting"
    assert n1.until_state("ALONE")["ready"]
    status, reason = _health(n1)
    assert (status, reason) == (503, "check port: 10.66.0.100 port 5555: Connection refused")
    (n1.root.parent / "deaf").unlink()
    n1.until(lambda: _starts(n1) >= 2, "restarted after its grace")
    n1.until(lambda: _checks(n1)["port"]["state"] == "up", "the check is up")


def test_a_module_waits_for_its_surroundings_and_gives_up_without_them(n1: Host) -> None:
    script = n1.root / "source" / "scripts" / "gateway"
    script.write_text("#!/bin/sh\n[ -e $BASE/gateway ] || { echo no gateway; exit 1; }\n")
    script.chmod(0o755)
    _equip(n1, checks=[_check(custom={"script": "scripts/gateway"}, action="wait", grace=None)])
    refused = n1.telamon("module", "prim", "db")
    assert refused.returncode == 0, refused.stderr
    n1.until(
        lambda: "check custom-1: script gateway exited with 1: no gateway" in n1.module()["reason"],
        "it waits for its gateway",
    )
    assert n1.marks() == []
    (n1.root.parent / "gateway").touch()
    n1.until_state("ALONE")
    (n1.root.parent / "gateway").unlink()
    here = n1.until_state("WAIT", ready=False)
    n1.until(lambda: n1.marks()[-1:] == ["stop "] or n1.marks()[-1:] == ["stop"], "it stopped")
    assert not n1.has_virtual_ip()
    assert "no gateway" in here["reason"]
    (n1.root.parent / "gateway").touch()
    n1.until_state("ALONE")
    n1.until(n1.has_virtual_ip, "it is back")


def test_stop_stops_for_good_and_none_only_shows(n1: Host) -> None:
    port = _check(tcp={"port": PORT})
    _equip(
        n1,
        checks=[
            {**port, "name": "shown", "action": "none"},
            {**port, "name": "port", "action": "stop", "failures": 10},
        ],
        health={"port": HEALTH_PORT, "path": "/ready"},
    )
    _prim(n1)
    n1.until(lambda: _health(n1)[0] == 200, "healthy")
    _kill_application(n1)
    n1.until(lambda: _checks(n1)["shown"]["state"] == "down", "it is shown")
    assert n1.module()["state"] == "ALONE"
    assert "check shown: 10.66.0.100 port 5555" in n1.telamon("status").stdout
    here = n1.until_state("STOP", ready=False)
    assert here["reason"].startswith("check port: 10.66.0.100 port 5555: Connection refused")
    assert (here["intent"], _starts(n1)) == ("stopped", 1)


def test_stopstart_gives_everything_up_and_comes_back(n1: Host) -> None:
    _equip(n1, checks=[_check(ip={})])
    _prim(n1)
    n1.until(lambda: _checks(n1)["ip-1"]["state"] == "up", "the address is there")
    n1.run_inside("ip", "address", "del", "10.66.0.100/24", "dev", "lan0")
    n1.until(lambda: _starts(n1) == 2, "started again")
    n1.until_state("ALONE")
    assert n1.has_virtual_ip()
    assert any("check ip-1: this node does not have 10.66.0.100" in text for text in n1.events())


def test_swap_waits_for_a_peer_that_can_take_over(n1: Host) -> None:
    _equip(n1, checks=[_check(tcp={"port": PORT}, action="swap", failures=1)])
    _prim(n1)
    n1.until(lambda: _checks(n1)["tcp-1"]["state"] == "up", "the check is up")
    _kill_application(n1)
    n1.until(lambda: int(str(_checks(n1)["tcp-1"]["failures"])) > 3, "it asks and asks")
    assert n1.module()["state"] == "ALONE"
    assert n1.marks() == ["start"]


def test_a_module_may_depend_on_another_one(n1: Host) -> None:
    _equip(n1, checks=[_check(module={"name": "other"}, grace=None)])
    n1.telamon("module", "prim", "db")
    n1.until(
        lambda: "module other is not installed on node n1" in n1.module()["reason"],
        "it waits for the other module",
    )


def test_checks_go_on_in_the_next_agent(n1: Host) -> None:
    _equip(n1, checks=[_check(name="port", process={"command": f"scripts/server {n1.root}/run"})])
    _prim(n1)
    n1.until(lambda: _checks(n1)["port"]["state"] == "up", "the check is up")
    n1.end_agent(signal.SIGKILL)
    n1.start_agent()
    n1.until(lambda: _checks(n1)["port"]["state"] == "up", "the check is up again")
    assert _starts(n1) == 1
    _kill_application(n1)
    n1.until(lambda: _starts(n1) == 2, "restarted")


def test_port_conflicts_are_faults(n1: Host) -> None:
    source = _source(n1, health={"port": 7440})
    checked = subprocess.run(
        n1.inside(
            sys.executable,
            "-c",
            "from telamon.cli.main import main; main()",
            f"--configuration={n1.root / 'etc'}",
            "config",
            "check",
            source,
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 6
    assert "port 7440 is ports.api of cluster.yaml" in checked.stderr
