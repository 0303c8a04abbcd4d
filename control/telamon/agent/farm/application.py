"""The application of a farm module on this node: its scripts, and whether it answers.

Invariant: whether it runs is noted before and after every change of it, so that an agent that died
in between finds "unknown". It answers when every TCP service accepts a connection on every virtual
IP, of this host's own stack, or where there is none on any address of this node; a farm of UDP
services alone is taken at its start script's word.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from telamon.agent.memory import Memory
from telamon.agent.models import Severity
from telamon.errors import TelamonError
from telamon.mirror.role_event import Presence
from telamon.module.farm_config import FarmModule
from telamon.module.leftover import kill_leftover
from telamon.module.scripts import Scripts

ANSWER_LIMIT_S = 1.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class FarmApplication:
    """Started and stopped by the module's scripts."""

    configured: FarmModule
    scripts: Scripts
    directory: Path
    memory: Memory
    note: Callable[[str, Severity], None]
    own_addresses: tuple[IPv4Address | IPv6Address, ...]

    async def start(self) -> None:
        """Runs the start script, and waits until the application answers."""
        application = self.configured.application
        limit_s = application.start_timeout.seconds
        deadline_s = time.monotonic() + limit_s
        self.memory.application = Presence.UNKNOWN
        await self.scripts.run(
            self.directory / application.start, action="start", role="farm", limit_s=limit_s
        )
        while fault := await self.what_does_not_answer():
            if time.monotonic() >= deadline_s:
                raise TelamonError(
                    f"{fault} within {limit_s:g} s (start_timeout) after the start script; see"
                    f" {self.scripts.latest_output}"
                )
            await asyncio.sleep(POLL_S)
        self.memory.application = Presence.ON

    async def stop(self, *, is_forced: bool) -> None:
        """Runs the stop script; by force, or if that fails, kills what the start script left."""
        application = self.configured.application
        self.memory.application = Presence.UNKNOWN
        try:
            await self.scripts.run(
                self.directory / application.stop,
                action="stop",
                role="farm",
                limit_s=application.stop_timeout.seconds,
                is_forced=is_forced,
            )
        except TelamonError as error:
            self.note(str(error), Severity.WARNING)
            is_forced = True
        if is_forced and (killed := await kill_leftover(self.configured.module)):
            self.note(f"{killed} processes of the application were killed", Severity.WARNING)
        self.memory.application = Presence.OFF

    async def what_does_not_answer(self) -> str:
        """Looks where the application accepts no connections; empty if it does everywhere."""
        virtual = [one.address.ip for one in self.configured.virtual_ips]
        ports = [
            ports[0]
            for service in self.configured.services
            if service.protocol == "tcp"
            for ports in service.ports
        ]
        for address in virtual:
            for port in ports:
                if not await accepts(str(address), port):
                    return f"the application does not answer on {address} port {port}"
        for port in ports if not virtual else ():
            if not await self._accepts_anywhere(port):
                return f"the application does not answer on port {port} of any address here"
        return ""

    async def _accepts_anywhere(self, port: int) -> bool:
        looks = (accepts(str(address), port) for address in self.own_addresses)
        return any(await asyncio.gather(*looks))


async def accepts(address: str, port: int) -> bool:
    """Whether a connection to this port is accepted in time."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def answers_at_all(address: str, port: int) -> bool:
    """Whether the host behind an address lives: its kernel refuses what nobody accepts."""
    return await asyncio.to_thread(_answers_at_all, address, port)


def _answers_at_all(address: str, port: int) -> bool:
    """In a thread, because the kernel keeps the answer while this process gets no time to look: a
    timer of the loop would then call a host dead that answered.
    """
    try:
        socket.create_connection((address, port), ANSWER_LIMIT_S / 2).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
