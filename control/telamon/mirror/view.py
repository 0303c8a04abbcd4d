"""What others see of the role machine: state and reason for users, the report for the peer.

Invariant: both are functions of the machine's state alone, so users and peer are told the same.
"""

from telamon.mirror import claim
from telamon.mirror.lineage import DataState, ReplicatorRole
from telamon.mirror.report import CommitState, LinkState, ModuleState, Readiness, Report
from telamon.mirror.role_action import (
    AddAddresses,
    Connect,
    Demote,
    Disconnect,
    Operation,
    Promote,
    RemoveAddresses,
    StartApplication,
    StartReplicator,
    StopApplication,
    StopReplicator,
    View,
)
from telamon.mirror.role_event import Presence
from telamon.mirror.role_state import Goal, RoleState

_DOING: dict[type[Operation], str] = {
    StartReplicator: "starts the replicator",
    StopReplicator: "stops the replicator",
    Connect: "connects to the peer",
    Disconnect: "leaves the peer",
    Promote: "mounts the directories",
    Demote: "unmounts the directories",
    AddAddresses: "takes the virtual IPs",
    RemoveAddresses: "gives up the virtual IPs",
    StartApplication: "runs the start script",
    StopApplication: "runs the stop script",
}


def view_of(state: RoleState, judgement: str) -> View:
    """What users see. `judgement` is the reason why a standby does what it does."""
    if state.goal is Goal.PRIMARY:
        return _primary(state)
    if state.goal is Goal.STOP:
        if state.is_released and state.replicator is None:
            return View(ModuleState.STOP, Readiness.NOT_READY, state.reason)
        return View(ModuleState.WAIT, Readiness.TRANSIENT, _sentence("stops", _doing(state)))
    if not state.is_released:
        reason = _sentence(state.reason or "gives up", _doing(state))
        return View(ModuleState.WAIT, Readiness.TRANSIENT, reason)
    return _standby(state, judgement)


def _primary(state: RoleState) -> View:
    peer = state.settings.peer
    name = ModuleState.PRIM if state.link is LinkState.LIVE else ModuleState.ALONE
    if state.role is not ReplicatorRole.PRIMARY or state.application is not Presence.ON:
        return View(name, Readiness.TRANSIENT, _sentence(_doing(state), state.fault))
    if state.addresses is not Presence.ON or state.restarts:
        return View(name, Readiness.TRANSIENT, _sentence(_doing(state), state.fault))
    if state.link is LinkState.RESYNC:
        return View(name, Readiness.READY, f"{peer} is being brought up to date")
    if name is ModuleState.PRIM:
        return View(name, Readiness.READY, "")
    if state.commits is not CommitState.ALONE:
        return View(name, Readiness.TRANSIENT, _waiting(state))
    heard = state.heard
    told = "is not heard" if heard is None else heard.reason or f"is in state {heard.state}"
    return View(name, Readiness.READY, f"{peer}: {told}")


def _waiting(state: RoleState) -> str:
    peer, heard = state.settings.peer, state.heard
    reasons = [_link_reason(state), heard.outdate_refusal if heard is not None else "", state.fault]
    because = "; ".join(dict.fromkeys(filter(None, reasons)))
    return _sentence(f"commits wait for {peer}", because)


def _standby(state: RoleState, judgement: str) -> View:
    peer = state.settings.peer
    if state.role is ReplicatorRole.SECONDARY:
        if state.link is LinkState.RESYNC:
            return View(ModuleState.SECOND, Readiness.TRANSIENT, f"is brought up to date by {peer}")
        is_whole = state.lineage is not None and state.lineage.data_state is DataState.UP_TO_DATE
        if state.link is LinkState.LIVE and is_whole:
            if state.blocked:
                # It goes on receiving, so that nothing is lost, but it would not take over.
                return View(ModuleState.SECOND, Readiness.NOT_READY, judgement)
            return View(ModuleState.SECOND, Readiness.READY, "")
        if state.is_current:
            lost = f"replication from {peer} is interrupted"
            return View(
                ModuleState.SECOND, Readiness.TRANSIENT, _sentence(lost, _link_reason(state))
            )
    doing = _doing(state) if state.running else ""
    readiness = Readiness.TRANSIENT if doing or state.candidate else Readiness.NOT_READY
    reasons = dict.fromkeys((judgement or doing or _link_reason(state), state.fault))
    reason = "; ".join(filter(None, reasons)) or f"waits for {peer}"
    return View(ModuleState.WAIT, readiness, reason)


def _doing(state: RoleState) -> str:
    return _DOING.get(type(state.running.operation), "") if state.running else ""


def _link_reason(state: RoleState) -> str:
    return state.replicator.link_reason if state.replicator else ""


def _sentence(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


def report(state: RoleState) -> Report:
    """What the peer is told in the next heartbeat."""
    return Report(
        state=state.view.state,
        readiness=state.view.readiness,
        reason=state.view.reason,
        lineage=state.lineage,
        role=state.role,
        link=state.link,
        commits=state.commits,
        claims_primary=state.goal is Goal.PRIMARY,
        released=state.is_released,
        can_take_over=claim.is_fit(state),
        yields=state.yields is not None,
        candidate=state.candidate,
        candidate_is_ordered=bool(state.candidate) and state.order is not None,
        consents_to=state.consents_to,
        outdate_request=state.outdate_request,
        outdated_for=state.outdated_for,
        outdate_refusal=state.outdate_refusal,
        swap_request=state.swap_request,
        swap_answered=state.swap_answered,
        swap_refusal=state.swap_refusal,
    )
