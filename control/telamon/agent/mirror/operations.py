"""What the role machine of a mirror asks for, done: each operation as one call that ends well or
with an error.

The machine orders and times the steps; nothing here decides. Every operation may be cancelled at
any await and begun again: each is idempotent, or leaves a trace that says "unknown".
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from telamon.agent.events import EventLog
from telamon.agent.health.endpoint import Endpoint
from telamon.agent.memory import Memory
from telamon.agent.mirror.replicator_watch import ReplicatorWatch
from telamon.agent.models import Severity
from telamon.agent.virtual_ips import VirtualIps
from telamon.bpf.capture import Capture, CaptureSet
from telamon.detect.watch import Planned
from telamon.errors import NotFoundError, TelamonError, TimedOutError, UnreachableError
from telamon.mirror.role_action import (
    AddAddresses,
    Connect,
    Demote,
    Disconnect,
    Grant,
    Operation,
    Outdate,
    Promote,
    RemoveAddresses,
    StartApplication,
    StartReplicator,
    StopApplication,
    StopReplicator,
)
from telamon.mirror.role_event import Presence
from telamon.module.leftover import kill_leftover
from telamon.module.scripts import Scripts
from telamon.replication.messages import Configuration

FUSE = Path("/dev/fuse")
FUSE_NUMBERS = os.makedev(10, 229)
"""Linux, Documentation/admin-guide/devices.txt."""

ReplicatorCommand = Connect | Disconnect | Promote | Demote | Grant | Outdate


@dataclass(frozen=True, slots=True)
class MirrorParts:
    """Everything of one mirror module that an operation touches."""

    module: str
    directories: tuple[Path, ...]
    start_script: Path
    stop_script: Path
    watch: ReplicatorWatch
    configuration: Callable[[Capture], Configuration]
    scripts: Scripts
    virtual_ips: VirtualIps
    memory: Memory
    replication_port: int
    events: EventLog
    checks: tuple[Planned, ...] = ()
    health: Endpoint | None = None


class MirrorOperations:
    """Performs operations on one module's parts."""

    def __init__(self, parts: MirrorParts) -> None:
        self._parts = parts
        self.capture: Capture | None = None

    async def perform(self, operation: Operation, timeout_ms: int) -> None:
        """Does `operation`; an error's message is the reason that users see."""
        limit_s = timeout_ms / 1000
        match operation:
            case StartReplicator():
                await self._start_replicator(limit_s)
            case StopReplicator(force):
                await self._stop_replicator(force, limit_s)
            case AddAddresses():
                await self._parts.virtual_ips.take()
            case RemoveAddresses():
                await self._parts.virtual_ips.give_up()
            case StartApplication():
                await self._start_application(limit_s)
            case StopApplication(force):
                await self._stop_application(force, limit_s)
            case Connect() | Disconnect() | Promote() | Demote() | Grant() | Outdate():
                await self._command(operation, limit_s)
                # The machine reads the outcome from the facts, so they come before the answer.
                await self._parts.watch.refresh()

    async def _command(self, command: ReplicatorCommand, limit_s: float) -> None:
        client = self._parts.watch.client
        match command:
            case Connect(discard):
                await client.connect(discard=discard)
            case Disconnect():
                await client.disconnect(limit_s)
            case Promote(force, handover):
                await client.promote(force=force, handover=handover, limit_s=limit_s)
            case Demote(force):
                await client.demote(force=force, limit_s=limit_s)
            case Grant():
                await client.grant(limit_s)
            case Outdate(by_generation):
                await client.outdate(by_generation, limit_s)

    async def configure(self) -> None:
        """Tells a running replicator what it serves; an adopted one knows it already."""
        parts = self._parts
        if self.capture is None:
            self.capture = await asyncio.to_thread(self._ensure_capture)
        await parts.watch.client.configure(parts.configuration(self.capture))

    async def _start_replicator(self, limit_s: float) -> None:
        watch = self._parts.watch
        _refuse_missing_fuse()
        self._refuse_missing_directories()
        await watch.start(limit_s)
        await self.configure()
        await watch.begin()

    def _refuse_missing_directories(self) -> None:
        for directory in self._parts.directories:
            try:
                is_there = stat.S_ISDIR(directory.stat().st_mode)
            except (FileNotFoundError, NotADirectoryError):
                is_there = False
            except OSError:
                is_there = True  # a mount whose replicator died: the next one removes it
            if not is_there:
                raise NotFoundError(
                    f"{directory}, which module {self._parts.module} replicates, is no directory "
                    "on this node: make it, empty or with a copy of the data"
                )

    def _ensure_capture(self) -> Capture:
        return CaptureSet(self._parts.module).ensure(self._parts.directories)

    async def _stop_replicator(self, force: bool, limit_s: float) -> None:
        watch = self._parts.watch
        watch.is_end_expected = True
        try:
            if force:
                # Its dead mounts stay until the next start, which finds by them who still holds
                # files open and kills those first.
                await watch.process.kill()
            elif watch.process.running_pid() is not None:
                await self._ask_to_stop(limit_s)
        finally:
            # A process that is still there may die later, and then that is news.
            watch.is_end_expected = watch.process.running_pid() is None
        watch.forget()

    async def _ask_to_stop(self, limit_s: float) -> None:
        watch = self._parts.watch
        try:
            async with asyncio.timeout(limit_s):
                # The process may end before its answer is read: its end is what counts.
                with contextlib.suppress(UnreachableError):
                    await watch.client.stop(limit_s)
                await watch.process.wait_ended()
        except TimeoutError as error:
            raise TimedOutError(
                f"the replicator of module {self._parts.module} did not end within {limit_s:g} s "
                "after `stop`; "
                "its log is beside its state"
            ) from error

    async def _start_application(self, limit_s: float) -> None:
        parts = self._parts
        parts.memory.application = Presence.UNKNOWN
        run = await parts.scripts.run(
            parts.start_script, action="start", role="primary", limit_s=limit_s
        )
        parts.memory.application = Presence.ON
        parts.events.append(
            f"the start script ended after {run.duration_s:.1f} s", module=parts.module
        )

    async def _stop_application(self, force: bool, limit_s: float) -> None:
        parts = self._parts
        parts.memory.application = Presence.UNKNOWN
        try:
            await parts.scripts.run(
                parts.stop_script, action="stop", role="primary", limit_s=limit_s, is_forced=force
            )
        except TelamonError as error:
            if not force:
                raise
            parts.events.append(str(error), module=parts.module, severity=Severity.WARNING)
        if force:
            killed = await kill_leftover(parts.module)
            if killed:
                parts.events.append(
                    f"{killed} processes of the application were killed",
                    module=parts.module,
                    severity=Severity.WARNING,
                )
        parts.memory.application = Presence.OFF


def _refuse_missing_fuse() -> None:
    if not FUSE.exists() or FUSE.stat().st_rdev != FUSE_NUMBERS:
        raise NotFoundError(
            f"this host has no {FUSE}, on which the directories are served: load the kernel's "
            "module with `modprobe fuse`, or give the container the device"
        )
