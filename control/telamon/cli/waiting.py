"""What `--wait` waits for: an order is carried out when the states of its nodes say so."""

import time
from collections.abc import Callable, Iterable

from telamon.agent.models import ActionKind, ModuleNodeStatus, Status
from telamon.cli.agent import Agent
from telamon.errors import TimedOutError

LOOK_S = 0.2
RUNS_APPLICATION = frozenset({"PRIM", "ALONE", "UP"})
FOLLOWS = frozenset({"SECOND"})


def wait_until_done(
    agent: Agent, module: str, action: ActionKind, nodes: Iterable[str], limit_s: float
) -> Status:
    """Returns the status in which `action` is carried out on `nodes`."""
    waited = tuple(nodes)
    deadline_s = time.monotonic() + limit_s
    while True:
        status = agent.status()
        if is_done(status, module, action, waited):
            return status
        if time.monotonic() >= deadline_s:
            raise TimedOutError(_sentence(status, module, action, waited, limit_s))
        time.sleep(LOOK_S)


def is_done(status: Status, module: str, action: ActionKind, nodes: Iterable[str]) -> bool:
    """Whether `action` is carried out on `nodes`."""
    found = status.modules.get(module)
    if found is None:
        return False
    if action is ActionKind.SWAP:
        # Both sides have arrived: whoever was ordered follows, the other runs the application.
        ordered = set(nodes)
        return all(
            _is_in(here, FOLLOWS if node in ordered else RUNS_APPLICATION)
            for node, here in found.nodes.items()
        )
    return all(_GOALS[action](found.nodes[node]) for node in nodes if node in found.nodes)


def _serves(here: ModuleNodeStatus) -> bool:
    """Whether a farm's node serves clients, new or old."""
    farm = here.farm
    return farm is not None and bool(farm.connections or any(one.buckets for one in farm.shares))


def _is_in(here: ModuleNodeStatus, states: frozenset[str]) -> bool:
    return here.state in states and bool(here.ready) and here.running is None


_GOALS: dict[ActionKind, Callable[[ModuleNodeStatus], bool]] = {
    ActionKind.START: lambda here: _is_in(here, RUNS_APPLICATION | FOLLOWS),
    ActionKind.STOP: lambda here: here.state == "STOP",
    ActionKind.PRIM: lambda here: _is_in(here, RUNS_APPLICATION),
    ActionKind.SECOND: lambda here: _is_in(here, FOLLOWS),
    ActionKind.RESTART: lambda here: _is_in(here, RUNS_APPLICATION),
    ActionKind.DRAIN: lambda here: bool(here.farm and here.farm.drained) and not _serves(here),
    ActionKind.UNDRAIN: lambda here: bool(here.farm and not here.farm.drained) and _serves(here),
}


def _sentence(
    status: Status, module: str, action: ActionKind, nodes: Iterable[str], limit_s: float
) -> str:
    found = status.modules.get(module)
    states = []
    for node in nodes:
        here = found.nodes.get(node) if found else None
        reason = f" ({here.reason})" if here and here.reason else ""
        states.append(f"{node} is {here.state if here and here.state else 'unknown'}{reason}")
    return (
        f"{action} of module {module} was accepted but not carried out within {limit_s:g} s: "
        f"{'; '.join(states)}; "
        "it goes on: see `telamon status`"
    )
