"""`make demo-farm` in a short form, and that its verdict can be a bad one."""

import subprocess
from dataclasses import replace

import pytest
from conftest import TELAMON

from telamon.lab.demo.farm_verdict import FarmVerdict, summary
from telamon.lab.oracles.connections import Broken, Knock
from telamon.lab.oracles.handshakes import HandshakeReport

GOOD = FarmVerdict(
    dead_node="n2",
    takeover_s=0.8,
    broken=[Broken("10.0.0.150", 40000, "n2", "ConnectionResetError", 1.0)],
    knocks=[Knock(1.0, 1.01, "10.0.0.151", 40001, "n1", "")],
    turned_away=[],
    misled=[],
    handshakes=HandshakeReport(2, [], [], 0, 0),
    connections=1,
    exchanges=10,
)
LOST = Knock(1.0, None, "10.0.0.151", 40001, "", "TimeoutError")


def test_the_demo_breaks_nothing(lab_name: str) -> None:
    done = subprocess.run(
        [TELAMON, "lab", "demo-farm", "--name", lab_name, "--work", "1"],
        text=True,
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No connection on a surviving node broke" in done.stdout


@pytest.mark.parametrize(
    ("verdict", "evidence"),
    [
        (replace(GOOD, broken=[replace(GOOD.broken[0], node="n1")]), "node='n1'"),
        (replace(GOOD, turned_away=[LOST]), "TimeoutError"),
        (replace(GOOD, misled=["10.0.0.151 was answered by n3, not by n1"]), "not by n1"),
        (replace(GOOD, handshakes=replace(GOOD.handshakes, answered_twice=["x 1"])), "x 1"),
        (replace(GOOD, handshakes=replace(GOOD.handshakes, unanswered=["y 2"])), "y 2"),
        (replace(GOOD, handshakes=replace(GOOD.handshakes, lost_frames=3)), "lost frames"),
    ],
)
def test_what_broke_is_said(verdict: FarmVerdict, evidence: str) -> None:
    assert GOOD.is_good and summary(GOOD).is_good
    shown = summary(verdict)
    assert not shown.is_good
    assert any(evidence in one for one in shown.evidence)
