"""An honest, small model of the replicator: durable lineage, commits, acknowledgements, sessions.

Honest means: what was not flushed is lost with the host, a session needs a network in both
directions and notices a cut only after the peer timeout, and the order of durable writes is that of
replicator/CONTROL.md, each write an event of its own, so that a crash can come between any two.

Data is the set of commits that a copy holds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from disk_model import Disk
from mirror_world import NETWORKS, Networks, World, other

from telamon.mirror.lineage import (
    NOBODY_BEHIND,
    DataState,
    Relation,
    ReplicatorRole,
    Source,
    compare,
)
from telamon.mirror.report import CommitState, LinkState
from telamon.mirror.role_event import ReplicatorFacts

PEER_TIMEOUT_MS = 2_000
DIAL_MS = 200
HISTORY = 16


@dataclass(eq=False)
class Session:
    """A connection between a primary and a secondary; broken on both sides, but not at one time."""

    network: str
    primary: "Replicator"
    secondary: "Replicator"
    is_broken: bool = False


@dataclass(eq=False)
class Commit:
    """A commit that a client waits for."""

    number: int
    done: Callable[[bool], None]
    """Called with whether it was acknowledged alone."""
    is_flushed: bool = False
    is_on_peer: bool = False


class RefusedError(Exception):
    """The replicator refuses a command."""


class Replicator:
    """One process on one host. `tell` takes its facts, `fault` its faults."""

    def __init__(
        self,
        world: World,
        networks: Networks,
        host: str,
        disk: Disk,
        find: Callable[[str], "Replicator | None"],
        *,
        on_disk: bool,
    ) -> None:
        self.world, self.networks, self.host, self.disk = world, networks, host, disk
        self._find = find
        self._on_disk = on_disk
        self.role = ReplicatorRole.IDLE
        self.link = LinkState.DOWN
        self.link_reason = ""
        self.alone = False
        self.session: Session | None = None
        self.pending: list[Commit] = []
        self.born_ms = world.now_ms
        self.is_dead = False
        self.is_paused = False
        self.discards = False
        self.continues_clean = False
        """Promoted by a hand-over: the log since then is whole."""
        self.tell: Callable[[ReplicatorFacts], None] = lambda _: None
        self.fault: Callable[[str, bool], None] = lambda _reason, _fatal: None
        self._dial()

    # --- facts ---

    @property
    def commits(self) -> CommitState:
        if self.role is ReplicatorRole.PRIMARY and self.link is LinkState.LIVE:
            return CommitState.PEER
        return CommitState.ALONE if self.alone else CommitState.WAITING

    @property
    def facts(self) -> ReplicatorFacts:
        return ReplicatorFacts(
            self.role, self.link, self.commits, self.disk.lineage, self.link_reason
        )

    def _record(self, **changes: object) -> None:
        self.disk.lineage = replace(self.disk.lineage, **changes)  # type: ignore[arg-type]
        self._tell()

    def _tell(self) -> None:
        facts = self.facts
        self.world.note(self.host, f"replicator {facts.role} {facts.link} {facts.commits}")
        self.tell(facts)

    def _link(self, link: LinkState, reason: str = "") -> None:
        if link is not self.link or reason != self.link_reason:
            self.link, self.link_reason = link, reason
            self._tell()

    # --- commands ---

    def connect(self, *, discard: bool) -> None:
        if self.role is not ReplicatorRole.IDLE:
            raise RefusedError(f"is {self.role}")
        self.role, self.discards = ReplicatorRole.SECONDARY, discard
        self._record(role_at_shutdown=ReplicatorRole.SECONDARY)
        self._link(LinkState.CONNECTING)

    def disconnect(self) -> None:
        if self.role is not ReplicatorRole.SECONDARY:
            raise RefusedError(f"is {self.role}")
        self._end_session()
        self.disk.flush()
        self.role = ReplicatorRole.IDLE
        self._record(clean=True)
        self._link(LinkState.DOWN)

    def promote(self, *, force: bool, handover: bool) -> None:
        lineage = self.disk.lineage
        if self.role is ReplicatorRole.PRIMARY:
            return
        if lineage.data_state is not DataState.UP_TO_DATE and not force:
            raise RefusedError(f"the data is {lineage.data_state}")
        self._end_session()
        self.continues_clean = handover and lineage.clean
        self.role, self.link, self.alone = ReplicatorRole.PRIMARY, LinkState.DOWN, False
        self._record(
            clean=False,
            role_at_shutdown=ReplicatorRole.PRIMARY,
            data_state=DataState.UP_TO_DATE,
        )

    def demote(self, *, force: bool) -> None:
        """Unmount; the rim has waited for the acknowledgement of what was sent."""
        if self.role is not ReplicatorRole.PRIMARY:
            raise RefusedError(f"is {self.role}")
        is_clean = self.alone or (self._peer_answers() and not self._unacknowledged())
        if not is_clean and not force and self.link is LinkState.LIVE:
            raise RefusedError("the peer does not acknowledge")
        self.disk.flush()
        if self.session is not None and self._peer_answers() and is_clean:
            self.session.secondary.peer_demoted()
        self._end_session()
        self.pending.clear()
        self.role, self.alone = ReplicatorRole.IDLE, False
        self._record(clean=is_clean)
        self._link(LinkState.DOWN)

    def _peer_answers(self) -> bool:
        """Whether the end of the session reaches a live secondary, and its answer comes back."""
        session = self.session
        if session is None or self.link is not LinkState.LIVE:
            return False
        peer = session.secondary
        return not peer.is_dead and not peer.is_paused and self._carries(session)

    def _unacknowledged(self) -> bool:
        return any(not commit.is_on_peer for commit in self.pending)

    def peer_demoted(self) -> None:
        """The primary ended the session after everything was applied."""
        self.disk.flush()
        self._record(clean=True)

    def grant(self, generation: str) -> None:
        if self.role is not ReplicatorRole.PRIMARY or self.link is LinkState.LIVE:
            raise RefusedError("is not a primary without a live peer")
        if self.alone:
            return
        lineage = self.disk.lineage
        behind = lineage.peer_generation
        if behind == NOBODY_BEHIND:
            behind = lineage.generation
        history = lineage.history
        if lineage.holds_data:
            history = (lineage.generation, *history)[:HISTORY]
        self._record(generation=generation, history=history, peer_generation=behind)
        self.alone, self.continues_clean = True, False
        self._tell()
        self._review_commits()

    def outdate(self) -> None:
        if self.role is ReplicatorRole.PRIMARY:
            raise RefusedError("is primary")
        if self.link is LinkState.LIVE:
            raise RefusedError("the primary's session is live")
        if self.disk.lineage.data_state is DataState.UP_TO_DATE:
            self._record(data_state=DataState.OUTDATED)

    # --- end ---

    def die(self, *, silently: bool = False) -> None:
        """The process ends. The page cache stays; what was only in the process is gone. `silently`:
        with its host, so that nobody resets its connections."""
        self.is_dead = True
        if not self._on_disk and self.role is ReplicatorRole.SECONDARY:
            kept = {
                number for number in sorted(self.disk.cached) if self.world.chance.random() < 0.5
            }
            self.disk.cached = kept
        self._end_session(silently=silently)
        self.pending.clear()

    def _end_session(self, *, silently: bool = False) -> None:
        session = self.session
        if session is None:
            return
        self.session = None
        session.is_broken = True
        peer = session.secondary if session.primary is self else session.primary
        at_once = self.networks.is_whole(session.network) and not silently
        self.world.after(1 if at_once else PEER_TIMEOUT_MS, lambda: peer.lost(session))

    def pause(self) -> None:
        """The process stands still; its peer gives the session up after the peer timeout."""
        self.is_paused = True
        session = self.session
        if session is None:
            return
        peer = session.secondary if session.primary is self else session.primary

        def judge() -> None:
            if self.is_paused and self.session is session:
                peer.lost(session)

        self.world.after(PEER_TIMEOUT_MS, judge)

    def resume(self) -> None:
        """Go on after a pause, and find what happened meanwhile."""
        self.is_paused = False
        if self.session is not None and self.session.is_broken:
            self.lost(self.session)
        self._review_commits()

    def lost(self, session: Session) -> None:
        """The session is over, as far as this side can tell."""
        session.is_broken = True
        if self.session is not session or self.is_dead or self.is_paused:
            return
        self.session = None
        is_primary = self.role is ReplicatorRole.PRIMARY
        if is_primary and self.link is LinkState.LIVE:
            self.alone = False
        self._link(LinkState.DOWN if is_primary else LinkState.CONNECTING, "session lost")

    # --- sessions ---

    def _dial(self) -> None:
        if self.is_dead:
            return
        self.world.after(DIAL_MS, self._dial)
        if self.is_paused or self.session or self.role is not ReplicatorRole.SECONDARY:
            return
        peer = self._find(other(self.host))
        if peer is None or peer.is_dead or peer.is_paused:
            return
        usable = [network for network in reversed(NETWORKS) if self.networks.is_whole(network)]
        if usable and peer.role is ReplicatorRole.PRIMARY and peer.session is None:
            self._contact(peer, usable[0])

    def _contact(self, primary: "Replicator", network: str) -> None:
        theirs = primary.disk.lineage
        if primary.continues_clean:
            theirs = replace(theirs, clean=True)
        comparison = compare(self.disk.lineage, theirs)
        refused = comparison.relation in (Relation.SPLIT_BRAIN, Relation.UNRELATED)
        is_older = comparison.source is Source.OURS and (
            self.disk.lineage.generation != theirs.generation
        )
        if (refused or is_older) and not self.discards:
            self._link(LinkState.CONNECTING, f"{comparison.relation}: refused")
            return
        session = Session(network, primary, self)
        self.session = primary.session = session
        self.world.note(self.host, f"session: {comparison.relation}")
        if comparison.relation is Relation.IN_STEP:
            self._go_live(session)
            return
        if self.disk.is_full:
            self._session_fails(session, "no space left on device")
            return
        self._record(data_state=DataState.INCONSISTENT, clean=False)
        self._link(LinkState.RESYNC)
        primary._link(LinkState.RESYNC)
        self.world.after(self.world.chance.randint(50, 3_000), lambda: self._resync_ends(session))

    def _session_fails(self, session: Session, reason: str) -> None:
        self.lost(session)
        session.primary.lost(session)
        self._link(LinkState.CONNECTING, reason)
        self.fault(reason, False)

    def _resync_ends(self, session: Session) -> None:
        if session.is_broken:
            return
        if self.is_paused or session.primary.is_paused or not self._carries(session):
            self.world.after(50, lambda: self._resync_ends(session))
            return
        if self.disk.is_full:
            self._session_fails(session, "no space left on device")
            return
        primary = session.primary
        primary.disk.flush()
        self.disk.durable = set(primary.disk.durable)
        self.disk.cached = set()
        primary._record(peer_generation=NOBODY_BEHIND)
        self._over(session, lambda: self._adopt(session))

    def _carries(self, session: Session) -> bool:
        return self.networks.is_whole(session.network)

    def _adopt(self, session: Session) -> None:
        if session.is_broken or self.is_dead:
            return
        theirs = session.primary.disk.lineage
        self._record(
            generation=theirs.generation,
            history=theirs.history,
            peer_generation=NOBODY_BEHIND,
            data_state=DataState.UP_TO_DATE,
            clean=False,
        )
        self._go_live(session)

    def _go_live(self, session: Session) -> None:
        primary = session.primary
        self._record(clean=False)
        self._link(LinkState.LIVE)
        primary.alone = False
        primary._link(LinkState.LIVE)
        primary.continues_clean = False
        for commit in primary.pending:
            commit.is_on_peer = False
        # What the primary logged before the session lived, in order.
        for number in sorted(primary.disk.content - self.disk.content):
            self._receive(session, number)
        for commit in list(primary.pending):
            primary._send(commit)

    def watch_networks(self) -> None:
        """A network under a session was cut: both sides notice after the peer timeout."""
        session = self.session
        if session is None or self.networks.is_whole(session.network):
            return

        def judge() -> None:
            if self.session is session and not self.networks.is_whole(session.network):
                self.lost(session)

        self.world.after(PEER_TIMEOUT_MS + self.world.chance.randint(0, 100), judge)

    # --- commits ---

    def commit(self, number: int, done: Callable[[bool], None]) -> None:
        """A client writes and asks for a commit."""
        assert self.role is ReplicatorRole.PRIMARY
        commit = Commit(number, done)
        self.disk.cached.add(number)
        self.pending.append(commit)
        self.world.after(self.world.chance.randint(0, 5), lambda: self._flushed(commit))
        self._send(commit)

    def _flushed(self, commit: Commit) -> None:
        if not self.is_dead and commit.number in self.disk.content:
            self.disk.cached.discard(commit.number)
            self.disk.durable.add(commit.number)
            commit.is_flushed = True
            self._review_commits()

    def _send(self, commit: Commit) -> None:
        session = self.session
        if session is None or self.link is not LinkState.LIVE:
            return

        self._over(session, lambda: session.secondary._receive(session, commit.number))

    def _over(self, session: Session, arrive: Callable[[], None]) -> None:
        """A message over the session: TCP repeats it until it arrives or the session breaks."""

        def attempt() -> None:
            if session.is_broken:
                return
            paused = session.primary.is_paused or session.secondary.is_paused
            if paused or not self.networks.is_whole(session.network):
                self.world.after(50, attempt)
            else:
                arrive()

        self.world.after(self.world.chance.randint(0, 3), attempt)

    def _receive(self, session: Session, number: int) -> None:
        if self.is_dead or self.session is not session:
            return
        if self.disk.is_full:
            self._session_fails(session, "no space left on device")
            return
        self.disk.cached.add(number)

        def flushed() -> None:
            if self.is_dead or number not in self.disk.content:
                return
            self.disk.cached.discard(number)
            self.disk.durable.add(number)
            self._acknowledge(session, number)

        if self._on_disk:
            self.world.after(self.world.chance.randint(0, 5), flushed)
        else:
            self._acknowledge(session, number)
            self.world.after(self.world.chance.randint(0, 50), flushed)

    def _acknowledge(self, session: Session, number: int) -> None:
        def arrive() -> None:
            primary = session.primary
            if primary.session is session:
                for commit in primary.pending:
                    if commit.number == number:
                        commit.is_on_peer = True
                primary._review_commits()

        self._over(session, arrive)

    def _review_commits(self) -> None:
        if self.is_dead or self.is_paused:
            return
        for commit in list(self.pending):
            lives = self.link is LinkState.LIVE and commit.is_on_peer
            if commit.is_flushed and (lives or self.commits is CommitState.ALONE):
                self.pending.remove(commit)
                commit.done(self.commits is CommitState.ALONE)
