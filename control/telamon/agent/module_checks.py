"""The checks of one module in the agent: their verdicts go to the module's machine, their changes
into the event log, their standing into the status.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from telamon.agent import models
from telamon.agent.clock import boottime_ms
from telamon.agent.events import EventLog
from telamon.agent.models import Severity
from telamon.detect.check import Standing
from telamon.detect.watch import Planned, Said, Shown, Watch


def watch_module(
    module: str,
    plans: tuple[Planned, ...],
    say: Callable[[Said], None],
    events: EventLog,
    *,
    changed: Callable[[Shown], None] = lambda _: None,
) -> Watch:
    """The module's checks, not running yet."""

    def note(shown: Shown) -> None:
        text, severity = _news(shown)
        if text:
            events.append(text, module=module, severity=severity)
        changed(shown)

    return Watch(plans, say=say, changed=note, clock_ms=boottime_ms)


def describe_checks(watch: Watch) -> list[models.CheckStatus]:
    """What the API shows."""
    return [_describe(shown, datetime.now(UTC), boottime_ms()) for shown in watch.shown()]


def _news(shown: Shown) -> tuple[str, Severity]:
    """What the event log says of a change; empty for what the module's own events tell."""
    name, state = shown.plan.name, shown.state
    match state.standing:
        case Standing.UP:
            return f"check {name} is up", Severity.INFO
        case Standing.DOWN:
            return f"check {name} is down: {state.error}", Severity.WARNING
    return "", Severity.INFO


def _describe(shown: Shown, now: datetime, now_ms: int) -> models.CheckStatus:
    def at(ms: int) -> datetime:
        return now - timedelta(milliseconds=now_ms - ms)

    plan, state = shown.plan, shown.state
    return models.CheckStatus(
        name=plan.name,
        detector=plan.detector,
        action=plan.action,
        state=state.standing,
        since=at(state.since_ms),
        failures=state.failures,
        last_error=state.error or None,
        last_error_at=at(state.error_ms) if state.error else None,
    )
