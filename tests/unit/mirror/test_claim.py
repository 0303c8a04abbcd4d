"""Who may become primary: every row of every decision, for a node n1 beside n2."""

from dataclasses import replace
from typing import Any

import pytest
from mirror_values import (
    EMPTY,
    IN_STEP,
    NOW_MS,
    SETTINGS,
    STRANGE,
    WENT_ALONE,
    WENT_APART,
    as_primary,
    facts,
    heard,
    lost,
    outdated,
    standby,
    told,
    torn,
)

from telamon.mirror.claim import (
    Verdict,
    is_apart,
    is_fit,
    judge,
    loses_to,
    may_consent,
    refuse_order,
)
from telamon.mirror.lineage import Lineage, ReplicatorRole
from telamon.mirror.report import LinkState, ModuleState, Report
from telamon.mirror.role_event import Presence
from telamon.mirror.role_state import Goal, Isolation, Order, Peer, RoleState, Yield

WAIT, FOLLOW, ASK, PROMOTE = Verdict.WAIT, Verdict.FOLLOW, Verdict.ASK, Verdict.PROMOTE
WAITS = replace(SETTINGS, isolation=Isolation.WAIT)
IN_MEMORY = replace(SETTINGS, acknowledges_on_disk=False)
UNCLEAN = replace(IN_STEP, clean=False)
WAS_PRIMARY = replace(UNCLEAN, role_at_shutdown=ReplicatorRole.PRIMARY)
SECONDARY = {"role": ReplicatorRole.SECONDARY}


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        # What stands before everything else.
        ({"blocked": (("disk", "check disk: full"),)}, WAIT, "check disk: full"),
        ({"peer": Peer()}, WAIT, "listens for n2"),
        ({"peer": lost(), "addresses": Presence.ON}, WAIT, "gives up what a primary holds"),
        # Nobody is heard.
        ({"peer": lost(), "is_current": True}, PROMOTE, "n2 is not heard"),
        ({"peer": lost()}, WAIT, "may have newer data: start it, or run `telamon module prim db`"),
        ({"peer": lost(), "lineage": WENT_ALONE}, PROMOTE, "n2 is not heard"),
        ({"peer": lost(), "lineage": EMPTY}, WAIT, "the data here is missing: start n2"),
        ({"peer": lost(), "lineage": outdated(IN_STEP)}, WAIT, "is Outdated: start n2"),
        ({"peer": lost(), "lineage": torn(IN_STEP), "is_current": True}, WAIT, "prim db --force`"),
        (
            {"peer": lost(), "lineage": WENT_ALONE, "has_diverged": True},
            WAIT,
            "are apart; start n2, or keep this side",
        ),
        (
            {"peer": lost(), "is_current": True, "has_diverged": True},
            WAIT,
            "are apart; start n2, or keep this side",
        ),
        (
            {"peer": lost(), "is_current": True, "replicator": facts(link=LinkState.LIVE)},
            FOLLOW,
            "its agent is down",
        ),
        (
            {"peer": lost(), "lineage": WENT_ALONE, "replicator": facts(link=LinkState.RESYNC)},
            FOLLOW,
            "its agent is down",
        ),
        (
            {"peer": lost(), "is_current": True, "settings": WAITS},
            WAIT,
            "`isolation: wait` leaves the decision to you",
        ),
        (
            {"peer": lost(), "is_current": True, "retry_ms": NOW_MS + 1, "fault": "mount failed"},
            WAIT,
            "mount failed",
        ),
        # A loss that this machine, which stood still, must not judge yet.
        ({"peer": lost(), "is_current": True, "doubts_until_ms": NOW_MS + 1}, WAIT, "listens"),
        # A goodbye counts at once only from a node whose module had stopped.
        (
            {"peer": lost(told(), since_ms=NOW_MS, said_goodbye=True), "is_current": True},
            WAIT,
            "listens for n2",
        ),
        (
            {
                "peer": lost(told(state=ModuleState.STOP), since_ms=NOW_MS, said_goodbye=True),
                "is_current": True,
            },
            PROMOTE,
            "n2 is not heard",
        ),
        # The operator's order.
        ({"order": Order(), "peer": lost()}, PROMOTE, "by the operator's order"),
        ({"order": Order(), "peer": heard(told())}, ASK, "asks n2 for its consent"),
        ({"order": Order(), "peer": Peer()}, WAIT, "listens for n2"),
        (
            {"order": Order(), "peer": heard(told(lineage=WENT_ALONE))},
            WAIT,
            "n2 has newer data",
        ),
    ],
)
def test_judgement_of_a_standby(changes: dict[str, Any], verdict: Verdict, says: str) -> None:
    judgement = judge(standby(**changes))
    assert (judgement.verdict, says in judgement.reason) == (verdict, True), judgement.reason


