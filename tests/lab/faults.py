"""Everything that takes the primary role away from a node, or tries to, and the way back to two
nodes in step.
"""

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

from mirrors import STEP_TIMEOUT_S

from telamon.lab.mirror import ALONE, PRIM, SECOND, STOP, MirrorInLab
from telamon.lab.process import Daemon


def seed() -> int:
    """The seed of this run: that of TELAMON_SEED, else a new one. Print it."""
    given = os.environ.get("TELAMON_SEED")
    return int(given) if given else random.SystemRandom().randrange(1 << 32)


def other(node: str) -> str:
    return {"n1": "n2", "n2": "n1"}[node]


@dataclass(frozen=True)
class Fault:
    """`strike` ends when the consequences are there; `heal` when both nodes are in step again."""

    name: str
    moves_primary: bool
    strike: Callable[[MirrorInLab, str], None]
    heal: Callable[[MirrorInLab, str], None]


def _power_off(mirror: MirrorInLab, primary: str) -> None:
    mirror.lab.off(primary)
    mirror.await_states(STEP_TIMEOUT_S, **{other(primary): ALONE})


def _power_on(mirror: MirrorInLab, primary: str) -> None:
    mirror.lab.on(primary)
    _await_pair(mirror, other(primary))


def _kill_replicator(mirror: MirrorInLab, primary: str) -> None:
    mirror.lab.host(primary).signal(Daemon.REPLICATOR, signal.SIGKILL)
    mirror.await_serving(STEP_TIMEOUT_S, other(primary))


def _kill_agent(mirror: MirrorInLab, primary: str) -> None:
    (agent,) = mirror.lab.host(primary).daemons(Daemon.AGENT)
    mirror.lab.host(primary).signal(Daemon.AGENT, signal.SIGKILL)
    assert agent.wait_until_ended(STEP_TIMEOUT_S)
    _await_pair(mirror, primary)


def _cut_replication(mirror: MirrorInLab, primary: str) -> None:
    mirror.lab.cut(primary, "repl")
    mirror.await_serving(STEP_TIMEOUT_S, primary)


def _heal_replication(mirror: MirrorInLab, primary: str) -> None:
    mirror.lab.heal(primary, "repl")
    _await_pair(mirror, primary)


def _stop(mirror: MirrorInLab, primary: str) -> None:
    mirror.order("stop", primary, "--node", primary)
    mirror.await_states(STEP_TIMEOUT_S, ready=False, **{primary: STOP, other(primary): ALONE})


def _start(mirror: MirrorInLab, primary: str) -> None:
    mirror.order("start", primary, "--node", primary)
    _await_pair(mirror, other(primary))


def _swap(mirror: MirrorInLab, primary: str) -> None:
    mirror.order("swap", primary)
    _await_pair(mirror, other(primary))


def _await_pair(mirror: MirrorInLab, primary: str) -> None:
    mirror.await_states(STEP_TIMEOUT_S, **{primary: PRIM, other(primary): SECOND})


def _in_step(mirror: MirrorInLab, new_primary: str) -> None:
    _await_pair(mirror, new_primary)


FAULTS = (
    Fault("power failure", True, _power_off, _power_on),
    Fault("replicator killed", True, _kill_replicator, lambda m, p: _in_step(m, other(p))),
    Fault("agent killed", False, _kill_agent, _in_step),
    Fault("replication network cut", False, _cut_replication, _heal_replication),
    Fault("clean stop", True, _stop, _start),
    Fault("swap", True, _swap, lambda m, p: _in_step(m, other(p))),
)


def sequence(chance: random.Random, count: int) -> list[Fault]:
    """So many faults in a random order, every kind about equally often."""
    rounds = [chance.sample(FAULTS, len(FAULTS)) for _ in range(count // len(FAULTS) + 1)]
    return [fault for one in rounds for fault in one][:count]
