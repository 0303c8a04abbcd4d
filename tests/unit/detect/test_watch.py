"""Checks at work: rhythm, time limits, and that none is in another's way."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from telamon.detect.check import NOT_LOOKED_YET, Failed, Recovered, Settings, Standing
from telamon.detect.outcome import GOOD, Look, Outcome, bad
from telamon.detect.watch import Planned, Said, Shown, Watch
from telamon.module.check_config import CheckAction, Detector, When

LIMIT_S = 10.0


class Scripted:
    """A detector that finds what it is told."""

    def __init__(self, outcome: Outcome = GOOD) -> None:
        self.outcome = outcome
        self.looks = 0

    async def __call__(self) -> Outcome:
        self.looks += 1
        return self.outcome


class Records:
    """Everything that a watch says."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.changes: list[tuple[str, Standing]] = []

    def changed(self, shown: Shown) -> None:
        self.changes.append((shown.plan.name, shown.state.standing))


def plan(
    look: Look,
    name: str = "a",
    *,
    action: CheckAction = CheckAction.RESTART,
    when: When = When.APPLICATION,
    failures: int = 2,
    timeout_s: float = 0.2,
    grace_ms: int = 0,
) -> Planned:
    return Planned(
        name=name,
        detector=Detector.CUSTOM,
        action=action,
        when=when,
        settings=Settings(
            failures, recoveries=1, grace_ms=grace_ms, holds=action is CheckAction.WAIT
        ),
        interval_s=0.02,
        timeout_s=timeout_s,
        look=look,
    )


@asynccontextmanager
async def watching(*plans: Planned) -> AsyncIterator[tuple[Watch, Records]]:
    records = Records()
    watch = Watch(
        plans,
        say=records.said.append,
        changed=records.changed,
        clock_ms=lambda: int(time.monotonic() * 1000),
    )
    task = asyncio.create_task(watch.run())
    try:
        yield watch, records
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=LIMIT_S)
        assert task.cancelled()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.005)


async def test_a_check_looks_only_while_there_is_something_to_look_at() -> None:
    application, surroundings = Scripted(), Scripted()
    plans = (plan(application, "app"), plan(surroundings, "net", when=When.STARTED))
    async with watching(*plans) as (watch, records):
        await asyncio.sleep(0.1)
        assert (application.looks, surroundings.looks) == (0, 0)
        watch.look_while(is_started=True, application_runs=False)
        await until(lambda: surroundings.looks > 2)
        assert application.looks == 0
        watch.look_while(is_started=True, application_runs=True)
        await until(lambda: application.looks > 2)
        watch.look_while(is_started=False, application_runs=False)
        await until(lambda: all(one.state.standing is Standing.IDLE for one in watch.shown()))
        before = (application.looks, surroundings.looks)
        await asyncio.sleep(0.1)
        assert (application.looks, surroundings.looks) == before
        assert records.said == []


async def test_a_failure_is_said_with_its_action_and_its_end() -> None:
    look = Scripted()
    one = plan(look, action=CheckAction.STOPSTART)
    async with watching(one) as (watch, records):
        watch.look_while(is_started=True, application_runs=True)
        await until(lambda: look.looks > 1)
        look.outcome = bad("gone")
        await until(lambda: bool(records.said))
        assert records.said[0] == Said("a", CheckAction.STOPSTART, Failed("gone"))
        assert watch.what_is_missing() == "check a: gone"
        look.outcome = GOOD
        await until(lambda: Said("a", CheckAction.STOPSTART, Recovered()) in records.said)
        assert watch.what_is_missing() == ""
    standings = [standing for _, standing in records.changes]
    assert standings == [Standing.STARTING, Standing.UP, Standing.DOWN, Standing.UP]


async def test_a_restart_of_the_application_begins_the_check_anew() -> None:
    look = Scripted(bad("not yet"))
    async with watching(plan(look, grace_ms=60_000)) as (watch, records):
        watch.look_while(is_started=True, application_runs=True)
        await until(lambda: look.looks > 1)
        began_ms = watch.shown()[0].state.since_ms
        # As fast as no script could be.
        watch.look_while(is_started=True, application_runs=False)
        watch.look_while(is_started=True, application_runs=True)
        await until(lambda: watch.shown()[0].state.since_ms > began_ms)
        assert watch.shown()[0].state.standing is Standing.STARTING
        assert records.said == []
        assert watch.what_is_missing().startswith("check a: ")


async def test_what_makes_wait_stands_in_the_way_from_the_beginning() -> None:
    look = Scripted(bad("no carrier"))
    one = plan(look, action=CheckAction.WAIT, when=When.STARTED)
    async with watching(one) as (watch, records):
        watch.look_while(is_started=True, application_runs=False)
        await until(lambda: len(records.said) >= 2)
        assert [said.verdict for said in records.said[:2]] == [
            Failed(NOT_LOOKED_YET),
            Failed("no carrier"),
        ]
        watch.look_while(is_started=False, application_runs=False)
        await until(lambda: records.said[-1].verdict == Recovered())


async def test_what_is_only_shown_is_not_missed() -> None:
    one = plan(Scripted(bad("gone")), action=CheckAction.NONE)
    async with watching(one) as (watch, records):
        watch.look_while(is_started=True, application_runs=True)
        await until(lambda: bool(records.said))
        assert watch.what_is_missing() == ""
        assert watch.shown()[0].state.standing is Standing.DOWN


async def _hang() -> Outcome:
    await asyncio.sleep(LIMIT_S * 10)
    return GOOD


async def _ignore_the_end() -> Outcome:
    while True:
        try:
            await asyncio.sleep(LIMIT_S * 10)
        except asyncio.CancelledError:
            _ignored.append(True)
            if len(_ignored) > 1:
                raise


_ignored: list[bool] = []


async def _defective() -> Outcome:
    raise ZeroDivisionError("of the detector")


async def test_a_detector_that_hangs_is_a_failure_and_in_nobodys_way() -> None:
    looks: dict[str, Callable[[], Awaitable[Outcome]]] = {
        "hangs": _hang,
        "stays": _ignore_the_end,
        "broken": _defective,
    }
    fine = Scripted()
    plans = [plan(look, name, timeout_s=0.05) for name, look in looks.items()]
    async with watching(*plans, plan(fine, "fine")) as (watch, records):
        watch.look_while(is_started=True, application_runs=True)
        await until(lambda: {one.check for one in records.said} == {"hangs", "stays"})
        await until(lambda: fine.looks > 10)
        said = {one.check: one.verdict for one in records.said}
        shown = {one.plan.name: one.state for one in watch.shown()}
    assert said["hangs"] == Failed("no answer within 0.05 s")
    assert said["stays"] == Failed("the look before still hangs")
    # A defect of ours is no failure of the application.
    assert shown["broken"].standing is Standing.STARTING
    assert "the check itself failed: ZeroDivisionError" in shown["broken"].error


async def test_a_late_agent_does_not_blame_the_application() -> None:
    async with watching(plan(_hang, failures=1, timeout_s=0.1)) as (watch, records):
        watch.look_while(is_started=True, application_runs=True)
        await asyncio.sleep(0.03)
        time.sleep(0.5)  # noqa: ASYNC251 - this is the lateness
        await until(lambda: bool(watch.shown()[0].state.error))
        assert "late itself" in watch.shown()[0].state.error
        assert records.said == []
        await until(lambda: bool(records.said))
