"""The role machine of a mirror: one node's decisions about one module.

Invariants
- A node acknowledges commits alone only after `going_alone` allowed the grant; it becomes primary
  only as `claim` allows. While both nodes hear each other, at most one of them does either.
- The order of taking over and of giving up is the ladder's, whatever interrupts it.
- The peer learns of a change by a heartbeat sent at once; every later heartbeat repeats it, so
  losing, delaying or repeating one changes when things happen, never what.
- What the machine knows of replicator, application and addresses are facts reported by the rim. It
  keeps no second account of its role, so a restarted agent goes on from the facts.

Order within one step: the event changes facts; then the rules are applied until nothing changes;
then one step of the ladder begins. Rules read facts and set intentions; they never wait.

`step(state, event, now_ms)` is a pure function; `now_ms` never goes backwards.
"""

from dataclasses import replace

from telamon.mirror import claim, command, failure, ladder
from telamon.mirror.claim import Judgement, Verdict
from telamon.mirror.going_alone import answer_outdate_request, go_alone, outdate_a_lost_side
from telamon.mirror.lineage import DataState, Lineage, ReplicatorRole
from telamon.mirror.report import Answered, CommitState, LinkState, Report
from telamon.mirror.role_action import Action, Announce, Cancel, Operation, SendHeartbeat
from telamon.mirror.role_event import (
    AgentStarted,
    CheckFailed,
    CheckRecovered,
    Command,
    Event,
    PeerLost,
    PeerReport,
    ReplicatorDied,
    ReplicatorFacts,
    ReplicatorFault,
    ReplicatorStatus,
    StepDone,
    StepFailed,
    Tick,
)
from telamon.mirror.role_state import Goal, Peer, RoleState, Settings
from telamon.mirror.role_turn import Turn
from telamon.mirror.view import report, view_of

__all__ = ["initial", "report", "step"]

CURRENCY_LOSSES = 10
"""A standby that hears nobody and did not take over within so many loss times is not current."""
PAUSE_SHARE = 0.75
"""A pause of so much of the loss time may have been all of it for the peer."""
ROUNDS = 8


def initial(settings: Settings) -> RoleState:
    """The state before `AgentStarted`."""
    return RoleState(settings)


def step(state: RoleState, event: Event, now_ms: int) -> tuple[RoleState, tuple[Action, ...]]:
    """Take one event: the new state, and what the rim is to do, in order."""
    assert now_ms >= state.now_ms, "the machine's clock never goes back"
    assert state.boot_id or isinstance(event, AgentStarted), "AgentStarted is the first event"
    turn = Turn(state)
    _pass_time(turn, now_ms)
    _absorb(turn, event)
    judgement = _settle(turn)
    view = view_of(turn.state, judgement.reason)
    if view != state.view:
        turn.set(view=view)
        turn.actions.append(Announce(view))
    told = report(turn.state)
    if told != state.told:
        turn.set(told=told)
        turn.actions.append(SendHeartbeat())
    return turn.state, tuple(turn.actions)


def _pass_time(turn: Turn, now_ms: int) -> None:
    state = turn.state
    settings = state.settings
    gap_ms = now_ms - state.now_ms
    turn.set(now_ms=now_ms)
    if state.boot_id and gap_ms * 2 > settings.lost_after_ms:
        # Nothing ran for a while (a pause, a suspend): what was judged before it is judged anew.
        turn.set(doubts_until_ms=now_ms + settings.lost_after_ms)
    if state.boot_id and gap_ms > PAUSE_SHARE * settings.lost_after_ms:
        turn.set(suspects_until_ms=now_ms + settings.lost_after_ms)
    running, aside = state.running, state.aside
    if running is not None and now_ms >= running.deadline_ms:
        turn.actions.append(Cancel(running.serial))
        turn.set(running=None)
        ladder.failed(turn, running.operation, _overdue(running.operation))
    if aside is not None and now_ms >= aside.deadline_ms:
        turn.actions.append(Cancel(aside.serial))
        turn.set(aside=None)
        ladder.failed(turn, aside.operation, _overdue(aside.operation))


def _overdue(operation: Operation) -> str:
    return f"{type(operation).__name__} took too long and was cancelled"


# --- events ---


def _absorb(turn: Turn, event: Event) -> None:
    match event:
        case AgentStarted():
            _agent_started(turn, event)
        case Command():
            command.obey(turn, event)
        case PeerReport(boot_id, told, hears_us):
            _peer_report(turn, boot_id, told, hears_us=hears_us)
        case PeerLost(said_goodbye):
            peer = turn.state.peer
            lost = replace(peer, is_lost=True, said_goodbye=said_goodbye, deaf_since_ms=None)
            turn.set(peer=replace(lost, since_ms=turn.state.now_ms))
        case StepDone() | StepFailed():
            _step_ended(turn, event)
        case CheckFailed():
            failure.check_failed(turn, event)
        case CheckRecovered():
            failure.check_recovered(turn, event)
        case Tick():
            pass
        case _:
            _replicator_event(turn, event)


