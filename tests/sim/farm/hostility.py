"""What befalls a farm, drawn from the world's seed."""

from collections.abc import Callable

from world import BUCKETS, SECOND, World

from telamon.farm.message import Offer
from telamon.farm.view_state import MILLISECOND, Leave, Offered

# One silence to notice, and a few messages.
HEALED = 1000 * MILLISECOND

Blow = Callable[[World], None]


def _number(world: World) -> int:
    return world.random.choice(list(world.hosts))


def restart_agent(world: World) -> None:
    number = _number(world)
    world.kill_agent(number)
    pause = world.random.choice([20, 300, 600, 1500]) * MILLISECOND
    world.at(world.now + pause, lambda: world.start_agent(number))


def kill_agent(world: World) -> None:
    world.kill_agent(_number(world))


def start_agent(world: World) -> None:
    world.start_agent(_number(world))


def pause_agent(world: World) -> None:
    number = _number(world)
    world.pause(number)
    length = world.random.choice([50, 250, 500, 640, 690, 720, 2000]) * MILLISECOND
    world.at(world.now + length, lambda: world.resume(number))


def power_off(world: World) -> None:
    number = _number(world)
    world.power_off(number)
    if world.random.random() < 0.8:
        back = world.random.choice([100, 500, 1500]) * MILLISECOND
        world.at(world.now + back, lambda: world.start_agent(number))


def leave(world: World) -> None:
    number = _number(world)
    world.give(number, Leave())
    world.at(world.now + SECOND // 2, lambda: world.start_agent(number))


def offer(world: World) -> None:
    weight = world.random.choice([0, 0, 1, 1, 3, 10])
    world.give(_number(world), Offered(Offer(weight, world.random.choice([0, 0, 0, 1]))))


def connect(world: World) -> None:
    for _ in range(10):
        lifetime = world.random.choice([10, 500, 5000]) * MILLISECOND
        world.connect(world.random.randrange(BUCKETS), lifetime)


def cut_one_way(world: World) -> None:
    world.network.cut.add((_number(world), _number(world)))


def part(world: World) -> None:
    """Two islands; now and then only one direction."""
    side = {number for number in world.hosts if world.random.random() < 0.5}
    one_way = world.random.random() < 0.3
    for one in side:
        for other in set(world.hosts) - side:
            world.network.cut.add((one, other))
            if not one_way:
                world.network.cut.add((other, one))


def mend(world: World) -> None:
    world.network.cut.clear()


def weather(world: World) -> None:
    network, random = world.network, world.random
    network.loss = random.choice([0.0, 0.0, 0.05, 0.3, 0.6])
    network.duplicates = random.choice([0.0, 0.2])
    slowest = random.choice([1, 20, 300, 900])
    network.delay = (MILLISECOND // 10, slowest * MILLISECOND)


AGENTS: tuple[Blow, ...] = (restart_agent, kill_agent, start_agent, pause_agent, power_off)
OPERATOR: tuple[Blow, ...] = (leave, offer, offer, connect, connect, connect)
NETWORK: tuple[Blow, ...] = (cut_one_way, part, mend, mend, weather)


def calm(world: World) -> None:
    """Everything heals: network, agents, offers."""
    world.crash_odds = 0.0
    if world.one_owner_from is None:
        world.one_owner_from = world.now + HEALED
    mend(world)
    world.network.loss = world.network.duplicates = 0.0
    world.network.delay = (MILLISECOND // 10, MILLISECOND)
    for number in world.hosts:
        world.resume(number)
        world.start_agent(number)


def torment(world: World, blows: tuple[Blow, ...], number: int) -> None:
    """Deal so many blows at random moments, then let everything heal and settle."""
    for host in world.hosts:
        world.at(world.now + world.random.randint(0, SECOND), lambda h=host: world.start_agent(h))
    world.run(world.random.choice([100, 1500, 2500]) * MILLISECOND)
    for _ in range(number):
        world.random.choice(blows)(world)
        world.check()
        world.run(world.random.choice([1, 20, 100, 400, 900]) * MILLISECOND)
    calm(world)
    world.run(4 * SECOND)
    world.check_settled()
    world.run(SECOND // 2)
    world.check_settled()
