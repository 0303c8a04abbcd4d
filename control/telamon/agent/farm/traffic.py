"""The traffic of one farm module on this node: its interfaces, and a view change for each share.

Invariants: a share runs only where every interface of the module has its filter; messages of nodes
with another configuration are refused and said so once. What runs is left as it is when the agent
ends, and found again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from telamon.agent.farm.building import Plan
from telamon.agent.farm.interface import FarmInterface
from telamon.agent.farm.sockets import connections
from telamon.agent.farm.view import Outlets, ViewChange, boottime_ns
from telamon.errors import TelamonError
from telamon.farm import wire
from telamon.farm.image import found
from telamon.farm.layout import Address, Counter, TableImage
from telamon.farm.message import Message, Offer
from telamon.farm.table import NOBODY
from telamon.farm.view_state import Resumed


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the agent the traffic of a module needs. All are called on the loop."""

    tell: Callable[[str, bytes], None]
    """A payload to another node, at once."""
    note: Callable[[str], None]
    fail: Callable[[str], None]
    """A filter cannot be told any more: this node serves nothing until the module starts anew."""
    defect: Callable[[Exception], None]
    interface_of: Callable[[int], Awaitable[FarmInterface]]
    """The shared interface that the virtual IP of that index belongs on."""
    own_addresses: tuple[Address, ...]
    """This node's, where connections are when others balance them."""