def _replicator_event(
    turn: Turn, event: ReplicatorStatus | ReplicatorDied | ReplicatorFault
) -> None:
    match event:
        case ReplicatorStatus(facts):
            _replicator_status(turn, facts)
        case ReplicatorDied(reason):
            failure.replicator_died(turn, reason)
        case ReplicatorFault(reason, is_fatal):
            failure.replicator_fault(turn, reason, is_fatal=is_fatal)


def _step_ended(turn: Turn, event: StepDone | StepFailed) -> None:
    operation = _finish(turn, event.serial)
    if operation is None:
        return
    if isinstance(event, StepFailed):
        ladder.failed(turn, operation, event.reason)
    else:
        ladder.done(turn, operation)


def _agent_started(turn: Turn, event: AgentStarted) -> None:
    """Adopt what runs."""
    is_primary = event.replicator is not None and event.replicator.role is ReplicatorRole.PRIMARY
    goal = Goal.STANDBY if event.intent_is_started else Goal.STOP
    if event.intent_is_started and is_primary:
        goal = Goal.PRIMARY
    turn.set(
        boot_id=event.boot_id,
        intent_is_started=event.intent_is_started,
        goal=goal,
        application=event.application,
        addresses=event.addresses,
        failures_ms=event.failures_ms,
    )
    if event.replicator is not None:
        _replicator_status(turn, event.replicator)


def _peer_report(turn: Turn, boot_id: int, told: Report, *, hears_us: bool) -> None:
    now_ms = turn.state.now_ms
    peer = turn.state.peer
    was_heard = peer.report is not None and not peer.is_lost
    deaf_since_ms = peer.deaf_since_ms if was_heard else None
    if hears_us:
        deaf_since_ms = None
    elif deaf_since_ms is None:
        deaf_since_ms = now_ms
    since_ms = peer.since_ms if was_heard else now_ms
    turn.set(
        peer=Peer(
            boot_id=boot_id,
            report=told,
            hears_us=hears_us,
            since_ms=since_ms,
            deaf_since_ms=deaf_since_ms,
        )
    )
    ours, theirs = turn.state.lineage, told.lineage
    if ours is not None and theirs is not None:
        is_newer = theirs.generation not in _known(ours)
        turn.set(
            has_diverged=claim.is_apart(ours, theirs),
            is_current=turn.state.is_current and not is_newer,
        )


def _known(ours: Lineage) -> frozenset[str]:
    return frozenset({ours.generation, *ours.history, ours.peer_generation})


def _replicator_status(turn: Turn, facts: ReplicatorFacts) -> None:
    state = turn.state
    if _stands_differently(state.replicator, facts):
        turn.set(aside_attempts=0, aside_retry_ms=0)
    turn.set(replicator=facts, lineage=facts.lineage)
    is_whole = facts.lineage.data_state is DataState.UP_TO_DATE
    lost_link = state.link is LinkState.LIVE and facts.link is not LinkState.LIVE
    if lost_link and state.now_ms < state.suspects_until_ms:
        # The session ended while this node stood still: the peer may have gone on without it.
        turn.set(is_current=False)
    if facts.role is ReplicatorRole.PRIMARY:
        if state.role is not ReplicatorRole.PRIMARY:
            turn.set(promoted_ms=state.now_ms)
        turn.set(discards=False)
        if facts.commits is not CommitState.WAITING:
            turn.set(is_current=True)
    elif not is_whole or facts.link is LinkState.RESYNC:
        turn.set(is_current=False)
    elif facts.role is ReplicatorRole.SECONDARY and facts.link is LinkState.LIVE:
        turn.set(is_current=True)
    if facts.link in (LinkState.RESYNC, LinkState.LIVE):
        turn.set(discards=False, fault="", attempts=0 if state.running is None else state.attempts)


def _stands_differently(before: ReplicatorFacts | None, now: ReplicatorFacts) -> bool:
    """Whether what was refused to a Grant or Outdate before may be possible now."""
    return before is None or (before.role, before.link, before.commits) != (
        now.role,
        now.link,
        now.commits,
    )


def _finish(turn: Turn, serial: int) -> Operation | None:
    """The operation of that serial, which is over now; None if it is not awaited any more."""
    running, aside = turn.state.running, turn.state.aside
    if running is not None and running.serial == serial:
        turn.set(running=None)
        return running.operation
    if aside is not None and aside.serial == serial:
        turn.set(aside=None)
        return aside.operation
    return None


# --- rules ---


