"""Who is heard: one node's judgement of every other, from the heartbeats that reach it.

Invariants:
- A heartbeat counts only if it is new (no replay within one life of its sender). A life of a peer
  counts only after it has answered something that was sent to it after it first appeared. So
  neither a recording nor a straggler of an ended life says anything, in whatever order they come.
- Silence counts only while this node was listening. If its own loop was late, all peers get that
  time added before they are judged (local health).
- A peer is lost when it was silent on *every* network for the loss time, or when it said goodbye.
  At the start it is neither heard nor lost until the loss time has passed.

Pure: times are milliseconds of a clock that goes on during suspend and never steps, handed in.
They never go backwards from call to call.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from telamon.cluster.heartbeat import Heartbeat

WINDOW = 256
"""So many sequences behind the newest may still arrive late, each once."""


class Standing(StrEnum):
    """What this node thinks of a peer."""

    UNKNOWN = "unknown"
    HEARD = "heard"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Times:
    """How often this node looks, and how long silence lasts until it counts."""

    interval_ms: int
    lost_after_ms: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A life of a peer that has not answered yet."""

    boot_id: int
    sequence: int
    """The newest that was received of it."""
    sent_before: int
    """What it answers must be newer than this."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of one peer."""

    standing: Standing = Standing.UNKNOWN
    boot_id: int = 0
    """The life that counts, 0 before the first."""
    ended_boot_id: int = 0
    """The life that said goodbye last."""
    candidate: Candidate | None = None
    sent: int = 0
    """The newest sequence that was sent to the peer."""
    newest_sequence: int = 0
    seen: int = 0
    """Bit n: the sequence n below the newest arrived."""
    hears_us: bool = False
    last_heard_ms: tuple[tuple[str, int], ...] = ()
    """Network -> when its newest heartbeat arrived."""

    def heard_on(self, network: str) -> int | None:
        """When the peer was last heard on a network, less the time in which we did not listen."""
        return dict(self.last_heard_ms).get(network)


@dataclass(frozen=True, slots=True)
class Membership:
    """This node's judgement of all its peers. Made by `listen`, changed by `hear` and `tick`."""

    boot_id: int
    times: Times
    peers: MappingProxyType[str, Peer]
    started_ms: int
    looked_ms: int
    """When this node last had the time to look."""

    def silent_networks(self, node: str, networks: Iterable[str]) -> tuple[str, ...]:
        """Networks on which the peer is not heard now although it may be on others."""
        peer = self.peers[node]
        bound_ms = self.looked_ms - self.times.lost_after_ms
        return tuple(network for network in networks if (peer.heard_on(network) or -1) <= bound_ms)


@dataclass(frozen=True, slots=True)
class Heading:
    """What membership adds to a heartbeat: its number, and what is known of the receiver."""

    sequence: int
    knows_boot_id: int
    knows_sequence: int
    hears_receiver: bool


# --- what came of it ---


