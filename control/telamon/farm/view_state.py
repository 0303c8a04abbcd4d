"""What one node of a farm knows and holds, and what follows from it. Values only.

Times are CLOCK_BOOTTIME in nanoseconds, as in the filter's lease.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from telamon.farm.hash import BUCKETS
from telamon.farm.message import (
    NO_EPOCH,
    Commit,
    Goodbye,
    Message,
    Offer,
    Proposal,
    Status,
    View,
)
from telamon.farm.table import NOBODY, Member, Table

MILLISECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """One node's place in the farm, and the farm's times.

    An agent that hangs must have stopped serving before others take its buckets, hence
    interval <= lease < loss: `lease` counts from the sending of a heartbeat, `loss` from its
    receipt, and both run on clocks of the same rate.
    """

    self_number: int
    secret: bytes = field(repr=False)
    buckets: int = BUCKETS
    interval: int = 200 * MILLISECOND  # between two heartbeats
    loss: int = 700 * MILLISECOND  # of silence: the sender is gone
    lease: int = 630 * MILLISECOND

    def __post_init__(self) -> None:
        assert self.interval <= self.lease < self.loss, "interval <= lease < loss"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node that is heard."""

    status: Status  # the latest
    heard_at: int
    deaf_since: int | None  # since when it has not heard us while we hear it

    def excused(self, late: int) -> Self:
        """The same, had we looked so much earlier."""
        deaf_since = None if self.deaf_since is None else self.deaf_since + late
        return replace(self, heard_at=self.heard_at + late, deaf_since=deaf_since)


@dataclass(frozen=True, slots=True)
class State:
    """Everything the view change knows. `active` is what the filter serves."""

    settings: Settings
    incarnation: int
    offer: Offer
    listening_until: int  # a young node waits as long before it calls anyone absent
    last_step_at: int
    sequence: int = 0  # of the last status sent
    next_status_at: int = 0
    lease_until: int = 0
    announced_leader: int = NOBODY
    peers: Mapping[int, Peer] = field(default_factory=dict)
    latest: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # order of messages
    epoch: int = NO_EPOCH  # the highest view ever accepted
    view: View | None = None  # in force here
    table: Table | None = field(default=None, repr=False)  # of `view`
    is_committed: bool = False
    active: int = 0
    sockets: int = 0  # buckets with local connections, as last measured
    unmeasured: int = 0  # given up since that measurement began
    released_at: int = 0
    holders: Mapping[int, int] = field(default_factory=dict)  # others' buckets with connections
    has_left: bool = False

    def is_listening(self, now: int) -> bool:
        """Whether this node is too young to judge."""
        return now < self.listening_until

    @property
    def every_bucket(self) -> int:
        """All buckets, as a set."""
        return (1 << self.settings.buckets) - 1

    @property
    def holding(self) -> int:
        """Buckets that this node does not serve but may have connections in."""
        return (self.sockets | self.unmeasured) & ~self.active

    @property
    def unreported(self) -> frozenset[int]:
        """Members that have not said what they hold since this view."""
        if self.view is None:
            return frozenset()
        reported = {n for n, peer in self.peers.items() if peer.status.epoch >= self.epoch}
        return self.view.numbers - reported - {self.settings.self_number}

    @property
    def is_drained(self) -> bool:
        """Whether this node may stop without breaking anyone."""
        return not (self.offer.weight or self.active or self.holding)

    @property
    def mutual(self) -> frozenset[int]:
        """The other nodes that we hear and that hear us."""
        me = self.settings.self_number
        return frozenset(n for n, peer in self.peers.items() if me in peer.status.hears)

    def leader(self, now: int) -> int:
        """The node whose proposals count here: the lowest we talk with that is old enough."""
        able = {n for n in self.mutual if not self.peers[n].status.is_listening}
        if not self.is_listening(now):
            able.add(self.settings.self_number)
        return min(able, default=NOBODY)

    def is_unsure(self, now: int) -> bool:
        """Whether someone we hear, who may serve, may soon hear us: too early to go without."""
        return any(
            peer.deaf_since is not None
            and now - peer.deaf_since < self.settings.loss
            and (self.view is None or number in self.view.numbers)
            for number, peer in self.peers.items()
        )

    def is_shut_out(self, now: int) -> bool:
        """Whether others serve, and cannot know of us: we hear them, they do not hear us.

        A deaf node that hears nobody does not count: no client reaches it either.
        """
        me = self.settings.self_number
        return any(
            peer.deaf_since is not None
            and now - peer.deaf_since >= self.settings.loss
            and peer.status.is_joined
            and peer.status.hears
            and me not in peer.status.members
            for peer in self.peers.values()
        )

    def wanted_members(self) -> tuple[Member, ...]:
        """The members of the view that this node would propose now."""
        offers = {n: self.peers[n].status.offer for n in self.mutual}
        offers[self.settings.self_number] = self.offer
        return tuple(
            Member(number, offer.weight, offer.priority) for number, offer in sorted(offers.items())
        )


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; due at the latest at `telamon.farm.view.deadline`."""


@dataclass(frozen=True, slots=True)
class Received:
    """Messages of authenticated nodes arrived, in this order."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Offered:
    """This node's offer changed: its application became ready, failed, or drains."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Measured:
    """Local connections were listed, all after `began_at`; `sockets` are their buckets."""

    sockets: int
    began_at: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The module stops here: give up everything and say so."""


Event = Tick | Received | Offered | Measured | Leave


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one node."""

    to: int
    message: Status | Proposal | Commit


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every node of the module, heard or not."""

    message: Status | Goodbye


@dataclass(frozen=True, slots=True)
class Renew:
    """Let the filter own buckets until then; only when the heartbeat before it has gone out."""

    lease_until: int


@dataclass(frozen=True, slots=True)
class Switch:
    """Bring the filter to `telamon.farm.image.render(state)` before what follows is sent."""


@dataclass(frozen=True, slots=True)
class Measure:
    """List the local connections soon: buckets were given up."""


@dataclass(frozen=True, slots=True)
class Note:
    """For the log and `telamon events`."""

    text: str


Action = Send | Broadcast | Renew | Switch | Measure | Note


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a restarted agent found in its filter, whose lease still ran."""

    epoch: int
    active: int
    lease_until: int


def initial(
    settings: Settings, incarnation: int, offer: Offer, now: int, resumed: Resumed | None = None
) -> State:
    """The state of an agent that starts. `incarnation` is higher at each start."""
    found = resumed if resumed and resumed.lease_until > now else Resumed(NO_EPOCH, 0, 0)
    state = State(
        settings,
        incarnation,
        offer,
        listening_until=now + settings.loss,
        last_step_at=now,
        next_status_at=now,
        lease_until=found.lease_until,
        epoch=found.epoch,
        active=found.active,
        released_at=now,
    )
    return replace(state, unmeasured=state.every_bucket)
