"""What a farm of 250 nodes costs each agent: the table from nothing, one member's change, and how
long the agent's loop stands still meanwhile.

The references are work of the same shape that nobody would call slow: drawing as many random words
as a table from nothing needs draws, copying the keys that a change keeps. The loop's reference is
an idle loop's worst lateness in the same time.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import numpy as np

from bench.figure import Figure, Goal, GoalKind
from telamon.agent.farm.view import Outlets, ViewChange
from telamon.farm.hash import BUCKETS
from telamon.farm.message import Offer, Proposal, Status
from telamon.farm.table import MEMBER_MAX, Member, Table
from telamon.farm.view_state import Settings

SECRET = b"bench"
RUNS = 5
WHOLE_MS, CHANGE_MS, LATE_MS = 300, 10, 10
LOOK_S = 0.001
HEARTBEAT_S = 0.2
VIEW_S = 10.0


def tables() -> Iterator[Figure]:
    """Milliseconds for 250 members times 65536 buckets."""
    everyone = [Member(number) for number in range(1, MEMBER_MAX + 1)]
    generator = np.random.default_rng(1)
    whole = Table.build(SECRET, everyone)
    draws = MEMBER_MAX * BUCKETS
    yield Figure(
        "farm: whole table, 250 nodes",
        "ms",
        _ms(lambda: Table.build(SECRET, everyone)),
        _ms(lambda: generator.integers(0, 2**63, draws, dtype=np.uint64)),
        Goal(GoalKind.AT_MOST_MORE, WHOLE_MS),
    )
    kept = np.zeros(BUCKETS, np.uint64)
    for name, members in (
        ("farm: one of 250 leaves", everyone[:99] + everyone[100:]),
        ("farm: one of 250 drains", [*everyone[:99], Member(100, 0), *everyone[100:]]),
        ("farm: one of 250 doubles its weight", [*everyone[:99], Member(100, 2), *everyone[100:]]),
    ):
        yield Figure(
            name,
            "ms",
            _ms(lambda members=members: whole.changed(members)),
            _ms(kept.copy),
            Goal(GoalKind.AT_MOST_MORE, CHANGE_MS),
        )


def loop_lateness() -> Iterator[Figure]:
    """The worst lateness of the agent's loop while this node proposes a view of 250 members."""
    ours = statistics.median(asyncio.run(_lateness_ms(peers=MEMBER_MAX - 1)) for _ in range(RUNS))
    idle = statistics.median(asyncio.run(_lateness_ms(peers=0)) for _ in range(RUNS))
    goal = Goal(GoalKind.AT_MOST_MORE, LATE_MS)
    yield Figure("farm: loop late by a view of 250", "ms", ours, idle, goal)


async def _lateness_ms(peers: int) -> float:
    has_view = asyncio.Event()
    outlets = Outlets(
        show=_nothing,
        renew=_nothing,
        send=lambda to, message: has_view.set() if isinstance(message, Proposal) else None,
        measure=lambda: None,
        note=lambda text: None if peers else has_view.set(),
        fail=_raise,
        defect=_raise,
    )
    change = ViewChange(
        Settings(self_number=1, secret=SECRET),
        1,
        outlets,
        nodes=MEMBER_MAX,
        incarnation=1,
        offer=Offer(1),
        resumed=None,
    )
    async with asyncio.timeout(VIEW_S), asyncio.TaskGroup() as group:
        feeding = group.create_task(_feed(change, peers))
        looking = group.create_task(_worst_lateness_ms(has_view))
        await has_view.wait()
        feeding.cancel()
    change.close()
    return looking.result()


async def _feed(change: ViewChange, peers: int) -> None:
    """Heartbeats of other members that wait for a view."""
    everyone = frozenset(range(1, peers + 2))
    waiting = [
        Status(number, 1, 0, Offer(1), everyone, 1, False, 0, False, False, frozenset(), 0)
        for number in range(2, peers + 2)
    ]
    for sequence in count(1):
        change.receive(tuple(replace(status, sequence=sequence) for status in waiting))
        await asyncio.sleep(HEARTBEAT_S)


async def _worst_lateness_ms(until: asyncio.Event) -> float:
    worst_s = 0.0
    while not until.is_set():
        due_s = time.perf_counter() + LOOK_S
        await asyncio.sleep(LOOK_S)
        worst_s = max(worst_s, time.perf_counter() - due_s)
    return 1000 * worst_s


async def _nothing(_: object) -> None:
    return None


def _raise(error: Exception) -> None:
    raise error


def _ms(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(RUNS):
        started_s = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started_s))
    return statistics.median(taken)
