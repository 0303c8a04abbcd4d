"""What one look of a detector found."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum


class Sight(StrEnum):
    """What was seen."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"
    """The detector could not look, which says nothing of what it looks at."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen, and in one sentence why it is not good."""

    sight: Sight
    reason: str = ""


GOOD = Outcome(Sight.GOOD)

Look = Callable[[], Awaitable[Outcome]]
"""One look of a detector: runs on the loop, never blocks it, and ends when it is cancelled."""


def bad(reason: str) -> Outcome:
    """What is looked at is not as it should be."""
    return Outcome(Sight.BAD, reason)


def unseen(reason: str) -> Outcome:
    """The detector could not look."""
    return Outcome(Sight.NOTHING, reason)
