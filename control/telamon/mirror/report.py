"""What one node's role machine tells the other's, in every heartbeat.

Invariant: a report is the sender's whole view of the module, so a lost one is made good by the
next. Requests and their answers carry the number of the request and the boot id of the agent that
made it; an answer to an earlier life of an agent therefore never counts.
"""

from dataclasses import dataclass
from enum import StrEnum

from telamon.mirror.lineage import Lineage, ReplicatorRole


class ModuleState(StrEnum):
    """The state of a mirror module on one node, as users see it."""

    STOP = "STOP"
    WAIT = "WAIT"
    ALONE = "ALONE"
    PRIM = "PRIM"
    SECOND = "SECOND"


class Readiness(StrEnum):
    """How finished the state is."""

    READY = "ready"
    TRANSIENT = "transient"
    NOT_READY = "not ready"


class LinkState(StrEnum):
    """The replication session to the peer."""

    DOWN = "down"
    CONNECTING = "connecting"
    RESYNC = "resync"
    LIVE = "live"


class CommitState(StrEnum):
    """Who acknowledges a commit at this moment."""

    PEER = "peer"
    WAITING = "waiting"
    ALONE = "alone"


@dataclass(frozen=True, slots=True)
class Answered:
    """The request that was answered: who asked (boot id of its agent) and its number."""

    boot_id: int
    number: int


@dataclass(frozen=True, slots=True)
class Report:
    """One node's view of one mirror module. Request numbers count from 1; 0 means no request."""

    state: ModuleState
    readiness: Readiness
    reason: str = ""
    lineage: Lineage | None = None
    """None while it is not known: the replicator has not run since the agent started."""
    role: ReplicatorRole = ReplicatorRole.IDLE
    link: LinkState = LinkState.DOWN
    commits: CommitState = CommitState.WAITING
    claims_primary: bool = False
    """Is primary or becomes it, and does not give up."""
    released: bool = True
    """Holds neither the application, nor the virtual IPs, nor the primary role."""
    can_take_over: bool = False
    """Is fit to become primary if the peer gave up now."""
    yields: bool = False
    """Would rather see the peer primary: a swap, or something failed here."""
    candidate: int = 0
    """Asks for the peer's consent to become primary."""
    candidate_is_ordered: bool = False
    """The operator ordered this candidacy, with `prim`."""
    consents_to: Answered | None = None
    outdate_request: int = 0
    """Asks the peer to mark its data Outdated before this node acknowledges commits alone."""
    outdated_for: Answered | None = None
    outdate_refusal: str = ""
    """Why the request in `outdated_for` could not be made durable; empty if it is."""
    swap_request: int = 0
    """Asks the primary to give up in favour of this node."""
    swap_answered: Answered | None = None
    swap_refusal: str = ""
    """Why the request in `swap_answered` was refused; empty if it is being carried out."""
