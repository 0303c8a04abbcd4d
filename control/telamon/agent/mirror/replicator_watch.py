"""What is known of a module's replicator, kept fresh, and its death or silence noticed.

Invariants: facts reach the sink in the order in which they were true; an end that nobody ordered is
reported once; a process that answers several questions in a row not at all is killed by its id,
because a hung primary is worse than a dead one. `status` is asked once a second and after every
event, so that no fact has two sources.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from telamon.agent.events import EventLog
from telamon.agent.models import Severity
from telamon.errors import TelamonError
from telamon.mirror.lineage import Lineage
from telamon.mirror.role_event import (
    Event,
    ReplicatorDied,
    ReplicatorFacts,
    ReplicatorFault,
)
from telamon.mirror.role_event import ReplicatorStatus as FactsKnown
from telamon.module.path import escaped
from telamon.replication.client import ReplicatorClient
from telamon.replication.messages import (
    DegradedEvent,
    FaultEvent,
    Hello,
    KeptEvent,
    LineageRecord,
    PeerEvent,
    ProgressEvent,
    ReplicatorEvent,
    ReplicatorStatus,
    VerifiedEvent,
)
from telamon.replication.process import ReplicatorProcess

POLL_S = 1.0
ASK_LIMIT_S = 2.0
UNANSWERED_LIMIT = 3

log = logging.getLogger(__name__)


class ReplicatorWatch:
    """Observes one replicator and tells `sink` what it does."""

    def __init__(
        self,
        module: str,
        process: ReplicatorProcess,
        events: EventLog,
        sink: Callable[[Event], None],
    ) -> None:
        self._module = module
        self._events = events
        self._sink = sink
        self._facts: ReplicatorFacts | None = None
        self._worth_a_look = asyncio.Event()
        self._may_run = asyncio.Event()
        self._asking = asyncio.Lock()
        self._unanswered = 0
        self.process = process
        self.client = ReplicatorClient(process.control_socket, module, self)
        self.status: ReplicatorStatus | None = None
        self.is_end_expected = False

    async def run(self) -> None:
        """Keeps the connection and watches until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.client.run())
            group.create_task(self._keep_asking())
            group.create_task(self._await_ends())

    async def start(self, limit_s: float) -> None:
        """Starts the process unless it runs; returns when it answers, fails when it ends."""
        self.is_end_expected = False
        await self.process.start()
        connecting = asyncio.create_task(self.client.wait_connected(limit_s))
        ending = asyncio.create_task(self.process.wait_ended())
        try:
            await asyncio.wait([connecting, ending], return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise TelamonError(
                    f"the replicator of module {self._module} ended at its start: "
                    f"{self.process.last_words()}"
                )
            connecting.result()
        finally:
            connecting.cancel()
            ending.cancel()

    async def begin(self) -> None:
        """The process serves its module from now on: its facts are told and its death is news."""
        await self.refresh()
        self._may_run.set()

    async def adopt(self, limit_s: float) -> ReplicatorFacts | None:
        """The facts of an earlier agent's process; None if there is none that answers."""
        if self.process.running_pid() is None:
            return None
        try:
            await self.client.wait_connected(limit_s)
            facts = await self._ask()
        except TelamonError as error:
            self._events.append(
                f"the replicator found at start-up is killed: {error}",
                module=self._module,
                severity=Severity.ERROR,
            )
            await self.process.kill()
            return None
        self._facts = facts
        self._may_run.set()
        return facts

    async def refresh(self) -> None:
        """Asks now, and tells the sink if something changed."""
        async with self._asking:
            facts = await self._ask()
            if facts != self._facts:
                self._facts = facts
                self._sink(FactsKnown(facts))

    def forget(self) -> None:
        """No process runs any more, by order."""
        self._facts = None
        self.status = None

    def replicator_connected(self, hello: Hello) -> None:
        log.info("module %s: replicator %s, pid %d", self._module, hello.version, hello.pid)
        self._worth_a_look.set()

    def replicator_disconnected(self, reason: str) -> None:
        log.info("module %s: the control connection ended: %s", self._module, reason)
        self._worth_a_look.set()

    def replicator_event(self, event: ReplicatorEvent) -> None:
        match event:
            case FaultEvent(reason=reason, fatal=is_fatal):
                severity = Severity.ERROR if is_fatal else Severity.WARNING
                self._events.append(reason, module=self._module, severity=severity)
                self._sink(ReplicatorFault(reason, is_fatal))
            case DegradedEvent(reason=reason):
                self._events.append(reason, module=self._module, severity=Severity.WARNING)
            case PeerEvent(link=link, reason=reason):
                because = f": {reason}" if reason else ""
                self._events.append(f"replication link {link}{because}", module=self._module)
            case KeptEvent(directory=directory, files=files):
                self._events.append(
                    f"{files} files that only this node has, or has otherwise, are kept in "
                    f"{directory}; now they may be overwritten",
                    module=self._module,
                    severity=Severity.WARNING,
                )
            case VerifiedEvent():
                text, severity = _verified(event)
                self._events.append(text, module=self._module, severity=severity)
            case ProgressEvent():
                return
        self._worth_a_look.set()

    async def _ask(self) -> ReplicatorFacts:
        status = await self.client.status(ASK_LIMIT_S)
        self.status = status
        return facts_of(status)

    async def _keep_asking(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._worth_a_look.wait()
            self._worth_a_look.clear()
            if self._facts is None or self.is_end_expected:
                self._unanswered = 0
                continue
            try:
                await self.refresh()
                self._unanswered = 0
            except TelamonError as error:
                log.info("%s", error)
                await self._judge_silence()

    async def _judge_silence(self) -> None:
        # Several asks, because one may fail for a pause of this agent in its midst.
        self._unanswered += 1
        if self._unanswered < UNANSWERED_LIMIT or self.process.running_pid() is None:
            return
        self._unanswered = 0
        self._events.append(
            f"the replicator answered none of {UNANSWERED_LIMIT} questions within {ASK_LIMIT_S:g} "
            "s "
            "each and is killed",
            module=self._module,
            severity=Severity.ERROR,
        )
        try:
            await self.process.kill()
        except TelamonError as error:
            self._events.append(str(error), module=self._module, severity=Severity.ERROR)

    async def _await_ends(self) -> None:
        while True:
            await self._may_run.wait()
            await self.process.wait_ended()
            self._may_run.clear()
            self.status = None
            if self.is_end_expected:
                continue
            self._facts = None
            reason = f"the replicator ended without being told to: {self.process.last_words()}"
            self._events.append(reason, module=self._module, severity=Severity.ERROR)
            self._sink(ReplicatorDied(reason))


def _verified(event: VerifiedEvent) -> tuple[str, Severity]:
    """What the event log says of a verification."""
    if event.fault:
        return f"the verification ended without a result: {event.fault}", Severity.WARNING
    compared = f"verified {event.files} files, {event.size_bytes} bytes"
    if not event.differing:
        return f"{compared}: nothing differs", Severity.INFO
    first = event.paths[0]
    cure = "they are repaired now" if event.repairs else "repair them with `verify --repair`"
    return (
        f"{compared}: {event.differing} objects differ from the primary's, "
        f"{escaped(str(first.path))} "
        f"({first.aspect}) first; {cure}",
        Severity.ERROR,
    )


def facts_of(status: ReplicatorStatus) -> ReplicatorFacts:
    """What the role machine needs of a status."""
    return ReplicatorFacts(
        role=status.role,
        link=status.link,
        commits=status.commits,
        lineage=lineage_of(status.lineage),
        link_reason=status.link_reason,
    )


def lineage_of(record: LineageRecord) -> Lineage:
    """The core's value of a record that came over the control socket."""
    return Lineage(
        generation=record.generation,
        peer_generation=record.peer_generation,
        history=record.history,
        data_state=record.data_state,
        clean=record.clean,
        role_at_shutdown=record.role_at_shutdown,
    )
