"""The view change of a farm: how buckets pass from node to node, one owner at a time.

Invariant: two nodes never serve one bucket while each counts the other as a member of the view by
which it took the bucket. That is: two owners only where one was judged gone and was not.

The rules that keep it:

1. *Break before make.* The leader proposes a view. Who accepts it gives up at once, in its filter,
   what the view takes away, and only then says so. When every member has accepted, the leader
   commits, and the members take what the view gives. So no bucket has two owners on the way, and
   one without an owner costs a client at most a retransmitted SYN.
2. *A dead member's buckets at once.* If a view only removes members, and the view before it was
   committed here, the buckets of the removed are taken on acceptance. That is safe without asking:
   rendezvous hashing names the same heir to everyone who counts the heir alive.
3. *One leader.* Everyone follows the lowest node that it hears, that hears it, and that is old
   enough to judge. A leader waits while a node it talks with follows another.
4. *A lease.* The filter owns buckets only until the lease ends, and the lease is renewed with each
   heartbeat sent, for less than the time after which silence counts as absence. A hung agent's
   filter has stopped when its buckets are taken. After a pause that outlasted the lease a node has
   nothing, and listens before it judges.
5. *Standing back.* Whoever hears of a newer view without it gives up everything, and so does, in
   a partition that lets through one direction only, the side that knows of the other.

Established connections stay where they are: each node reports the buckets that it gave up and may
still have connections in (`holding`). Their new owner treats them with grace until nobody does, and
all its buckets until every member has reported on the new view. A dead node holds nothing, so that
its clients soon learn it.

Not here: detection of anything but silence, sockets, filters, clocks, randomness.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from telamon.farm.message import Commit, Goodbye, Message, Proposal, Status, View, next_epoch
from telamon.farm.table import Member
from telamon.farm.turn import Turn
from telamon.farm.view_state import (
    Action,
    Event,
    Leave,
    Measured,
    Offered,
    Peer,
    Received,
    Send,
    State,
    Tick,
)


def step(state: State, event: Event, now: int) -> tuple[State, tuple[Action, ...]]:
    """Advance one node. The actions are to be done in their order."""
    assert now >= state.last_step_at, "CLOCK_BOOTTIME does not go back"
    if state.has_left:
        return state, ()
    turn = Turn(state, now)
    _notice_pause(turn)
    _take_in(turn, event)
    if not turn.state.has_left:
        _forget_silent(turn)
        _stand_back_if_shut_out(turn)
        _lead(turn)
        turn.speak()
    return turn.end()


def deadline(state: State) -> int:
    """When the next Tick is due."""
    loss = state.settings.loss
    times = [peer.heard_at + loss for peer in state.peers.values()]
    deaf = [peer.deaf_since for peer in state.peers.values() if peer.deaf_since is not None]
    times += [since + loss for since in deaf if since + loss > state.last_step_at]
    if state.last_step_at < state.listening_until:
        times.append(state.listening_until)
    return min([state.next_status_at, *times])


def _notice_pause(turn: Turn) -> None:
    """Rule 4, and local health: time that we slept does not count against others."""
    state, now, settings = turn.state, turn.now, turn.state.settings
    gap = now - state.last_step_at
    lapsed = bool(state.active) and now >= state.lease_until
    if lapsed or gap >= settings.lease:
        turn.give_up_everything(f"this agent stood still for {gap // 1_000_000} ms")
        turn.state = replace(
            turn.state, peers={}, listening_until=now + settings.loss, last_step_at=now
        )
        return
    late = max(gap - settings.interval, 0)
    peers = {number: peer.excused(late) for number, peer in state.peers.items() if late}
    turn.state = replace(
        state,
        peers=peers or state.peers,
        listening_until=state.listening_until + late,
        last_step_at=now,
    )


def _take_in(turn: Turn, event: Event) -> None:
    match event:
        case Received(messages):
            for message in messages:
                _receive(turn, message)
        case Offered(offer):
            turn.state = replace(turn.state, offer=offer)
            turn.must_tell_all = True
        case Measured(sockets, began_at):
            if began_at >= turn.state.released_at:
                turn.state = replace(turn.state, sockets=sockets, unmeasured=0)
        case Leave():
            turn.leave("the module stops here")
        case Tick():
            pass


def _receive(turn: Turn, message: Message) -> None:
    if message.sender == turn.me or turn.state.has_left:
        return
    match message:
        case Status():
            if _is_news(turn, message):
                _hear(turn, message)
        case Goodbye():
            if _is_news(turn, message):
                turn.forget({message.sender})
        case Proposal(sender, view):
            if sender == turn.state.leader(turn.now) and not turn.state.is_shut_out(turn.now):
                _consider(turn, view)
        case Commit():
            _heed(turn, message)


def _is_news(turn: Turn, message: Status | Goodbye) -> bool:
    """Whether it is younger than everything heard of its sender; remembers it if so."""
    order = (message.incarnation, message.sequence)
    if order <= turn.state.latest.get(message.sender, (-1, -1)):
        return False
    turn.state = replace(turn.state, latest={**turn.state.latest, message.sender: order})
    return True


def _hear(turn: Turn, status: Status) -> None:
    state, number = turn.state, status.sender
    known = state.peers.get(number)
    if known is None or known.status.incarnation != status.incarnation:
        turn.must_tell.add(number)
    deaf_since = None
    if turn.me not in status.hears:
        deaf_since = turn.now if known is None or known.deaf_since is None else known.deaf_since
    held = status.holding
    if status.epoch < state.epoch:
        held |= state.holders.get(number, 0)
    turn.state = replace(
        state,
        peers={**state.peers, number: Peer(status, turn.now, deaf_since)},
        holders={**state.holders, number: held},
    )
    turn.heard.add(number)
    knows_better = status.is_joined and status.hears and status.epoch > state.epoch
    if knows_better and turn.me not in status.members:
        turn.give_up_everything(f"node {number} is in a newer view without this node")


def _forget_silent(turn: Turn) -> None:
    loss = turn.state.settings.loss
    peers = turn.state.peers.items()
    silent = {number for number, peer in peers if turn.now - peer.heard_at >= loss}
    if silent:
        turn.forget(silent)


def _stand_back_if_shut_out(turn: Turn) -> None:
    if turn.state.is_shut_out(turn.now):
        turn.give_up_everything("others serve and do not hear this node")


def _consider(turn: Turn, view: View) -> None:
    """Accept a view that is new, about us, and means here what it meant to its proposer."""
    if view.epoch <= turn.state.epoch or turn.me not in view.numbers:
        return
    table = turn.table_of(view.members)
    if table.digest == view.digest:
        turn.accept(view, table)
    else:
        turn.leave(
            f"the table of view {view.epoch} differs from the one computed here; bring all nodes"
            " to one version of telamon and of cluster.yaml"
        )


def _heed(turn: Turn, commit: Commit) -> None:
    state = turn.state
    if (
        state.view is not None
        and commit.epoch == state.view.epoch
        and commit.sender == state.leader(turn.now)
        and commit.incarnation == state.incarnation
        and not state.is_committed
    ):
        turn.take()
        turn.must_tell.add(commit.sender)


def _lead(turn: Turn) -> None:
    """Rule 3: propose what is missing, commit what is accepted, repeat what was lost."""
    state, now = turn.state, turn.now
    if state.leader(now) != turn.me or state.is_shut_out(now) or state.is_unsure(now):
        return
    statuses = {number: state.peers[number].status for number in state.mutual}
    if any(status.leader != turn.me for status in statuses.values()):
        return
    wanted, view = state.wanted_members(), state.view
    if view is None or view.members != wanted or _is_outdated(view, statuses):
        _propose(turn, wanted, statuses)
    elif not state.is_committed:
        if all(status.epoch == view.epoch for status in statuses.values()):
            turn.take()
            _commit(turn, view, statuses.values())
        else:
            _repeat(turn, view, statuses)
    else:
        _repeat(turn, view, statuses)


def _is_outdated(view: View, statuses: Mapping[int, Status]) -> bool:
    """Whether a member needs a view above this one to come along."""
    return any(
        status.epoch > view.epoch or (status.epoch == view.epoch and not status.is_joined)
        for status in statuses.values()
    )


def _propose(turn: Turn, members: tuple[Member, ...], statuses: Mapping[int, Status]) -> None:
    highest = max([turn.state.epoch, *(status.epoch for status in statuses.values())])
    table = turn.table_of(members)
    view = View(next_epoch(highest, turn.me, turn.state.incarnation), members, table.digest)
    turn.sends.extend(Send(number, Proposal(turn.me, view)) for number in sorted(statuses))
    turn.accept(view, table)
    if not statuses:
        turn.take()


def _commit(turn: Turn, view: View, statuses: Iterable[Status]) -> None:
    for status in statuses:
        commit = Commit(turn.me, view.epoch, status.incarnation)
        turn.sends.append(Send(status.sender, commit))


def _repeat(turn: Turn, view: View, statuses: Mapping[int, Status]) -> None:
    """Answer members whose status, just heard, shows that a message to them was lost."""
    for number in sorted(turn.heard & set(statuses)):
        status = statuses[number]
        if status.epoch < view.epoch:
            turn.sends.append(Send(number, Proposal(turn.me, view)))
        elif turn.state.is_committed and not status.is_committed:
            _commit(turn, view, [status])
