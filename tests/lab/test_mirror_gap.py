"""What clients see of a power failure: detection, at most half a second of telamon's own work, and
the application's start. Printed for every failover, over IPv4 and IPv6, idle and beside a process
that takes all of a core.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import pytest
from faults import other
from mirrors import START_TIMEOUT_S, STEP_TIMEOUT_S
from services import make_service

from telamon.lab import agent_api
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.mirror import ALONE, PRIM, SECOND, MirrorInLab
from telamon.lab.oracles import commits, reach_client
from telamon.lab.spec import DEFAULT
from telamon.lab.takeover import Takeover, takeover

MODULE = "service"
PORT = 7000
DIRECTORY = "/srv/service"
ADDRESSES = ("10.0.0.100", "fd00:0:0:1::100")
LOSS_S = 2.0
WORK_LIMIT_S = 0.5
NOISE_S = 3.0
"""For a machine whose cores are not this test's alone."""
LOADS = ("idle", "busy", "idle", "busy")


@pytest.fixture
def mirror(lab_name: str) -> Iterator[MirrorInLab]:
    with Lab.up(lab_name, DEFAULT) as lab:
        for node in lab.spec.nodes:
            lab.host(node.name).run(["mkdir", "--parents", DIRECTORY])
        made = MirrorInLab(lab, MODULE, {DIRECTORY: ()})
        virtual = [f"{ADDRESSES[0]}/24", f"{ADDRESSES[1]}/64"]
        made.install(make_service(lab.host("n1"), MODULE, DIRECTORY, PORT, virtual))
        made.begin("n1", START_TIMEOUT_S)
        yield made


@contextmanager
def asking(client: RunningHost, address: str, log: Path) -> Iterator[Path]:
    """A client that asks one address all the time."""
    with log.open("a") as output:
        words = [sys.executable, "-S", "-E", reach_client.__file__, address, str(PORT)]
        process = client.start(words, stdout=output.fileno(), stderr=subprocess.DEVNULL)
        try:
            yield log
        finally:
            RunningHost.end(process)


@contextmanager
def load(kind: str) -> Iterator[None]:
    """Nothing, or a process that takes all that one core gives."""
    if kind == "idle":
        yield
        return
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as busy:
        try:
            yield
        finally:
            busy.kill()


def await_answers(log: Path) -> None:
    """Waits until the service answers and goes on answering."""
    wanted = len(commits.read_log(log)) + 10
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while len(commits.read_log(log)) < wanted:
        assert time.monotonic() < deadline_s, f"{log.name} does not answer any more"
        time.sleep(0.05)


@pytest.mark.timeout(600)
def test_gap_after_power_failure(
    mirror: MirrorInLab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    primary, seen = "n1", list[Takeover]()
    with ExitStack() as stack:
        client = mirror.lab.host("c1")
        logs = [stack.enter_context(asking(client, at, tmp_path / at)) for at in ADDRESSES]
        for kind in LOADS:
            mirror.await_states(STEP_TIMEOUT_S, **{primary: PRIM, other(primary): SECOND})
            for log in logs:
                await_answers(log)
            with load(kind):
                failed_ns = time.monotonic_ns()
                mirror.lab.off(primary)
                mirror.await_states(STEP_TIMEOUT_S, **{other(primary): ALONE})
                for log in logs:
                    await_answers(log)
            events = agent_api.events(mirror.lab.host(other(primary)))
            for log in logs:
                gap = commits.longest_gap(commits.read_log(log), failed_ns)
                seen.append(takeover(gap, events))
                with capsys.disabled():
                    print(f"\n{kind}, {log.name:15} {seen[-1]}", end="")
            mirror.lab.on(primary)
            primary = other(primary)
    assert median(one.work_s for one in seen) < WORK_LIMIT_S
    for one in seen:
        assert one.detection_s < LOSS_S + NOISE_S
        assert one.work_s < WORK_LIMIT_S + NOISE_S
        assert one.application_s < NOISE_S
