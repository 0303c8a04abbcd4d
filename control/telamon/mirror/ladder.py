"""The ladder between standby and primary: which step comes next, and what a step's end means.

Invariants:
- Up: replicator, promotion, virtual IPs, start script. Down: stop script, virtual IPs, demotion,
  then following the peer or stopping. One step at a time; the next one only when the facts say that
  the step before is done. So an agent that was restarted goes on where the facts are.
- Going down never ends halfway: each step has a forced variant; only a virtual IP that cannot be
  removed is tried for ever, because two nodes must not hold it.
"""

from telamon.mirror import failure, going_alone
from telamon.mirror.lineage import DataState, ReplicatorRole
from telamon.mirror.report import LinkState, Report
from telamon.mirror.role_action import (
    AddAddresses,
    Connect,
    Demote,
    Disconnect,
    Grant,
    Operation,
    Outdate,
    Promote,
    RemoveAddresses,
    StartApplication,
    StartReplicator,
    StopApplication,
    StopReplicator,
)
from telamon.mirror.role_event import Presence
from telamon.mirror.role_state import Goal, RoleState
from telamon.mirror.role_turn import Turn

ADDRESS_ATTEMPTS = 3


def climb(turn: Turn, *, follows: bool) -> None:
    """Begin the next step, if one is due and none runs. `follows`: a standby is to be connected."""
    state = turn.state
    if state.running is not None or state.now_ms < state.retry_ms:
        return
    operation = _up(state) if state.goal is Goal.PRIMARY else _down(state, follows=follows)
    if operation is not None:
        turn.begin(operation)


def _up(state: RoleState) -> Operation | None:
    if state.replicator is None:
        return StartReplicator()
    if state.role is not ReplicatorRole.PRIMARY:
        return _promotion(state)
    if state.addresses is not Presence.ON:
        return AddAddresses()
    if state.restarts and state.application is not Presence.OFF:
        return StopApplication(force=state.is_urgent)
    if state.application is Presence.UNKNOWN:
        return StopApplication(force=True)
    return StartApplication() if state.application is Presence.OFF else None


def _promotion(state: RoleState) -> Promote:
    lineage = state.replicator.lineage if state.replicator else None
    assert lineage is not None
    first = state.order is not None and not lineage.holds_data
    force = first or (state.order is not None and state.order.force)
    return Promote(force=force, handover=_is_handover(state, state.peer.report))


def _is_handover(state: RoleState, report: Report | None) -> bool:
    """The peer was demoted cleanly just now, and nobody wrote since."""
    return (
        state.is_current
        and report is not None
        and report.released
        and report.lineage is not None
        and state.lineage is not None
        and report.lineage.clean
        and report.lineage.generation == state.lineage.generation
    )


def _down(state: RoleState, *, follows: bool) -> Operation | None:
    if state.application is not Presence.OFF:
        return StopApplication(force=state.is_urgent)
    if state.addresses is not Presence.OFF:
        return RemoveAddresses()
    if state.role is ReplicatorRole.PRIMARY:
        return Demote(force=state.is_urgent)
    if state.goal is Goal.STOP:
        return StopReplicator(force=state.attempts > 0) if state.replicator else None
    if state.replicator is None:
        return StartReplicator()
    return _standing_by(state, follows=follows)


def _standing_by(state: RoleState, *, follows: bool) -> Operation | None:
    assert state.replicator is not None
    if state.role is ReplicatorRole.IDLE:
        return Connect(discard=state.discards) if follows else None
    is_live = state.link is LinkState.LIVE
    if is_live and state.replicator.lineage.data_state is not DataState.UP_TO_DATE:
        # Outdated while the session lived: only a new contact compares, and brings the data up.
        return Disconnect()
    if state.discards and not state.follows_discarding:
        return Disconnect()
    return None


def done(turn: Turn, operation: Operation) -> None:
    """A step ended well. What the replicator is now, its own status says."""
    if isinstance(operation, Grant | Outdate):
        turn.set(aside_attempts=0, aside_retry_ms=0, fault="")
    elif not isinstance(operation, Connect):
        turn.set(attempts=0, retry_ms=0, fault="")
    match operation:
        case StartApplication():
            turn.set(application=Presence.ON, restarts=False)
        case StopApplication():
            turn.set(application=Presence.OFF, restarts=False)
            if turn.state.goal is Goal.PRIMARY:
                turn.set(is_urgent=False)
        case AddAddresses():
            turn.set(addresses=Presence.ON)
        case RemoveAddresses():
            turn.set(addresses=Presence.OFF)
        case StopReplicator():
            turn.set(replicator=None)
        case Connect(discard):
            turn.set(follows_discarding=discard)
        case Promote():
            turn.set(order=None)
        case Outdate():
            going_alone.is_marked(turn)


def failed(turn: Turn, operation: Operation, reason: str) -> None:
    """A step failed, was refused, or ran out of time."""
    match operation:
        case StartApplication():
            _start_failed(turn, reason)
        case StopApplication(force):
            _stop_failed(turn, reason, force=force)
        case Demote(force):
            turn.set(is_urgent=True, fault=reason)
            if force:
                turn.begin(StopReplicator(force=True))
        case Promote():
            _promotion_failed(turn, reason)
        case AddAddresses():
            _taking_addresses_failed(turn, reason)
        case RemoveAddresses():
            turn.set(addresses=Presence.UNKNOWN, fault=reason)
            turn.back_off()
        case Outdate():
            going_alone.marking_failed(turn, reason)
        case Grant():
            turn.set(fault=reason)
            turn.back_off_aside()
        case StartReplicator() | StopReplicator() | Connect() | Disconnect():
            turn.set(fault=reason)
            turn.back_off()


def _start_failed(turn: Turn, reason: str) -> None:
    turn.set(application=Presence.UNKNOWN)
    if turn.state.goal is Goal.PRIMARY:
        failure.stop_here(turn, f"the application did not start: {reason}")


def _taking_addresses_failed(turn: Turn, reason: str) -> None:
    turn.set(addresses=Presence.UNKNOWN, fault=reason)
    if turn.state.attempts + 1 < ADDRESS_ATTEMPTS:
        turn.back_off()
    elif turn.state.goal is Goal.PRIMARY:
        failure.give_up(turn, reason, is_urgent=False)


def _stop_failed(turn: Turn, reason: str, *, force: bool) -> None:
    if not force:
        turn.set(application=Presence.UNKNOWN, is_urgent=True, fault=reason)
        return
    # Nothing gentler or harsher is left here. A forced demotion kills what holds the directories.
    turn.set(application=Presence.OFF, restarts=False, fault=reason)


def _promotion_failed(turn: Turn, reason: str) -> None:
    """The peer may do better: let it, and try again after a while."""
    turn.set(fault=reason, order=None)
    if turn.state.goal is Goal.PRIMARY:
        failure.give_up(turn, reason, is_urgent=False)
        turn.back_off()
