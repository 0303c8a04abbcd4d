"""Going alone: row by row, both sides, and the whole exchange between two machines' reports."""

from dataclasses import replace
from typing import Any

import pytest
from mirror_values import (
    EMPTY,
    IN_STEP,
    NOW_MS,
    OLD,
    SETTINGS,
    THEM,
    US,
    WENT_ALONE,
    WENT_APART,
    Node,
    as_primary,
    begun,
    facts,
    heard,
    lost,
    outdated,
    standby,
    told,
    torn,
)

from telamon.mirror import going_alone
from telamon.mirror.going_alone import MARK_ATTEMPTS
from telamon.mirror.lineage import DataState, Lineage, ReplicatorRole
from telamon.mirror.report import Answered, CommitState, LinkState, ModuleState, Report
from telamon.mirror.role_action import Grant, Outdate, StartReplicator
from telamon.mirror.role_event import PeerLost, ReplicatorDied, StepFailed
from telamon.mirror.role_state import Goal, Isolation, Order, Peer, RoleState, Running
from telamon.mirror.role_turn import Turn

WAITS = replace(SETTINGS, isolation=Isolation.WAIT)
ASKED = 5
MARKED = Answered(US, ASKED)


def waiting_primary(**changes: Any) -> RoleState:
    """A primary whose commits wait since its link was lost; it has asked n2 to be outdated."""
    return standby(
        **{
            "goal": Goal.PRIMARY,
            "replicator": facts(role=ReplicatorRole.PRIMARY),
            "outdate_request": ASKED,
            "peer": heard(told()),
            **changes,
        }
    )


def primary_facts(**changes: Any) -> Any:
    return facts(role=ReplicatorRole.PRIMARY, **changes)


@pytest.mark.parametrize(
    ("changes", "is_granted"),
    [
        # (a) the peer has answered this very request
        ({"peer": heard(told(outdated_for=MARKED))}, True),
        ({"peer": heard(told())}, False),
        ({"peer": heard(told(outdated_for=Answered(US, ASKED - 1)))}, False),
        ({"peer": heard(told(outdated_for=Answered(US + 1, ASKED)))}, False),
        # ... or promised it without a mark, which is enough only where silence would be
        ({"peer": heard(told(outdated_for=MARKED, outdate_refusal="no space"))}, True),
        (
            {
                "peer": heard(told(outdated_for=MARKED, outdate_refusal="no space")),
                "settings": WAITS,
            },
            False,
        ),
        # (b) the peer is being brought up
        ({"replicator": primary_facts(link=LinkState.RESYNC)}, True),
        # (c) the peer is silent
        ({"peer": lost()}, True),
        ({"peer": Peer()}, False),
        ({"peer": lost(), "doubts_until_ms": NOW_MS + 1}, False),
        ({"peer": lost(told(), since_ms=NOW_MS, said_goodbye=True)}, False),
        ({"peer": lost(told(), since_ms=NOW_MS - 2_000, said_goodbye=True)}, True),
        ({"peer": lost(told(state=ModuleState.STOP), since_ms=NOW_MS, said_goodbye=True)}, True),
        ({"peer": lost(), "settings": WAITS}, False),
        ({"peer": lost(told(state=ModuleState.STOP)), "settings": WAITS}, True),
        ({"peer": lost(), "settings": WAITS, "order": Order()}, True),
        # (d) the peer is heard, does not hear us for the loss time, and is unfit
        ({"peer": heard(told(can_take_over=False), deaf_since_ms=NOW_MS - 2_000)}, True),
        ({"peer": heard(told(can_take_over=False), deaf_since_ms=NOW_MS - 1_999)}, False),
        ({"peer": heard(told(), deaf_since_ms=NOW_MS - 9_000)}, False),
        (
            {
                "peer": heard(
                    told(can_take_over=False, released=False), deaf_since_ms=NOW_MS - 9_000
                )
            },
            False,
        ),
        # Never beside another primary, whatever it answered before.
        ({"peer": heard(as_primary(outdated_for=MARKED))}, False),
        # After a hand-over the former primary connects in a moment.
        ({"peer": heard(told(outdated_for=MARKED)), "promoted_ms": NOW_MS - 1_999}, False),
        ({"peer": heard(told(outdated_for=MARKED)), "promoted_ms": NOW_MS - 2_000}, True),
        (
            {
                "peer": heard(told(outdated_for=MARKED, state=ModuleState.STOP)),
                "promoted_ms": NOW_MS,
            },
            True,
        ),
        (
            {
                "peer": heard(told(outdated_for=MARKED, lineage=replace(IN_STEP, clean=False))),
                "promoted_ms": NOW_MS,
            },
            True,
        ),
        # Where no grant is needed, or none may begin.
        ({"peer": lost(), "goal": Goal.STANDBY}, False),
        ({"peer": lost(), "replicator": facts()}, False),
        ({"peer": lost(), "replicator": primary_facts(link=LinkState.LIVE)}, False),
        ({"peer": lost(), "replicator": primary_facts(commits=CommitState.ALONE)}, False),
        ({"peer": lost(), "aside": Running(1, Grant(), NOW_MS + 1)}, False),
        ({"peer": lost(), "aside_retry_ms": NOW_MS + 1}, False),
        ({"peer": lost(), "retry_ms": NOW_MS + 1}, True),
    ],
)
def test_when_a_primary_goes_alone(changes: dict[str, Any], is_granted: bool) -> None:
    turn = Turn(waiting_primary(**changes))
    going_alone.go_alone(turn)
    assert begun(turn) == ([Grant()] if is_granted else [])


