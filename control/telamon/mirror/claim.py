"""Who may become primary: fitness by lineage, precedence between two nodes, and consent.

Invariants:
- A node that hears its peer becomes primary only with the peer's consent to this very request; a
  node that consented does not ask for itself while the other may act on it.
- A node that does not hear its peer becomes primary only if it is current (see `RoleState`), or its
  lineage alone proves that the peer is behind, or the operator ordered it.
- Both nodes rank each other by the same function of both reports, so both pick the same one.

Pure functions of the state; nothing here acts.
"""

from dataclasses import dataclass
from enum import Enum, auto

from telamon.mirror.lineage import (
    DataState,
    Lineage,
    Relation,
    ReplicatorRole,
    Source,
    compare,
)
from telamon.mirror.report import LinkState, ModuleState, Report
from telamon.mirror.role_state import Goal, Isolation, RoleState


class Verdict(Enum):
    """What a standby should do about becoming primary."""

    WAIT = auto()
    FOLLOW = auto()
    ASK = auto()
    """Ask the peer for its consent."""
    PROMOTE = auto()


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and its reason, with the cure where the operator has to act."""

    verdict: Verdict
    reason: str


def is_apart(ours: Lineage, theirs: Lineage) -> bool:
    """Whether the lineages split or have no common origin, and it is open which side loses."""
    relation = compare(ours, theirs).relation
    return (
        relation in (Relation.SPLIT_BRAIN, Relation.UNRELATED)
        and theirs.data_state is DataState.UP_TO_DATE
    )


def is_fit(state: RoleState) -> bool:
    """Whether this node could be primary as far as it is itself concerned."""
    lineage = state.lineage
    return (
        state.goal is Goal.STANDBY
        and state.replicator is not None
        and not state.blocked
        and state.now_ms >= state.retry_ms
        and lineage is not None
        and lineage.holds_data
        and lineage.data_state is DataState.UP_TO_DATE
    )


def judge(state: RoleState) -> Judgement:
    """What a standby whose replicator runs should do. The rules are tried in order."""
    peer = state.settings.peer
    lineage = state.lineage
    assert lineage is not None
    if state.blocked:
        return Judgement(Verdict.WAIT, "; ".join(reason for _, reason in state.blocked))
    heard = state.heard
    if heard is not None and heard.claims_primary:
        return _beside_a_primary(state, heard)
    if not state.is_released:
        return Judgement(Verdict.WAIT, "gives up what a primary holds")
    if state.order is not None:
        return _ordered(state, heard)
    if heard is not None:
        return _beside_a_standby(state, heard)
    if not state.peer_is_lost:
        return Judgement(Verdict.WAIT, f"listens for {peer}")
    return _alone(state, lineage)


def _beside_a_primary(state: RoleState, heard: Report) -> Judgement:
    module, peer = state.settings.module, state.settings.peer
    if state.discards or heard.lineage is None or state.lineage is None:
        return Judgement(Verdict.FOLLOW, "")
    comparison = compare(state.lineage, heard.lineage)
    cure = (
        f"to give up this node's changes run `telamon module second {module}` here; to keep them "
        f"run `telamon module stop {module} --node {peer}`, then `telamon module prim {module} "
        "--force` here"
    )
    if comparison.relation is Relation.SPLIT_BRAIN:
        return Judgement(
            Verdict.WAIT, f"split brain: this node and {peer} wrote apart from each other; {cure}"
        )
    if comparison.relation is Relation.UNRELATED:
        return Judgement(
            Verdict.WAIT, f"the data here has no common origin with that of {peer}; {cure}"
        )
    newer_here = state.lineage.generation != heard.lineage.generation
    if comparison.source is Source.OURS and newer_here and heard.lineage.holds_data:
        return Judgement(Verdict.WAIT, f"{peer} is primary with older data than here; {cure}")
    return Judgement(Verdict.FOLLOW, "")


def refuse_order(state: RoleState, *, force: bool) -> str:
    """Why `prim` is impossible here, as far as the lineages are known; empty if it is possible."""
    module, peer, lineage = state.settings.module, state.settings.peer, state.lineage
    heard = state.heard
    if heard is not None and heard.claims_primary:
        return f"{peer} is primary: exchange the roles with `telamon module swap {module}`"
    if lineage is None or force:
        return ""
    force_cure = f"or give up its changes with `telamon module prim {module} --force`"
    theirs = heard.lineage if heard is not None else None
    if not lineage.holds_data:
        if theirs is not None and theirs.holds_data:
            return f"{peer} holds data and this node none: run `telamon module prim {module}` there"
        return ""
    if lineage.data_state is not DataState.UP_TO_DATE:
        return f"the data here is {lineage.data_state}: start {peer}, {force_cure}"
    is_behind = (
        theirs is not None
        and lineage.generation != theirs.generation
        and compare(lineage, theirs).source is Source.THEIRS
    )
    if is_behind:
        return f"{peer} has newer data: run `telamon module prim {module}` there, {force_cure}"
    return ""


def _ordered(state: RoleState, heard: Report | None) -> Judgement:
    assert state.order is not None
    if refusal := refuse_order(state, force=state.order.force):
        return Judgement(Verdict.WAIT, refusal)
    if heard is not None:
        return Judgement(Verdict.ASK, f"asks {state.settings.peer} for its consent")
    if state.peer_is_lost:
        return Judgement(Verdict.PROMOTE, "becomes primary by the operator's order")
    return Judgement(Verdict.WAIT, f"listens for {state.settings.peer}")


def _beside_a_standby(state: RoleState, heard: Report) -> Judgement:
    """The peer is heard, and does not claim to be primary."""
    peer = state.settings.peer
    if not heard.released:
        return Judgement(Verdict.FOLLOW, f"{peer} gives up the primary role")
    refusal = _lineage_refusal(state, heard)
    if refusal:
        return Judgement(Verdict.WAIT, refusal)
    if not is_fit(state):
        return Judgement(Verdict.WAIT, state.fault or f"waits for {peer}")
    if _precedes(state, heard):
        return Judgement(Verdict.ASK, f"asks {peer} for its consent")
    return Judgement(Verdict.WAIT, f"{peer} is to become primary")


def _lineage_refusal(state: RoleState, heard: Report) -> str:
    """Why this node's data is not fit beside that of the peer; empty if it is."""
    module, ours, theirs = state.settings.module, state.lineage, heard.lineage
    assert ours is not None
    if theirs is None:
        if state.is_current or (ours.may_start_alone and not state.has_diverged):
            return ""
        if heard.state is not ModuleState.STOP:
            return f"waits for the data state of {state.settings.peer}"
        return _no_proof(state, "is stopped")
    comparison = compare(ours, theirs)
    if not ours.holds_data and not theirs.holds_data:
        return (
            "neither node holds data yet: run "
            f"`telamon module prim {module}` on the node with the good data"
        )
    if stranded := _stranded(state, ours, theirs, comparison.source):
        return stranded
    if comparison.source is Source.OURS or comparison.relation is Relation.IN_STEP:
        return ""
    if ours.generation == theirs.generation and _equal_is_enough(state, ours):
        return ""
    if comparison.source is None:
        return _undecided(state, ours, theirs, comparison.relation)
    if comparison.source is Source.EITHER:
        return ""
    if heard.state is ModuleState.STOP:
        return (
            f"{state.settings.peer} has newer data and is stopped: run "
            f"`telamon module start {module}` there"
        )
    return f"{state.settings.peer} has newer data and is to become primary"


