"""How long the ordinary changes of a farm take, and what they leave alone."""

import pytest
from world import BUCKETS, SECOND, World

from telamon.farm.message import Offer
from telamon.farm.view_state import MILLISECOND, Leave, Offered

EVERY = (1 << BUCKETS) - 1
LOSS = 700 * MILLISECOND
MESSAGES = 20 * MILLISECOND  # a few, with timers that are up to 5 ms late


def farm(hosts: int) -> World:
    world = World(seed=hosts, hosts=hosts)
    world.one_owner_from = 0
    for number in world.hosts:
        world.start_agent(number)
    world.run(2 * SECOND)
    world.check_settled()
    return world


def served(world: World) -> int:
    union = 0
    for host in world.hosts.values():
        union |= host.serving(world.now)
    return union


def run_until_all_served(world: World, limit: int) -> int:
    """Return how long some bucket had no owner."""
    start = world.now
    while served(world) != EVERY:
        assert world.now - start < limit, "buckets without owner"
        world.run(MILLISECOND)
    return world.now - start


@pytest.mark.parametrize("victim", [1, 2, 5])
def test_a_dead_nodes_buckets_are_taken_when_its_silence_counts(victim: int) -> None:
    world = farm(5)
    before = {number: host.active for number, host in world.hosts.items()}
    world.power_off(victim)
    run_until_all_served(world, LOSS + MESSAGES)
    for number, host in world.hosts.items():
        assert number == victim or host.active & before[number] == before[number]


def test_two_nodes_that_die_together_hold_nobody_up() -> None:
    world = farm(5)
    world.power_off(1)
    world.run(50 * MILLISECOND)
    world.power_off(3)
    run_until_all_served(world, LOSS + MESSAGES)


def test_a_clean_leave_is_taken_over_at_once() -> None:
    world = farm(3)
    world.give(2, Leave())
    assert run_until_all_served(world, MESSAGES) < MESSAGES


def test_a_join_leaves_a_bucket_alone_for_a_few_messages() -> None:
    world = farm(3)
    world.give(3, Leave())
    world.run(SECOND)
    world.start_agent(3)
    longest = 0
    for _ in range(1000):
        world.run(MILLISECOND)
        if served(world) != EVERY:
            longest = max(longest, run_until_all_served(world, MESSAGES))
    assert world.hosts[3].active
    assert longest < MESSAGES


@pytest.mark.parametrize("downtime_ms", [10, 300])
def test_a_restart_of_the_agent_inside_the_lease_moves_nothing(downtime_ms: int) -> None:
    world = farm(3)
    before = {number: host.active for number, host in world.hosts.items()}
    world.kill_agent(1)
    world.run(downtime_ms * MILLISECOND)
    world.start_agent(1)
    for _ in range(1000):
        world.run(MILLISECOND)
        assert {number: host.serving(world.now) for number, host in world.hosts.items()} == before
    world.check_settled()


def test_draining_waits_for_the_connections() -> None:
    world = farm(3)
    bucket = (world.hosts[2].active & -world.hosts[2].active).bit_length() - 1
    world.connect(bucket, lifetime=3 * SECOND)
    world.give(2, Offered(Offer(0)))
    world.run(SECOND)
    state = world.hosts[2].state
    assert state is not None
    assert not state.active
    assert not state.is_drained
    heir = next(host for host in world.hosts.values() if host.active >> bucket & 1)
    assert heir.graced >> bucket & 1
    world.run(3 * SECOND)
    assert world.hosts[2].state is not None
    assert world.hosts[2].state.is_drained
    assert not heir.graced


def test_a_connection_survives_two_moves_of_its_bucket() -> None:
    """A -> B -> C: the third owner still knows that the first one holds it."""
    world = farm(3)
    bucket = (world.hosts[1].active & -world.hosts[1].active).bit_length() - 1
    world.connect(bucket, lifetime=60 * SECOND)
    for number in (1, 2):
        world.give(number, Offered(Offer(0)))
        world.run(SECOND)
        owner = next(host for host in world.hosts.values() if host.active >> bucket & 1)
        assert owner.number != 1
        assert owner.graced >> bucket & 1
        assert owner.state is not None
        assert owner.state.holders[1] >> bucket & 1
    assert world.hosts[3].active == EVERY
