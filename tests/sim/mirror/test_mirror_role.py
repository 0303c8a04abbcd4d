"""The real role machine on two nodes in a hostile simulated world.

A failure prints its seed and the history; `TELAMON_SEED=… pytest tests/sim` runs that one again.
`TELAMON_SCHEDULES=…` sets how many are run.
"""

import os

import pytest
from mirror_schedule import Outcome, Schedule

SCHEDULES = int(os.environ.get("TELAMON_SCHEDULES", "1000"))
BATCHES = 20
SHOWN_LINES = 150


def seeds(batch: int) -> list[int]:
    given = os.environ.get("TELAMON_SEED")
    if given is not None:
        return [int(given)] if batch == 0 else []
    each = SCHEDULES // BATCHES
    return list(range(batch * each, (batch + 1) * each))


def run(seed: int) -> Outcome:
    schedule = Schedule(seed)
    try:
        return schedule.run()
    except AssertionError as error:
        lines = list(schedule.world.trace)[-SHOWN_LINES:]
        history = "\n".join(lines)
        pytest.fail(f"TELAMON_SEED={seed}: {error}\n{history}", pytrace=False)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_guarantees_hold_and_the_pair_recovers(batch: int) -> None:
    outcomes = [run(seed) for seed in seeds(batch)]
    if len(outcomes) > 20:
        assert sum(outcome.commits for outcome in outcomes) > 100 * len(outcomes)
        assert sum(outcome.promotions for outcome in outcomes) > 2 * len(outcomes)
        assert any(outcome.grants for outcome in outcomes)