@pytest.mark.parametrize(
    ("ours", "theirs", "changes", "verdict", "says"),
    [
        (IN_STEP, IN_STEP, {}, FOLLOW, ""),
        (IN_STEP, WENT_ALONE, {}, FOLLOW, ""),
        (EMPTY, WENT_ALONE, {}, FOLLOW, ""),
        (IN_STEP, None, {}, FOLLOW, ""),
        (WENT_ALONE, WENT_APART, {}, WAIT, "split brain"),
        (WENT_ALONE, WENT_APART, {"discards": True}, FOLLOW, ""),
        (IN_STEP, STRANGE, {}, WAIT, "no common origin"),
        (WENT_ALONE, IN_STEP, {}, WAIT, "n2 is primary with older data than here"),
        (WENT_ALONE, EMPTY, {}, FOLLOW, ""),
        (IN_STEP, torn(IN_STEP), {}, FOLLOW, ""),
    ],
)
def test_beside_a_primary(
    ours: Lineage, theirs: Lineage | None, changes: dict[str, Any], verdict: Verdict, says: str
) -> None:
    peer = heard(as_primary(lineage=theirs))
    judgement = judge(standby(lineage=ours, peer=peer, **changes))
    assert (judgement.verdict, says in judgement.reason) == (verdict, True), judgement.reason
    assert ("telamon module second db" in judgement.reason) == (verdict is WAIT)


