"""When a farm's traffic may be open, by its checks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from telamon.agent.events import EventLog
from telamon.agent.farm.application import FarmApplication
from telamon.agent.farm.checks import NAME, FarmChecks
from telamon.agent.memory import Memory
from telamon.detect.check import Settings
from telamon.detect.outcome import GOOD, Outcome, bad
from telamon.detect.watch import Planned
from telamon.module import config
from telamon.module.check_config import CheckAction, Detector, When
from telamon.module.farm_config import FarmModule
from telamon.module.scripts import ScriptContext, Scripts

LIMIT_S = 10.0
# Nothing of a service is looked at: UDP is taken at its word.
FARM: dict[str, Any] = {
    "module": "web",
    "kind": "farm",
    "nodes": ["n1", "n2"],
    "virtual_ips": [{"address": "10.0.0.101/24", "network": "lan"}],
    "services": [{"protocol": "udp", "ports": [53]}],
}


def configured(**keys: object) -> FarmModule:
    found = config.parse(yaml.safe_dump({**FARM, **keys}))
    assert not isinstance(found, tuple), found
    assert isinstance(found.model, FarmModule)
    return found.model


class Bench:
    """Checks of a farm whose one look finds what it is told."""

    def __init__(self, root: Path, action: CheckAction, **keys: object) -> None:
        module = configured(**keys)
        context = ScriptContext("web", "n1", "", root, (), (), {})
        application = FarmApplication(
            module,
            Scripts(context, root / "scripts"),
            root,
            Memory("web", root, root),
            lambda *_: None,
            (),
        )
        self.outcome: Outcome = bad("not yet")
        self.asked: list[tuple[CheckAction, str]] = []
        self.changes = 0
        plan = Planned(
            name="a",
            detector=Detector.CUSTOM,
            action=action,
            when=When.STARTED if action is CheckAction.WAIT else When.APPLICATION,
            settings=Settings(2, 1, grace_ms=60_000, holds=action is CheckAction.WAIT),
            interval_s=0.02,
            timeout_s=1.0,
            look=self._look,
        )
        self.checks = FarmChecks(
            module,
            (plan,),
            application,
            EventLog(root / "events.jsonl", "n1"),
            ask=lambda action, reason: self.asked.append((action, reason)),
            changed=self._count,
        )

    async def _look(self) -> Outcome:
        return self.outcome

    def _count(self) -> None:
        self.changes += 1

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not is_so():  # noqa: ASYNC110 - what is awaited has no event
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[FarmChecks]:
    task = asyncio.create_task(bench.checks.run())
    try:
        yield bench.checks
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_traffic_opens_after_the_first_answer_and_closes_while_it_fails(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, CheckAction.RESTART)
    async with running(bench) as checks:
        checks.application_is_new()
        checks.look_while(is_started=True, application_runs=True)
        assert checks.what_closes() == "check a: was not looked at yet"
        await bench.until(lambda: checks.what_closes() == "check a: not yet")
        assert bench.asked == []
        bench.outcome = GOOD
        await bench.until(lambda: checks.what_closes() == "")
        bench.outcome = bad("gone")
        await bench.until(lambda: checks.what_closes() == "check a: gone")
        assert bench.asked[0] == (CheckAction.RESTART, "check a: gone")
        assert bench.changes >= 3


async def test_a_check_that_waits_closes_and_asks_for_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, CheckAction.WAIT)
    bench.outcome = GOOD
    async with running(bench) as checks:
        checks.look_while(is_started=True, application_runs=False)
        checks.application_is_new()
        checks.look_while(is_started=True, application_runs=True)
        await bench.until(lambda: checks.what_closes() == "")
        bench.outcome = bad("no gateway")
        await bench.until(lambda: checks.what_closes() == "check a: no gateway")
        bench.outcome = GOOD
        await bench.until(lambda: checks.what_closes() == "")
        assert bench.asked == []


@pytest.mark.parametrize("action", [CheckAction.RESTART, CheckAction.WAIT])
async def test_a_new_agent_closes_nothing_that_serves(tmp_path: Path, action: CheckAction) -> None:
    bench = Bench(tmp_path, action)
    async with running(bench) as checks:
        checks.application_was_found()
        checks.look_while(is_started=True, application_runs=True)
        assert checks.what_closes() == ""
        bench.outcome = GOOD
        await bench.until(lambda: all(check.state == "up" for check in checks.describe()))
        assert checks.what_closes() == ""


@pytest.mark.parametrize(
    ("checks", "is_added"),
    [
        ([], True),
        ([{"ping": {"addresses": ["10.0.0.254"]}}], True),
        ([{"tcp": {"port": 80, "address": "10.0.0.9"}}], True),
        ([{"tcp": {"port": 80}}], False),
        ([{"tcp": {"port": 80}, "action": "wait"}], False),
        ([{"http": {"url": "http://10.0.0.101/"}}], False),
    ],
)
def test_who_says_nothing_of_services_gets_a_check_of_them(
    tmp_path: Path, checks: list[dict[str, Any]], is_added: bool
) -> None:
    bench = Bench(tmp_path, CheckAction.RESTART, checks=checks)
    assert (NAME in [check.name for check in bench.checks.describe()]) is is_added
