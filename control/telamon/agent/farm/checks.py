"""What the checks of a farm module mean on this node: whether its traffic may be open, and whether
the application is to be cured.

Invariants: traffic opens only after every check that counts was good once since the application
started, and is closed while one is down; a check that only waits does no more than that. Without a
check of its own services a module gets one: each must accept connections. A restart of the agent
closes nothing.
"""

from collections.abc import Callable

from telamon.agent import models
from telamon.agent.events import EventLog
from telamon.agent.farm.application import ANSWER_LIMIT_S, FarmApplication
from telamon.agent.module_checks import describe_checks, watch_module
from telamon.detect.check import Failed, Settings
from telamon.detect.outcome import GOOD, Outcome, bad
from telamon.detect.watch import Planned, Said, Shown
from telamon.module.check_config import CheckAction, Detector, When
from telamon.module.farm_config import FarmModule
from telamon.module.model import is_own

NAME = "services"
INTERVAL_S = 1.0
FAILURES = 2


class FarmChecks:
    """The checks of one farm module."""

    def __init__(
        self,
        configured: FarmModule,
        plans: tuple[Planned, ...],
        application: FarmApplication,
        events: EventLog,
        *,
        ask: Callable[[CheckAction, str], None],
        changed: Callable[[], None],
    ) -> None:
        if not _judges_services(configured):
            plans = (*plans, _of_services(application))
        self._ask = ask
        self._tell_change = changed
        self._has_answered = False
        self._watch = watch_module(
            configured.module, plans, self._said, events, changed=self._changed
        )

    async def run(self) -> None:
        """Looks until cancelled."""
        await self._watch.run()

    def application_is_new(self) -> None:
        """It is being started: nobody has seen it answer."""
        self._has_answered = False

    def application_was_found(self) -> None:
        """It ran and answered before this agent came."""
        self._has_answered = True

    def look_while(self, *, is_started: bool, application_runs: bool) -> None:
        """Says what the module does here."""
        self._watch.look_while(is_started=is_started, application_runs=application_runs)

    def what_closes(self) -> str:
        """Why traffic must not be open now; empty if it may."""
        return self._watch.what_is_down() if self._has_answered else self._watch.what_is_missing()

    def describe(self) -> list[models.CheckStatus]:
        """What the API shows."""
        return describe_checks(self._watch)

    def _said(self, said: Said) -> None:
        has_action = said.action not in (CheckAction.NONE, CheckAction.WAIT)
        if isinstance(said.verdict, Failed) and has_action:
            self._ask(said.action, f"check {said.check}: {said.verdict.reason}")

    def _changed(self, _: Shown) -> None:
        if not self._watch.what_is_missing():
            self._has_answered = True
        self._tell_change()


def _judges_services(configured: FarmModule) -> bool:
    """Whether the operator has said how the application's answers are judged."""
    return any(
        check.detector is Detector.HTTP
        or (check.tcp is not None and is_own(configured, check.tcp.address))
        for check in configured.checks
    )


def _of_services(application: FarmApplication) -> Planned:
    async def look() -> Outcome:
        fault = await application.what_does_not_answer()
        return bad(fault) if fault else GOOD

    return Planned(
        name=NAME,
        detector=Detector.TCP,
        action=CheckAction.RESTART,
        when=When.APPLICATION,
        settings=Settings(FAILURES, recoveries=1),
        interval_s=INTERVAL_S,
        # The look has a limit of its own for each service.
        timeout_s=ANSWER_LIMIT_S * 10,
        look=look,
    )
