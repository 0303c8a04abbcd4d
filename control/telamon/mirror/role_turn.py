"""One turn of the role machine: the state as the rules change it, and the actions they ask for.

It lives for the time of one `step`; outside, states are frozen and `step` is a function.
"""

from dataclasses import replace
from typing import Any

from telamon.mirror.role_action import (
    Action,
    Cancel,
    Demote,
    Grant,
    Operation,
    Outdate,
    Perform,
    StartApplication,
    StopApplication,
)
from telamon.mirror.role_event import Presence
from telamon.mirror.role_state import Goal, RoleState, Running

BACKOFF_FIRST_MS = 500
BACKOFF_LONGEST_MS = 30_000
CANCEL_MARGIN_MS = 3_000
"""The rim ends an operation at its limit and says why; what still runs so much later is cancelled.
A script that is told to end has two seconds for it."""
ASIDE_BACKOFF_FIRST_MS = 100
ASIDE_BACKOFF_LONGEST_MS = 5_000
"""Commits wait for a Grant, so it is tried again sooner than a step of the ladder."""


class Turn:
    """The state under change and the actions so far."""

    def __init__(self, state: RoleState) -> None:
        self.state = state
        self.actions: list[Action] = []

    def set(self, **changes: Any) -> None:
        """Change fields of the state; a state that stays equal stays the same object."""
        state = self.state
        if any(getattr(state, name) != value for name, value in changes.items()):
            self.state = replace(state, **changes)

    def begin(self, operation: Operation) -> None:
        """Perform an operation of the ladder."""
        assert self.state.running is None, "the ladder takes one step at a time"
        self.set(running=self._perform(operation))

    def begin_aside(self, operation: Grant | Outdate) -> None:
        """Perform an operation beside the ladder."""
        assert self.state.aside is None, "one grant or outdate at a time"
        assert self.may_begin_aside, "a failed grant or outdate waits before it is tried again"
        self.set(aside=self._perform(operation))

    @property
    def may_begin_aside(self) -> bool:
        """Whether an operation beside the ladder may begin now."""
        return self.state.aside is None and self.state.now_ms >= self.state.aside_retry_ms

    def _perform(self, operation: Operation) -> Running:
        serial = self.state.next_serial
        timeout_ms = self._timeout_ms(operation)
        self.set(next_serial=serial + 1)
        self.actions.append(Perform(serial, operation, timeout_ms))
        now_ms = self.state.now_ms
        return Running(serial, operation, now_ms + timeout_ms + CANCEL_MARGIN_MS, now_ms)

    def _timeout_ms(self, operation: Operation) -> int:
        settings = self.state.settings
        match operation:
            case StartApplication():
                return settings.start_timeout_ms
            case StopApplication():
                return settings.stop_timeout_ms
            case Demote():
                return settings.command_timeout_ms + settings.peer_timeout_ms
        return settings.command_timeout_ms

    def cancel_running(self) -> None:
        """Do not await the ladder's operation any more."""
        running = self.state.running
        if running is None:
            return
        self.actions.append(Cancel(running.serial))
        self.set(running=None)
        if isinstance(running.operation, StartApplication | StopApplication):
            self.set(application=Presence.UNKNOWN)

    def new_request(self) -> int:
        """A number that this agent has not used for a request before."""
        number = self.state.next_request
        self.set(next_request=number + 1)
        return number

    def aim(self, goal: Goal, reason: str = "", *, is_urgent: bool = False) -> None:
        """Head for another goal, or for the same one with another reason."""
        state = self.state
        if goal is Goal.PRIMARY or goal is not state.goal:
            self.set(attempts=0, retry_ms=0, candidate=0)
        urgent = is_urgent or (state.is_urgent and goal is not Goal.PRIMARY)
        self.set(goal=goal, reason=reason, is_urgent=urgent)
        if goal is not Goal.PRIMARY:
            self.set(restarts=False)
            running = self._operation()
            too_gentle = isinstance(running, StopApplication) and urgent and not running.force
            if too_gentle or isinstance(running, StartApplication):
                self.cancel_running()

    def _operation(self) -> Operation | None:
        return self.state.running.operation if self.state.running else None

    def back_off(self) -> None:
        """Let some time pass before the failed step is tried again; more each time."""
        attempts = self.state.attempts + 1
        delay_ms = min(BACKOFF_FIRST_MS << min(attempts - 1, 10), BACKOFF_LONGEST_MS)
        self.set(attempts=attempts, retry_ms=self.state.now_ms + delay_ms)

    def back_off_aside(self) -> None:
        """The same for an operation beside the ladder."""
        attempts = self.state.aside_attempts + 1
        delay_ms = min(ASIDE_BACKOFF_FIRST_MS << min(attempts - 1, 10), ASIDE_BACKOFF_LONGEST_MS)
        self.set(aside_attempts=attempts, aside_retry_ms=self.state.now_ms + delay_ms)