def _undecided(state: RoleState, ours: Lineage, theirs: Lineage, relation: Relation) -> str:
    """No side is the source by lineage: the operator chooses, unless only this one is whole."""
    peer = state.settings.peer
    force = "" if ours.data_state is DataState.UP_TO_DATE else " --force"
    prim = f"`telamon module prim {state.settings.module}"
    choose = f"choose the side to keep with {prim}` on {peer} or {prim}{force}` here"
    if relation is Relation.NO_SOURCE:
        return f"the data is {ours.data_state} here and {theirs.data_state} on {peer}; {choose}"
    if not force and not is_apart(ours, theirs):
        return ""
    if relation is Relation.SPLIT_BRAIN:
        return f"split brain: this node and {peer} wrote apart from each other; {choose}"
    return f"the data here has no common origin with that of {peer}; {choose}"


def _stranded(state: RoleState, ours: Lineage, theirs: Lineage, source: Source | None) -> str:
    """The newer data was given up for a primary that never went on: nobody may take it unasked."""
    module, peer = state.settings.module, state.settings.peer
    is_newer_here = source is Source.OURS
    newer = ours if is_newer_here else theirs
    is_marked = newer.data_state is DataState.OUTDATED
    if not is_marked or source is None or ours.generation == theirs.generation:
        return ""
    where = "here" if is_newer_here else f"on {peer}"
    prim = f"`telamon module prim {module} --force`"
    return (
        f"the newer data is {where}, but marked Outdated; choose the side to keep with {prim} on "
        f"{peer} or {prim} here"
    )


