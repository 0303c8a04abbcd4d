"""What a failure on this node leads to: a cure here, giving up for the peer, or a local stop.

Invariant: no failure is cured without limit. Each one is counted; the one beyond the limit within
the window stops the module on this node, so that the peer takes over; it stays stopped until an
operator comes. The operator's commands begin a new count.
"""

from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.role_action import Remember
from telamon.mirror.role_event import CheckAction, CheckFailed, CheckRecovered, Presence
from telamon.mirror.role_state import Goal, RoleState, Yield
from telamon.mirror.role_turn import Turn

YIELD_MS = 10_000
"""So long the peer may take to become primary before this node claims it again."""


def remember(turn: Turn) -> None:
    """Store what must outlive the agent."""
    turn.actions.append(Remember(turn.state.intent_is_started, turn.state.failures_ms))


def stop_here(turn: Turn, reason: str, *, is_urgent: bool = False) -> None:
    """Stop the module on this node until an operator starts it again."""
    module = turn.state.settings.module
    cure = f"correct it and run `telamon module start {module}` here"
    turn.set(order=None, intent_is_started=False, yields=None)
    turn.aim(Goal.STOP, f"{reason.rstrip('.')}; {cure}", is_urgent=is_urgent)
    remember(turn)


def count(turn: Turn, reason: str) -> bool:
    """Count a failure; False if it was the one too many, and the module is being stopped."""
    settings = turn.state.settings
    begin_ms = turn.state.now_ms - settings.failure_window_ms
    recent = tuple(ms for ms in turn.state.failures_ms if ms > begin_ms)
    turn.set(failures_ms=(*recent, turn.state.now_ms))
    if len(recent) >= settings.failure_limit:
        hours = settings.failure_window_ms / 3_600_000
        limit = settings.failure_limit
        stop_here(turn, f"failed more than {limit} times within {hours:g} h, at last: {reason}")
        return False
    remember(turn)
    return True


def give_up(turn: Turn, reason: str, *, is_urgent: bool) -> None:
    """Something failed here: the peer should be primary, if it can."""
    if count(turn, reason):
        turn.set(order=None, yields=Yield(reason))
        turn.aim(Goal.STANDBY, reason, is_urgent=is_urgent)


def replicator_died(turn: Turn, reason: str) -> None:
    """On a primary the directories are gone with it; on a standby it is only started again."""
    state = turn.state
    was_primary = state.goal is Goal.PRIMARY or state.role is ReplicatorRole.PRIMARY
    turn.set(replicator=None, fault=reason, is_current=state.is_current and was_primary)
    if state.goal is Goal.PRIMARY:
        give_up(turn, reason, is_urgent=True)
    elif was_primary:
        turn.set(is_urgent=True)
    else:
        turn.back_off()


def replicator_fault(turn: Turn, reason: str, *, is_fatal: bool) -> None:
    """A primary's store that cannot be trusted: the peer has the data."""
    turn.set(fault=reason)
    if turn.state.goal is Goal.PRIMARY:
        if is_fatal:
            stop_here(turn, reason, is_urgent=True)
    else:
        # What it received may not be stored: its session is down for that, not for the primary.
        turn.set(is_current=False)
        turn.back_off()


def check_failed(turn: Turn, event: CheckFailed) -> None:
    """Do what the failing check asks for, as far as the state allows it."""
    state = turn.state
    if state.goal is Goal.STOP:
        return
    reason = f"check {event.check}: {event.reason}"
    match event.action:
        case CheckAction.WAIT:
            _block(turn, event.check, reason)
        case CheckAction.STOP:
            stop_here(turn, reason)
        case CheckAction.RESTART if state.goal is Goal.PRIMARY:
            if state.application is Presence.ON and not state.restarts and count(turn, reason):
                turn.set(restarts=True, reason=reason)
        case CheckAction.STOPSTART if state.goal is Goal.PRIMARY:
            give_up(turn, reason, is_urgent=False)
        case CheckAction.SWAP if may_swap(state):
            # Counted, or a check that fails on both nodes would swap for ever.
            if count(turn, reason):
                swap(turn, reason)


def _block(turn: Turn, check: str, reason: str) -> None:
    others = tuple(entry for entry in turn.state.blocked if entry[0] != check)
    is_new = len(others) == len(turn.state.blocked)
    turn.set(blocked=(*others, (check, reason)))
    if is_new and turn.state.goal is Goal.PRIMARY and count(turn, reason):
        turn.aim(Goal.STANDBY, reason)


def check_recovered(turn: Turn, event: CheckRecovered) -> None:
    """The check no longer stands in the way."""
    turn.set(blocked=tuple(entry for entry in turn.state.blocked if entry[0] != event.check))


def may_swap(state: RoleState) -> bool:
    """Whether the peer would be primary at once."""
    return swap_refusal(state) == ""


def swap_refusal(state: RoleState) -> str:
    """Why this node cannot hand its role over now; empty if it can."""
    peer = state.settings.peer
    heard = state.heard
    module = state.settings.module
    if state.goal is not Goal.PRIMARY or state.role is not ReplicatorRole.PRIMARY:
        if heard is not None and heard.claims_primary:
            return f"{peer} is primary: run `telamon module swap {module}` there"
        return f"no node is primary: `telamon module status {module}` says what each waits for"
    if state.running is not None or state.application is not Presence.ON:
        return "the primary is still in transition: try again when it is ready"
    if heard is None:
        return f"{peer} is not heard: bring it up first"
    if not heard.can_take_over or state.link.value != "live":
        return (
            f"{peer} is not ready ({heard.state}: {heard.reason or heard.readiness}): wait for it"
        )
    return ""


def swap(turn: Turn, reason: str) -> None:
    """Hand the primary role over; if the peer does not take it, take it back."""
    turn.set(yields=Yield(reason), order=None)
    turn.aim(Goal.STANDBY, reason)


def end_yield(turn: Turn) -> None:
    """Stop yielding once the peer is primary, cannot be, or does not come to it."""
    state = turn.state
    if state.yields is None:
        return
    heard = state.heard
    if state.goal is not Goal.STANDBY or (heard is not None and heard.claims_primary):
        turn.set(yields=None)
    elif state.is_released:
        released_ms = state.yields.released_ms
        if released_ms is None:
            turn.set(yields=Yield(state.yields.reason, state.now_ms))
        elif state.now_ms >= released_ms + YIELD_MS or state.peer_is_lost:
            turn.set(yields=None)
