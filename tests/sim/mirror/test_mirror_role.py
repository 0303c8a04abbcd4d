"""The real role machine on two nodes in a hostile simulated world.

A failure prints its seed and the history; `TELAMON_SEED=… pytest tests/sim` runs that one again.
`TELAMON_SCHEDULES=…` sets how many are run, seeds 0 and up, on all cores.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

import pytest
from mirror_schedule import Outcome, Schedule

SCHEDULES = int(os.environ.get("TELAMON_SCHEDULES", "3000"))
BATCHES = 20
SHOWN_LINES = 150


@pytest.fixture(scope="module")
def cores() -> Iterator[Executor]:
    with ProcessPoolExecutor() as pool:
        yield pool


def seeds(batch: int) -> list[int]:
    given = os.environ.get("TELAMON_SEED")
    if given is not None:
        return [int(given)] if batch == 0 else []
    return list(range(batch * SCHEDULES // BATCHES, (batch + 1) * SCHEDULES // BATCHES))


def run(seed: int) -> Outcome | str:
    """What a schedule came to, or what broke and the way there."""
    schedule = Schedule(seed)
    try:
        return schedule.run()
    except AssertionError as error:
        history = "\n".join(list(schedule.world.trace)[-SHOWN_LINES:])
        return f"TELAMON_SEED={seed}: {error}\n{history}"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_guarantees_hold_and_the_pair_recovers(batch: int, cores: Executor) -> None:
    chosen = seeds(batch)
    print(f"seeds {chosen[:1]} to {chosen[-1:]}")
    outcomes = []
    for outcome in cores.map(run, chosen):
        if isinstance(outcome, str):
            pytest.fail(outcome, pytrace=False)
        outcomes.append(outcome)
    if len(outcomes) > 20:
        assert sum(outcome.commits for outcome in outcomes) > 100 * len(outcomes)
        assert sum(outcome.promotions for outcome in outcomes) > 2 * len(outcomes)
        assert any(outcome.grants for outcome in outcomes)
