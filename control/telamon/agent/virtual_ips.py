"""The virtual IPs of one module on this node.

Invariant: while they are taken they are announced; giving up resets their connections first, so
that clients notice at once. What is there is read from the kernel, never remembered, so that a
restarted agent knows it too.
"""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from telamon.agent import models
from telamon.agent.events import EventLog
from telamon.agent.models import Severity
from telamon.errors import NetworkError
from telamon.mirror.role_event import Presence
from telamon.net.addresses import (
    Address,
    Interface,
    add_address,
    assigned_addresses,
    interface_named,
    interface_with,
    remove_address,
)
from telamon.net.announce import keep_announcing
from telamon.net.connections import reset_connections


@dataclass(frozen=True, slots=True)
class Wanted:
    """One virtual IP: it belongs on the named interface, else on that of `own_address`."""

    address: Address
    network: str
    own_address: IPv4Address | IPv6Address | None
    interface: str | None = None

    async def find_interface(self) -> Interface:
        """The interface as it is at this moment."""
        if self.interface is not None:
            return await interface_named(self.interface)
        assert self.own_address is not None, "the configuration check asks for one of the two"
        return await interface_with(self.own_address)


class VirtualIps:
    """Takes, announces and gives up the virtual IPs of one module, all of them together."""

    def __init__(self, module: str, wanted: tuple[Wanted, ...], events: EventLog) -> None:
        self._module = module
        self._wanted = wanted
        self._events = events
        self._announcing: dict[Wanted, asyncio.Task[None]] = {}

    async def take(self) -> None:
        """Adds every address and begins to announce it."""
        await asyncio.gather(*map(self._take, self._wanted))

    async def give_up(self) -> None:
        """Stops announcing, resets the connections and removes every address."""
        for announcing in self._announcing.values():
            announcing.cancel()
        self._announcing.clear()
        present = await assigned_addresses()
        await asyncio.gather(
            *(self._give_up(wanted) for wanted in self._wanted if wanted.address in present)
        )

    async def presence(self) -> Presence:
        """Whether this node has all of them, none, or some."""
        present = await assigned_addresses()
        have = sum(wanted.address in present for wanted in self._wanted)
        if have == 0:
            return Presence.OFF
        return Presence.ON if have == len(self._wanted) else Presence.UNKNOWN

    async def announce_present(self) -> None:
        """Goes on announcing what an earlier agent took."""
        present = await assigned_addresses()
        for wanted in self._wanted:
            if wanted.address in present:
                self._announce(wanted, await wanted.find_interface())

    async def describe(self) -> list[models.VirtualIp]:
        """What the API shows."""
        present = await assigned_addresses()
        described = []
        for wanted in self._wanted:
            try:
                interface: str | None = (await wanted.find_interface()).name
            except NetworkError:
                interface = None
            described.append(
                models.VirtualIp(
                    address=str(wanted.address),
                    network=wanted.network,
                    interface=interface,
                    present=wanted.address in present,
                )
            )
        return described

    async def _take(self, wanted: Wanted) -> None:
        interface = await wanted.find_interface()
        await add_address(interface, wanted.address)
        self._announce(wanted, interface)

    def _announce(self, wanted: Wanted, interface: Interface) -> None:
        if wanted not in self._announcing:
            self._announcing[wanted] = asyncio.create_task(self._keep_announcing(wanted, interface))

    async def _keep_announcing(self, wanted: Wanted, interface: Interface) -> None:
        try:
            await keep_announcing(interface, [wanted.address.ip])
        except NetworkError as error:
            self._announcing.pop(wanted, None)
            self._events.append(str(error), module=self._module, severity=Severity.WARNING)

    async def _give_up(self, wanted: Wanted) -> None:
        try:
            outcome = await reset_connections(wanted.address.ip)
        except NetworkError as error:
            # The address must go all the same: two holders of it are worse than a slow client.
            self._events.append(str(error), module=self._module, severity=Severity.WARNING)
        else:
            if outcome.left_count:
                self._events.append(
                    f"{outcome.left_count} connections of {wanted.address.ip} could not be reset; "
                    "their clients "
                    "will notice by their own time-outs",
                    module=self._module,
                    severity=Severity.WARNING,
                )
        await remove_address(await interface_with(wanted.address.ip), wanted.address)
