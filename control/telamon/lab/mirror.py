"""A mirror module on the nodes of a lab, handled as an operator would: installed, ordered about,
watched until it is where it should be.

Every wait has a deadline, and its failure says what was seen last.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from telamon.agent.models import ModuleNodeStatus
from telamon.errors import RefusedError, TimedOutError, UnreachableError
from telamon.lab import agent_api
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.oracles.exclude import Excludes
from telamon.lab.oracles.tree import Difference, compare

_POLL_S = 0.1
# The modification time of a file that stays open follows a second after its last change.
_QUIET_S = 1.5

PRIM = "PRIM"
SECOND = "SECOND"
ALONE = "ALONE"
WAIT = "WAIT"
STOP = "STOP"

_SERVING = (PRIM, ALONE)
_Nodes = Mapping[str, ModuleNodeStatus]


@dataclass(frozen=True, slots=True)
class MirrorInLab:
    """One module. `directories` are the replicated ones, with what they leave out."""

    lab: Lab
    module: str
    directories: Mapping[str, Sequence[str]]

    def install(self, source: Path) -> None:
        """Installs the module on the cluster from a directory of the machine."""
        self._telamon(self.lab.spec.nodes[0].name, "module", "install", str(source))

    def begin(self, primary: str, timeout_s: float) -> None:
        """The first start: both nodes wait until the operator names the one with the good data."""
        nodes = [node.name for node in self.lab.spec.nodes]
        self.order("start", primary)
        self.await_states(timeout_s, ready=False, **dict.fromkeys(nodes, WAIT))
        self.order("prim", primary)
        self.await_states(timeout_s, ready=True, **{**dict.fromkeys(nodes, SECOND), primary: PRIM})

    def order(self, action: str, node: str, *words: str) -> None:
        """`telamon module ACTION MODULE` on a node; returns when the order is accepted."""
        self._telamon(node, "module", action, self.module, *words)

    def status(self) -> _Nodes:
        """The module on every node, as the node itself sees it; mute nodes are left out."""
        found = {}
        hosts = self.lab.record.hosts
        for node in self.lab.spec.nodes:
            if (init := hosts[node.name]) is None:
                continue
            with suppress(UnreachableError):
                shown = agent_api.status(RunningHost(node.name, init)).modules.get(self.module)
                if shown is not None and node.name in shown.nodes:
                    found[node.name] = shown.nodes[node.name]
        return found

    def await_states(self, timeout_s: float, *, ready: bool = True, **states: str) -> _Nodes:
        """Waits until the named nodes are in the given states, and ready if asked."""

        def are_there(now: _Nodes) -> bool:
            return all(
                node in now and now[node].state == state and (now[node].ready or not ready)
                for node, state in states.items()
            )

        wanted = ", ".join(f"{state} on {node}" for node, state in states.items())
        return self._await(timeout_s, are_there, wanted)

    def await_serving(self, timeout_s: float, node: str) -> None:
        """Waits until a node serves, with its peer or alone."""

        def serves(now: _Nodes) -> bool:
            return node in now and now[node].state in _SERVING and bool(now[node].ready)

        self._await(timeout_s, serves, f"served by {node}")

    def await_reason(self, timeout_s: float, node: str, word: str) -> None:
        """Waits until a node's reason has a word in it."""

        def says_it(now: _Nodes) -> bool:
            return node in now and word in f"{now[node].reason} {now[node].link_reason}"

        self._await(timeout_s, says_it, f"saying {word!r} on {node}")

    def await_in_step(self, timeout_s: float) -> None:
        """Waits until the secondary has everything of an application that holds still: the link is
        live and nothing has been on its way for a while.
        """
        quiet_since: float | None = None

        def is_in_step(now: _Nodes) -> bool:
            nonlocal quiet_since
            primaries = [one for one in now.values() if one.state == PRIM]
            if len(primaries) != 1 or not _is_shipped(primaries[0]):
                quiet_since = None
                return False
            quiet_since = quiet_since or time.monotonic()
            return time.monotonic() - quiet_since >= _QUIET_S

        self._await(timeout_s, is_in_step, "in step")

    def assert_stays(self, duration_s: float, **states: str) -> None:
        """Watches nodes for a while that must not leave their state."""
        deadline = time.monotonic() + duration_s
        while time.monotonic() < deadline:
            now = self.status()
            for node, state in states.items():
                if node in now and now[node].state != state:
                    raise RefusedError(f"{node} left {state}: {_seen(now)}")
            time.sleep(_POLL_S)

    def primary(self) -> str:
        """The node that serves, with a secondary or alone."""
        serving = [name for name, one in self.status().items() if one.state in _SERVING]
        if len(serving) != 1:
            raise RefusedError(
                f"{self.module} has {len(serving)} primaries: {', '.join(serving) or 'none'}"
            )
        return serving[0]

    def differences(self) -> list[Difference]:
        """What differs between the backing trees of the two nodes, which must hold still."""
        one, two = (self.lab.host(node.name) for node in self.lab.spec.nodes)
        return [
            difference
            for directory, excludes in self.directories.items()
            for difference in compare(
                one.backing(directory), two.backing(directory), Excludes.of(excludes)
            )
        ]

    def _await(self, timeout_s: float, is_so: Callable[[_Nodes], bool], wanted: str) -> _Nodes:
        deadline = time.monotonic() + timeout_s
        while not is_so(now := self.status()):
            if time.monotonic() > deadline:
                raise TimedOutError(
                    f"{self.module} is not {wanted} after {timeout_s:g} s; {_seen(now)}"
                )
            time.sleep(_POLL_S)
        return now

    def _telamon(self, node: str, *words: str) -> str:
        return self.lab.host(node).run(["telamon", *words], timeout_s=120.0).stdout


def _is_shipped(status: ModuleNodeStatus) -> bool:
    lag = status.lag
    return status.link == "live" and lag is not None and lag.bytes == 0 and lag.records == 0


def _seen(now: _Nodes) -> str:
    shown = [
        f"{node} is {one.state} ({one.readiness}, link {one.link}): {one.reason}"
        for node, one in now.items()
    ]
    return "; ".join(shown) or "no node answers"
