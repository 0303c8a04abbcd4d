"""What the operator orders: accepted at once, or refused in one sentence with the cure.

Accepted means that the machine heads there; whether it arrives is seen in the module's state.
"""

from collections.abc import Callable

from telamon.mirror import claim, failure
from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.role_action import Answer
from telamon.mirror.role_event import Command, CommandKind, Presence
from telamon.mirror.role_state import Goal, Order
from telamon.mirror.role_turn import Turn


def obey(turn: Turn, command: Command) -> None:
    """Carry a command out or refuse it."""
    refusal = _OBEYED[command.kind](turn, command.force)
    if not refusal:
        turn.set(failures_ms=())
        failure.remember(turn)
    turn.actions.append(Answer(command.number, refusal))


def _begin(turn: Turn) -> None:
    turn.set(intent_is_started=True)
    if turn.state.goal is Goal.STOP:
        turn.aim(Goal.STANDBY)


def _start(turn: Turn, _force: bool) -> str:
    _begin(turn)
    return ""


def _stop(turn: Turn, force: bool) -> str:
    turn.set(intent_is_started=False, order=None, yields=None, discards=False)
    turn.aim(Goal.STOP, "stopped by the operator", is_urgent=force)
    return ""


def _prim(turn: Turn, force: bool) -> str:
    state = turn.state
    if state.goal is Goal.PRIMARY:
        return ""
    if refusal := claim.refuse_order(state, force=force):
        return refusal
    _begin(turn)
    turn.set(order=Order(force), yields=None, discards=False)
    return ""


def _second(turn: Turn, _force: bool) -> str:
    state = turn.state
    peer, module = state.settings.peer, state.settings.module
    if state.goal is Goal.PRIMARY or state.role is ReplicatorRole.PRIMARY:
        return f"this node is primary: run `telamon module swap {module}` or stop it first"
    heard = state.heard
    if heard is None or not heard.claims_primary:
        return f"{peer} is not primary: run `telamon module prim {module}` there first"
    _begin(turn)
    turn.set(order=None, yields=None, discards=True)
    return ""


def _swap(turn: Turn, _force: bool) -> str:
    state = turn.state
    heard = state.heard
    if state.goal is Goal.STANDBY and heard is not None and heard.claims_primary:
        if not state.is_current:
            return "the data here is not in step yet: wait until this node is SECOND ready"
        turn.set(swap_request=turn.new_request())
        return ""
    refusal = failure.swap_refusal(state)
    if not refusal:
        failure.swap(turn, "hands over by the operator's order")
    return refusal


def _restart(turn: Turn, force: bool) -> str:
    state = turn.state
    module, peer = state.settings.module, state.settings.peer
    if state.goal is not Goal.PRIMARY:
        heard = state.heard
        if heard is not None and heard.claims_primary:
            return f"the application runs on {peer}: run `telamon module restart {module}` there"
        return f"the application runs on no node: `telamon module status {module}` says why"
    if state.application is not Presence.ON or state.restarts:
        return "the application is being started or stopped: try again when it is ready"
    turn.set(restarts=True, is_urgent=force, reason="restarted by the operator")
    return ""


_OBEYED: dict[CommandKind, Callable[[Turn, bool], str]] = {
    CommandKind.START: _start,
    CommandKind.STOP: _stop,
    CommandKind.PRIM: _prim,
    CommandKind.SECOND: _second,
    CommandKind.SWAP: _swap,
    CommandKind.RESTART: _restart,
}