@dataclass(frozen=True, slots=True)
class Heard:
    """A peer that was unknown or lost is heard."""

    node: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A peer is silent for the loss time, or said goodbye."""

    node: str
    said_goodbye: bool = False


@dataclass(frozen=True, slots=True)
class Fresh:
    """The heartbeat is the newest of its sender: its payloads count."""

    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Introduced:
    """A new life of the peer has not answered yet: send one heartbeat to it at once."""

    node: str
    boot_id: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """The heartbeat does not count."""

    reason: str


Change = Heard | Lost | Fresh | Introduced | Ignored


def listen(boot_id: int, peers: Iterable[str], times: Times, now_ms: int) -> Membership:
    """The judgement of a node that starts to listen now."""
    assert boot_id, "a boot id of 0 means none"
    return Membership(
        boot_id, times, MappingProxyType({name: Peer() for name in peers}), now_ms, now_ms
    )


def head(membership: Membership, node: str, life: int = 0) -> tuple[Membership, Heading]:
    """The heading of the next heartbeat to a peer: to the life that counts, or to a given one."""
    peer = membership.peers[node]
    peer = replace(peer, sent=peer.sent + 1)
    known = (peer.boot_id, peer.newest_sequence)
    candidate = peer.candidate
    if candidate is not None and (candidate.boot_id == life or not peer.boot_id):
        known = (candidate.boot_id, candidate.sequence)
    heading = Heading(peer.sent, *known, peer.standing is Standing.HEARD)
    return _with(membership, node, peer), heading


def hear(
    membership: Membership, heartbeat: Heartbeat, now_ms: int
) -> tuple[Membership, tuple[Change, ...]]:
    """Take one opened heartbeat."""
    membership = _look(membership, now_ms)
    peer = membership.peers.get(heartbeat.sender)
    if peer is None:
        return membership, (Ignored(f"{heartbeat.sender} is not a peer of this node"),)
    if heartbeat.boot_id == peer.ended_boot_id:
        return membership, (Ignored(f"{heartbeat.sender} has said goodbye"),)
    if heartbeat.boot_id != peer.boot_id:
        if not _has_answered(membership, peer, heartbeat):
            peer = replace(peer, candidate=_candidate(peer, heartbeat))
            introduced = Introduced(heartbeat.sender, heartbeat.boot_id)
            return _with(membership, heartbeat.sender, peer), (introduced,)
        peer = _begin_life(peer, heartbeat.boot_id)
    window = _admit(peer, heartbeat.sequence)
    if window is None:
        return membership, (Ignored(f"heartbeat of {heartbeat.sender} arrived twice or too late"),)
    is_newest = heartbeat.sequence > peer.newest_sequence
    peer = replace(window, last_heard_ms=_heard(peer, heartbeat.network, now_ms))
    changes: list[Change] = []
    if is_newest:
        peer = replace(peer, hears_us=heartbeat.hears_receiver)
    if peer.standing is not Standing.HEARD and not heartbeat.says_goodbye:
        peer = replace(peer, standing=Standing.HEARD)
        changes.append(Heard(heartbeat.sender))
    if is_newest:
        changes.append(Fresh(heartbeat))
    if heartbeat.says_goodbye:
        peer = _end_life(peer)
        changes.append(Lost(heartbeat.sender, said_goodbye=True))
    return _with(membership, heartbeat.sender, peer), tuple(changes)


def tick(membership: Membership, now_ms: int) -> tuple[Membership, tuple[Change, ...]]:
    """Look around. To be called every interval; being late is noticed and made good."""
    membership = _look(membership, now_ms)
    bound_ms = now_ms - membership.times.lost_after_ms
    changes: list[Change] = []
    for name, peer in membership.peers.items():
        latest_ms = max((ms for _, ms in peer.last_heard_ms), default=membership.started_ms)
        if peer.standing is not Standing.LOST and latest_ms <= bound_ms:
            lost = replace(peer, standing=Standing.LOST, hears_us=False)
            membership = _with(membership, name, lost)
            changes.append(Lost(name))
    return membership, tuple(changes)


def next_loss_ms(membership: Membership) -> int | None:
    """When the first peer is lost if nothing more arrives; None if none can be."""
    latest_ms = [
        max((ms for _, ms in peer.last_heard_ms), default=membership.started_ms)
        for peer in membership.peers.values()
        if peer.standing is not Standing.LOST
    ]
    return min(latest_ms) + membership.times.lost_after_ms if latest_ms else None


def _look(membership: Membership, now_ms: int) -> Membership:
    """Add the time in which this node did not look to everybody's account."""
    assert now_ms >= membership.looked_ms, "the clock of membership never goes back"
    late_ms = now_ms - membership.looked_ms - 2 * membership.times.interval_ms
    if late_ms <= 0:
        return replace(membership, looked_ms=now_ms)
    peers = {
        name: replace(
            peer, last_heard_ms=tuple((net, ms + late_ms) for net, ms in peer.last_heard_ms)
        )
        for name, peer in membership.peers.items()
    }
    return replace(
        membership,
        looked_ms=now_ms,
        started_ms=membership.started_ms + late_ms,
        peers=MappingProxyType(peers),
    )


def _candidate(peer: Peer, heartbeat: Heartbeat) -> Candidate:
    known = peer.candidate
    if known is None or known.boot_id != heartbeat.boot_id:
        return Candidate(heartbeat.boot_id, heartbeat.sequence, peer.sent)
    return replace(known, sequence=max(known.sequence, heartbeat.sequence))


def _has_answered(membership: Membership, peer: Peer, heartbeat: Heartbeat) -> bool:
    """Whether the sender has received something sent after its life first appeared here."""
    known = peer.candidate
    return (
        known is not None
        and known.boot_id == heartbeat.boot_id
        and heartbeat.knows_boot_id == membership.boot_id
        and heartbeat.knows_sequence > known.sent_before
    )


def _begin_life(peer: Peer, boot_id: int) -> Peer:
    """A life has answered; the former one is over."""
    return replace(peer, boot_id=boot_id, candidate=None, newest_sequence=0, seen=0)


def _end_life(peer: Peer) -> Peer:
    """The peer's agent said goodbye: what still arrives of that life is old."""
    return replace(
        peer, standing=Standing.LOST, hears_us=False, boot_id=0, ended_boot_id=peer.boot_id
    )


def _admit(peer: Peer, sequence: int) -> Peer | None:
    """The peer with `sequence` marked as seen; None if it was seen or is too old to know."""
    if sequence > peer.newest_sequence:
        shift = min(sequence - peer.newest_sequence, WINDOW)
        seen = (peer.seen << shift | 1) & ((1 << WINDOW) - 1)
        return replace(peer, newest_sequence=sequence, seen=seen)
    bit = 1 << (peer.newest_sequence - sequence)
    if bit >= 1 << WINDOW or peer.seen & bit:
        return None
    return replace(peer, seen=peer.seen | bit)


def _heard(peer: Peer, network: str, now_ms: int) -> tuple[tuple[str, int], ...]:
    others = tuple(entry for entry in peer.last_heard_ms if entry[0] != network)
    return (*others, (network, now_ms))


def _with(membership: Membership, name: str, peer: Peer) -> Membership:
    return replace(membership, peers=MappingProxyType({**membership.peers, name: peer}))
