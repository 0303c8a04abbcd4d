"""One mirror module on this node: the role machine, fed with what happens and obeyed in what it
asks.

Invariants: the machine is stepped on the loop, one event at a time, never from within one of its
own actions; every operation it asks for is answered with its serial unless it cancelled it. The
agent may die at any instant: what runs goes on, and the next agent finds it again. A defect in here
ends the agent, not the module's service.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from telamon.agent import models
from telamon.agent.clock import boottime_ms
from telamon.agent.health.answer import Judgement
from telamon.agent.health.endpoint import HealthServer
from telamon.agent.memory import Remembered
from telamon.agent.mirror.operations import MirrorOperations, MirrorParts
from telamon.agent.mirror.status import describe
from telamon.agent.models import ActionKind, Severity
from telamon.agent.module_checks import describe_checks, watch_module
from telamon.cluster.heartbeat import Heartbeat
from telamon.detect.check import Failed
from telamon.detect.watch import Said
from telamon.errors import RefusedError, TelamonError, TimedOutError
from telamon.mirror import role, role_event
from telamon.mirror.report import ModuleState, Readiness, Report
from telamon.mirror.role_action import (
    Action,
    Announce,
    Answer,
    Cancel,
    Operation,
    Perform,
    Remember,
    SendHeartbeat,
    View,
)
from telamon.mirror.role_event import (
    AgentStarted,
    CheckFailed,
    CheckRecovered,
    Command,
    CommandKind,
    Event,
    PeerLost,
    PeerReport,
    StepDone,
    StepFailed,
    Tick,
)
from telamon.mirror.role_state import RoleState, Settings
from telamon.mirror.service import is_started, runs_application
from telamon.module.check_config import CheckAction

ADOPT_LIMIT_S = 5.0
ANSWER_LIMIT_S = 10.0
ANNOUNCED_LIMIT = 100
REPORT: TypeAdapter[Report] = TypeAdapter(Report)

log = logging.getLogger(__name__)


class MirrorModule:
    """Runs one module until cancelled."""

    kind = "mirror"

    def __init__(
        self,
        settings: Settings,
        parts: Callable[[Callable[[Event], None]], MirrorParts],
        *,
        boot_id: int,
        tick_s: float,
        send_heartbeat_soon: Callable[[], None],
        peer_is_lost: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._parts = parts(self._take)
        self._operations = MirrorOperations(self._parts)
        self._boot_id = boot_id
        self._tick_s = tick_s
        self._send_heartbeat_soon = send_heartbeat_soon
        self._peer_is_lost = peer_is_lost
        self._state: RoleState = role.initial(settings)
        self._view = View()
        self._announced: set[View] = set()
        self._has_begun = asyncio.Event()
        self._has_changed = asyncio.Event()
        self._defect: asyncio.Future[None] | None = None
        self._running: dict[int, tuple[Operation, asyncio.Task[None]]] = {}
        self._orders: dict[int, asyncio.Future[str]] = {}
        self._order_numbers = itertools.count(1)
        self._remembering: asyncio.Task[None] | None = None
        name, events = self._parts.module, self._parts.events
        self._checks = watch_module(name, self._parts.checks, self._check_said, events)
        endpoint = self._parts.health
        self._health = HealthServer(endpoint, self._judge, events) if endpoint else None

    async def run(self) -> None:
        """Finds what is there, then obeys the machine until cancelled."""
        self._defect = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._parts.watch.run())
                self._take_first(await self._find())
                group.create_task(self._tick())
                group.create_task(self._checks.run())
                if self._health is not None:
                    group.create_task(self._health.run())
                await self._defect
        finally:
            for _, task in self._running.values():
                task.cancel()

    async def order(self, kind: ActionKind, *, force: bool) -> None:
        """Gives an operator's order; returns when it is accepted and remembered."""
        await self._has_begun.wait()
        if kind in (ActionKind.DRAIN, ActionKind.UNDRAIN):
            raise RefusedError(
                f"module {self._parts.module} is a mirror, which knows no {kind}: only farms do"
            )
        if kind in (ActionKind.VERIFY, ActionKind.REPAIR):
            await self._parts.watch.client.verify(repair=kind is ActionKind.REPAIR)
            # It is seen to run before this is answered.
            await self._parts.watch.refresh()
            return
        number = next(self._order_numbers)
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._orders[number] = answered
        try:
            self._take(Command(number, CommandKind(kind), force))
            async with asyncio.timeout(ANSWER_LIMIT_S):
                refusal = await answered
        except TimeoutError as error:
            raise TimedOutError(
                f"{kind} of module {self._parts.module} on {self._settings.node} was not answered "
                f"within {ANSWER_LIMIT_S:g} s; "
                "see `telamon status`"
            ) from error
        finally:
            self._orders.pop(number, None)
        if refusal:
            raise RefusedError(refusal)
        if self._remembering is not None:
            await asyncio.shield(self._remembering)

    async def stop_for_shutdown(self) -> None:
        """Stops the module, but remembers that it is to be started again at the next boot."""
        await self._has_begun.wait()
        intent_is_started = self._state.intent_is_started
        await self.order(ActionKind.STOP, force=False)
        while not self.is_stopped:
            self._has_changed.clear()
            await self._has_changed.wait()
        if intent_is_started:
            await self._remember(Remember(True, self._state.failures_ms))

    @property
    def peer(self) -> str:
        """The module's other node."""
        return self._settings.peer

    @property
    def directories(self) -> tuple[Path, ...]:
        """The replicated directories."""
        return self._parts.directories

    @property
    def is_stopped(self) -> bool:
        """Whether nothing of this module runs on this node."""
        is_stop = self._view.state is ModuleState.STOP
        return self._has_begun.is_set() and is_stop and not self._running

    def payloads(self, receiver: str) -> list[bytes]:
        """This node's report, for a heartbeat to its peer; none before it has begun."""
        if receiver != self._settings.peer or not self._has_begun.is_set():
            return []
        return [REPORT.dump_json(role.report(self._state))]

    def misunderstood(self, payload: bytes) -> str:
        """Why a report makes no sense here; empty if it does."""
        try:
            REPORT.validate_json(payload)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(map(str, fault["loc"])) or "the whole"
            return (
                f"the report of module {self._parts.module} is malformed ({where}: "
                f"{fault['msg']}): bring the nodes to the same version of telamon"
            )
        return ""

    def peer_reported(self, heartbeat: Heartbeat, payload: bytes) -> None:
        """A heartbeat brought the peer's report, which was understood before."""
        if heartbeat.sender == self._settings.peer and self._has_begun.is_set():
            report = REPORT.validate_json(payload)
            self._take(PeerReport(heartbeat.boot_id, report, heartbeat.hears_receiver))

    def peer_lost(self, node: str, said_goodbye: bool) -> None:
        """A node is silent on every network, or its agent said goodbye."""
        if node == self._settings.peer and self._has_begun.is_set():
            self._take(PeerLost(said_goodbye))

    async def describe(self) -> models.ModuleNodeStatus:
        """What the API shows."""
        operations = [operation for operation, _ in self._running.values()]
        shown = await describe(
            self._parts, self._state, self._view, self._operations.capture, operations
        )
        health = self._health.describe() if self._health is not None else None
        return shown.model_copy(update={"checks": describe_checks(self._checks), "health": health})

    async def _find(self) -> AgentStarted:
        parts = self._parts
        facts = await parts.watch.adopt(ADOPT_LIMIT_S)
        if facts is not None:
            try:
                await self._operations.configure()
            except TelamonError as error:
                parts.events.append(
                    f"the running replicator keeps its earlier configuration: {error}",
                    module=parts.module,
                    severity=Severity.WARNING,
                )
        await parts.virtual_ips.announce_present()
        remembered = self._recall(runs=facts is not None)
        return AgentStarted(
            boot_id=self._boot_id,
            intent_is_started=remembered.intent_is_started,
            replicator=facts,
            application=parts.memory.application,
            addresses=await parts.virtual_ips.presence(),
            failures_ms=remembered.failures_ms,
        )

    def _recall(self, *, runs: bool) -> Remembered:
        """What was remembered; of a damaged record only that what runs was started."""
        parts = self._parts
        try:
            return parts.memory.recall(boottime_ms())
        except TelamonError as error:
            parts.events.append(str(error), module=parts.module, severity=Severity.ERROR)
            return Remembered(intent_is_started=runs)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            self._take(Tick())

    def _take_first(self, found: AgentStarted) -> None:
        self._step(found)
        self._has_begun.set()
        if self._peer_is_lost():
            # It was lost before this module came, so nobody will tell it.
            self._step(PeerLost())

    def _take(self, event: Event) -> None:
        # What the replicator says before the machine was told of its existence is in what is found.
        if self._has_begun.is_set():
            self._step(event)

    def _step(self, event: Event) -> None:
        assert self._defect is not None, "events come while the module runs"
        try:
            self._state, actions = role.step(self._state, event, boottime_ms())
            for action in actions:
                self._obey(action)
            self._checks.look_while(
                is_started=is_started(self._state),
                application_runs=runs_application(self._state),
            )
            self._has_changed.set()
        except Exception as error:  # noqa: BLE001 - any defect ends the agent, whoever called
            if not self._defect.done():
                self._defect.set_exception(error)

    def _check_said(self, said: Said) -> None:
        if said.action is CheckAction.NONE:
            return
        if isinstance(said.verdict, Failed):
            action = role_event.CheckAction(said.action)
            self._take(CheckFailed(said.check, action, said.verdict.reason))
        else:
            self._take(CheckRecovered(said.check))

    def _judge(self) -> Judgement:
        """What load balancers are told."""
        view = self._view
        if not runs_application(self._state):
            because = f": {view.reason}" if view.reason else ""
            return Judgement(False, f"{view.state}{because}")
        missing = self._checks.what_is_missing()
        return Judgement(not missing, missing or str(view.state))

    def _obey(self, action: Action) -> None:
        match action:
            case Perform(serial, operation, timeout_ms):
                task = asyncio.create_task(self._perform(serial, operation, timeout_ms))
                self._running[serial] = (operation, task)
            case Cancel(serial):
                if serial in self._running:
                    self._running.pop(serial)[1].cancel()
            case SendHeartbeat():
                self._send_heartbeat_soon()
            case Answer(number, refusal):
                if number in self._orders and not self._orders[number].done():
                    self._orders[number].set_result(refusal)
            case Announce(view):
                self._announce(view)
            case Remember():
                self._remember(action)

    async def _perform(self, serial: int, operation: Operation, timeout_ms: int) -> None:
        outcome: Event = StepDone(serial)
        try:
            await self._operations.perform(operation, timeout_ms)
        except TelamonError as error:
            log.info("module %s: %s failed: %s", self._parts.module, operation, error)
            outcome = StepFailed(serial, str(error))
        except OSError as error:
            # The world's too, where nobody knew a better sentence.
            log.exception("module %s: %s failed", self._parts.module, operation)
            step = type(operation).__name__
            outcome = StepFailed(serial, f"{step} failed: {error}; correct that on this node")
        except Exception as error:  # noqa: BLE001 - a defect ends the agent
            assert self._defect is not None
            if not self._defect.done():
                self._defect.set_exception(error)
            return
        self._running.pop(serial, None)
        self._take(outcome)

    def _remember(self, action: Remember) -> asyncio.Task[None]:
        record = Remembered(action.intent_is_started, action.failures_ms)
        task = self._parts.memory.remember(record, boottime_ms())
        task.add_done_callback(self._remembered)
        self._remembering = task
        return task

    def _remembered(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._parts.events.append(
                str(error), module=self._parts.module, severity=Severity.ERROR
            )

    def _announce(self, view: View) -> None:
        if view.state is not self._view.state:
            self._announced.clear()
        self._view = view
        # A step that is tried again and again is told once.
        if view in self._announced or len(self._announced) >= ANNOUNCED_LIMIT:
            return
        self._announced.add(view)
        readiness = "" if view.readiness is Readiness.READY else f", {view.readiness}"
        because = f": {view.reason}" if view.reason else ""
        self._parts.events.append(f"{view.state}{readiness}{because}", module=self._parts.module)
