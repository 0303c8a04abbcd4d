"""What a farm module remembers on this node: whether it is to run, whether it is drained, how often
it failed, and how often its agent has begun.

Invariant: an order is on disk before it is called done. Incarnations only rise: they tell messages
from before a restart from those after it.
"""

import time
from pathlib import Path

from telamon.agent.clock import boottime_ms
from telamon.agent.memory import Memory, Remembered
from telamon.mirror.role_event import Presence
from telamon.module.model import FailureCounter

EPOCH_OF_INCARNATIONS_S = 1_767_225_600  # 2026-01-01
INCARNATION_BITS = 24


class FarmMemory:
    """The memory of one module."""

    def __init__(self, memory: Memory, state: Path) -> None:
        self._memory = memory
        self._state = state
        self._failures_ms: tuple[int, ...] = ()
        self.intent_is_started = False

    @property
    def application(self) -> Presence:
        """Whether the application runs, as far as scripts told."""
        return self._memory.application

    def recall(self) -> None:
        """Reads what an earlier agent left."""
        remembered = self._memory.recall(boottime_ms())
        self.intent_is_started = remembered.intent_is_started
        self._failures_ms = remembered.failures_ms

    async def intend(self, is_started: bool) -> None:
        """Remembers an order; one to start forgives all failures."""
        self.intent_is_started = is_started
        if is_started:
            self._failures_ms = ()
        await self._remember(is_started)

    async def intend_at_boot(self, is_started: bool) -> None:
        """Remembers what the next boot is to do, whatever is done now."""
        await self._remember(is_started)

    async def count_failure(self, failures: FailureCounter) -> bool:
        """Remembers a failure now; returns whether it was one too many."""
        now_ms = boottime_ms()
        begin_ms = now_ms - failures.window.milliseconds
        recent = tuple(ms for ms in self._failures_ms if ms > begin_ms)
        self._failures_ms = (*recent, now_ms)
        await self._remember(self.intent_is_started)
        return len(recent) >= failures.limit

    @property
    def is_drained(self) -> bool:
        """Whether an operator has drained this node."""
        return self._drained_mark.exists()

    @is_drained.setter
    def is_drained(self, is_drained: bool) -> None:
        if is_drained:
            self._drained_mark.parent.mkdir(parents=True, exist_ok=True)
            self._drained_mark.touch()
        else:
            self._drained_mark.unlink(missing_ok=True)

    def next_incarnation(self) -> int:
        """Higher at each start; by the clock too, should the disk have been lost."""
        path = self._state / "incarnation"
        try:
            former = int(path.read_text())
        except (FileNotFoundError, ValueError):
            former = 0
        minutes = max(int(time.time()) - EPOCH_OF_INCARNATIONS_S, 0) // 60
        number = max(former + 1, minutes) % (1 << INCARNATION_BITS)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_text(f"{number}\n")
        temporary.replace(path)
        return number

    async def _remember(self, is_started: bool) -> None:
        record = Remembered(is_started, self._failures_ms)
        await self._memory.remember(record, boottime_ms())

    @property
    def _drained_mark(self) -> Path:
        return self._state / "drained"
