"""The simulated world: one clock, one source of chance, and the networks between two hosts.

Everything happens as a scheduled call in order of time; nothing else moves. So a seed is a whole
history, and the trace of it is the same every time.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable

NETWORKS = ("lan", "repl")
HOSTS = ("n1", "n2")
TRACE_LINES = 4_000


def other(host: str) -> str:
    return HOSTS[1] if host == HOSTS[0] else HOSTS[0]


class World:
    """Clock, chance and trace."""

    def __init__(self, seed: int) -> None:
        self.now_ms = 1_000
        self.chance = random.Random(seed)
        self._calls: list[tuple[int, int, Callable[[], object]]] = []
        self._order = 0
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)

    def after(self, delay_ms: int, call: Callable[[], object]) -> None:
        """Call later."""
        self._order += 1
        heapq.heappush(self._calls, (self.now_ms + delay_ms, self._order, call))

    def run_until(self, end_ms: int, after_each: Callable[[], None]) -> None:
        """Let everything happen up to a time, looking at the world after each event."""
        while self._calls and self._calls[0][0] <= end_ms:
            self.now_ms, _, call = heapq.heappop(self._calls)
            call()
            after_each()
        self.now_ms = end_ms

    def note(self, who: str, what: object) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.now_ms / 1000:8.3f} {who:>4} {what}")


class Networks:
    """Which way packets go, and what happens to them on the way."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cut: set[tuple[str, str]] = set()
        self.connect = True
        """Some network carries both ways."""
        self.sessions_blocked = False
        """A packet filter lets heartbeats through and nothing else."""
        self.loss = 0.0
        self.duplicates = 0.0
        self.longest_delay_ms = 3

    def cut(self, network: str, sender: str) -> None:
        """Nothing that `sender` sends on this network arrives any more."""
        self._cut.add((network, sender))
        self._judge()

    def heal(self, network: str, sender: str) -> None:
        self._cut.discard((network, sender))
        self._judge()

    def _judge(self) -> None:
        self.connect = any(self._is_two_way(network) for network in NETWORKS)

    def heal_all(self) -> None:
        """Every network carries everything again."""
        self._cut.clear()
        self._judge()
        self.sessions_blocked = False
        self.loss = self.duplicates = 0.0
        self.longest_delay_ms = 3

    def carries(self, network: str, sender: str) -> bool:
        return (network, sender) not in self._cut

    def is_whole(self, network: str) -> bool:
        """Both directions work, as TCP needs it."""
        return not self.sessions_blocked and self._is_two_way(network)

    def _is_two_way(self, network: str) -> bool:
        return all(self.carries(network, host) for host in HOSTS)

    def datagram(self, network: str, sender: str, arrive: Callable[[], None]) -> None:
        """Send: it may be lost, delayed, overtaken or doubled."""
        chance = self._world.chance
        copies = 2 if chance.random() < self.duplicates else 1
        for _ in range(copies):
            if self.carries(network, sender) and chance.random() >= self.loss:
                self._world.after(chance.randint(0, self.longest_delay_ms), arrive)
