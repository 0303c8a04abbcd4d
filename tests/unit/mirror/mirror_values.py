"""Values of the role machine for tests: one node n1 beside n2, with what a test changes."""

from dataclasses import replace
from typing import Any

from telamon.mirror import role
from telamon.mirror.lineage import DataState, Lineage, ReplicatorRole
from telamon.mirror.report import CommitState, LinkState, ModuleState, Readiness, Report
from telamon.mirror.role_action import Action, Operation, Perform
from telamon.mirror.role_event import (
    AgentStarted,
    Event,
    PeerReport,
    ReplicatorFacts,
    ReplicatorStatus,
    StepDone,
    StepFailed,
    Tick,
)
from telamon.mirror.role_state import Goal, Peer, RoleState, Settings
from telamon.mirror.role_turn import Turn

SETTINGS = Settings(module="db", node="n1", peer="n2", preferred="n1")
US, THEM = 11, 22
OLD, MID, NEW = "a" * 16, "b" * 16, "c" * 16
NOW_MS = 100_000

IN_STEP = Lineage(OLD, data_state=DataState.UP_TO_DATE)
EMPTY = Lineage()
WENT_ALONE = Lineage(MID, peer_generation=OLD, history=(OLD,), data_state=DataState.UP_TO_DATE)
WENT_APART = Lineage(NEW, peer_generation=OLD, history=(OLD,), data_state=DataState.UP_TO_DATE)
STRANGE = Lineage(NEW, data_state=DataState.UP_TO_DATE)


def outdated(lineage: Lineage) -> Lineage:
    return replace(lineage, data_state=DataState.OUTDATED)


def torn(lineage: Lineage) -> Lineage:
    return replace(lineage, data_state=DataState.INCONSISTENT)


def facts(**changes: Any) -> ReplicatorFacts:
    """An idle replicator, whole and clean."""
    idle = ReplicatorFacts(ReplicatorRole.IDLE, LinkState.DOWN, CommitState.WAITING, IN_STEP)
    return replace(idle, **changes)


def standby(**changes: Any) -> RoleState:
    """A standby whose data is in step, that hears nobody yet and holds nothing. `lineage` changes
    the replicator's record too."""
    lineage = changes.get("lineage", IN_STEP)
    state = RoleState(
        SETTINGS,
        now_ms=NOW_MS,
        boot_id=US,
        intent_is_started=True,
        goal=Goal.STANDBY,
        replicator=facts(lineage=lineage) if lineage is not None else facts(),
        lineage=lineage,
    )
    return replace(state, **changes)


def told(**changes: Any) -> Report:
    """What a standby peer tells whose data is in step."""
    waiting = Report(ModuleState.WAIT, Readiness.NOT_READY, lineage=IN_STEP, can_take_over=True)
    return replace(waiting, **changes)


def as_primary(**changes: Any) -> Report:
    """What a primary peer tells."""
    return told(
        **{
            "state": ModuleState.PRIM,
            "readiness": Readiness.READY,
            "role": ReplicatorRole.PRIMARY,
            "claims_primary": True,
            "released": False,
            "can_take_over": False,
            **changes,
        }
    )


def heard(report: Report, **changes: Any) -> Peer:
    return replace(Peer(boot_id=THEM, report=report, hears_us=True), **changes)


def lost(report: Report | None = None, *, since_ms: int = 0, said_goodbye: bool = False) -> Peer:
    return Peer(
        boot_id=THEM, report=report, is_lost=True, said_goodbye=said_goodbye, since_ms=since_ms
    )


def begun(turn: Turn) -> list[Operation]:
    """The operations that a turn asks for."""
    return [action.operation for action in turn.actions if isinstance(action, Perform)]


class Node:
    """A machine that is stepped, and what it asked for last."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.state = role.initial(settings)
        self.now_ms = NOW_MS
        self.actions: tuple[Action, ...] = ()
        self.asked: list[Perform] = []

    def take(self, *events: Event, after_ms: int = 0) -> "Node":
        self.now_ms += after_ms
        for event in events:
            self.state, self.actions = role.step(self.state, event, self.now_ms)
            self.asked += [one for one in self.actions if isinstance(one, Perform)]
        return self

    def begin(self, found: ReplicatorFacts | None = None, **changes: Any) -> "Node":
        started = AgentStarted(boot_id=US, intent_is_started=True, replicator=found)
        return self.take(replace(started, **changes))

    def told(self, report: Report, *, hears_us: bool = True) -> "Node":
        return self.take(PeerReport(THEM, report, hears_us))

    def status(self, **changes: Any) -> "Node":
        known = self.state.replicator or facts()
        return self.take(ReplicatorStatus(replace(known, **changes)))

    def pending(self, kind: type[Operation]) -> Perform:
        """The newest operation of that kind."""
        return next(one for one in reversed(self.asked) if isinstance(one.operation, kind))

    def has_asked(self, kind: type[Operation]) -> bool:
        return any(isinstance(one.operation, kind) for one in self.asked)

    def done(self, kind: type[Operation]) -> "Node":
        return self.take(StepDone(self.pending(kind).serial))

    def failed(self, kind: type[Operation], reason: str = "it broke") -> "Node":
        return self.take(StepFailed(self.pending(kind).serial, reason))

    def wait(self, duration_ms: int) -> "Node":
        """Time passes as the agent lets it: a tick every 200 ms."""
        for _ in range(0, duration_ms, 200):
            self.take(Tick(), after_ms=200)
        return self
