"""Going alone: when a primary without a live peer may acknowledge commits by itself.

Invariant: a primary is granted only if the peer (a) answered *this* request to outdate itself, or
(b) is being brought up, so is durably Inconsistent, or (c) was silent on every network for the loss
time and the isolation rule allows it, or (d) hears nothing of us for the loss time and is unfit. So
no secondary that could still take over is left behind by a peer that it is connected with.

The other side: a node that is asked stops being current at once, marks its data durably, answers.
"""

from telamon.mirror.lineage import DataState, ReplicatorRole
from telamon.mirror.report import Answered, CommitState, LinkState, ModuleState, Report
from telamon.mirror.role_action import Grant, Outdate
from telamon.mirror.role_state import Goal, Isolation, RoleState
from telamon.mirror.role_turn import Turn


def go_alone(turn: Turn) -> None:
    """The primary's side."""
    state = turn.state
    needs_grant = (
        state.goal is Goal.PRIMARY
        and state.role is ReplicatorRole.PRIMARY
        and state.commits is not CommitState.ALONE
        and state.link is not LinkState.LIVE
    )
    if not needs_grant:
        if state.outdate_request:
            turn.set(outdate_request=0)
        return
    if state.aside is not None:
        return
    if _may_go_alone(turn):
        turn.begin_aside(Grant())


def _may_go_alone(turn: Turn) -> bool:
    state = turn.state
    heard = state.heard
    if state.link is LinkState.RESYNC:
        return True
    if heard is None:
        return state.peer_is_lost and _isolated(turn)
    if heard.claims_primary or _is_about_to_connect(state, heard):
        return False
    if not state.outdate_request:
        turn.set(outdate_request=turn.new_request())
    if heard.outdated_for == Answered(state.boot_id, turn.state.outdate_request):
        return True
    return _is_deaf_and_unfit(state, heard)


def _isolated(turn: Turn) -> bool:
    """The peer is silent. One that stopped and said so cannot take over."""
    state = turn.state
    report = state.peer.report
    has_stopped = report is not None and report.state is ModuleState.STOP
    if state.settings.isolation is Isolation.TAKEOVER or has_stopped or state.order is not None:
        return True
    turn.aim(
        Goal.STANDBY,
        f"gave up: {state.settings.peer} is not heard, and `isolation: wait` forbids going alone",
    )
    return False


def _is_about_to_connect(state: RoleState, heard: Report) -> bool:
    """After a hand-over the former primary connects in a moment, and nothing needs copying."""
    lineage = state.lineage
    return (
        state.now_ms < state.promoted_ms + state.settings.peer_timeout_ms
        and heard.state is not ModuleState.STOP
        and lineage is not None
        and heard.lineage is not None
        and heard.lineage.generation == lineage.generation
        and heard.lineage.data_state is DataState.UP_TO_DATE
        and heard.lineage.clean
    )


def _is_deaf_and_unfit(state: RoleState, heard: Report) -> bool:
    """One-way cut: we hear the peer, it does not hear our request."""
    deaf_since_ms = state.peer.deaf_since_ms
    return (
        deaf_since_ms is not None
        and state.now_ms >= deaf_since_ms + state.settings.lost_after_ms
        and not heard.can_take_over
        and heard.released
    )


def answer_outdate_request(turn: Turn) -> None:
    """The other side: the peer asks to go alone from the generation both have."""
    state = turn.state
    heard = state.heard
    if heard is None or not heard.outdate_request or state.goal is Goal.PRIMARY:
        return
    asked = Answered(state.peer.boot_id, heard.outdate_request)
    if state.outdated_for == asked or state.role is ReplicatorRole.PRIMARY:
        return
    if state.link is LinkState.LIVE:
        # The primary's agent just began and does not know its link yet, or the link came back: it
        # withdraws the request. A session that only this side believes in ends within the peer
        # timeout, and the request is answered then.
        return
    turn.set(is_current=False, candidate=0)
    if not _can_be_marked(state):
        # Not being current is enough: this node will not promote itself before it was brought up.
        turn.set(outdated_for=asked)
    elif state.aside is None and state.lineage is not None:
        turn.begin_aside(Outdate(state.lineage.generation))


def _can_be_marked(state: RoleState) -> bool:
    return (
        state.replicator is not None
        and state.role is not ReplicatorRole.PRIMARY
        and state.replicator.lineage.data_state is DataState.UP_TO_DATE
        and state.replicator.lineage.holds_data
    )


def outdate_a_lost_side(turn: Turn) -> None:
    """Beside a primary whose data is apart from this node's: keep it in mind durably, or this node
    might take over with the losing side once the primary is gone."""
    state = turn.state
    heard = state.heard
    is_beside_primary = heard is not None and heard.claims_primary and state.has_diverged
    may_mark = state.goal is Goal.STANDBY and not state.discards and state.now_ms >= state.retry_ms
    if is_beside_primary and may_mark and state.aside is None and _can_be_marked(state):
        assert state.lineage is not None
        turn.begin_aside(Outdate(state.lineage.generation))
