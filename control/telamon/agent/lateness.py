"""How late this process's own event loop is.

A node whose loop was late has not read its peers' heartbeats either, so it must stretch its
judgement of them before it holds them for dead (local health). The figure is the largest delay seen
within the last few seconds.
"""

import asyncio
import time
from collections import deque

BEAT_S = 0.05
MEMORY_S = 5.0


class Lateness:
    """Measures on the loop it runs on."""

    def __init__(self) -> None:
        self._delays: deque[tuple[float, float]] = deque()
        self._due_s = time.monotonic() + BEAT_S

    def worst_s(self, now_s: float) -> float:
        """The largest delay within the last few seconds, one that still lasts included."""
        while self._delays and self._delays[0][0] < now_s - MEMORY_S:
            self._delays.popleft()
        lasting_s = now_s - self._due_s
        return max([lasting_s, 0.0, *(delay_s for _, delay_s in self._delays)])

    async def run(self) -> None:
        """Measures until cancelled."""
        while True:
            self._due_s = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            now_s = time.monotonic()
            delay_s = now_s - self._due_s
            if delay_s > BEAT_S:
                self._delays.append((now_s, delay_s))
