"""Frees a host by hand of all that farms made of it: filters of every kind, virtual addresses,
kernel settings, MAC filters.

For a host whose agent is gone for good. Each step is tried whatever became of the one before, and
what could not be undone is said.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from telamon.errors import TelamonError
from telamon.farm import back_ends, footprint
from telamon.farm.footprint import Footprint
from telamon.net.addresses import interface_named, remove_address
from telamon.net.hearing import stop_hearing

_LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class Freed:
    """An interface, and what of it could not be freed."""

    interface: str
    complaints: tuple[str, ...]


async def free_host(run: Path) -> list[Freed]:
    """Free every interface that has a record or a filter."""
    found = set(footprint.interfaces(run)) | set(back_ends.filtered_interfaces())
    return [await _free(interface, run) for interface in sorted(found)]


async def _free(interface: str, run: Path) -> Freed:
    complaints: list[str] = []
    made = Footprint()
    try:
        made = footprint.load(run, interface)
    except TelamonError as error:
        complaints.append(str(error))

    async def remove_addresses() -> None:
        loopback = await interface_named(_LOOPBACK)
        for address in made.addresses():
            await remove_address(loopback, ip_interface(address))

    async def restore() -> None:
        footprint.restore(interface, made.saved)

    steps: tuple[Callable[[], Awaitable[None]], ...] = (
        remove_addresses,
        lambda: stop_hearing(interface, footprint.heard_macs(made)),
        restore,
    )
    for step in steps:
        try:
            await step()
        except TelamonError as error:
            complaints.append(str(error))
    for kind, complaint in back_ends.detach_all(interface, run).items():
        # What lacks its library or program cannot have been used here.
        if not made.back_end or kind == made.back_end:
            complaints.append(complaint)
    if not complaints:
        with contextlib.suppress(FileNotFoundError):
            footprint.path_of(run, interface).unlink()
    return Freed(interface, tuple(complaints))
