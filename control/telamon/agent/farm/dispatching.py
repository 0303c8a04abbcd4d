"""Tells the neighbours of one interface that this node dispatches for a virtual address.

Invariant: an address is announced exactly while the table shown names this node as its dispatcher.
Clients still know the former dispatcher's MAC when it is gone; the announcement sets them right at
once, and those that missed it with a later one.
"""

import asyncio
from collections.abc import Callable, Iterable

from telamon.errors import NetworkError
from telamon.farm.layout import Address
from telamon.farm.table import NOBODY
from telamon.net.addresses import Interface
from telamon.net.announce import keep_announcing, prepare_announcing


class Dispatching:
    """Announcements of one interface, in dispatch mode only."""

    def __init__(self, interface: Interface, complain: Callable[[str], None]) -> None:
        self.member = NOBODY
        self._interface = interface
        self._complain = complain
        self._tasks: dict[Address, asyncio.Task[None]] = {}

    def show(self, addresses: Iterable[Address], dispatcher: int) -> None:
        """These addresses are dispatched by that member from now on."""
        for address in addresses:
            if dispatcher == self.member != NOBODY:
                if address not in self._tasks:
                    self._tasks[address] = asyncio.create_task(self._announce(address))
            else:
                self.forget([address])

    def forget(self, addresses: Iterable[Address]) -> None:
        """This node announces these addresses no more."""
        for address in addresses:
            task = self._tasks.pop(address, None)
            if task is not None:
                task.cancel()

    async def stop(self) -> None:
        """This node announces nothing more."""
        tasks = list(self._tasks.values())
        self.forget(list(self._tasks))
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _announce(self, address: Address) -> None:
        await prepare_announcing()
        try:
            await keep_announcing(self._interface, [address])
        except NetworkError as error:
            self._tasks.pop(address, None)
            self._complain(str(error))
