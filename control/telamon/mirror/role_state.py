"""The state of the mirror's role machine for one node and module.

Everything is frozen. The machine itself is role.py; nothing here decides.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from telamon.mirror.lineage import Lineage, ReplicatorRole
from telamon.mirror.report import Answered, CommitState, LinkState, ModuleState, Report
from telamon.mirror.role_action import Operation, View
from telamon.mirror.role_event import Presence, ReplicatorFacts


class Isolation(StrEnum):
    """What a node does that hears nobody."""

    TAKEOVER = "takeover"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the machine needs of cluster.yaml and module.yaml."""

    module: str
    node: str
    peer: str
    preferred: str
    """Node that becomes primary when both have equal claims."""
    isolation: Isolation = Isolation.TAKEOVER
    acknowledges_on_disk: bool = True
    """`acknowledge: disk`: a crash of either node loses nothing that was acknowledged."""
    lost_after_ms: int = 2_000
    peer_timeout_ms: int = 2_000
    start_timeout_ms: int = 60_000
    stop_timeout_ms: int = 60_000
    command_timeout_ms: int = 30_000
    """Replicator commands and address changes."""
    failure_limit: int = 3
    """So many failures in the window are cured locally; the next one stops the module here."""
    failure_window_ms: int = 24 * 3600 * 1000


class Goal(StrEnum):
    """Where this node is heading. A standby follows a primary if there is one, else it waits."""

    STOP = "stop"
    STANDBY = "standby"
    PRIMARY = "primary"


@dataclass(frozen=True, slots=True)
class Running:
    """An operation that was begun and not answered yet."""

    serial: int
    operation: Operation
    deadline_ms: int
    began_ms: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of the peer. Neither heard nor lost: this agent has not listened for long."""

    boot_id: int = 0
    report: Report | None = None
    hears_us: bool = False
    is_lost: bool = False
    said_goodbye: bool = False
    since_ms: int = 0
    """When it was heard first after a silence, or lost."""
    deaf_since_ms: int | None = None
    """Since when it is heard but says that it does not hear us."""


@dataclass(frozen=True, slots=True)
class Order:
    """The operator's `prim`, until it is carried out or turns out to be impossible."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class Yield:
    """This node would rather see the peer primary, for a while."""

    reason: str
    released_ms: int | None = None
    """Since when nothing stands in the peer's way."""


@dataclass(frozen=True, slots=True)
class RoleState:
    """Everything the machine knows. Made by `role.initial`, changed by `role.step` only."""

    settings: Settings
    now_ms: int = 0
    boot_id: int = 0
    intent_is_started: bool = False
    goal: Goal = Goal.STOP
    reason: str = ""
    """Why the goal is what it is, where the facts do not show it."""

    replicator: ReplicatorFacts | None = None
    lineage: Lineage | None = None
    """The last one known; stays known while the replicator is stopped."""
    application: Presence = Presence.OFF
    addresses: Presence = Presence.OFF
    fault: str = ""
    """What the replicator or a step complained of last; cleared by success."""

    peer: Peer = field(default_factory=Peer)
    doubts_until_ms: int = 0
    """This machine was not run for a while: until then, an old loss of the peer does not count."""
    suspects_until_ms: int = 0
    """This machine stood still so long that the peer may have gone on alone: until then, a session
    that is found broken costs being current."""
    is_current: bool = False
    """Holds every acknowledged commit, and nobody can have acknowledged one since without this
    node's consent or behind its silence. Never survives the agent."""

    has_diverged: bool = False
    """The peer, when last heard, held UpToDate data that is apart from this node's."""

    order: Order | None = None
    candidate: int = 0
    """Number of the request for the peer's consent, 0 for none."""
    consents_to: Answered | None = None
    outdate_request: int = 0
    outdated_for: Answered | None = None
    outdate_refusal: str = ""
    """Why the request in `outdated_for` is answered by a promise only, without a durable mark."""
    swap_request: int = 0
    swap_answered: Answered | None = None
    swap_refusal: str = ""
    yields: Yield | None = None
    discards: bool = False
    """The operator chose the peer's side: own changes may be overwritten."""
    follows_discarding: bool = False
    """The replicator was connected with that permission."""

    is_urgent: bool = False
    """Giving up uses the forced variants at once."""
    restarts: bool = False
    """The application is to be stopped and started in place."""
    promoted_ms: int = 0
    blocked: tuple[tuple[str, str], ...] = ()
    """Checks that ask to wait, with their reasons."""
    failures_ms: tuple[int, ...] = ()

    running: Running | None = None
    """Operation of the ladder: one at a time, in order."""
    aside: Running | None = None
    """Grant or Outdate, which must not wait for a script."""
    attempts: int = 0
    retry_ms: int = 0
    """Not before then is a failed step tried again."""
    aside_attempts: int = 0
    aside_retry_ms: int = 0
    """The same for Grant and Outdate; a change of the replicator's facts ends the wait."""
    next_serial: int = 1
    next_request: int = 1
    view: View = field(default_factory=View)
    told: Report | None = None
    """The report as of the last change of it."""

    @property
    def peer_is_lost(self) -> bool:
        """Silent for the loss time, as far as this machine may judge. The goodbye of an agent
        whose module still ran says only that it is being restarted."""
        if not self.peer.is_lost or self.now_ms < self.doubts_until_ms:
            return False
        is_restart = self.peer.said_goodbye and not self._peer_had_stopped
        return not is_restart or self.now_ms >= self.peer.since_ms + self.settings.lost_after_ms

    @property
    def _peer_had_stopped(self) -> bool:
        report = self.peer.report
        return report is not None and report.state is ModuleState.STOP

    @property
    def heard(self) -> Report | None:
        """The peer's latest report, if the peer is heard."""
        return None if self.peer.is_lost else self.peer.report

    @property
    def role(self) -> ReplicatorRole:
        """The replicator's role; idle if none runs."""
        return self.replicator.role if self.replicator else ReplicatorRole.IDLE

    @property
    def link(self) -> LinkState:
        """The replication session; down if no replicator runs."""
        return self.replicator.link if self.replicator else LinkState.DOWN

    @property
    def commits(self) -> CommitState:
        """Who acknowledges commits; nobody if no replicator runs."""
        return self.replicator.commits if self.replicator else CommitState.WAITING

    @property
    def is_released(self) -> bool:
        """Holds neither the application, nor the virtual IPs, nor the primary role."""
        return (
            self.application is Presence.OFF
            and self.addresses is Presence.OFF
            and self.role is not ReplicatorRole.PRIMARY
        )
