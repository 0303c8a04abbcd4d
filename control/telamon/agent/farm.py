"""One farm module on this node, from its start script to its last connection.

Invariants: traffic is opened only after the application has answered, and taken away before it is
stopped; stopping waits for the connections that live here. The agent may die at any instant: the
filter, the addresses and the application go on, and the next agent finds them. A failure is cured
here by restarting the application, a limited number of times; the next one stops the module on this
node. A defect in here ends the agent, not the module's service.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from telamon.agent import models
from telamon.agent.events import EventLog
from telamon.agent.farm_application import FarmApplication
from telamon.agent.farm_building import Plan
from telamon.agent.farm_interface import FarmInterface
from telamon.agent.farm_memory import FarmMemory
from telamon.agent.farm_status import Standing, describe, owner, table
from telamon.agent.farm_traffic import FarmTraffic, Surroundings, measure_while
from telamon.agent.memory import Memory
from telamon.agent.models import ActionKind, Severity
from telamon.cluster.heartbeat import Heartbeat
from telamon.errors import RefusedError, TelamonError
from telamon.farm.message import Offer
from telamon.mirror.role_event import Presence
from telamon.module.scripts import Scripts
from telamon.net.connections import reset_connections

LOOK_S = 1.0
"""Between two looks: at the application, at connections that are to end, at silent hosts."""
FAILURES_IN_A_ROW = 2
RETRY_S = 1.0
POLL_S = 0.05


class Phase(StrEnum):
    """Where the module stands here."""

    STOPPED = "stopped"
    STARTING = "starting"
    FAILED = "failed"  # tries again soon
    UP = "up"
    RESTARTING = "restarting"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class FarmParts:
    """Everything of one farm module that its life touches."""

    plan: Plan
    tell: Callable[[str, bytes], None]
    """A payload to another node, at once."""
    interface_of: Callable[[int], Awaitable[FarmInterface]]
    """The shared interface that the virtual IP of that index belongs on."""
    scripts: Scripts
    directory: Path
    memory: Memory
    state: Path
    events: EventLog
    host_answers: Callable[[str], Awaitable[bool]]


class FarmModule:
    """Runs one module until cancelled."""

    kind = "farm"

    def __init__(self, parts: FarmParts) -> None:
        self._parts = parts
        self.plan = parts.plan
        self._application = FarmApplication(
            parts.plan.configured, parts.scripts, parts.directory, parts.memory, self.note
        )
        self.traffic = FarmTraffic(
            parts.plan,
            Surroundings(
                tell=parts.tell,
                note=self.note,
                fail=self._filter_failed,
                defect=self._break,
                interface_of=parts.interface_of,
            ),
        )
        self.phase = Phase.STOPPED
        self.reason = ""
        self._remembered = FarmMemory(parts.memory, parts.state)
        self.is_drained = False
        self._fault = ""
        self._is_restart_ordered = False
        self._is_forced = False
        self._has_filter_failed = False
        self._has_begun = asyncio.Event()
        self._has_news = asyncio.Event()
        self._has_stopped = asyncio.Event()
        self._defect: asyncio.Future[None] | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether nothing of this module runs on this node."""
        return self._has_begun.is_set() and self.phase is Phase.STOPPED

    @property
    def intent_is_started(self) -> bool:
        """Whether this node is to serve."""
        return self._remembered.intent_is_started

    @property
    def last_script(self) -> Path | None:
        """The output of the latest script."""
        return self._parts.scripts.latest_output

    async def run(self) -> None:
        """Finds what is there, then lives until cancelled."""
        self._defect = asyncio.get_running_loop().create_future()
        try:
            await self._find()
            self._has_begun.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._live())
                group.create_task(self._look_at_application())
                group.create_task(measure_while(self.traffic, LOOK_S))
                group.create_task(self._look_at_silent_hosts())
                await self._defect
        finally:
            self.traffic.close()

    async def order(self, kind: ActionKind, *, force: bool) -> None:
        """Gives an operator's order; returns when it is accepted and remembered."""
        await self._has_begun.wait()
        match kind:
            case ActionKind.START | ActionKind.STOP:
                await self._remembered.intend(kind is ActionKind.START)
                self._is_forced = force
            case ActionKind.RESTART:
                if self.phase is not Phase.UP:
                    raise RefusedError(
                        f"module {self.plan.module} is {self.phase} on node {self.plan.node}, not"
                        " up: start it, or wait until it is"
                    )
                self._is_restart_ordered, self._is_forced = True, force
            case ActionKind.DRAIN | ActionKind.UNDRAIN:
                self._drain(kind is ActionKind.DRAIN)
            case ActionKind.VERIFY | ActionKind.REPAIR:
                raise RefusedError(
                    f"module {self.plan.module} is a farm: it replicates nothing to verify"
                )
            case ActionKind.PRIM | ActionKind.SECOND | ActionKind.SWAP:
                raise RefusedError(
                    f"module {self.plan.module} is a farm: all of its nodes serve, none is primary;"
                    " use start, stop, restart, or `telamon farm drain`"
                )
        self._has_news.set()

    async def stop_for_shutdown(self) -> None:
        """Stops the module, but remembers that it is to be started again at the next boot."""
        await self._has_begun.wait()
        was_started = self.intent_is_started
        await self.order(ActionKind.STOP, force=False)
        await self._has_stopped.wait()
        await self._remembered.intend_at_boot(was_started)

    def payloads(self, receiver: str) -> list[bytes]:
        """What an ordinary heartbeat says; news travel by themselves."""
        return self.traffic.farewells() if receiver in self.plan.numbers else []

    def peer_reported(self, heartbeat: Heartbeat, payload: bytes) -> None:
        """A heartbeat brought something from another node of the farm."""
        if self._has_begun.is_set():
            self.traffic.receive(heartbeat.sender, payload)

    def peer_lost(self, node: str, said_goodbye: bool) -> None:
        """Nothing: the view change judges silence by its own, shorter time."""

    async def describe(self) -> models.ModuleNodeStatus:
        """What the API shows."""
        here = Standing(
            self.phase, self.reason, self.intent_is_started, self.is_drained, self.last_script
        )
        return await describe(self.plan, self.traffic, here, self.note)

    def table(self) -> models.FarmTable:
        """What predicts who answers a client."""
        return table(self.plan, self.traffic)

    def owner(
        self, protocol: str, client: str, client_port: int, port: int | None
    ) -> models.FarmOwner:
        """Who gets a client, by this node's table."""
        return owner(self.plan, self.traffic, protocol, client, client_port=client_port, port=port)

    def offers(self) -> dict[int, Offer]:
        """What this node offers at this moment, by share."""
        is_open = self.phase is Phase.UP and not self.is_drained and not self._fault
        nobody = Offer(0)
        return {
            share: one.offers[self.plan.node] if is_open else nobody
            for share, one in enumerate(self.plan.shares)
        }

    async def _find(self) -> None:
        self._remembered.recall()
        self.is_drained = self._remembered.is_drained
        self._has_stopped.set()
        application = self._remembered.application
        if not await self.traffic.adopt():
            if application is not Presence.OFF:
                await self._application.stop(is_forced=True)
            return
        if application is Presence.ON and not await self._application.what_does_not_answer():
            self._enter(Phase.UP, "drained: serves no new clients" if self.is_drained else "")
            await self._begin()
            self.note(f"found running, and adopted: {', '.join(self.traffic.kinds)}")
        elif application is Presence.OFF:
            await self.traffic.release()
        else:
            # Stopped and started again by the rules of a failure; its filter stays meanwhile.
            self._enter(Phase.UP, "")
            self._fault = "the application does not answer after a restart of the agent"
            await self._begin()

    async def _live(self) -> None:
        while True:
            self._has_news.clear()
            if not self.intent_is_started and self.phase is not Phase.STOPPED:
                await self._stop()
            elif self.intent_is_started and self.phase in (Phase.STOPPED, Phase.FAILED):
                await self._start()
            elif self.phase is Phase.UP and self._fault:
                await self._recover()
            elif self.phase is Phase.UP and self._is_restart_ordered:
                await self._restart()
            else:
                await self._has_news.wait()

    async def _start(self) -> None:
        self._enter(Phase.STARTING, "the application starts")
        try:
            await self.traffic.prepare()
            if not self.traffic.is_running:
                await self._begin()
            await self._application.start()
        except TelamonError as error:
            await self._failed(str(error))
        else:
            self._open()

    async def _restart(self) -> None:
        self._is_restart_ordered = False
        self._enter(Phase.RESTARTING, "drains, to restart the application")
        await self._drain_out()
        try:
            await self._application.stop(is_forced=False)
            await self._application.start()
        except TelamonError as error:
            await self._failed(str(error))
        else:
            self._open()

    async def _recover(self) -> None:
        reason, self._fault = self._fault, ""
        self._enter(Phase.RESTARTING, reason, Severity.WARNING)
        if self._has_filter_failed:
            self._has_filter_failed = False
            await self.traffic.leave()
        await self._failed(reason)

    async def _failed(self, reason: str) -> None:
        """Counts a failure; starts again, or stops for good if it was one too many."""
        failures = self.plan.configured.failures
        is_one_too_many = await self._remembered.count_failure(failures)
        self._enter(Phase.FAILED, reason, Severity.WARNING)
        await self._application.stop(is_forced=True)
        if is_one_too_many:
            self._is_forced = True
            reason = (
                f"failed more than {failures.limit} times within {failures.window}, at last:"
                f" {reason}; correct it and run `telamon module start {self.plan.module}` here"
            )
            await self._remembered.intend(False)
            await self._stop(reason)
        else:
            await asyncio.sleep(RETRY_S)

    async def _stop(self, reason: str = "") -> None:
        self._enter(Phase.STOPPING, reason or "drains, to stop")
        if not self._is_forced:
            await self._drain_out()
            if self.intent_is_started:
                # Started again while its connections were still here.
                self.phase = Phase.UP
                self._open()
                return
        await self.traffic.leave()
        for address in self.plan.addresses:
            with contextlib.suppress(TelamonError):
                await reset_connections(address)
        await self._application.stop(is_forced=self._is_forced)
        await self.traffic.release()
        self._is_forced = self._is_restart_ordered = False
        self._fault = ""
        self._enter(Phase.STOPPED, reason)

    async def _drain_out(self) -> None:
        """Waits until no connection is left here, for as long as configured."""
        self.traffic.offer(self.offers())
        limit_s = self.plan.configured.drain_timeout.seconds
        deadline_s = time.monotonic() + limit_s
        phase_intent = self.intent_is_started
        while not (self.traffic.is_drained or self._is_forced):
            if self.intent_is_started is not phase_intent:
                return
            if time.monotonic() >= deadline_s:
                await self.traffic.measure()
                self.note(
                    f"{self.traffic.connection_count} connections did not end within {limit_s:g} s"
                    " (drain_timeout) and are reset",
                    Severity.WARNING,
                )
                return
            await asyncio.sleep(POLL_S)

    async def _look_at_application(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(LOOK_S)
            if self.phase is not Phase.UP or self._fault:
                failures = 0
                continue
            fault = await self._application.what_does_not_answer()
            failures = failures + 1 if fault else 0
            if failures >= FAILURES_IN_A_ROW and self.phase is Phase.UP:
                self._fault = fault
                self.traffic.offer(self.offers())
                self._has_news.set()

    async def _look_at_silent_hosts(self) -> None:
        """Buries silent members whose hosts are dead, so that their clients learn it."""
        while True:
            await asyncio.sleep(LOOK_S / 4)
            for number in self.traffic.lingering():
                node = self.plan.node_of(number)
                if not await self._parts.host_answers(node):
                    self.traffic.bury(number)

    async def _begin(self) -> None:
        await self.traffic.begin(self._remembered.next_incarnation(), self.offers())

    def _open(self) -> None:
        self._enter(Phase.UP, "drained: serves no new clients" if self.is_drained else "")
        self.traffic.offer(self.offers())

    def _drain(self, is_drained: bool) -> None:
        self.is_drained = self._remembered.is_drained = is_drained
        if self.phase is Phase.UP:
            self._open()

    def _filter_failed(self, reason: str) -> None:
        self._has_filter_failed, self._fault = True, reason
        self._has_news.set()

    def _enter(self, phase: Phase, reason: str, severity: Severity = Severity.INFO) -> None:
        self.phase, self.reason = phase, reason
        if phase is Phase.STOPPED:
            self._has_stopped.set()
        else:
            self._has_stopped.clear()
        self.note(f"{phase}: {reason}" if reason else str(phase), severity)

    def note(self, text: str, severity: Severity = Severity.INFO) -> None:
        """Records an event of this module."""
        self._parts.events.append(text, module=self.plan.module, severity=severity)

    def _break(self, error: Exception) -> None:
        if self._defect is not None and not self._defect.done():
            self._defect.set_exception(error)
