"""Failures: cured here, left to the peer, or the end of the module on this node."""

from dataclasses import replace
from typing import Any

import pytest
from mirror_values import (
    NOW_MS,
    SETTINGS,
    Node,
    as_primary,
    facts,
    heard,
    lost,
    standby,
    told,
)

from telamon.mirror import failure
from telamon.mirror.failure import YIELD_MS, swap_refusal
from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.report import LinkState
from telamon.mirror.role_action import (
    Demote,
    Promote,
    Remember,
    RemoveAddresses,
    StartApplication,
    StartReplicator,
    StopApplication,
)
from telamon.mirror.role_event import (
    CheckAction,
    CheckFailed,
    CheckRecovered,
    Command,
    CommandKind,
    Presence,
    ReplicatorDied,
)
from telamon.mirror.role_state import Goal, RoleState, Running, Yield
from telamon.mirror.role_turn import Turn

HOUR_MS = 3_600_000
PRIMARY = facts(role=ReplicatorRole.PRIMARY, link=LinkState.LIVE)


def serving(**changes: Any) -> RoleState:
    """A primary with everything, and a peer that could take over."""
    return standby(
        **{
            "goal": Goal.PRIMARY,
            "replicator": PRIMARY,
            "application": Presence.ON,
            "addresses": Presence.ON,
            "peer": heard(told()),
            **changes,
        }
    )


def checked(state: RoleState, action: CheckAction) -> RoleState:
    turn = Turn(state)
    failure.check_failed(turn, CheckFailed("tcp", action, "nothing listens"))
    return turn.state


def test_failures_are_counted_within_the_window_and_the_one_too_many_stops_here() -> None:
    turn = Turn(serving(failures_ms=(NOW_MS - 25 * HOUR_MS,), now_ms=NOW_MS))
    assert failure.count(turn, "one")
    assert turn.state.failures_ms == (NOW_MS,), "what is older than the window is forgotten"
    assert failure.count(turn, "two") and failure.count(turn, "three")
    assert not failure.count(turn, "four")
    assert turn.state.goal is Goal.STOP and not turn.state.intent_is_started
    assert "failed more than 3 times within 24 h, at last: four" in turn.state.reason
    assert turn.actions[-1] == Remember(False, (NOW_MS,) * 4)


@pytest.mark.parametrize(
    ("action", "state", "expected"),
    [
        (CheckAction.RESTART, serving(), {"restarts": True, "failures_ms": (NOW_MS,)}),
        (CheckAction.RESTART, serving(restarts=True), {"failures_ms": ()}),
        (CheckAction.RESTART, serving(application=Presence.UNKNOWN), {"restarts": False}),
        (CheckAction.RESTART, standby(), {"restarts": False, "failures_ms": ()}),
        (CheckAction.STOPSTART, serving(), {"goal": Goal.STANDBY, "failures_ms": (NOW_MS,)}),
        (CheckAction.STOPSTART, standby(), {"goal": Goal.STANDBY, "failures_ms": ()}),
        (CheckAction.STOP, serving(), {"goal": Goal.STOP, "intent_is_started": False}),
        (CheckAction.STOP, standby(), {"goal": Goal.STOP, "intent_is_started": False}),
        (CheckAction.SWAP, serving(), {"goal": Goal.STANDBY}),
        (CheckAction.SWAP, serving(peer=lost()), {"goal": Goal.PRIMARY, "yields": None}),
        (CheckAction.WAIT, serving(), {"goal": Goal.STANDBY, "failures_ms": (NOW_MS,)}),
        (CheckAction.WAIT, standby(), {"goal": Goal.STANDBY, "failures_ms": ()}),
        *((action, standby(goal=Goal.STOP), {"goal": Goal.STOP}) for action in CheckAction),
    ],
)
def test_what_a_check_may_ask_for(
    action: CheckAction, state: RoleState, expected: dict[str, object]
) -> None:
    after = checked(state, action)
    assert {key: getattr(after, key) for key in expected} == expected


def test_a_check_that_waits_blocks_until_it_recovers() -> None:
    blocked = checked(standby(), CheckAction.WAIT)
    assert blocked.blocked == (("tcp", "check tcp: nothing listens"),)
    again = checked(blocked, CheckAction.WAIT)
    assert again.blocked == blocked.blocked and not again.failures_ms
    turn = Turn(again)
    failure.check_recovered(turn, CheckRecovered("disk"))
    assert turn.state.blocked
    failure.check_recovered(turn, CheckRecovered("tcp"))
    assert not turn.state.blocked


