"""The view change against seeded hostility: safety after every event, liveness after healing."""

import os
from random import Random

import pytest
from hostility import AGENTS, NETWORK, OPERATOR, Blow, torment
from world import World

SCHEDULES = int(os.environ.get("TELAMON_SCHEDULES", "400"))
SEED = os.environ.get("TELAMON_SEED")

KINDS: dict[str, tuple[tuple[Blow, ...], bool, float]] = {
    # blows, strict, odds that an agent dies between two actions
    "agents": (AGENTS + OPERATOR, True, 0.0),
    "crashes": (AGENTS + OPERATOR, True, 0.01),
    "network": (NETWORK + OPERATOR, False, 0.0),
    "everything": (NETWORK + AGENTS + OPERATOR, False, 0.005),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_owner(kind: str) -> None:
    blows, strict, crash_odds = KINDS[kind]
    seeds = [int(SEED)] if SEED else range(SCHEDULES)
    for seed in seeds:
        world = World(seed, Random(seed).randint(2, 5))
        world.strict, world.crash_odds = strict, crash_odds
        try:
            torment(world, blows, 12)
        except AssertionError as fault:
            fault.add_note(f"repeat with TELAMON_SEED={seed}, kind {kind}, at {world.now} ns")
            raise
