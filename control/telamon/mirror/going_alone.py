"""Going alone: when a primary without a live peer may acknowledge commits by itself.

Invariant: a primary is granted only if the peer (a) answered *this* request to outdate itself, or
(b) is being brought up, so is durably Inconsistent, or (c) was silent on every network for the loss
time and the isolation rule allows it, or (d) hears nothing of us for the loss time and is unfit. So
no secondary that could still take over is left behind by a peer that it is connected with.

The other side: a node that is asked stops being current at once, marks its data durably, answers.
One whose replicator is about to start waits for it. One that cannot write the mark, or whose
replicator hangs over it, says so and keeps trying: with `isolation: takeover` its bare promise is
enough, as silence would be.
"""

from telamon.mirror.lineage import DataState, ReplicatorRole, Source, compare
from telamon.mirror.report import Answered, CommitState, LinkState, ModuleState, Report
from telamon.mirror.role_action import Grant, Outdate
from telamon.mirror.role_state import Goal, Isolation, RoleState
from telamon.mirror.role_turn import Turn

MARK_ATTEMPTS = 4
"""So often a mark is tried, and so often a replicator is started for it, before a promise must do:
about as long as silence would take to count."""


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
    if turn.may_begin_aside and _may_go_alone(turn):
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
        return not heard.outdate_refusal or state.settings.isolation is Isolation.TAKEOVER
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
    is_answered = state.outdated_for == asked and not state.outdate_refusal
    if is_answered or state.role is ReplicatorRole.PRIMARY:
        return
    if state.link is LinkState.LIVE:
        # The primary's agent just began and does not know its link yet, or the link came back: it
        # withdraws the request. A session that only this side believes in ends within the peer
        # timeout, and the request is answered then.
        return
    turn.set(is_current=False, candidate=0)
    if _can_be_marked(state):
        if turn.may_begin_aside and state.lineage is not None:
            turn.begin_aside(Outdate(state.lineage.generation))
        elif _is_overdue(state) and state.outdated_for != asked:
            _promise(turn, asked, "its replicator does not end it, as when a disk hangs")
    elif not _is_about_to_run(state):
        # Nothing to mark, or stopped: not current, it will not promote itself unasked.
        turn.set(outdated_for=asked, outdate_refusal="")


def is_marked(turn: Turn) -> None:
    """Answer the request that stands now, also if it is newer than the one that began this."""
    heard = turn.state.heard
    turn.set(outdate_refusal="")
    if heard is not None and heard.outdate_request:
        turn.set(outdated_for=Answered(turn.state.peer.boot_id, heard.outdate_request))


def marking_failed(turn: Turn, reason: str) -> None:
    """The mark is tried again; after a while the peer is told that there is only a promise."""
    turn.set(fault=reason)
    turn.back_off_aside()
    heard = turn.state.heard
    asked = heard is not None and heard.outdate_request
    if asked and turn.state.aside_attempts >= MARK_ATTEMPTS:
        _promise(turn, Answered(turn.state.peer.boot_id, asked), reason)


def _promise(turn: Turn, asked: Answered, reason: str) -> None:
    refusal = f"{turn.state.settings.node} cannot mark its data Outdated: {reason}"
    turn.set(outdated_for=asked, outdate_refusal=refusal)


def _is_overdue(state: RoleState) -> bool:
    """The mark under way takes longer than silence would take to count."""
    return (
        state.aside is not None
        and isinstance(state.aside.operation, Outdate)
        and state.now_ms >= state.aside.began_ms + state.settings.lost_after_ms
    )


def _is_about_to_run(state: RoleState) -> bool:
    """Its replicator ended or was not started yet: the mark can be written in a moment."""
    return (
        state.goal is Goal.STANDBY and state.replicator is None and state.attempts < MARK_ATTEMPTS
    )


def _can_be_marked(state: RoleState) -> bool:
    return (
        state.replicator is not None
        and state.role is not ReplicatorRole.PRIMARY
        and state.replicator.lineage.data_state is DataState.UP_TO_DATE
        and state.replicator.lineage.holds_data
    )


def outdate_a_lost_side(turn: Turn) -> None:
    """Beside a primary that wrote apart from this node, or further than it: keep it in mind
    durably, or this side might serve its older data once the primary is gone."""
    state = turn.state
    heard = state.heard
    if heard is None or not heard.claims_primary or state.goal is not Goal.STANDBY:
        return
    is_lost = (state.has_diverged and not state.discards) or _is_behind(state, heard)
    if is_lost and turn.may_begin_aside and _can_be_marked(state):
        assert state.lineage is not None
        turn.begin_aside(Outdate(state.lineage.generation))


def _is_behind(state: RoleState, heard: Report) -> bool:
    """The primary went on alone from what this node holds, and no session brings it up yet."""
    ours, theirs = state.lineage, heard.lineage
    return (
        ours is not None
        and theirs is not None
        and heard.role is ReplicatorRole.PRIMARY
        and state.link not in (LinkState.RESYNC, LinkState.LIVE)
        and ours.generation != theirs.generation
        and compare(ours, theirs).source is Source.THEIRS
    )
