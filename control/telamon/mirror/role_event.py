"""The events that the mirror's role machine takes.

Times are milliseconds of a clock that never steps and goes on during suspend (CLOCK_BOOTTIME).
"""

from dataclasses import dataclass
from enum import StrEnum

from telamon.mirror.lineage import Lineage, ReplicatorRole
from telamon.mirror.report import CommitState, LinkState, Report


class Presence(StrEnum):
    """Whether something is there. UNKNOWN: a change of it was interrupted or failed."""

    OFF = "off"
    ON = "on"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ReplicatorFacts:
    """What the machine needs to know of the replicator's status."""

    role: ReplicatorRole
    link: LinkState
    commits: CommitState
    lineage: Lineage
    link_reason: str = ""


class CommandKind(StrEnum):
    """What an operator can order."""

    START = "start"
    STOP = "stop"
    PRIM = "prim"
    SECOND = "second"
    SWAP = "swap"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """The first event: what the agent found. `replicator` is None when no process runs."""

    boot_id: int
    """Random, never 0, new at every start of the agent."""
    intent_is_started: bool
    """What was last given to `Remember`."""
    replicator: ReplicatorFacts | None = None
    application: Presence = Presence.OFF
    addresses: Presence = Presence.OFF
    failures_ms: tuple[int, ...] = ()
    """Times of the failures given to `Remember`, on the present clock."""


@dataclass(frozen=True, slots=True)
class Command:
    """An operator's order; answered by exactly one `Answer` of the same number."""

    number: int
    kind: CommandKind
    force: bool = False


@dataclass(frozen=True, slots=True)
class PeerReport:
    """A verified heartbeat brought the peer's report. Reports come in the order of their making."""

    boot_id: int
    report: Report
    hears_us: bool = True
    """The peer's membership counts this node as heard."""


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The peer was silent on every network for the loss time since it was heard or since this agent
    started, or its agent said goodbye."""

    said_goodbye: bool = False


@dataclass(frozen=True, slots=True)
class ReplicatorStatus:
    """The replicator's status, sent whenever any part of it changed."""

    facts: ReplicatorFacts


@dataclass(frozen=True, slots=True)
class ReplicatorDied:
    """The replicator's process ended without being told to."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReplicatorFault:
    """The replicator's `fault` event; a fatal one means that its local store cannot be trusted."""

    reason: str
    is_fatal: bool


@dataclass(frozen=True, slots=True)
class StepDone:
    """An operation succeeded. The `ReplicatorStatus` it led to comes before it. The late end of a
    cancelled operation is ignored by its serial."""

    serial: int


@dataclass(frozen=True, slots=True)
class StepFailed:
    """An operation failed or was refused; the reason is one sentence with the cure."""

    serial: int
    reason: str


class CheckAction(StrEnum):
    """What a failing check asks for."""

    RESTART = "restart"
    STOPSTART = "stopstart"
    WAIT = "wait"
    STOP = "stop"
    SWAP = "swap"


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """A detector or rule found something broken."""

    check: str
    action: CheckAction
    reason: str


@dataclass(frozen=True, slots=True)
class CheckRecovered:
    """A check that asked for `wait` is content again."""

    check: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed. At least every heartbeat interval."""


Event = (
    AgentStarted
    | Command
    | PeerReport
    | PeerLost
    | ReplicatorStatus
    | ReplicatorDied
    | ReplicatorFault
    | StepDone
    | StepFailed
    | CheckFailed
    | CheckRecovered
    | Tick
)
