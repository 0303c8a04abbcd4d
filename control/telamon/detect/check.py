"""One check as a pure machine: from what its looks found to whether an action is due.

Invariants
- Only `failures` bad looks in a row ask for the action; each further `failures` of them ask again,
  since the first answer may have been that it is not possible now.
- An application that has just been started may fail for its grace, until it was good once.
- A look that saw nothing counts neither way.
- What stands in the way (`holds`) stands there from the beginning, until a look was good; what has
  asked to wait takes it back when it recovers and when the check ends.

`step(settings, state, event, now_ms)` is a pure function; `now_ms` never goes backwards.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from telamon.detect.outcome import Outcome, Sight

NOT_LOOKED_YET = "was not looked at yet"


class Standing(StrEnum):
    """Where a check stands, as users see it."""

    IDLE = "idle"  # does not look now
    STARTING = "starting"  # looks, and has not been good yet
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the machine needs of a configured check."""

    failures: int
    recoveries: int
    grace_ms: int = 0
    holds: bool = False
    """Whether it stands in the way until it was good once."""


@dataclass(frozen=True, slots=True)
class CheckState:
    """Everything the machine knows of one check."""

    standing: Standing = Standing.IDLE
    since_ms: int = 0
    failures: int = 0
    """Bad looks in a row that count."""
    recoveries: int = 0
    """Good looks in a row while down."""
    grace_until_ms: int = 0
    has_asked: bool = False
    """It has asked for its action and not taken that back."""
    error: str = ""
    """What the last look that was not good said, of all time."""
    error_ms: int = 0


@dataclass(frozen=True, slots=True)
class Begin:
    """The check looks from now on. `is_serving`: what it could hold up runs already."""

    is_serving: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The check does not look any more."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One look ended."""

    outcome: Outcome


Event = Begin | End | Looked


@dataclass(frozen=True, slots=True)
class Failed:
    """The action is due."""

    reason: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was asked for is not needed any more."""


Verdict = Failed | Recovered | None


def step(
    settings: Settings, state: CheckState, event: Event, now_ms: int
) -> tuple[CheckState, Verdict]:
    """Take one event: the new state, and what is to be told."""
    assert now_ms >= state.since_ms, "the clock of a check never goes back"
    match event:
        case Begin(is_serving):
            return _begin(settings, state, now_ms, is_serving=is_serving)
        case End():
            return _end(state, now_ms)
        case Looked(outcome):
            return _looked(settings, state, outcome, now_ms)


def _begin(
    settings: Settings, state: CheckState, now_ms: int, *, is_serving: bool
) -> tuple[CheckState, Verdict]:
    if state.standing is not Standing.IDLE:
        return state, None
    holds = settings.holds and not is_serving
    begun = replace(
        state,
        standing=Standing.STARTING,
        since_ms=now_ms,
        failures=0,
        recoveries=0,
        grace_until_ms=now_ms + settings.grace_ms,
        has_asked=holds,
    )
    return begun, Failed(NOT_LOOKED_YET) if holds else None


def _end(state: CheckState, now_ms: int) -> tuple[CheckState, Verdict]:
    if state.standing is Standing.IDLE:
        return state, None
    ended = replace(
        state, standing=Standing.IDLE, since_ms=now_ms, failures=0, recoveries=0, has_asked=False
    )
    return ended, Recovered() if state.has_asked else None


def _looked(
    settings: Settings, state: CheckState, outcome: Outcome, now_ms: int
) -> tuple[CheckState, Verdict]:
    if state.standing is Standing.IDLE:
        # A look that was under way when the check ended.
        return state, None
    match outcome.sight:
        case Sight.GOOD:
            return _good(settings, state, now_ms)
        case Sight.BAD:
            return _bad(settings, state, outcome.reason, now_ms)
        case Sight.NOTHING:
            return replace(state, error=outcome.reason, error_ms=now_ms), None


def _good(settings: Settings, state: CheckState, now_ms: int) -> tuple[CheckState, Verdict]:
    state = replace(state, failures=0)
    if state.standing is Standing.UP:
        return state, None
    recoveries = state.recoveries + 1
    if state.standing is Standing.DOWN and recoveries < settings.recoveries:
        return replace(state, recoveries=recoveries), None
    up = replace(state, standing=Standing.UP, since_ms=now_ms, recoveries=0, has_asked=False)
    return up, Recovered() if state.has_asked else None


def _bad(
    settings: Settings, state: CheckState, reason: str, now_ms: int
) -> tuple[CheckState, Verdict]:
    state = replace(state, recoveries=0, error=reason, error_ms=now_ms)
    if state.standing is Standing.STARTING and now_ms < state.grace_until_ms:
        return state, None
    failures = state.failures + 1
    state = replace(state, failures=failures)
    if failures % settings.failures:
        return state, None
    if state.standing is not Standing.DOWN:
        state = replace(state, standing=Standing.DOWN, since_ms=now_ms)
    return replace(state, has_asked=True), Failed(reason)
