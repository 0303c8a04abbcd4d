"""One farm module on this node, from its start script to its last connection.

Invariants: traffic is opened only after the application has answered, and taken away before it is
stopped; stopping waits for the connections that live here. The agent may die at any instant: the
filter, the addresses and the application go on, and the next agent finds them. A failure is cured
here by restarting the application, a limited number of times; the next one stops the module on this
node. A defect in here ends the agent, not the module's service.
"""

import asyncio
import contextlib
from pathlib import Path

from telamon.agent import models
from telamon.agent.farm.application import FarmApplication
from telamon.agent.farm.checks import FarmChecks
from telamon.agent.farm.drain import drained
from telamon.agent.farm.memory import FarmMemory
from telamon.agent.farm.parts import FarmParts, Phase
from telamon.agent.farm.status import Standing, describe, owner, table
from telamon.agent.farm.traffic import FarmTraffic, Surroundings
from telamon.agent.farm.watching import bury_the_dead, measure_while
from telamon.agent.health.answer import Judgement
from telamon.agent.health.endpoint import HealthServer
from telamon.agent.models import ActionKind, Severity
from telamon.cluster.heartbeat import Heartbeat
from telamon.errors import RefusedError, TelamonError
from telamon.farm.message import Offer
from telamon.mirror.role_event import Presence
from telamon.module.check_config import CheckAction
from telamon.net.connections import reset_connections

MEASURE_S, BURY_S = 1.0, 0.25
"""Between two looks: at connections that are to end, at silent hosts."""
RETRY_S = 1.0
DRAINED = "drained: serves no new clients"


class FarmModule:
    """Runs one module until cancelled."""

    kind = "farm"

    def __init__(self, parts: FarmParts) -> None:
        self._parts = parts
        self.plan = parts.plan
        self._application = FarmApplication(
            parts.plan.configured,
            parts.scripts,
            parts.directory,
            parts.memory,
            self.note,
            parts.own_addresses,
        )
        self._checks = FarmChecks(
            parts.plan.configured,
            parts.checks,
            self._application,
            parts.events,
            ask=self._check_asks,
            changed=self._checks_changed,
        )
        self._health = (
            HealthServer(parts.health, self._judge, parts.events) if parts.health else None
        )
        self.traffic = FarmTraffic(
            parts.plan,
            Surroundings(
                tell=parts.tell,
                note=self.note,
                fail=self._filter_failed,
                defect=self._break,
                interface_of=parts.interface_of,
                own_addresses=parts.own_addresses,
            ),
        )
        self.phase = Phase.STOPPED
        self.reason = ""
        self._remembered = FarmMemory(parts.memory, parts.state)
        self.is_drained = False
        self._fault = ""
        self._cure = CheckAction.RESTART
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
                group.create_task(self._checks.run())
                if self._health is not None:
                    group.create_task(self._health.run())
                group.create_task(measure_while(self.traffic, MEASURE_S))
                group.create_task(bury_the_dead(self.traffic, self._host_answers, BURY_S))
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
        closed = self._what_closes() if self.phase is Phase.UP else ""
        here = Standing(
            self.phase,
            closed or self.reason,
            self.intent_is_started,
            self.is_drained,
            self.last_script,
            is_open=not closed,
        )
        shown = await describe(self.plan, self.traffic, here, self.note)
        health = self._health.describe() if self._health is not None else None
        return shown.model_copy(update={"checks": self._checks.describe(), "health": health})

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
        is_open = self.phase is Phase.UP and not self._what_closes()
        nobody = Offer(0)
        return {
            share: one.offers[self.plan.node] if is_open else nobody
            for share, one in enumerate(self.plan.shares)
        }

    def _what_closes(self) -> str:
        """Why a module that is up serves no new clients; empty if it does."""
        if self.is_drained:
            return DRAINED
        return self._fault or self._checks.what_closes()

    def _judge(self) -> Judgement:
        """What load balancers are told."""
        if self.phase is not Phase.UP:
            return Judgement(False, f"{self.phase}: {self.reason}" if self.reason else self.phase)
        closed = self._what_closes()
        return Judgement(not closed, closed or "UP")

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
            self._checks.application_was_found()
            self._enter(Phase.UP, DRAINED if self.is_drained else "")
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
            await self._start_application()
        except TelamonError as error:
            await self._failed(str(error))
        else:
            self._open()

    async def _start_application(self) -> None:
        self._checks.application_is_new()
        await self._application.start()

    async def _restart(self) -> None:
        self._is_restart_ordered = False
        self._enter(Phase.RESTARTING, "drains, to restart the application")
        await self._drain_out()
        try:
            await self._application.stop(is_forced=False)
            await self._start_application()
        except TelamonError as error:
            await self._failed(str(error))
        else:
            self._open()

    async def _recover(self) -> None:
        reason, self._fault = self._fault, ""
        cure, self._cure = self._cure, CheckAction.RESTART
        if cure is CheckAction.STOP:
            await self._stop_for_good(reason)
            return
        self._enter(Phase.RESTARTING, reason, Severity.WARNING)
        if self._has_filter_failed:
            self._has_filter_failed = False
            await self.traffic.leave()
        await self._failed(reason, cure)

    async def _failed(self, reason: str, cure: CheckAction = CheckAction.RESTART) -> None:
        """Counts a failure; starts again, or stops for good if it was one too many."""
        failures = self.plan.configured.failures
        is_one_too_many = await self._remembered.count_failure(failures)
        self._enter(Phase.FAILED, reason, Severity.WARNING)
        if cure is CheckAction.STOPSTART and not is_one_too_many:
            self._is_forced = True
            await self._stop(reason)
            return
        await self._application.stop(is_forced=True)
        if is_one_too_many:
            self._is_forced = True
            await self._stop_for_good(
                f"failed more than {failures.limit} times within {failures.window}, at last:"
                f" {reason}"
            )
        else:
            await asyncio.sleep(RETRY_S)

    async def _stop_for_good(self, reason: str) -> None:
        """Until an operator starts it again."""
        await self._remembered.intend(False)
        cure = f"correct it and run `telamon module start {self.plan.module}` here"
        await self._stop(f"{reason}; {cure}")

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
        intent = self.intent_is_started
        await drained(
            self.traffic,
            self.plan.configured,
            is_given_up=lambda: self._is_forced or self.intent_is_started is not intent,
            note=self.note,
        )

    def _check_asks(self, action: CheckAction, reason: str) -> None:
        if self.phase is Phase.UP and not self._fault:
            self._fault, self._cure = reason, action
            self.traffic.offer(self.offers())
            self._has_news.set()

    def _checks_changed(self) -> None:
        if self.phase is Phase.UP:
            self.traffic.offer(self.offers())

    async def _host_answers(self, number: int) -> bool:
        return await self._parts.host_answers(self.plan.node_of(number))

    async def _begin(self) -> None:
        await self.traffic.begin(self._remembered.next_incarnation(), self.offers())

    def _open(self) -> None:
        self._enter(Phase.UP, DRAINED if self.is_drained else "")
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
        self._checks.look_while(
            is_started=phase is not Phase.STOPPED, application_runs=phase is Phase.UP
        )
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