def test_a_primary_whose_replicator_dies_gives_up_by_force() -> None:
    node = Node().begin(PRIMARY, application=Presence.ON, addresses=Presence.ON).told(told())
    node.take(ReplicatorDied("killed by signal 9"))
    assert node.state.goal is Goal.STANDBY and node.state.yields is not None
    assert node.pending(StopApplication).operation == StopApplication(force=True)
    node.done(StopApplication).done(RemoveAddresses)
    assert node.has_asked(StartReplicator) and not node.has_asked(Demote)


def test_a_secondary_whose_replicator_dies_starts_it_again_and_is_not_current() -> None:
    live = facts(role=ReplicatorRole.SECONDARY, link=LinkState.LIVE)
    node = Node().begin(live).told(as_primary())
    assert node.state.is_current
    node.take(ReplicatorDied("killed by signal 9"))
    assert not node.state.is_current and not node.has_asked(StartReplicator)
    assert node.wait(1_000).has_asked(StartReplicator)


@pytest.mark.parametrize(
    ("state", "is_fatal", "goal", "is_current"),
    [
        (serving(is_current=True), True, Goal.STOP, True),
        (serving(is_current=True), False, Goal.PRIMARY, True),
        (standby(is_current=True), True, Goal.STANDBY, False),
        (standby(is_current=True), False, Goal.STANDBY, False),
    ],
)
def test_a_fault_of_the_store(
    state: RoleState, is_fatal: bool, goal: Goal, is_current: bool
) -> None:
    turn = Turn(state)
    failure.replicator_fault(turn, "input/output error", is_fatal=is_fatal)
    assert (turn.state.goal, turn.state.is_current) == (goal, is_current)
    assert turn.state.fault == "input/output error"
    assert turn.state.is_urgent == (goal is Goal.STOP)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"goal": Goal.STANDBY}, "no node is primary: `telamon module status db` says what each"),
        ({"replicator": facts()}, "no node is primary"),
        (
            {"goal": Goal.STANDBY, "peer": heard(as_primary())},
            "n2 is primary: run `telamon module swap db` there",
        ),
        ({"running": Running(1, Promote(), NOW_MS + 1)}, "still in transition"),
        ({"application": Presence.UNKNOWN}, "still in transition"),
        ({"peer": lost()}, "n2 is not heard: bring it up first"),
        ({"peer": heard(told(can_take_over=False, reason="disk full"))}, "WAIT: disk full"),
        (
            {"replicator": replace(PRIMARY, link=LinkState.RESYNC)},
            "n2 is not ready (WAIT: not ready): wait for it",
        ),
    ],
)
def test_when_a_swap_is_refused(changes: dict[str, Any], says: str) -> None:
    refusal = swap_refusal(serving(**changes))
    assert bool(refusal) == bool(says) and says in refusal, refusal


@pytest.mark.parametrize(
    ("changes", "is_over"),
    [
        ({}, False),
        ({"addresses": Presence.ON, "yields": Yield("failed")}, False),
        ({"peer": heard(as_primary())}, True),
        ({"goal": Goal.STOP}, True),
        ({"peer": lost()}, True),
        ({"yields": Yield("failed", NOW_MS - YIELD_MS)}, True),
        ({"yields": Yield("failed", NOW_MS - YIELD_MS + 1)}, False),
    ],
)
def test_how_long_a_node_yields(changes: dict[str, Any], is_over: bool) -> None:
    turn = Turn(
        standby(**{"yields": Yield("failed", NOW_MS - 1), "peer": heard(told()), **changes})
    )
    failure.end_yield(turn)
    assert (turn.state.yields is None) == is_over


def test_the_yield_begins_when_nothing_stands_in_the_way_of_the_peer() -> None:
    turn = Turn(standby(yields=Yield("failed"), peer=heard(told())))
    failure.end_yield(turn)
    assert turn.state.yields == Yield("failed", NOW_MS)


def test_an_operator_begins_a_new_count() -> None:
    node = Node().begin(PRIMARY, application=Presence.ON, addresses=Presence.ON)
    node.take(CheckFailed("tcp", CheckAction.RESTART, "nothing listens"))
    assert len(node.state.failures_ms) == 1
    node.done(StopApplication).done(StartApplication)
    node.take(Command(1, CommandKind.RESTART))
    assert node.state.failures_ms == () and SETTINGS.failure_limit == 3
