"""A hostile world for the view change: a seeded network, hosts, agents, filters and connections.

The filter of a host outlives its agent and obeys its lease; everything else of an agent dies with
it. After every event that touches a filter or a connection, `check` compares what the filters would
really do.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, count
from random import Random

from telamon.farm.message import Message, Offer
from telamon.farm.view import deadline, step
from telamon.farm.view_state import (
    MILLISECOND,
    Broadcast,
    Event,
    Leave,
    Measure,
    Measured,
    Offered,
    Received,
    Renew,
    Resumed,
    Send,
    Settings,
    State,
    Switch,
    Tick,
    initial,
)

SECOND = 1000 * MILLISECOND
BUCKETS = 64
MEASURE_EVERY = 500 * MILLISECOND


@dataclass
class Network:
    """What happens to a message on its way."""

    loss: float = 0.0
    duplicates: float = 0.0
    delay: tuple[int, int] = (MILLISECOND // 10, MILLISECOND)
    cut: set[tuple[int, int]] = field(default_factory=set)  # (from, to)

    def fates(self, random: Random, sender: int, receiver: int) -> Iterator[int]:
        """Yield the delay of each copy that arrives."""
        if (sender, receiver) in self.cut:
            return
        copies = 2 if random.random() < self.duplicates else 1
        for _ in range(copies):
            if random.random() >= self.loss:
                yield random.randint(*self.delay)


@dataclass
class Host:
    """A host: its filter and connections, and the agent while there is one."""

    number: int
    state: State | None = None
    paused: bool = False
    queue: list[Event] = field(default_factory=list)  # what waits for a paused agent
    active: int = 0  # the filter's buckets
    epoch: int = 0
    lease_until: int = 0
    graced: int = 0  # own buckets in which the filter expects others' connections
    took: dict[int, frozenset[int]] = field(default_factory=dict)  # bucket -> members of that view
    connections: dict[int, int] = field(default_factory=dict)  # bucket -> how many
    sockets: int = 0  # buckets with connections
    incarnation: int = 0
    started: int = 0  # distinguishes timers of dead agents
    offer: Offer = field(default_factory=lambda: Offer(1))

    def serving(self, now: int) -> int:
        return self.active if now < self.lease_until else 0

    @property
    def is_running(self) -> bool:
        return self.state is not None and not self.paused


class World:
    """Hosts on one network. All times in nanoseconds since the world began."""

    def __init__(self, seed: int, hosts: int) -> None:
        self.random = Random(seed)
        self.now = SECOND
        self.network = Network()
        self.hosts = {number: Host(number) for number in range(1, hosts + 1)}
        self.crash_odds = 0.0  # of an agent dying between two of its actions
        self.one_owner_from: int | None = None  # when two owners are wrong, whatever the reason
        self.events = 0
        self._touched = False
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    # -- time --------------------------------------------------------------------------------

    def at(self, when: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), what))

    def run(self, duration: int) -> None:
        end = self.now + duration
        while self._agenda and self._agenda[0][0] <= end:
            self.now, _, what = heapq.heappop(self._agenda)
            what()
            self.events += 1
            if self._touched:
                self.check()
        self.now = end

    # -- hosts and agents ----------------------------------------------------------------------

    def start_agent(self, number: int) -> None:
        host = self.hosts[number]
        if host.state is not None:
            return
        host.incarnation += 1
        host.started += 1
        host.paused = False
        host.queue.clear()
        found = Resumed(host.epoch, host.active, host.lease_until)
        settings = Settings(number, b"secret", BUCKETS)
        host.state = initial(settings, host.incarnation, host.offer, self.now, found)
        if host.lease_until <= self.now:
            host.active = 0
        self._later(host, 0, Tick())
        self._measure_regularly(host, host.started)

    def kill_agent(self, number: int) -> None:
        host = self.hosts[number]
        host.state = None
        host.queue.clear()

    def power_off(self, number: int) -> None:
        """The host loses everything but its count of starts."""
        self.kill_agent(number)
        host = self.hosts[number]
        host.active = host.epoch = host.lease_until = 0
        host.connections.clear()
        host.sockets = 0
        host.took.clear()

    def pause(self, number: int) -> None:
        self.hosts[number].paused = True

    def resume(self, number: int) -> None:
        host = self.hosts[number]
        if not host.paused:
            return
        host.paused = False
        waiting, host.queue = host.queue, []
        messages = [m for event in waiting if isinstance(event, Received) for m in event.messages]
        self.deliver(host, Received(tuple(messages)))
        for event in waiting:
            if not isinstance(event, Received):
                self.deliver(host, event)
        self.deliver(host, Tick())

    def give(self, number: int, event: Event) -> None:
        """Hand an event of the host itself to its agent."""
        host = self.hosts[number]
        if isinstance(event, Offered):
            host.offer = event.offer
        if host.state is not None:
            self.deliver(host, event)
        if isinstance(event, Leave):
            self.kill_agent(number)

    # -- steps ---------------------------------------------------------------------------------

    def _later(self, host: Host, delay: int, event: Event) -> None:
        started = host.started

        def arrive() -> None:
            if host.started == started:
                self.deliver(host, event)

        self.at(self.now + delay, arrive)

    def deliver(self, host: Host, event: Event) -> None:
        if host.state is None:
            return
        if host.paused:
            if not isinstance(event, Tick):
                host.queue.append(event)
            return
        host.state, actions = step(host.state, event, self.now)
        state = host.state
        for action in actions:
            if self.crash_odds and self.random.random() < self.crash_odds:
                self.kill_agent(host.number)
                return
            self._act(host, state, action)
        if isinstance(event, Tick):
            lateness = self.random.randint(0, 5 * MILLISECOND)
            self._later(host, max(deadline(state) - self.now, 0) + lateness, Tick())

    def _act(self, host: Host, state: State, action: object) -> None:
        self._touched = self._touched or isinstance(action, Switch | Renew)
        match action:
            case Switch():
                members = state.view.numbers if state.view else frozenset()
                gained = state.active & ~host.active
                for bucket in range(BUCKETS):
                    if gained >> bucket & 1:
                        host.took[bucket] = members
                host.active, host.epoch = state.active, state.epoch
                host.graced = state.every_bucket if state.unreported else 0
                for held in state.holders.values():
                    host.graced |= held
            case Renew(until):
                host.lease_until = until
            case Send(to, message):
                self._transmit(host.number, to, message)
            case Broadcast(message):
                for to in self.hosts:
                    if to != host.number:
                        self._transmit(host.number, to, message)
            case Measure():
                self._measure(host)
            case _:
                pass

    def _transmit(self, sender: int, to: int, message: Message) -> None:
        receiver = self.hosts[to]
        for delay in self.network.fates(self.random, sender, to):
            event = Received((message,))
            self.at(self.now + delay, partial(self.deliver, receiver, event))

    def _measure(self, host: Host) -> None:
        began = self.now + self.random.randint(0, 5 * MILLISECOND)

        def measure() -> None:
            self._later(
                host, self.random.randint(0, 5) * MILLISECOND, Measured(host.sockets, began)
            )

        self.at(began, measure)

    def _measure_regularly(self, host: Host, started: int) -> None:
        if host.started == started and host.state is not None:
            self._measure(host)
            self.at(self.now + MEASURE_EVERY, lambda: self._measure_regularly(host, started))

    # -- clients -------------------------------------------------------------------------------

    def connect(self, bucket: int, lifetime: int) -> None:
        """A client opens a connection; whoever serves its bucket accepts."""
        self._touched = True
        for host in self.hosts.values():
            if host.serving(self.now) >> bucket & 1:
                host.connections[bucket] = host.connections.get(bucket, 0) + 1
                host.sockets |= 1 << bucket
                self.at(self.now + lifetime, lambda host=host: self._close(host, bucket))

    @staticmethod
    def _close(host: Host, bucket: int) -> None:
        host.connections[bucket] = max(host.connections.get(bucket, 0) - 1, 0)
        if not host.connections[bucket]:
            host.sockets &= ~(1 << bucket)

    # -- laws ----------------------------------------------------------------------------------

    def check(self) -> None:
        self._touched = False
        serving = {
            number: bits for number, host in self.hosts.items() if (bits := host.serving(self.now))
        }
        for one, other in combinations(serving, 2):
            both = serving[one] & serving[other]
            if both:
                self._check_overlap(self.hosts[one], self.hosts[other], both)
        self._check_grace(serving)

    def _check_overlap(self, one: Host, other: Host, both: int) -> None:
        if self.one_owner_from is not None and self.now >= self.one_owner_from:
            raise AssertionError(
                f"buckets {both:#x} belong to both {one.number} and {other.number}"
            )
        for bucket in range(BUCKETS):
            if both >> bucket & 1:
                assert (
                    other.number not in one.took[bucket] or one.number not in other.took[bucket]
                ), f"bucket {bucket}: {one.number} and {other.number} took it beside each other"

    def _check_grace(self, serving: dict[int, int]) -> None:
        """An owner without grace would reset connections of a member that is in the same view."""
        for number, bits in serving.items():
            owner = self.hosts[number]
            state = owner.state
            if state is None or state.view is None:
                continue
            for fellow in state.view.numbers & set(state.peers) - {number}:
                other = self.hosts[fellow]
                if other.epoch != state.epoch:
                    continue
                broken = bits & ~owner.graced & other.sockets & ~other.serving(self.now)
                assert not broken, f"{number} would reset connections of {fellow}: {broken:#x}"

    def check_settled(self) -> None:
        """Everything heals: one view, committed, every bucket with its one owner."""
        states = [host.state for host in self.hosts.values() if host.state is not None]
        views = {state.view for state in states}
        assert len(views) == 1, f"views {[(s.settings.self_number, s.view) for s in states]}"
        assert all(state.is_committed for state in states)
        view = views.pop()
        assert view is not None
        assert view.numbers == {state.settings.self_number for state in states}
        able = [state for state in states if state.offer.weight]
        union = 0
        for host in self.hosts.values():
            bits = host.serving(self.now)
            assert not union & bits, "two owners"
            union |= bits
        assert union == ((1 << BUCKETS) - 1 if able else 0), "a bucket without owner"
