"""The view change of one share of a farm module, driven: what happens goes in, what it asks for is
done in its order.

Invariants: one event at a time, and its actions are done before the next one; the filter has
switched before a message about it leaves, and the lease grows only after the heartbeat has left.
Restarting the agent touches nothing before the machine says so. A filter that cannot be switched
ends the share: without its heartbeats the others take its buckets, when its lease is over.

The loop goes on meanwhile: slow filters are awaited, and the tables of a large farm are computed in
a thread. While a filter switches, this node goes on saying what it said last, or the others would
count it as silent; messages that come in the meantime are taken together and first, so that nobody
is judged unheard.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from telamon.errors import TelamonError
from telamon.farm import view
from telamon.farm.image import render
from telamon.farm.layout import TableImage
from telamon.farm.linger import joined, lingering
from telamon.farm.message import Goodbye, Message, Offer, Status
from telamon.farm.view_state import (
    Action,
    Broadcast,
    Event,
    Leave,
    Measure,
    Measured,
    Note,
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

SECOND_NS = 1_000_000_000
LARGE_FARM_NODES = 16
"""From so many on a table takes longer than the loop may wait (1 ms for every two nodes)."""


def boottime_ns() -> int:
    """CLOCK_BOOTTIME, as in the filter's lease."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the actions go. Called on the loop; none may block it."""

    show: Callable[[TableImage], Awaitable[None]]
    renew: Callable[[int], Awaitable[None]]
    """Until when the filter may own buckets."""
    send: Callable[[int | None, Message], None]
    """To one member, or with None to every node of the module."""
    measure: Callable[[], None]
    note: Callable[[str], None]
    fail: Callable[[TelamonError], None]
    """The filter cannot be told: the share has ended."""
    defect: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class _Buried:
    """A silent node's host is dead."""

    number: int


@dataclass(frozen=True, slots=True)
class _ShowAgain:
    """The image is the same here, but not what is made of it."""


class ViewChange:
    """Runs from its making until `leave` or `close`."""

    def __init__(
        self,
        settings: Settings,
        seed: int,
        outlets: Outlets,
        *,
        nodes: int,
        incarnation: int,
        offer: Offer,
        resumed: Resumed | None,
    ) -> None:
        self.state: State = initial(settings, incarnation, offer, boottime_ns(), resumed)
        self.goodbye: Goodbye | None = None
        self.lingering: dict[int, int] = {}
        self._departed: set[int] = set()
        self._seed = seed
        self._interval_s = settings.interval / SECOND_NS
        self._is_large = nodes >= LARGE_FARM_NODES
        self._outlets = outlets
        self._events: deque[Event | _Buried | _ShowAgain] = deque()
        self._has_events = asyncio.Event()
        self._offer = offer
        self._sequence = 0
        self._latest: Status | None = None
        self._task = asyncio.create_task(self._run())

    def receive(self, messages: tuple[Message, ...]) -> None:
        """Takes messages of other members."""
        self._put(Received(messages))

    def offer(self, offer: Offer) -> None:
        """Says what this node offers from now on."""
        if offer != self._offer:
            self._offer = offer
            self._put(Offered(offer))

    def measured(self, sockets: int, began_at_ns: int) -> None:
        """Takes the buckets in which this host has connections."""
        self._put(Measured(sockets, began_at_ns))

    def bury(self, number: int) -> None:
        """A silent node's host is dead: it holds nothing any more."""
        self._put(_Buried(number))

    def show_again(self) -> None:
        """What the filter shows depends on more than this share, and that has changed."""
        self._put(_ShowAgain())

    async def leave(self) -> None:
        """Gives up everything and says goodbye."""
        self._put(Leave())
        await asyncio.wait([self._task])

    def close(self) -> None:
        """Lets go; the filter stays as it is."""
        self._task.cancel()

    def _put(self, event: Event | _Buried | _ShowAgain) -> None:
        self._events.append(event)
        self._has_events.set()

    async def _run(self) -> None:
        try:
            while not self.state.has_left:
                match await self._next():
                    case _Buried(number):
                        if self.lingering.pop(number, None) is not None:
                            await self._show()
                    case _ShowAgain():
                        await self._show()
                    case event:
                        await self._step(event)
        except TelamonError as error:
            self._outlets.fail(error)
        except Exception as error:  # noqa: BLE001 - a defect ends the agent, whoever called
            self._outlets.defect(error)

    async def _next(self) -> Event | _Buried | _ShowAgain:
        if not self._events:
            self._has_events.clear()
            wait_s = max(view.deadline(self.state) - boottime_ns(), 0) / SECOND_NS
            try:
                async with asyncio.timeout(wait_s):
                    await self._has_events.wait()
            except TimeoutError:
                return Tick()
        received = [event for event in self._events if isinstance(event, Received)]
        if not received:
            return self._events.popleft()
        others = [event for event in self._events if not isinstance(event, Received)]
        self._events = deque(others)
        return Received(tuple(message for event in received for message in event.messages))

    async def _step(self, event: Event) -> None:
        before = self.state
        if isinstance(event, Received):
            self._note_departures(event.messages)
        if self._is_large:
            self.state, actions = await asyncio.to_thread(view.step, before, event, boottime_ns())
        else:
            self.state, actions = view.step(before, event, boottime_ns())
        lingering_before = self.lingering
        self.lingering = lingering(lingering_before, before, self.state, self._departed)
        if self.lingering != lingering_before and Switch() not in actions:
            await self._show()
        for action in actions:
            await self._obey(action)

    def _note_departures(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            if isinstance(message, Goodbye):
                self._departed.add(message.sender)
            elif isinstance(message, Status):
                self._departed.discard(message.sender)

    async def _obey(self, action: Action) -> None:
        match action:
            case Note(text):
                self._outlets.note(text)
            case Switch():
                await self._show()
            case Measure():
                self._outlets.measure()
            case Send(to, message):
                self._send(to, message)
            case Broadcast(message):
                self._send(None, message)
            case Renew(lease_until):
                await self._outlets.renew(max(lease_until, self.state.lease_until))

    def _send(self, to: int | None, message: Message) -> None:
        """Numbers what is ordered by number as it leaves: more leaves than the machine says."""
        if isinstance(message, Status | Goodbye):
            self._sequence += 1
            message = replace(message, sequence=self._sequence)
        if isinstance(message, Status):
            self._latest = message
        elif isinstance(message, Goodbye):
            self.goodbye = message
        self._outlets.send(to, message)

    async def _show(self) -> None:
        shown = replace(self.state, holders=joined(self.lingering, self.state.holders))
        if self._is_large:
            image = await asyncio.to_thread(render, shown, self._seed)
        else:
            image = render(shown, self._seed)
        showing = asyncio.ensure_future(self._outlets.show(image))
        try:
            while not (await asyncio.wait([showing], timeout=self._interval_s))[0]:
                self._say_alive()
        finally:
            showing.cancel()
        await showing

    def _say_alive(self) -> None:
        """What was true stays so until the filter has switched, and who says it keeps its lease."""
        if self._latest is None or self.state.has_left:
            return
        now = boottime_ns()
        self._send(None, self._latest)
        self.state = replace(
            self.state, last_step_at=now, lease_until=now + self.state.settings.lease
        )
