"""One network interface of this node as its farm modules share it: the filter, the virtual
addresses behind it, and the kernel settings that go with them.

Invariants: the filter stands before a virtual address is on lo, and goes after it, so that the
stack never answers for an address by itself; a table that a new module gets shows nobody, whoever
had it before. A filter that is found running is adopted as it is. The lease lasts as long as the
shortest one of all shares. What is made is in the footprint first.

A slow back end works in a thread of its own, one call at a time, and the loop goes on.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import TypeVar

from telamon.agent.farm.answering import Answering
from telamon.agent.farm.dispatching import Dispatching
from telamon.errors import NetworkError, RefusedError, TelamonError
from telamon.farm import back_ends, footprint
from telamon.farm.back_ends import Chosen
from telamon.farm.face import RunningFilter
from telamon.farm.footprint import Claim, Footprint
from telamon.farm.hash import BUCKETS
from telamon.farm.layout import TABLES, Counter, Mode, TableImage
from telamon.module.farm_config import FilterBackEnd
from telamon.net.addresses import Interface, add_address, interface_named, remove_address
from telamon.net.hearing import Groups, hear, stop_hearing

LOOPBACK = "lo"
NOBODYS = TableImage(bytes(2 * BUCKETS), epoch=0, seed=1)

T = TypeVar("T")


class FarmInterface:
    """Made once for an interface and shared by all modules; every change is under its lock."""

    def __init__(self, interface: Interface, run: Path, complain: Callable[[str], None]) -> None:
        self.name = interface.name
        self.mac = interface.mac
        self._run = run
        self._complain = complain
        self._footprint: Footprint = Footprint()
        self._held: Chosen | None = None
        self._leases: dict[object, int] = {}
        self._changing = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._groups = Groups(self.name)
        self._answering = Answering(self.name, interface.mac or "", complain)
        self._dispatching = Dispatching(interface, complain)

    @property
    def kind(self) -> str:
        """What filters here, as module.yaml names it."""
        return "" if self._held is None else str(self._held.kind)

    @property
    def reason(self) -> str:
        """Why it is this back end that filters here."""
        return "" if self._held is None else self._held.reason

    async def adopt(self, module: str, member: int) -> Claim | None:
        """The claim of a module whose filter runs, untouched; None if there is none."""
        async with self._changing:
            if self._held is None:
                known = footprint.load(self._run, self.name)
                if not known.back_end:
                    return None
                try:
                    await self._find(known, member)
                except TelamonError as error:
                    self._complain(str(error))
                    return None
            return self._footprint.claims.get(module)

    async def claim(
        self,
        module: str,
        tables: int,
        make: Callable[[tuple[int, ...]], Claim],
        *,
        member: int,
        wanted: FilterBackEnd,
    ) -> Claim:
        """Sets up everything for a module: filter, kernel settings, addresses."""
        if self.mac is None:
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
            self._refuse_another(module, wanted)
            saved = known.saved or footprint.settings_now(self.name)
            self._footprint = replace(known.with_claim(module, claim), saved=saved)
            footprint.save(self._run, self.name, self._footprint)
            footprint.silence(self.name)
            if self._held is None:
                await self._attach(wanted, member, is_clean=not known.claims)
            for table in () if former else claim.tables:
                await self.show(table, NOBODYS)
            await self._call(self._introduce(member))
            await hear(self.name, footprint.heard_macs(self._footprint))
            self._report_groups()
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
            self._dispatching.forget(claim.addresses)
            left = self._footprint.without(module)
            heard_no_more = footprint.heard_macs(self._footprint) - footprint.heard_macs(left)
            await stop_hearing(self.name, heard_no_more)
            former, self._footprint = self._footprint, left
            self._report_groups()
            if left.claims:
                if self._held is not None:
                    await self._call(self._configure)
            else:
                await self._detach(former)
            footprint.save(self._run, self.name, self._footprint)

    async def show(self, table: int, image: TableImage) -> None:
        """Shows packets a new table."""
        self._answering.ownership.images[table] = image
        await self._call(lambda held: held.switch_table(table, image))
        dispatched = [
            address
            for address, rule in self._footprint.addresses().items()
            if rule.table == table and rule.mode is Mode.DISPATCH
        ]
        self._dispatching.show(dispatched, image.dispatcher)

    async def shown(self, table: int) -> TableImage:
        """The table that packets see."""
        return await self._call(lambda held: held.table(table))

    async def lease_until_ns(self) -> int:
        """The end of the lease as it stands."""
        return await self._call(lambda held: held.lease_until_ns())

    async def renew(self, share: object, until_ns: int) -> None:
        """Notes how long one share may own buckets; the filter knows the shortest."""
        self._leases[share] = until_ns
        shortest_ns = min(self._leases.values())
        self._answering.ownership.lease_until_ns = shortest_ns
        await self._call(lambda held: held.renew_lease(shortest_ns))

    def end_lease(self, share: object) -> None:
        """A share has left: it does not count any more."""
        self._leases.pop(share, None)

    def set_neighbour(self, number: int, mac: str) -> None:
        """Says at which MAC another member is reached; only who can dispatch needs it."""
        if self._held is not None and back_ends.can_dispatch(self._held.kind):
            self._held.filter.set_neighbour(number, _packed(mac))

    async def counters(self) -> dict[Counter, int]:
        """Packets by what became of them."""
        if self._held is None:
            return {}
        return await self._call(lambda held: held.counters())

    async def close(self) -> None:
        """Lets go; the filter goes on."""
        await self._answering.stop()
        await self._dispatching.stop()
        self._groups.close()
        if self._held is not None:
            await self._call(lambda held: held.close())
            self._held = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _find(self, known: Footprint, member: int) -> None:
        """Adopts the filter, or makes it again where it has gone while no agent ran: the
        application and its connections are still here.
        """
        kind = FilterBackEnd(known.back_end)
        adopted = await asyncio.to_thread(back_ends.adopt, self.name, kind, self._run)
        self._footprint = known
        if adopted is not None:
            self._hold(Chosen(kind, known.reason, adopted), member)
            if not back_ends.is_quick(kind):
                # What XDP keeps in its maps, these know only while an agent tells them.
                await self._call(self._introduce(member))
            return
        self._complain(f"the {kind} filter of {self.name} has gone and is made again")
        made = await asyncio.to_thread(back_ends.attach, self.name, kind, self._run)
        self._hold(replace(made, reason=known.reason), member)
        for table in [table for claim in known.claims.values() for table in claim.tables]:
            await self.show(table, NOBODYS)
        await self._call(self._introduce(member))

    async def _attach(self, wanted: FilterBackEnd, member: int, *, is_clean: bool) -> None:
        must_dispatch = any(
            rule.mode is Mode.DISPATCH for rule in self._footprint.addresses().values()
        )
        former = self._footprint.back_end
        if not is_clean and former != wanted:
            # An agent died between recording and attaching, or module.yaml names another one now.
            await asyncio.to_thread(back_ends.detach_all, self.name, self._run)
        chosen = await asyncio.to_thread(
            back_ends.attach, self.name, wanted, self._run, must_dispatch=must_dispatch
        )
        self._footprint = replace(self._footprint, back_end=str(chosen.kind), reason=chosen.reason)
        footprint.save(self._run, self.name, self._footprint)
        self._hold(chosen, member)

    def _hold(self, chosen: Chosen, member: int) -> None:
        self._held = chosen
        self._answering.ownership.member = member
        self._answering.ownership.rules = self._footprint.addresses()
        self._dispatching.member = member
        self._report_groups()
        if not back_ends.is_quick(chosen.kind):
            # One of its own: a lease must not wait for the work of others.
            self._thread = ThreadPoolExecutor(1, f"filter {self.name}")
        if not back_ends.answers_by_itself(chosen.kind):
            self._answering.start()

    async def _detach(self, former: Footprint) -> None:
        await self.close()
        if former.back_end:
            kind = FilterBackEnd(former.back_end)
            await asyncio.to_thread(back_ends.detach, self.name, kind, self._run)
        else:
            await asyncio.to_thread(back_ends.detach_all, self.name, self._run)
        self._answering.ownership.images.clear()
        footprint.restore(self.name, former.saved)

    def _refuse_another(self, module: str, wanted: FilterBackEnd) -> None:
        if self._held is not None and wanted not in (FilterBackEnd.AUTO, self._held.kind):
            others = ", ".join(name for name in self._footprint.claims if name != module)
            if others:
                raise RefusedError(
                    f"module {module} asks for the filter {wanted} on {self.name}, which"
                    f" {self._held.kind} filters for {others}: name one filter in all of them, or"
                    " use interfaces of their own"
                )

    def _introduce(self, member: int) -> Callable[[RunningFilter], None]:
        mac = _packed(self.mac or "")

        def introduce(held: RunningFilter) -> None:
            held.set_member(member, mac)
            self._configure(held)

        return introduce

    def _configure(self, held: RunningFilter) -> None:
        """Services before addresses: an address without its services would refuse their clients."""
        self._answering.ownership.rules = self._footprint.addresses()
        held.set_services(self._footprint.services())
        held.set_addresses(self._footprint.addresses())

    def _report_groups(self) -> None:
        try:
            self._groups.report(at for at in self._footprint.addresses() if at.version == 6)
        except NetworkError as error:
            # Only a switch that snoops needs the report: the addresses are served all the same.
            self._complain(str(error))

    async def _call(self, act: Callable[[RunningFilter], T]) -> T:
        assert self._held is not None, "a share runs on a filter"
        if self._thread is None:
            return act(self._held.filter)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, act, self._held.filter)


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
