"""Random changes of a farm, drawn from a seed: nodes leave, join, are drained and undrained, their
agents end and come back, or hang for a while. Two nodes serve at all times.
"""

import signal
import time
from collections.abc import Callable
from random import Random

from farms import restart_agent

from telamon.agent.models import ActionKind
from telamon.lab.farm import FarmInLab
from telamon.lab.oracles.connections import Connections
from telamon.lab.process import Daemon

LEAST_SERVING = 2
PAUSES_S = (0.2, 0.65, 1.5)  # within the lease, at its end, far beyond the detection


class Changes:
    """Knows what the farm must be like after each change."""

    def __init__(self, farm: FarmInLab, clients: Connections, seed: int) -> None:
        self._random = Random(seed)
        self._farm = farm
        self._clients = clients
        self.stopped: set[str] = set()
        self.drained: set[str] = set()

    @property
    def serving(self) -> list[str]:
        """The nodes that take new clients."""
        return sorted(set(self._farm.nodes) - self.stopped - self.drained)

    def next(self) -> str:
        """Makes one change and waits until the farm has it; says what it was."""
        name, change = self._random.choice(self._possible())
        change()
        self._farm.await_serving(*self.serving)
        return name

    def _possible(self) -> list[tuple[str, Callable[[], None]]]:
        possible: list[tuple[str, Callable[[], None]]] = []

        def add(verb: str, nodes: set[str], change: Callable[[str], None]) -> None:
            if nodes:
                node = self._random.choice(sorted(nodes))
                possible.append((f"{verb} {node}", lambda: change(node)))

        running = set(self._farm.nodes) - self.stopped
        serving = set(self.serving) if len(self.serving) > LEAST_SERVING else set()
        add("leave", serving, self._leave)
        add("join", self.stopped, self._join)
        add("drain", serving, self._drain)
        add("undrain", running & self.drained, self._undrain)
        add("restart the agent of", running, self._restart)
        add("pause the agent of", running, self._pause)
        return possible

    def _leave(self, node: str) -> None:
        """The node's clients are served until they finish."""
        self._farm.order(ActionKind.STOP, node)
        self.stopped.add(node)
        self._farm.await_serving(*self.serving)
        assert self._clients.echo().broken == [], f"broken while {node} drained to stop"
        self._clients.drop(node)
        self._farm.await_status(lambda now: now[node].state == "STOP", f"stopped on {node}")

    def _join(self, node: str) -> None:
        self._farm.order(ActionKind.START, node)
        self.stopped.remove(node)

    def _drain(self, node: str) -> None:
        self._farm.order(ActionKind.DRAIN, node)
        self.drained.add(node)

    def _undrain(self, node: str) -> None:
        self._farm.order(ActionKind.UNDRAIN, node)
        self.drained.remove(node)

    def _restart(self, node: str) -> None:
        number = self._random.choice([signal.SIGKILL, signal.SIGTERM])
        restart_agent(self._farm.lab.host(node), number)

    def _pause(self, node: str) -> None:
        host = self._farm.lab.host(node)
        host.signal(Daemon.AGENT, signal.SIGSTOP)
        time.sleep(self._random.choice(PAUSES_S))
        host.signal(Daemon.AGENT, signal.SIGCONT)