@pytest.mark.parametrize(
    ("ours", "theirs", "changes", "verdict", "says"),
    [
        # Equal data: precedence decides, and n1 is preferred.
        (IN_STEP, told(), {}, ASK, "asks n2"),
        (IN_STEP, told(can_take_over=False), {}, ASK, "asks n2"),
        (IN_STEP, told(), {"settings": replace(SETTINGS, preferred="n2")}, WAIT, "n2 is to become"),
        (IN_STEP, told(), {"yields": Yield("failed")}, WAIT, "n2 is to become primary"),
        (IN_STEP, told(yields=True), {"yields": Yield("failed")}, ASK, "asks n2"),
        (IN_STEP, told(candidate=1, candidate_is_ordered=True), {}, WAIT, "n2 is to become"),
        (IN_STEP, told(released=False), {}, FOLLOW, "n2 gives up the primary role"),
        (IN_STEP, told(), {"retry_ms": NOW_MS + 1}, WAIT, "waits for n2"),
        # The better data goes first, whoever is preferred.
        (WENT_ALONE, told(), {"settings": replace(SETTINGS, preferred="n2")}, ASK, "asks n2"),
        (IN_STEP, told(lineage=WENT_ALONE), {}, WAIT, "n2 has newer data and is to become"),
        (
            IN_STEP,
            told(lineage=WENT_ALONE, state=ModuleState.STOP),
            {},
            WAIT,
            "is stopped: run `telamon module start db` there",
        ),
        # Neither holds data, or one side's is not whole.
        (EMPTY, told(lineage=EMPTY), {}, WAIT, "neither node holds data yet"),
        (EMPTY, told(), {}, WAIT, "n2 has newer data"),
        (IN_STEP, told(lineage=EMPTY), {}, ASK, "asks n2"),
        (outdated(IN_STEP), told(), {}, WAIT, "n2 has newer data"),
        (torn(IN_STEP), told(lineage=torn(IN_STEP)), {}, WAIT, "choose the side to keep"),
        (outdated(IN_STEP), told(lineage=outdated(IN_STEP)), {}, WAIT, "choose the side to keep"),
        # The newer side was marked Outdated: nobody takes it unasked.
        (IN_STEP, told(lineage=outdated(WENT_ALONE)), {}, WAIT, "the newer data is on n2, but"),
        (outdated(WENT_ALONE), told(), {}, WAIT, "the newer data is here, but marked Outdated"),
        # Apart.
        (WENT_ALONE, told(lineage=WENT_APART), {}, WAIT, "split brain"),
        (WENT_ALONE, told(lineage=outdated(WENT_APART)), {}, ASK, "asks n2"),
        (IN_STEP, told(lineage=STRANGE), {}, WAIT, "no common origin"),
        (outdated(WENT_ALONE), told(lineage=WENT_APART), {}, WAIT, "prim db --force` here"),
        # After a crash of both: what was acknowledged on disk is on both; in memory, perhaps not.
        (UNCLEAN, told(lineage=WAS_PRIMARY), {}, WAIT, "n2 is to become primary"),
        (UNCLEAN, told(lineage=WAS_PRIMARY, can_take_over=False), {}, ASK, "asks n2"),
        (UNCLEAN, told(lineage=WAS_PRIMARY), {"settings": IN_MEMORY}, WAIT, "n2 has newer data"),
        (
            UNCLEAN,
            told(lineage=WAS_PRIMARY),
            {"settings": IN_MEMORY, "is_current": True},
            WAIT,
            "n2 is to become primary",
        ),
        (UNCLEAN, told(lineage=UNCLEAN), {"settings": IN_MEMORY}, ASK, "asks n2"),
        # The peer's data is not known.
        (IN_STEP, told(lineage=None), {}, WAIT, "waits for the data state of n2"),
        (IN_STEP, told(lineage=None), {"is_current": True}, ASK, "asks n2"),
        (WENT_ALONE, told(lineage=None), {}, ASK, "asks n2"),
        (WENT_ALONE, told(lineage=None), {"has_diverged": True}, WAIT, "waits for the data state"),
        (
            IN_STEP,
            told(lineage=None, state=ModuleState.STOP, can_take_over=False),
            {},
            WAIT,
            "n2 is stopped and may have newer data",
        ),
    ],
)
def test_beside_a_standby(
    ours: Lineage, theirs: Report, changes: dict[str, Any], verdict: Verdict, says: str
) -> None:
    judgement = judge(standby(lineage=ours, peer=heard(theirs), **changes))
    assert (judgement.verdict, says in judgement.reason) == (verdict, True), judgement.reason


@pytest.mark.parametrize(
    ("ours", "peer", "is_forced", "says"),
    [
        (IN_STEP, lost(), False, ""),
        (IN_STEP, heard(told()), False, ""),
        (EMPTY, heard(told(lineage=EMPTY)), False, ""),
        (None, heard(told()), False, ""),
        (IN_STEP, heard(as_primary()), False, "exchange the roles with `telamon module swap db`"),
        (IN_STEP, heard(as_primary()), True, "exchange the roles with `telamon module swap db`"),
        (EMPTY, heard(told()), False, "n2 holds data and this node none"),
        (EMPTY, heard(told()), True, ""),
        (outdated(IN_STEP), lost(), False, "the data here is Outdated: start n2, or give up"),
        (outdated(IN_STEP), lost(), True, ""),
        (IN_STEP, heard(told(lineage=WENT_ALONE)), False, "n2 has newer data"),
        (IN_STEP, heard(told(lineage=WENT_ALONE)), True, ""),
        (WENT_ALONE, heard(told(lineage=WENT_APART)), False, ""),
        (UNCLEAN, heard(told(lineage=WAS_PRIMARY)), False, ""),
    ],
)
def test_an_order_is_refused_with_the_cure(
    ours: Lineage | None, peer: Peer, is_forced: bool, says: str
) -> None:
    refusal = refuse_order(standby(lineage=ours, peer=peer), force=is_forced)
    assert bool(refusal) == bool(says) and says in refusal, refusal


@pytest.mark.parametrize(
    ("changes", "is_so"),
    [
        ({}, True),
        ({"goal": Goal.STOP}, False),
        ({"goal": Goal.PRIMARY}, False),
        ({"replicator": None}, False),
        ({"blocked": (("disk", "full"),)}, False),
        ({"retry_ms": NOW_MS + 1}, False),
        ({"lineage": None}, False),
        ({"lineage": EMPTY}, False),
        ({"lineage": outdated(IN_STEP)}, False),
        ({"lineage": torn(IN_STEP)}, False),
    ],
)
def test_fitness(changes: dict[str, Any], is_so: bool) -> None:
    assert is_fit(standby(**changes)) == is_so