def test_it_asks_before_it_goes_and_withdraws_when_the_link_returns() -> None:
    turn = Turn(waiting_primary(outdate_request=0))
    going_alone.go_alone(turn)
    assert turn.state.outdate_request == 1 and not turn.actions
    live = replace(turn.state, replicator=primary_facts(link=LinkState.LIVE))
    turn = Turn(live)
    going_alone.go_alone(turn)
    assert turn.state.outdate_request == 0 and not turn.actions


def test_with_isolation_wait_it_gives_up_instead() -> None:
    turn = Turn(waiting_primary(settings=WAITS, peer=lost()))
    going_alone.go_alone(turn)
    assert turn.state.goal is Goal.STANDBY
    assert "`isolation: wait` forbids going alone" in turn.state.reason


ASKS = as_primary(outdate_request=ASKED)
ANSWER = Answered(THEM, ASKED)


@pytest.mark.parametrize(
    ("changes", "asks", "marks", "answers"),
    [
        ({}, ASKS, True, False),
        ({"outdated_for": ANSWER}, ASKS, False, True),
        ({"outdated_for": Answered(THEM, ASKED - 1)}, ASKS, True, None),
        ({"outdated_for": ANSWER, "outdate_refusal": "no space"}, ASKS, True, True),
        ({}, as_primary(), False, False),
        # Nothing to mark: it is no candidate, or becomes none.
        ({"lineage": outdated(IN_STEP)}, ASKS, False, True),
        ({"lineage": torn(IN_STEP)}, ASKS, False, True),
        ({"lineage": EMPTY}, ASKS, False, True),
        ({"replicator": None, "goal": Goal.STOP}, ASKS, False, True),
        ({"replicator": None, "attempts": MARK_ATTEMPTS}, ASKS, False, True),
        # A replicator that runs in a moment is waited for.
        ({"replicator": None}, ASKS, False, False),
        ({"replicator": None, "attempts": MARK_ATTEMPTS - 1}, ASKS, False, False),
        # A stopping node with a replicator still marks.
        ({"goal": Goal.STOP}, ASKS, True, False),
        # Never in a live session, nor as a primary.
        (
            {"replicator": facts(role=ReplicatorRole.SECONDARY, link=LinkState.LIVE)},
            ASKS,
            False,
            False,
        ),
        ({"goal": Goal.PRIMARY}, ASKS, False, False),
        ({"replicator": facts(role=ReplicatorRole.PRIMARY)}, ASKS, False, False),
        # One at a time, and not again at once after a failure.
        ({"aside": Running(1, Grant(), NOW_MS + 1)}, ASKS, False, False),
        ({"aside_retry_ms": NOW_MS + 1}, ASKS, False, False),
    ],
)
def test_the_other_side_marks_itself_and_answers(
    changes: dict[str, Any], asks: Report, marks: bool, answers: bool | None
) -> None:
    turn = Turn(standby(is_current=True, candidate=3, peer=heard(asks), **changes))
    going_alone.answer_outdate_request(turn)
    assert begun(turn) == ([Outdate(OLD)] if marks else [])
    if answers is not None:
        assert (turn.state.outdated_for == ANSWER) == answers


def test_who_is_asked_is_not_current_from_that_moment() -> None:
    turn = Turn(standby(is_current=True, candidate=3, peer=heard(ASKS)))
    going_alone.answer_outdate_request(turn)
    assert not turn.state.is_current and turn.state.candidate == 0


@pytest.mark.parametrize(
    ("ours", "changes", "report", "marks"),
    [
        # Beside a primary that went on without this node.
        (IN_STEP, {}, as_primary(lineage=WENT_ALONE), True),
        (IN_STEP, {"discards": True}, as_primary(lineage=WENT_ALONE), True),
        (IN_STEP, {}, as_primary(), False),
        (IN_STEP, {}, as_primary(lineage=WENT_ALONE, role=ReplicatorRole.IDLE), False),
        (IN_STEP, {}, told(lineage=WENT_ALONE), False),
        (outdated(IN_STEP), {}, as_primary(lineage=WENT_ALONE), False),
        (WENT_ALONE, {}, as_primary(), False),
        (IN_STEP, {"goal": Goal.STOP}, as_primary(lineage=WENT_ALONE), False),
        (IN_STEP, {"aside_retry_ms": NOW_MS + 1}, as_primary(lineage=WENT_ALONE), False),
        # Beside a primary that wrote apart.
        (WENT_ALONE, {"has_diverged": True}, as_primary(lineage=WENT_APART), True),
        (
            WENT_ALONE,
            {"has_diverged": True, "discards": True},
            as_primary(lineage=WENT_APART),
            False,
        ),
        (WENT_ALONE, {"has_diverged": True}, told(lineage=WENT_APART), False),
    ],
)
def test_the_lost_side_keeps_it_in_mind(
    ours: Lineage, changes: dict[str, Any], report: Report, marks: bool
) -> None:
    turn = Turn(standby(lineage=ours, peer=heard(report), **changes))
    going_alone.outdate_a_lost_side(turn)
    assert begun(turn) == ([Outdate(ours.generation)] if marks else [])


