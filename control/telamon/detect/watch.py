"""All checks of one module, at work: each in its own rhythm, none in another's way.

Invariants
- A look ends within its time limit or is given up; one that ignores that holds up only its own
  check, which says so. A defect of a detector is shown and logged, and asks for nothing.
- A look that ran out of time while this process itself was late has seen nothing: a starved node
  does not blame its application.
- What is to look follows `look_while` within a turn of the loop; verdicts come from the tasks here,
  never from within that call.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from telamon.detect import check
from telamon.detect.check import Begin, CheckState, End, Failed, Looked, Recovered, Settings
from telamon.detect.outcome import Look, Outcome, bad, unseen
from telamon.module.check_config import CheckAction, Detector, When

LATE_SHARE = 0.5
"""A look is not judged if its time limit came later than it should by this share of it."""
END_LIMIT_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """One check, ready to be driven."""

    name: str
    detector: Detector
    action: CheckAction
    when: When
    settings: Settings
    interval_s: float
    timeout_s: float
    look: Look


@dataclass(frozen=True, slots=True)
class Said:
    """A check's verdict for the module's own machine."""

    check: str
    action: CheckAction
    verdict: Failed | Recovered


@dataclass(frozen=True, slots=True)
class Shown:
    """One check as users see it."""

    plan: Planned
    state: CheckState


class Watch:
    """Runs the checks of one module until cancelled."""

    def __init__(
        self,
        plans: tuple[Planned, ...],
        *,
        say: Callable[[Said], None],
        changed: Callable[[Shown], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self._checks = [_Driven(plan, say, changed, clock_ms) for plan in plans]

    async def run(self) -> None:
        """Drives every check."""
        async with asyncio.TaskGroup() as group:
            for one in self._checks:
                group.create_task(one.run(), name=f"check {one.plan.name}")

    def look_while(self, *, is_started: bool, application_runs: bool) -> None:
        """Says what the module does here, so that each check knows whether to look."""
        for one in self._checks:
            wanted = application_runs if one.plan.when is When.APPLICATION else is_started
            one.aim(wanted=wanted, is_serving=application_runs)

    def shown(self) -> list[Shown]:
        """Every check as it stands."""
        return [Shown(one.plan, one.state) for one in self._checks]

    def what_is_missing(self) -> str:
        """The first check that is to look and is not content; empty if all are. A check whose
        failure asks for nothing does not count.
        """
        return next((_why(one) for one in self._counting() if not _is_up(one)), "")

    def what_is_down(self) -> str:
        """The first such check that is down or stands in the way; empty if none does."""
        return next((_why(one) for one in self._counting() if one.state.has_asked), "")

    def _counting(self) -> Iterator["_Driven"]:
        for one in self._checks:
            if one.is_wanted and one.plan.action is not CheckAction.NONE:
                yield one


def _is_up(one: "_Driven") -> bool:
    return one.state.standing is check.Standing.UP


def _why(one: "_Driven") -> str:
    is_recent = one.state.error and one.state.error_ms >= one.state.since_ms
    return f"check {one.plan.name}: {one.state.error if is_recent else check.NOT_LOOKED_YET}"


class _Driven:
    """One check and its task."""

    def __init__(
        self,
        plan: Planned,
        say: Callable[[Said], None],
        changed: Callable[[Shown], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self.plan = plan
        self.state = CheckState(since_ms=clock_ms())
        self.is_wanted = False
        self._is_serving = False
        self._say = say
        self._changed = changed
        self._clock_ms = clock_ms
        self._turns = 0  # how often it was told to begin or to end
        self._has_news = asyncio.Event()
        self._hanging: asyncio.Task[Outcome] | None = None

    def aim(self, *, wanted: bool, is_serving: bool) -> None:
        """Whether to look from now on."""
        if wanted is not self.is_wanted:
            self.is_wanted, self._is_serving = wanted, is_serving
            self._turns += 1
            self._has_news.set()

    async def run(self) -> None:
        """Looks while wanted, until cancelled."""
        loop = asyncio.get_running_loop()
        due_s, turn = loop.time(), self._turns
        try:
            while True:
                self._has_news.clear()
                if turn != self._turns:
                    self._step(End())
                    due_s, turn = loop.time(), self._turns
                if not self.is_wanted:
                    await self._has_news.wait()
                    continue
                self._step(Begin(is_serving=self._is_serving))
                if not await self._is_due(due_s):
                    continue
                # What was missed while the machine stood still is not made up for.
                due_s = max(due_s, loop.time() - self.plan.interval_s) + self.plan.interval_s
                outcome = await self._look()
                if turn == self._turns:
                    self._step(Looked(outcome))
        finally:
            await self._end_hanging()

    async def _is_due(self, due_s: float) -> bool:
        """Waits until then; False if something is new before."""
        wait_s = due_s - asyncio.get_running_loop().time()
        if wait_s <= 0:
            return True
        try:
            async with asyncio.timeout(wait_s):
                await self._has_news.wait()
        except TimeoutError:
            return True
        return False

    async def _look(self) -> Outcome:
        if self._hanging is not None:
            # It was told to end, and may need a moment for it.
            await asyncio.wait([self._hanging], timeout=self.plan.timeout_s)
            if not self._hanging.done():
                return bad("the look before still hangs")
        loop = asyncio.get_running_loop()
        task = self._hanging = asyncio.ensure_future(self.plan.look())
        due_s = loop.time() + self.plan.timeout_s
        await asyncio.wait([task], timeout=self.plan.timeout_s)
        if not task.done():
            task.cancel()
            return self._overdue(loop.time() - due_s)
        self._hanging = None
        try:
            return task.result()
        except Exception as error:
            reason = f"the check itself failed: {error!r}; please report it"
            if reason != self.state.error:
                log.exception("check %s: %s", self.plan.name, reason)
            return unseen(reason)

    def _overdue(self, late_s: float) -> Outcome:
        limit_s = self.plan.timeout_s
        if late_s > limit_s * LATE_SHARE:
            return unseen(f"the agent was {late_s:.1f} s late itself")
        return bad(f"no answer within {limit_s:g} s")

    def _step(self, event: check.Event) -> None:
        before = self.state
        self.state, verdict = check.step(self.plan.settings, before, event, self._clock_ms())
        if self.state.standing is not before.standing:
            self._changed(Shown(self.plan, self.state))
        if verdict is not None:
            self._say(Said(self.plan.name, self.plan.action, verdict))

    async def _end_hanging(self) -> None:
        if self._hanging is not None and not self._hanging.done():
            self._hanging.cancel()
            await asyncio.wait([self._hanging], timeout=END_LIMIT_S)
