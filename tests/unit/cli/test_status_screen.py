"""The screen of `telamon status`: who is what, why, how far behind, how fast, in 80 columns."""

import io
from typing import Any

import pytest
from rich.console import Console

from telamon.agent.models import (
    CommitLatency,
    HeartbeatState,
    Lag,
    ModuleNodeStatus,
    ModuleStatus,
    NetworkHeartbeat,
    NodeStatus,
    Resync,
    Status,
    VirtualIp,
)
from telamon.cli.status import draw

COLUMNS = 80


def node(name: str, peer: str, **changes: Any) -> NodeStatus:
    alive = NetworkHeartbeat(state=HeartbeatState.ALIVE, address="10.0.0.2", silent_ms=10)
    content = {"name": name, "reachable": True, "reason": "", "version": "1", "uptime_s": 3700.0}
    heartbeats = {"heartbeats": {peer: {"lan": alive}}}
    return NodeStatus.model_validate({**content, **heartbeats, **changes})


def here(state: str, **changes: Any) -> ModuleNodeStatus:
    content: dict[str, Any] = {
        "reachable": True,
        "reason": "",
        "state": state,
        "ready": state in ("PRIM", "SECOND", "ALONE"),
        "readiness": "ready" if state in ("PRIM", "SECOND", "ALONE") else "not ready",
        "data_state": "UpToDate",
        "link": "live",
        "lag": Lag(records=0, bytes=0),
    }
    return ModuleNodeStatus.model_validate({**content, **changes})


def screen(nodes: dict[str, ModuleNodeStatus], **of_nodes: NodeStatus) -> list[str]:
    found = Status(
        cluster="east",
        node="n1",
        nodes={"n1": node("n1", "n2"), "n2": node("n2", "n1"), **of_nodes},
        modules={"postgresql": ModuleStatus(name="postgresql", kind="mirror", nodes=nodes)},
    )
    out = io.StringIO()
    draw(Console(file=out, width=COLUMNS, highlight=False), found)
    return [line.rstrip() for line in out.getvalue().splitlines()]


PRIMARY = here(
    "PRIM",
    commit_latency_us=CommitLatency(last=412, p50=400, p99=900),
    lag=Lag(records=3, bytes=20_480),
    virtual_ips=[VirtualIp(address="10.0.0.100/24", network="lan", interface="lan", present=True)],
)


def row(lines: list[str], name: str, state: str) -> str:
    return next(line for line in lines if f" {name} " in line and state in line)


def test_a_pair_in_service_is_one_line_each() -> None:
    lines = screen({"n1": PRIMARY, "n2": here("SECOND")})
    first = row(lines, "n1", "PRIM").split()
    assert first == ["postgresql", "n1", "PRIM", "UpToDate", "live", "20.0", "KiB", "412", "µs",
                     "10.0.0.100"]  # fmt: skip
    assert row(lines, "n2", "SECOND").split() == ["n2", "SECOND", "UpToDate", "live", "0", "B"]
    assert any("up 1 h 1 min" in line and "n2 on lan alive" in line for line in lines)


@pytest.mark.parametrize("state", ["STOP", "WAIT"])
def test_a_node_at_rest_is_not_called_not_ready(state: str) -> None:
    lines = screen({"n1": PRIMARY, "n2": here(state, reason="why it is so")})
    assert row(lines, "n2", state).split()[:2] == ["n2", state]
    assert not any("not ready" in line for line in lines)
    assert "postgresql on n2: why it is so" in lines


def test_what_is_on_its_way_says_so() -> None:
    resync = Resync(
        files_done=1, files_total=4, bytes_done=25, bytes_total=100, rate_bytes_per_s=1 << 20,
        remaining_s=65,
    )  # fmt: skip
    lines = screen(
        {
            "n1": here(
                "ALONE", commits="waiting", commit_latency_us=CommitLatency(last=1, p50=1, p99=1)
            ),
            "n2": here("SECOND", ready=False, readiness="transient", link="resync", resync=resync),
        }
    )
    text = " ".join(" ".join(lines).split())
    for words in ("waiting", "transient", "resync 25%", "25 B of 100 B, 1.0 MiB/s, 1 min 5 s left"):
        assert words in text


def test_a_silent_node_is_told_once() -> None:
    silent = NodeStatus(name="n2", reachable=False, reason="node n2 does not answer: power?")
    lost = NetworkHeartbeat(state=HeartbeatState.LOST, address="10.0.0.2", silent_ms=9_000)
    lines = screen(
        {"n1": here("ALONE"), "n2": ModuleNodeStatus(reachable=False, reason=silent.reason)},
        n1=node("n1", "n2", heartbeats={"n2": {"lan": lost}}),
        n2=silent,
    )
    assert sum("does not answer" in line for line in lines) == 1
    text = "\n".join(lines)
    assert "unreachable" in text and "n2 on lan lost" in text and "unknown" in text


def test_without_modules_it_says_how_to_install_one() -> None:
    out = io.StringIO()
    empty = Status(cluster="east", node="n1", nodes={"n1": node("n1", "n2")}, modules={})
    draw(Console(file=out, width=COLUMNS), empty)
    assert "telamon module install DIRECTORY" in out.getvalue()