@pytest.mark.parametrize(
    ("changes", "asking", "is_allowed"),
    [
        ({}, {}, True),
        ({"goal": Goal.STOP}, {}, True),
        ({"goal": Goal.PRIMARY}, {}, False),
        ({"addresses": Presence.ON}, {}, False),
        ({"application": Presence.UNKNOWN}, {}, False),
        ({"replicator": facts(role=ReplicatorRole.PRIMARY)}, {}, False),
        ({}, {"claims_primary": True}, False),
        # Both ask: the same precedence on both sides.
        ({"candidate": 4}, {}, False),
        ({"candidate": 4}, {"candidate_is_ordered": True}, True),
        ({"candidate": 4, "yields": Yield("failed")}, {}, True),
        ({"candidate": 4, "settings": replace(SETTINGS, preferred="n2")}, {}, True),
        # Data that is newer here is not given away, save by an order.
        ({"lineage": WENT_ALONE}, {}, False),
        ({"lineage": WENT_ALONE}, {"candidate_is_ordered": True}, True),
        ({"lineage": WENT_ALONE, "goal": Goal.STOP}, {}, True),
        ({"lineage": WENT_ALONE, "blocked": (("disk", "full"),)}, {}, True),
        ({"lineage": WENT_ALONE}, {"lineage": None}, True),
        ({"lineage": WAS_PRIMARY}, {"lineage": UNCLEAN}, True),
    ],
)
def test_consent(changes: dict[str, Any], asking: dict[str, Any], is_allowed: bool) -> None:
    assert may_consent(standby(**changes), told(candidate=9, **asking)) == is_allowed


def primary(lineage: Lineage | None, role: ReplicatorRole, preferred: str = "n1") -> RoleState:
    return standby(
        goal=Goal.PRIMARY,
        lineage=lineage,
        replicator=facts(role=role),
        settings=replace(SETTINGS, preferred=preferred),
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "role", "their_role", "preferred", "gives_up"),
    [
        (WENT_ALONE, IN_STEP, "primary", "primary", "n2", False),
        (IN_STEP, WENT_ALONE, "primary", "primary", "n1", True),
        # Equal or undecided data: who holds the role keeps it, then the preferred node.
        (IN_STEP, IN_STEP, "primary", "idle", "n2", False),
        (IN_STEP, IN_STEP, "idle", "primary", "n1", True),
        (IN_STEP, IN_STEP, "primary", "primary", "n1", False),
        (IN_STEP, IN_STEP, "primary", "primary", "n2", True),
        (WENT_ALONE, WENT_APART, "primary", "primary", "n1", False),
        (WENT_ALONE, WENT_APART, "primary", "primary", "n2", True),
        (WAS_PRIMARY, UNCLEAN, "primary", "primary", "n2", True),
        (IN_STEP, None, "primary", "primary", "n2", True),
    ],
)
def test_of_two_primaries_exactly_one_gives_up(  # noqa: PLR0917 - a row of the table
    ours: Lineage,
    theirs: Lineage | None,
    role: str,
    their_role: str,
    preferred: str,
    gives_up: bool,
) -> None:
    roles = ReplicatorRole(role), ReplicatorRole(their_role)
    beside = as_primary(role=roles[1], lineage=theirs)
    assert loses_to(primary(ours, roles[0], preferred), beside) == gives_up
    swapped = replace(SETTINGS, node="n2", peer="n1", preferred=preferred)
    mirrored = replace(primary(theirs, roles[1]), settings=swapped)
    assert loses_to(mirrored, as_primary(role=roles[0], lineage=ours)) == (not gives_up)


def test_what_is_apart() -> None:
    assert is_apart(WENT_ALONE, WENT_APART)
    assert is_apart(IN_STEP, STRANGE)
    assert not is_apart(WENT_ALONE, outdated(WENT_APART))
    assert not is_apart(IN_STEP, WENT_ALONE)
