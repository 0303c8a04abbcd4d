"""The view change of one share of a farm module, driven: what happens goes in, what it asks for is
done in its order.

Invariants: the machine is stepped on the loop, one event at a time, and its actions are done before
the next one; the filter has switched before a message about it leaves, and the lease grows only
after the heartbeat has left. Restarting the agent touches nothing before the machine says so.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from telamon.farm import view
from telamon.farm.image import render
from telamon.farm.layout import TableImage
from telamon.farm.linger import lingering
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


def boottime_ns() -> int:
    """CLOCK_BOOTTIME, as in the filter's lease."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the actions go. Called on the loop; none may block."""

    show: Callable[[TableImage], None]
    renew: Callable[[int], None]
    """Until when the filter may own buckets."""
    send: Callable[[int | None, Message], None]
    """To one member, or with None to every node of the module."""
    measure: Callable[[], None]
    note: Callable[[str], None]
    defect: Callable[[Exception], None]


class ViewChange:
    """Runs from its making until `leave` or `close`."""

    def __init__(
        self,
        settings: Settings,
        seed: int,
        outlets: Outlets,
        *,
        incarnation: int,
        offer: Offer,
        resumed: Resumed | None,
    ) -> None:
        self.state: State = initial(settings, incarnation, offer, boottime_ns(), resumed)
        self.goodbye: Goodbye | None = None
        self.lingering: dict[int, int] = {}
        self._departed: set[int] = set()
        self._seed = seed
        self._outlets = outlets
        self._timer: asyncio.TimerHandle | None = None
        self._schedule()

    def receive(self, messages: tuple[Message, ...]) -> None:
        """Takes messages of other members."""
        for message in messages:
            if isinstance(message, Goodbye):
                self._departed.add(message.sender)
            elif isinstance(message, Status):
                self._departed.discard(message.sender)
        self._step(Received(messages))

    def offer(self, offer: Offer) -> None:
        """Says what this node offers from now on."""
        if offer != self.state.offer:
            self._step(Offered(offer))

    def measured(self, sockets: int, began_at_ns: int) -> None:
        """Takes the buckets in which this host has connections."""
        self._step(Measured(sockets, began_at_ns))

    def bury(self, number: int) -> None:
        """A silent node's host is dead: it holds nothing any more."""
        if self.lingering.pop(number, None) is not None:
            self._show()

    def leave(self) -> None:
        """Gives up everything and says goodbye."""
        self._step(Leave())
        self.close()

    def close(self) -> None:
        """Lets go; the filter stays as it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._step(Tick())

    def _step(self, event: Event) -> None:
        before = self.state
        try:
            self.state, actions = view.step(before, event, boottime_ns())
            lingering_before, self.lingering = (
                self.lingering,
                lingering(self.lingering, before, self.state, self._departed),
            )
            if self.lingering != lingering_before and Switch() not in actions:
                self._show()
            for action in actions:
                self._obey(action)
        except Exception as error:  # noqa: BLE001 - a defect ends the agent, whoever called
            self._outlets.defect(error)
        self._schedule()

    def _obey(self, action: Action) -> None:
        match action:
            case Note(text):
                self._outlets.note(text)
            case Switch():
                self._show()
            case Measure():
                self._outlets.measure()
            case Send(to, message):
                self._outlets.send(to, message)
            case Broadcast(message):
                if isinstance(message, Goodbye):
                    self.goodbye = message
                self._outlets.send(None, message)
            case Renew(lease_until):
                self._outlets.renew(lease_until)

    def _show(self) -> None:
        holders = {**self.lingering, **self.state.holders}
        self._outlets.show(render(replace(self.state, holders=holders), self._seed))

    def _schedule(self) -> None:
        self.close()
        if not self.state.has_left:
            wait_s = max(view.deadline(self.state) - boottime_ns(), 0) / SECOND_NS
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)
