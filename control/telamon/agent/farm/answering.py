"""Answers for the virtual addresses of one interface whose filter does not answer by itself.

Invariant: it answers for what this agent has shown last and under its lease alone, so it says
nothing after a restart until the view change has spoken.
"""

import asyncio
from collections.abc import Callable

from telamon.agent.farm.view import boottime_ns
from telamon.errors import NetworkError
from telamon.farm.layout import Address
from telamon.farm.ownership import Ownership
from telamon.farm.responder import Responder

_RETRY_S = 1.0


class Answering:
    """Runs from `start` to `stop`."""

    def __init__(self, interface: str, mac: str, complain: Callable[[str], None]) -> None:
        self.ownership = Ownership()
        self._interface = interface
        self._mac = mac
        self._complain = complain
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Answer from now on; harmless when it does."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Answer no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        last = ""
        while True:
            try:
                await Responder(self._interface, self._mac, self._claim).run()
            except NetworkError as error:
                if str(error) != last:
                    last = str(error)
                    self._complain(last)
            await asyncio.sleep(_RETRY_S)

    def _claim(self, target: Address, requester: Address) -> str | None:
        return self.ownership.virtual_mac(target, requester, boottime_ns())