def _equal_is_enough(state: RoleState, ours: Lineage) -> bool:
    """With equal generations nobody ever acknowledged alone, so what was acknowledged is here, save
    what was only in this node's memory when it crashed."""
    return ours.data_state is DataState.UP_TO_DATE and (
        state.is_current or ours.clean or state.settings.acknowledges_on_disk
    )


def _no_proof(state: RoleState, what_of_peer: str) -> str:
    module, peer = state.settings.module, state.settings.peer
    return (
        f"{peer} {what_of_peer} and may have newer data: start it, or run "
        f"`telamon module prim {module}` here"
    )


def _alone(state: RoleState, ours: Lineage) -> Judgement:
    """Nothing is heard of the peer."""
    module, peer = state.settings.module, state.settings.peer
    if ours.data_state is not DataState.UP_TO_DATE or not ours.holds_data:
        held = f"{ours.data_state}" if ours.holds_data else "missing"
        return Judgement(
            Verdict.WAIT,
            f"{peer} is not heard and the data here is {held}: start {peer}, or run "
            f"`telamon module prim {module}{' --force' if ours.holds_data else ''}` here",
        )
    if state.has_diverged:
        return Judgement(
            Verdict.WAIT,
            f"the data here and that of {peer}, which is not heard, are apart; start {peer}, or "
            f"keep this side with `telamon module prim {module}` here",
        )
    if not state.is_current and not ours.may_start_alone:
        return Judgement(Verdict.WAIT, _no_proof(state, "is not heard"))
    if state.link in (LinkState.LIVE, LinkState.RESYNC):
        return Judgement(
            Verdict.FOLLOW,
            f"{peer} is not heard, but replication from it goes on: its agent is down",
        )
    if state.settings.isolation is Isolation.WAIT:
        return Judgement(
            Verdict.WAIT,
            f"{peer} is not heard, and `isolation: wait` leaves the decision to you: make sure "
            f"that {peer} is down, then run `telamon module prim {module}` here",
        )
    if not is_fit(state):
        return Judgement(Verdict.WAIT, state.fault or "waits before it tries again")
    return Judgement(Verdict.PROMOTE, f"{peer} is not heard")


def _precedes(state: RoleState, heard: Report) -> bool:
    """Whether this node, rather than the peer, should become primary; the peer is fit or not."""
    if not heard.can_take_over and not heard.candidate_is_ordered:
        return True
    mine = _rank(
        yields=state.yields is not None,
        ordered=state.order is not None,
        is_better=_is_better(state.lineage, heard.lineage),
        is_preferred=state.settings.preferred == state.settings.node,
    )
    theirs = _rank(
        yields=heard.yields,
        ordered=heard.candidate_is_ordered,
        is_better=_is_better(heard.lineage, state.lineage),
        is_preferred=state.settings.preferred == state.settings.peer,
    )
    return mine > theirs or (mine == theirs and state.settings.node < state.settings.peer)


def _rank(
    *, yields: bool, ordered: bool, is_better: bool, is_preferred: bool
) -> tuple[bool, bool, bool, bool]:
    return (ordered, not yields, is_better, is_preferred)


def _is_better(one: Lineage | None, other: Lineage | None) -> bool:
    if one is None or other is None:
        return one is not None
    return compare(one, other).source is Source.OURS


def may_consent(state: RoleState, heard: Report) -> bool:
    """Whether the peer's present request may be consented to."""
    if state.goal is Goal.PRIMARY or not state.is_released or heard.claims_primary:
        return False
    if state.goal is Goal.STANDBY and state.candidate:
        return not _precedes(state, heard)
    if heard.candidate_is_ordered or state.goal is Goal.STOP:
        return True
    if not is_fit(state) or heard.lineage is None or state.lineage is None:
        return True
    newer_here = state.lineage.generation != heard.lineage.generation
    return not (newer_here and _is_better(state.lineage, heard.lineage))


def loses_to(state: RoleState, heard: Report) -> bool:
    """Both nodes claim to be primary: whether this one is to give up."""
    if state.lineage is not None and heard.lineage is not None:
        comparison = compare(state.lineage, heard.lineage)
        if state.lineage.generation != heard.lineage.generation and comparison.source in (
            Source.OURS,
            Source.THEIRS,
        ):
            return comparison.source is Source.THEIRS
    is_primary = state.role is ReplicatorRole.PRIMARY
    if is_primary != (heard.role is ReplicatorRole.PRIMARY):
        return not is_primary
    return state.settings.preferred != state.settings.node
