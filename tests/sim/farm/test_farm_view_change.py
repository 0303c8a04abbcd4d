"""The view change against seeded hostility: safety after every event, liveness after healing.

TELAMON_SEED repeats one schedule of a kind, TELAMON_SCHEDULES sets how many are tried.
"""

import os
from collections.abc import Callable
from random import Random

import pytest
from hostility import AGENTS, NETWORK, OPERATOR, Blow, calm, leave, offer, restart_agent, torment
from world import SECOND, Host, World

from telamon.farm.turn import Turn
from telamon.farm.view_state import MILLISECOND, State

SCHEDULES = int(os.environ.get("TELAMON_SCHEDULES", "300"))
SEED = os.environ.get("TELAMON_SEED")
BLOWS = 12

# Blows, whether not even a moment with two owners is allowed, odds that an agent dies between two
# of its actions.
KINDS: dict[str, tuple[tuple[Blow, ...], bool, float]] = {
    "agents": (AGENTS + OPERATOR, True, 0.0),
    "crashes": (AGENTS + OPERATOR, True, 0.01),
    "network": (NETWORK + OPERATOR, False, 0.0),
    "everything": (NETWORK + AGENTS + OPERATOR, False, 0.005),
}


def run_schedule(kind: str, seed: int) -> None:
    blows, strict, crash_odds = KINDS[kind]
    world = World(seed, Random(seed).randint(2, 5))
    world.one_owner_from = 0 if strict else None
    world.crash_odds = crash_odds
    try:
        torment(world, blows, BLOWS)
    except AssertionError as fault:
        fault.add_note(f"repeat with TELAMON_SEED={seed}, kind {kind}; at {world.now} ns")
        raise


@pytest.mark.parametrize("kind", KINDS)
def test_one_owner(kind: str) -> None:
    for seed in [int(SEED)] if SEED else range(SCHEDULES):
        run_schedule(kind, seed)


def take_at_once(turn: Turn, view: object) -> int:
    return turn.state.every_bucket


def never_unsure(state: State, now: int) -> bool:
    return False


def serve_without_lease(host: Host, now: int) -> int:
    return host.active


@pytest.mark.parametrize(
    ("kind", "owner", "name", "broken"),
    [
        ("agents", Turn, "_bequeathed", take_at_once),
        ("agents", State, "is_unsure", never_unsure),
        ("agents", Host, "serving", serve_without_lease),
        ("network", State, "unreported", frozenset()),
    ],
)
def test_each_rule_is_needed(
    monkeypatch: pytest.MonkeyPatch, kind: str, owner: type, name: str, broken: object
) -> None:
    """The world is hostile enough: without one of the rules it finds a fault."""
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError):
        for seed in range(200):
            run_schedule(kind, seed)


def test_a_day_of_changes() -> None:
    """A change each minute for 24 hours, the idle time left out: never two owners, never none."""
    seed = int(SEED or 24)
    print(f"TELAMON_SEED={seed}")
    world = World(seed, 5)
    calm(world)
    world.run(2 * SECOND)
    world.one_owner_from = 0
    changes: tuple[Callable[[World], None], ...] = (restart_agent, leave, offer, offer)
    for _ in range(24 * 60):
        world.random.choice(changes)(world)
        world.run(world.random.choice([100, 800, 2000]) * MILLISECOND)
        if world.random.random() < 0.1:
            world.run(3 * SECOND)
            world.check_settled()
    world.run(3 * SECOND)
    world.check_settled()
