"""One network interface of this node as its farm modules share it: the filter, the virtual
addresses behind it, and the kernel settings that go with them.

Invariants: the filter stands before a virtual address is on lo, and goes after it, so that the
stack never answers for an address by itself. A filter that is found running is adopted as it is.
The lease lasts as long as the shortest one of all shares. What is made is in the footprint first.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from telamon.errors import NetworkError, RefusedError
from telamon.farm import filter as xdp
from telamon.farm import footprint
from telamon.farm.filter import Attachment, Filter
from telamon.farm.footprint import Claim, Footprint
from telamon.farm.layout import TABLES, Address, Counter, TableImage
from telamon.net.addresses import Interface, add_address, interface_named, remove_address

LOOPBACK = "lo"
_NOT_THERE = frozenset({errno.ENOENT, errno.ENODEV})

log = logging.getLogger(__name__)


def usual_attachments(interface: str) -> tuple[Attachment, ...]:
    """The ways to attach, best first: in the driver only where there is hardware behind it."""
    if Path("/sys/class/net", interface, "device").exists():
        return (Attachment.NATIVE, Attachment.GENERIC)
    return (Attachment.GENERIC,)


class FarmInterface:
    """Made once for an interface and shared by all modules; every change is under its lock."""

    def __init__(self, interface: Interface, run: Path) -> None:
        self.name = interface.name
        self._mac = interface.mac
        self._run = run
        self._footprint: Footprint = Footprint()
        self._filter: Filter | None = None
        self._leases: dict[object, int] = {}
        self._changing = asyncio.Lock()

    @property
    def kind(self) -> str:
        """What filters here, as users see it."""
        return "" if self._filter is None else f"xdp-{self._filter.attachment}"

    async def adopt(self, module: str) -> Claim | None:
        """The claim of a module whose filter runs, untouched; None if there is none."""
        async with self._changing:
            if self._filter is None:
                self._footprint = footprint.load(self._run, self.name)
                self._filter = await asyncio.to_thread(xdp.adopt, self.name)
            return self._footprint.claims.get(module) if self._filter else None

    async def claim(
        self,
        module: str,
        tables: int,
        make: Callable[[tuple[int, ...]], Claim],
        *,
        member: int,
        attachments: Iterable[Attachment],
    ) -> Claim:
        """Sets up everything for a module: filter, kernel settings, addresses."""
        if self._mac is None:
            raise RefusedError(
                f"{self.name} is no Ethernet interface: put the virtual IPs of module {module} on"
                " one"
            )
        async with self._changing:
            known = footprint.load(self._run, self.name)
            former = known.claims.get(module)
            free = former.tables if former else known.free_tables(tables, TABLES)
            if len(free) != tables:
                raise RefusedError(
                    f"{self.name} has no filter tables left for module {module}: at most {TABLES}"
                    " shares fit on an interface"
                )
            claim = make(free)
            saved = known.saved or footprint.settings_now(self.name)
            self._footprint = replace(known.with_claim(module, claim), saved=saved)
            footprint.save(self._run, self.name, self._footprint)
            footprint.silence(self.name)
            if self._filter is None:
                self._filter = await asyncio.to_thread(xdp.attach, self.name, attachments)
            self._filter.set_member(member, bytes.fromhex(self._mac.replace(":", "")))
            self._configure(self._filter)
            await self._hear(claim, is_heard=True)
            loopback = await interface_named(LOOPBACK)
            for address in claim.addresses:
                await add_address(loopback, ip_interface(address))
            return claim

    async def release(self, module: str) -> None:
        """Undoes everything of a module; what others have stays."""
        async with self._changing:
            claim = self._footprint.claims.get(module)
            if claim is None:
                return
            loopback = await interface_named(LOOPBACK)
            for address in claim.addresses:
                await remove_address(loopback, ip_interface(address))
            await self._hear(claim, is_heard=False)
            saved = self._footprint.saved
            self._footprint = self._footprint.without(module)
            if self._footprint.claims:
                if self._filter is not None:
                    self._configure(self._filter)
            else:
                self.close()
                await asyncio.to_thread(xdp.detach, self.name)
                footprint.restore(self.name, saved)
            footprint.save(self._run, self.name, self._footprint)

    def show(self, table: int, image: TableImage) -> None:
        """Shows packets a new table."""
        assert self._filter is not None, "a share runs on a filter"
        self._filter.switch_table(table, image)

    def shown(self, table: int) -> TableImage:
        """The table that packets see."""
        assert self._filter is not None, "a share runs on a filter"
        return self._filter.table(table)

    def lease_until_ns(self) -> int:
        """The end of the lease as it stands."""
        assert self._filter is not None, "a share runs on a filter"
        return self._filter.lease_until_ns()

    def renew(self, share: object, until_ns: int) -> None:
        """Notes how long one share may own buckets; the filter knows the shortest."""
        self._leases[share] = until_ns
        if self._filter is not None:
            self._filter.renew_lease(min(self._leases.values()))

    def end_lease(self, share: object) -> None:
        """A share has left: it does not count any more."""
        self._leases.pop(share, None)

    def counters(self) -> dict[Counter, int]:
        """Packets by what became of them."""
        return {} if self._filter is None else self._filter.counters()

    def close(self) -> None:
        """Lets go; the filter goes on."""
        if self._filter is not None:
            self._filter.close()
            self._filter = None

    def _configure(self, held: Filter) -> None:
        """Services before addresses: an address without its services would refuse their clients."""
        held.set_services(self._footprint.services())
        held.set_addresses(self._footprint.addresses())

    async def _hear(self, claim: Claim, *, is_heard: bool) -> None:
        """Lets the interface's hardware pass what is sent to the virtual MAC, and IPv6's questions
        for the addresses; also without an agent.
        """
        wanted = {rule.virtual_mac.hex(":") for rule in claim.addresses.values()}
        wanted |= {_asked_at(at) for at in claim.addresses if at.version == 6}
        index = (await interface_named(self.name)).index
        async with AsyncIPRoute() as netlink:
            for mac in sorted(wanted):
                try:
                    await netlink.fdb("add" if is_heard else "del", ifindex=index, lladdr=mac)
                except NetlinkError as error:
                    if error.code == errno.EEXIST or (not is_heard and error.code in _NOT_THERE):
                        continue
                    raise NetworkError(
                        f"{self.name} could not be told to hear {mac}: {error.args[1]}; make it"
                        f" promiscuous with `ip link set {self.name} promisc on` and set `filter`"
                    ) from error


def _asked_at(address: Address) -> str:
    """The Ethernet address of the solicited-node group of an IPv6 address (RFC 4291, 2464)."""
    return "33:33:ff:" + address.packed[-3:].hex(":")
