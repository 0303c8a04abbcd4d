"""The state of the mirror's role machine for one node and module.

Everything is frozen. The machine itself is role.py; nothing here decides.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from telamon.mirror.lineage import Lineage
from telamon.mirror.report import Report
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
    """Where this node is heading."""

    STOP = "stop"
    WAIT = "wait"
    SECONDARY = "secondary"
    PRIMARY = "primary"


@dataclass(frozen=True, slots=True)
class Running:
    """An operation that was begun and not answered yet."""

    serial: int
    operation: Operation
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of the peer."""

    boot_id: int = 0
    report: Report | None = None
    is_lost: bool = False
    """Silent for the loss time. Neither heard nor lost: this agent has not listened long enough."""

    @property
    def heard(self) -> Report | None:
        """Its latest report, if it is not lost."""
        return None if self.is_lost else self.report


@dataclass(frozen=True, slots=True)
class RoleState:
    """Everything the machine knows. Made by `role.initial`, changed by `role.step` only."""

    settings: Settings
    boot_id: int = 0
    intent_is_started: bool = False
    goal: Goal = Goal.STOP
    replicator: ReplicatorFacts | None = None
    lineage: Lineage | None = None
    """The last one known; stays known while the replicator is stopped."""
    application: Presence = Presence.OFF
    addresses: Presence = Presence.OFF
    peer: Peer = field(default_factory=Peer)
    running: Running | None = None
    """Operation of the ladder: one at a time, in order."""
    aside: Running | None = None
    """Grant or Outdate, which must not wait for a script."""
    next_serial: int = 1
    next_request: int = 1
    view: View = field(default_factory=View)
