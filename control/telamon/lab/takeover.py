"""Where the time of a takeover went: detection, telamon's own work, the application's start.

Two witnesses on one machine: a client outside, which saw the gap, and the events of the node that
took over.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from telamon.agent.models import Event
from telamon.errors import NotFoundError
from telamon.lab.oracles.commits import Gap

_DECIDED = "ALONE, transient"
_STARTS = "runs the start script"


@dataclass(frozen=True, slots=True)
class Takeover:
    """A gap and what it is made of."""

    length_s: float
    detection_s: float
    """From the last answer until the node decided to take over."""
    work_s: float
    """What telamon itself did then: mount, take the virtual IPs, announce them."""
    application_s: float
    """From the begin of the start script until the application answered."""

    def __str__(self) -> str:
        return (
            f"gap {self.length_s:.2f} s = detection {self.detection_s:.2f} + take-over "
            f"{self.work_s:.2f} + the application's own start {self.application_s:.2f}"
        )


def takeover(gap: Gap, events: Iterable[Event]) -> Takeover:
    """What a gap (CLOCK_MONOTONIC) is made of, by the events of the node that took over."""
    wall_ahead_s = (time.time_ns() - time.monotonic_ns()) / 1e9
    began_s, ended_s = gap.began_ns / 1e9 + wall_ahead_s, gap.ended_ns / 1e9 + wall_ahead_s
    later = [event for event in events if event.time.timestamp() >= began_s]
    decided_s, starts_s = _first(later, _DECIDED), _first(later, _STARTS)
    return Takeover(gap.length_s, decided_s - began_s, starts_s - decided_s, ended_s - starts_s)


def _first(events: Sequence[Event], text: str) -> float:
    for event in events:
        if text in event.text:
            return event.time.timestamp()
    raise NotFoundError(f"no event says {text!r}: this node did not take over")