class FarmTraffic:
    """Begun and left any number of times."""

    def __init__(self, plan: Plan, surroundings: Surroundings) -> None:
        self._plan = plan
        self._around = surroundings
        self._own_addresses = surroundings.own_addresses
        self._by_address: list[FarmInterface] = []
        self._neighbours: dict[tuple[str, int], str] = {}  # what the interfaces were told
        self._dispatcher = NOBODY
        self._interfaces: dict[FarmInterface, tuple[int, ...]] = {}  # with the tables there
        self.views: list[ViewChange] = []
        self._farewells: dict[int, bytes] = {}
        self._strangers: set[str] = set()
        self.is_measure_asked = asyncio.Event()
        self.connection_count = 0

    @property
    def is_running(self) -> bool:
        """Whether this node takes part in the farm."""
        return bool(self.views)

    @property
    def is_drained(self) -> bool:
        """Whether this node may stop without breaking anyone."""
        if self._plan.is_balanced_elsewhere:
            return self.connection_count == 0
        return all(view.state.is_drained for view in self.views)

    @property
    def kinds(self) -> list[str]:
        """What filters, by interface."""
        return [f"{interface.kind} on {interface.name}" for interface in self._interfaces]

    def macs_of(self, number: int) -> list[str]:
        """The MACs of a member's interfaces, as far as it told; this node's own too."""
        if number == self._plan.settings.self_number:
            return sorted({interface.mac for interface in self._interfaces if interface.mac})
        return sorted({mac for (_, one), mac in self._neighbours.items() if one == number})

    @property
    def reasons(self) -> dict[str, str]:
        """Why it is this back end, by interface."""
        return {interface.name: interface.reason for interface in self._interfaces}

    async def adopt(self) -> bool:
        """Finds filters that run for this module; False unless all of them do."""
        grouped = await self._grouped()
        member = self._plan.settings.self_number
        claims = {one: await one.adopt(self._plan.module, member) for one in grouped}
        complete = {one: claim.tables for one, claim in claims.items() if claim is not None}
        if len(complete) == len(grouped):
            self._interfaces = complete
        return len(complete) == len(grouped)

    async def prepare(self) -> None:
        """Sets up filters and addresses; nothing is served yet."""
        plan = self._plan
        for interface, addresses in (await self._grouped()).items():
            try:
                claim = await interface.claim(
                    plan.module,
                    len(plan.shares),
                    partial(plan.claim, addresses),
                    member=plan.settings.self_number,
                    wanted=plan.configured.back_end(plan.node),
                )
            except TelamonError:
                if interface not in self._interfaces:
                    await interface.release(plan.module)
                raise
            self._interfaces[interface] = claim.tables

    async def begin(self, incarnation: int, offers: Mapping[int, Offer]) -> None:
        """Takes part from now on; `offers` by share."""
        assert not self.views, "a share has one view change"
        self._farewells.clear()
        for share, offer in offers.items():
            self.views.append(
                ViewChange(
                    self._plan.settings,
                    self._plan.seed,
                    self._outlets(share),
                    nodes=len(self._plan.numbers),
                    incarnation=incarnation,
                    offer=offer,
                    resumed=await self._resumed(share),
                )
            )
        self.is_measure_asked.set()

    def offer(self, offers: Mapping[int, Offer]) -> None:
        """Says what this node offers from now on, by share."""
        for share, view in enumerate(self.views):
            view.offer(offers[share])

    async def leave(self) -> None:
        """Gives up everything and says goodbye."""
        for share, view in enumerate(self.views):
            await view.leave()
            if view.goodbye is not None:
                self._farewells[share] = self._packed(share, view.goodbye)
            for interface in self._interfaces:
                interface.end_lease((self._plan.module, share))
        self.views.clear()

    async def release(self) -> None:
        """Removes addresses and filters."""
        for interface in list(self._interfaces):
            await interface.release(self._plan.module)
            del self._interfaces[interface]
        self._neighbours.clear()

    def close(self) -> None:
        """The agent ends: what runs goes on."""
        for view in self.views:
            view.close()

    def farewells(self) -> list[bytes]:
        """What a module that has stopped goes on saying: goodbye, in case it was not heard."""
        return list(self._farewells.values())

    def receive(self, sender: str, payload: bytes) -> None:
        """Takes what another node of the module sent."""
        try:
            parcel = wire.unpack(payload)
        except wire.WireError as error:
            self._refuse(sender, f"is not understood ({error}); bring all nodes to one version")
            return
        if parcel.configuration != self._plan.digest:
            self._refuse(
                sender, "has another configuration; install one module.yaml on all its nodes"
            )
            return
        self._strangers.discard(sender)
        number = self._plan.numbers.get(sender)
        if (
            number is not None
            and parcel.share < len(self.views)
            and all(message.sender == number for message in parcel.messages)
        ):
            self._meet(number, parcel.macs)
            self.views[parcel.share].receive(parcel.messages)

    async def measure(self) -> None:
        """Counts the connections here, and tells the view changes in which buckets they are."""
        began_at_ns = boottime_ns()
        if self._plan.is_balanced_elsewhere:
            known = await connections(self._own_addresses)
            self.connection_count = sum(self._plan.serves("tcp", one.port) for one in known)
            return
        known = await connections(self._plan.addresses)
        sockets = [0] * len(self._plan.shares)
        for one in known:
            if (place := self._plan.place("tcp", one.port)) is not None:
                share, service = place
                sockets[share] |= 1 << self._plan.bucket(service, one.client, one.client_port)
        self.connection_count = len(known)
        for view, buckets in zip(self.views, sockets, strict=False):
            view.measured(buckets, began_at_ns)

    @property
    def is_holding(self) -> bool:
        """Whether connections of others' buckets may be here, so that it is worth to look again."""
        return any(view.state.holding for view in self.views)

    def lingering(self) -> set[int]:
        """Members whose hosts may still have connections although their agents are silent."""
        return {number for view in self.views for number in view.lingering}

    def bury(self, number: int) -> None:
        """A silent member's host is dead."""
        for view in self.views:
            view.bury(number)

    async def counters(self) -> dict[Counter, int]:
        """Packets by what became of them, over all interfaces."""
        total: dict[Counter, int] = {}
        for interface in self._interfaces:
            for counter, packets in (await interface.counters()).items():
                total[counter] = total.get(counter, 0) + packets
        return total

    async def _grouped(self) -> dict[FarmInterface, tuple[Address, ...]]:
        grouped: dict[FarmInterface, tuple[Address, ...]] = {}
        self._by_address = []
        for index, address in enumerate(self._plan.addresses):
            interface = await self._around.interface_of(index)
            self._by_address.append(interface)
            grouped[interface] = (*grouped.get(interface, ()), address)
        return grouped

    async def _resumed(self, share: int) -> Resumed | None:
        """What the filters show already, where they show the same."""
        number = self._plan.settings.self_number
        shown = [
            found(await interface.shown(tables[share]), number, await interface.lease_until_ns())
            for interface, tables in self._interfaces.items()
        ]
        if any(other.active != shown[0].active for other in shown[1:]):
            return None
        # A filter that does not keep its epoch says 0: then the view is proposed anew.
        return Resumed(
            min(one.epoch for one in shown),
            shown[0].active,
            min(one.lease_until for one in shown),
        )

    def _outlets(self, share: int) -> Outlets:
        title = f"{self._plan.shares[share].title}: " if len(self._plan.shares) > 1 else ""
        return Outlets(
            show=partial(self._show, share),
            renew=partial(self._renew, share),
            send=partial(self._send, share),
            measure=self.is_measure_asked.set,
            note=lambda text: self._around.note(f"{title}{text}"),
            fail=lambda error: self._around.fail(str(error)),
            defect=self._around.defect,
        )

    async def _show(self, share: int, image: TableImage) -> None:
        """All shares have the dispatcher of the first, because an address has one."""
        if share == 0 and image.dispatcher != self._dispatcher:
            self._dispatcher = image.dispatcher
            for view in self.views[1:]:
                view.show_again()
        image = replace(image, dispatcher=self._dispatcher)
        for interface, tables in self._interfaces.items():
            await interface.show(tables[share], image)

    async def _renew(self, share: int, until_ns: int) -> None:
        for interface in self._interfaces:
            await interface.renew((self._plan.module, share), until_ns)

    def _meet(self, number: int, macs: tuple[str, ...]) -> None:
        """Notes where another member is reached on the interface of each virtual address."""
        for interface, mac in zip(self._by_address, macs, strict=False):
            if self._neighbours.get((interface.name, number)) != mac:
                self._neighbours[interface.name, number] = mac
                interface.set_neighbour(number, mac)

    def _send(self, share: int, to: int | None, message: Message) -> None:
        content = self._packed(share, message)
        others = [one for one in self._plan.configured.nodes if one != self._plan.node]
        for node in others if to is None else [self._plan.node_of(to)]:
            self._around.tell(node, content)

    def _packed(self, share: int, message: Message) -> bytes:
        macs = [interface.mac or "" for interface in self._by_address]
        return wire.pack(self._plan.digest, share, [message], macs)

    def _refuse(self, sender: str, why: str) -> None:
        if sender not in self._strangers:
            self._strangers.add(sender)
            self._around.note(f"node {sender} does not count in this farm: it {why}")