def _settle(turn: Turn) -> Judgement:
    """Apply the rules until nothing changes, then begin the next step of the ladder."""
    judgement = Judgement(Verdict.WAIT, "")
    for _ in range(ROUNDS):
        before = turn.state
        _resolve_two_primaries(turn)
        go_alone(turn)
        answer_outdate_request(turn)
        outdate_a_lost_side(turn)
        _answer_swap_request(turn)
        failure.end_yield(turn)
        _judge_currency(turn)
        _consent(turn)
        judgement = _stand_by(turn)
        if turn.state is before:
            break
    else:
        raise AssertionError("the rules do not settle")
    ladder.climb(turn, follows=judgement.verdict is Verdict.FOLLOW)
    return judgement


def _resolve_two_primaries(turn: Turn) -> None:
    """Two nodes claim to be primary, after a partition: the one that loses gives up by force."""
    state = turn.state
    heard = state.heard
    if state.goal is not Goal.PRIMARY or heard is None or not heard.claims_primary:
        return
    if claim.loses_to(state, heard):
        turn.set(order=None)
        reason = f"{state.settings.peer} is primary too and stays it"
        turn.aim(Goal.STANDBY, reason, is_urgent=True)


def _answer_swap_request(turn: Turn) -> None:
    """The secondary asks for the primary role, for its operator; and hears the answer to that."""
    state = turn.state
    heard = state.heard
    if state.swap_request:
        answered = heard is not None and heard.swap_answered == Answered(
            state.boot_id, state.swap_request
        )
        if answered and heard is not None and heard.swap_refusal:
            turn.set(fault=f"swap refused: {heard.swap_refusal}")
        if answered or state.goal is not Goal.STANDBY or state.peer_is_lost:
            turn.set(swap_request=0)
    if heard is None or not heard.swap_request:
        return
    asked = Answered(state.peer.boot_id, heard.swap_request)
    if state.swap_answered != asked:
        refusal = failure.swap_refusal(state)
        turn.set(swap_answered=asked, swap_refusal=refusal)
        if not refusal:
            failure.swap(turn, f"hands over to {state.settings.peer} by the operator's order")


def _judge_currency(turn: Turn) -> None:
    """Being current fades: without a peer in sight, somebody else may have gone on."""
    state = turn.state
    if not state.is_current or state.goal is Goal.PRIMARY:
        return
    silent_ms = CURRENCY_LOSSES * state.settings.lost_after_ms
    forgotten = (
        state.peer_is_lost
        and state.link is not LinkState.LIVE
        and (state.now_ms >= state.peer.since_ms + silent_ms or bool(state.blocked))
    )
    if forgotten or (state.goal is Goal.STOP and state.is_released):
        turn.set(is_current=False)


def _consent(turn: Turn) -> None:
    """Answer the peer's candidacy. A consent stands until the peer's report shows neither the
    request nor the claim that came of it."""
    state = turn.state
    heard = state.heard
    if heard is None or not heard.candidate:
        if heard is None or not heard.claims_primary:
            turn.set(consents_to=None)
        return
    asked = Answered(state.peer.boot_id, heard.candidate)
    if state.consents_to != asked:
        allowed = claim.may_consent(state, heard)
        turn.set(consents_to=asked if allowed else None)
        if allowed:
            turn.set(candidate=0)


def _stand_by(turn: Turn) -> Judgement:
    """A standby follows a primary, waits, or becomes primary itself."""
    state = turn.state
    if state.goal is not Goal.STANDBY:
        return Judgement(Verdict.WAIT, "")
    if state.lineage is None or state.replicator is None:
        turn.set(candidate=0)
        return Judgement(Verdict.WAIT, "starts the replicator")
    if state.is_released and state.is_urgent:
        turn.set(is_urgent=False)
    judgement = claim.judge(turn.state)
    if state.consents_to is not None and judgement.verdict is Verdict.ASK:
        judgement = Judgement(Verdict.WAIT, f"{state.settings.peer} is to become primary")
    match judgement.verdict:
        case Verdict.PROMOTE:
            turn.aim(Goal.PRIMARY, judgement.reason)
        case Verdict.ASK:
            _ask(turn)
        case _:
            if state.order is not None and judgement.verdict is Verdict.WAIT:
                _drop_impossible_order(turn, judgement)
            turn.set(candidate=0)
    return judgement


def _ask(turn: Turn) -> None:
    """Become primary with the peer's consent to this very request."""
    state = turn.state
    heard = state.heard
    assert heard is not None
    if not state.candidate:
        turn.set(candidate=turn.new_request())
    elif heard.consents_to == Answered(state.boot_id, state.candidate):
        turn.aim(Goal.PRIMARY, "has the peer's consent")


def _drop_impossible_order(turn: Turn, judgement: Judgement) -> None:
    """The lineages became known and forbid what the operator ordered."""
    order = turn.state.order
    assert order is not None
    if claim.refuse_order(turn.state, force=order.force):
        turn.set(order=None, fault=judgement.reason)