@pytest.mark.parametrize("link", [LinkState.RESYNC, LinkState.LIVE])
def test_a_side_that_is_brought_up_is_not_marked(link: LinkState) -> None:
    secondary = facts(role=ReplicatorRole.SECONDARY, link=link)
    turn = Turn(standby(replicator=secondary, peer=heard(as_primary(lineage=WENT_ALONE))))
    going_alone.outdate_a_lost_side(turn)
    assert begun(turn) == []


def following() -> Node:
    """A secondary in step behind n2, whose session has just been lost."""
    live = facts(role=ReplicatorRole.SECONDARY, link=LinkState.LIVE)
    node = Node().begin(live).told(as_primary(link=LinkState.LIVE))
    assert node.state.is_current
    return node.status(link=LinkState.CONNECTING)


def test_a_mark_is_answered_when_it_is_durable_and_not_before() -> None:
    node = following().told(ASKS)
    assert node.state.outdated_for is None and not node.state.is_current
    marked = outdated(IN_STEP)
    node.status(lineage=marked).done(Outdate)
    assert node.state.outdated_for == ANSWER and not node.state.outdate_refusal
    assert node.state.lineage is not None
    assert node.state.lineage.data_state is DataState.OUTDATED
    assert not node.take(PeerLost(), after_ms=3_000).has_asked(Grant)
    assert node.state.goal is Goal.STANDBY


def test_a_mark_that_fails_is_no_mark_until_a_promise_must_do() -> None:
    node = following().told(ASKS)
    for _ in range(MARK_ATTEMPTS - 1):
        node.failed(Outdate, "no space left")
        assert node.state.outdated_for is None
        while node.state.aside is None:
            node.wait(200)
    node.failed(Outdate, "no space left")
    assert node.state.outdated_for == ANSWER
    assert node.state.outdate_refusal == "n1 cannot mark its data Outdated: no space left"
    # It goes on trying, and takes the refusal back once the mark is there.
    node.wait(6_000).status(lineage=outdated(IN_STEP)).done(Outdate)
    assert node.state.outdate_refusal == ""


def test_a_mark_that_does_not_end_becomes_a_promise_when_silence_would_count() -> None:
    node = following().told(ASKS)
    node.wait(SETTINGS.lost_after_ms - 200)
    assert node.state.outdated_for is None and not node.state.is_current
    node.wait(200)
    assert node.state.outdated_for == ANSWER
    assert "n1 cannot mark its data Outdated" in node.state.outdate_refusal
    # Its late end is worth as much as an early one.
    node.status(lineage=outdated(IN_STEP)).done(Outdate)
    assert node.state.outdated_for == ANSWER and node.state.outdate_refusal == ""


def test_a_refused_grant_is_not_hammered_but_tried_when_the_facts_change() -> None:
    node = Node().begin(facts(role=ReplicatorRole.PRIMARY, link=LinkState.LIVE))
    node.told(told()).status(link=LinkState.DOWN).take(PeerLost(), after_ms=100)
    node.failed(Grant, "the session is about to be live")
    for _ in range(20):
        node.take(PeerLost())
    assert len([one for one in node.asked if isinstance(one.operation, Grant)]) == 1
    node.status(link=LinkState.CONNECTING)
    assert len([one for one in node.asked if isinstance(one.operation, Grant)]) == 2
    for _ in range(10):
        serial = node.pending(Grant).serial
        node.take(StepFailed(serial, "refused")).wait(1_000)
    grants = [one for one in node.asked if isinstance(one.operation, Grant)]
    assert 5 <= len(grants) <= 10, "each time later"


def test_a_secondary_whose_replicator_died_marks_before_it_answers() -> None:
    node = following().take(ReplicatorDied("killed")).told(ASKS)
    assert node.state.outdated_for is None
    node.wait(1_000)
    assert node.has_asked(StartReplicator)
    node.status(role=ReplicatorRole.IDLE, link=LinkState.DOWN)
    assert node.has_asked(Outdate) and node.state.outdated_for is None
    node.status(lineage=outdated(IN_STEP)).done(Outdate)
    assert node.state.outdated_for == ANSWER
