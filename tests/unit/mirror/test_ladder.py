"""The ladder: which step comes next from any facts, and what the end of a step means."""

from dataclasses import replace
from typing import Any

import pytest
from mirror_values import (
    EMPTY,
    IN_STEP,
    NOW_MS,
    Node,
    begun,
    facts,
    heard,
    outdated,
    standby,
    told,
)

from telamon.mirror import ladder
from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.report import LinkState
from telamon.mirror.role_action import (
    AddAddresses,
    Cancel,
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
)
from telamon.mirror.role_event import Command, CommandKind, PeerLost, Presence, Tick
from telamon.mirror.role_state import Goal, Order, Running
from telamon.mirror.role_turn import (
    BACKOFF_FIRST_MS,
    BACKOFF_LONGEST_MS,
    CANCEL_MARGIN_MS,
    Turn,
)

OFF, ON, UNKNOWN = Presence.OFF, Presence.ON, Presence.UNKNOWN
PRIMARY = facts(role=ReplicatorRole.PRIMARY)
FOLLOWING = facts(role=ReplicatorRole.SECONDARY, link=LinkState.LIVE)


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        # Up.
        ({"replicator": None}, StartReplicator()),
        ({}, Promote()),
        ({"replicator": FOLLOWING}, Promote()),
        ({"lineage": EMPTY, "order": Order()}, Promote(force=True)),
        ({"order": Order()}, Promote()),
        ({"order": Order(force=True)}, Promote(force=True)),
        ({"replicator": PRIMARY}, AddAddresses()),
        ({"replicator": PRIMARY, "addresses": UNKNOWN}, AddAddresses()),
        ({"replicator": PRIMARY, "addresses": ON}, StartApplication()),
        (
            {"replicator": PRIMARY, "addresses": ON, "application": UNKNOWN},
            StopApplication(force=True),
        ),
        ({"replicator": PRIMARY, "addresses": ON, "application": ON}, None),
        (
            {"replicator": PRIMARY, "addresses": ON, "application": ON, "restarts": True},
            StopApplication(),
        ),
        (
            {
                "replicator": PRIMARY,
                "addresses": ON,
                "application": ON,
                "restarts": True,
                "is_urgent": True,
            },
            StopApplication(force=True),
        ),
        # A step is due, but one runs, or the last one failed a moment ago.
        ({"running": Running(1, Promote(), NOW_MS + 1)}, None),
        ({"retry_ms": NOW_MS + 1}, None),
        ({"retry_ms": NOW_MS}, Promote()),
    ],
)
def test_the_way_up(changes: dict[str, Any], step: Operation | None) -> None:
    turn = Turn(standby(goal=Goal.PRIMARY, **changes))
    ladder.climb(turn, follows=False)
    assert begun(turn) == ([step] if step else [])


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        # Down: application, addresses, primary role, in this order whatever the goal is.
        ({"application": ON, "addresses": ON, "replicator": PRIMARY}, StopApplication()),
        ({"application": UNKNOWN, "addresses": ON, "replicator": PRIMARY}, StopApplication()),
        ({"application": ON, "is_urgent": True}, StopApplication(force=True)),
        ({"addresses": ON, "replicator": PRIMARY}, RemoveAddresses()),
        ({"addresses": UNKNOWN, "replicator": PRIMARY}, RemoveAddresses()),
        ({"replicator": PRIMARY}, Demote()),
        ({"replicator": PRIMARY, "is_urgent": True}, Demote(force=True)),
        ({"retry_ms": NOW_MS + 1, "application": ON}, None),
    ],
)
@pytest.mark.parametrize("goal", [Goal.STOP, Goal.STANDBY])
def test_the_way_down(goal: Goal, changes: dict[str, Any], step: Operation | None) -> None:
    turn = Turn(standby(goal=goal, **changes))
    ladder.climb(turn, follows=True)
    assert begun(turn) == ([step] if step else [])


@pytest.mark.parametrize(
    ("goal", "follows", "changes", "step"),
    [
        (Goal.STOP, False, {}, StopReplicator()),
        (Goal.STOP, False, {"attempts": 1}, StopReplicator(force=True)),
        (Goal.STOP, False, {"replicator": None}, None),
        (Goal.STANDBY, False, {"replicator": None}, StartReplicator()),
        (Goal.STANDBY, False, {}, None),
        (Goal.STANDBY, True, {}, Connect()),
        (Goal.STANDBY, True, {"discards": True}, Connect(discard=True)),
        (Goal.STANDBY, True, {"replicator": FOLLOWING}, None),
        # Outdated in a live session: only a new contact compares.
        (
            Goal.STANDBY,
            True,
            {"replicator": replace(FOLLOWING, lineage=outdated(IN_STEP))},
            Disconnect(),
        ),
        # Connected without the permission that the operator gave since.
        (Goal.STANDBY, True, {"replicator": FOLLOWING, "discards": True}, Disconnect()),
        (
            Goal.STANDBY,
            True,
            {"replicator": FOLLOWING, "discards": True, "follows_discarding": True},
            None,
        ),
    ],
)
def test_at_the_foot(
    goal: Goal, follows: bool, changes: dict[str, Any], step: Operation | None
) -> None:
    turn = Turn(standby(goal=goal, **changes))
    ladder.climb(turn, follows=follows)
    assert begun(turn) == ([step] if step else [])


@pytest.mark.parametrize(
    ("is_current", "report", "is_handover"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"released": False}, False),
        (True, {"lineage": None}, False),
        (True, {"lineage": replace(IN_STEP, clean=False)}, False),
        (True, {"lineage": replace(IN_STEP, generation="d" * 16)}, False),
    ],
)
def test_what_counts_as_a_hand_over(
    is_current: bool, report: dict[str, Any], is_handover: bool
) -> None:
    state = standby(goal=Goal.PRIMARY, is_current=is_current, peer=heard(told(**report)))
    turn = Turn(state)
    ladder.climb(turn, follows=False)
    assert begun(turn) == [Promote(handover=is_handover)]


def test_from_nothing_to_primary_in_the_order_of_the_ladder() -> None:
    node = Node().begin()
    node.take(Command(1, CommandKind.PRIM)).wait(2_000).take(PeerLost())
    node.status().done(StartReplicator)
    node.status(role=ReplicatorRole.PRIMARY).done(Promote)
    node.done(AddAddresses).done(StartApplication)
    climbed = [type(one.operation) for one in node.asked]
    climbed.remove(next(kind for kind in climbed if kind.__name__ == "Grant"))
    assert climbed == [StartReplicator, Promote, AddAddresses, StartApplication]
    assert node.state.application is ON


def serving() -> Node:
    """A primary with everything."""
    live = facts(role=ReplicatorRole.PRIMARY, link=LinkState.LIVE)
    return Node().begin(live, application=ON, addresses=ON)


def test_a_step_that_fails_is_tried_later_each_time() -> None:
    turn = Turn(standby(replicator=None))
    waits = []
    for _ in range(9):
        ladder.failed(turn, StartReplicator(), "no /dev/fuse")
        waits.append(turn.state.retry_ms - NOW_MS)
    assert waits[0] == BACKOFF_FIRST_MS and waits == sorted(waits)
    assert waits[-1] == BACKOFF_LONGEST_MS
    assert turn.state.fault == "no /dev/fuse"
    ladder.done(turn, StartReplicator())
    assert (turn.state.attempts, turn.state.retry_ms, turn.state.fault) == (0, 0, "")


def test_an_application_that_does_not_start_stops_the_module_here() -> None:
    node = serving()
    node.take(Command(1, CommandKind.RESTART)).done(StopApplication)
    node.failed(StartApplication, "exit status 3")
    assert node.state.goal is Goal.STOP and not node.state.intent_is_started
    assert "did not start: exit status 3" in node.state.reason
    assert "telamon module start db" in node.state.reason
    assert node.pending(StopApplication).operation == StopApplication()


def test_a_stop_that_fails_is_repeated_by_force_and_then_given_up() -> None:
    node = serving().take(Command(1, CommandKind.STOP))
    assert node.pending(StopApplication).operation == StopApplication()
    node.failed(StopApplication, "hangs")
    assert node.pending(StopApplication).operation == StopApplication(force=True)
    node.failed(StopApplication, "still hangs")
    assert node.state.application is OFF and node.has_asked(RemoveAddresses)


def test_addresses_that_cannot_be_removed_are_tried_for_ever() -> None:
    node = serving().take(Command(1, CommandKind.STOP)).done(StopApplication)
    for _ in range(12):
        node.failed(RemoveAddresses, "netlink").wait(BACKOFF_LONGEST_MS)
    assert not node.has_asked(Demote)
    assert node.done(RemoveAddresses).has_asked(Demote)


def test_a_demotion_that_fails_is_forced_and_then_the_replicator_goes() -> None:
    node = serving().take(Command(1, CommandKind.STOP))
    node.done(StopApplication).done(RemoveAddresses).failed(Demote, "busy: vim (41)")
    assert node.pending(Demote).operation == Demote(force=True)
    node.failed(Demote, "still busy")
    assert node.pending(StopReplicator).operation == StopReplicator(force=True)


def test_addresses_that_cannot_be_taken_are_left_to_the_peer_after_some_tries() -> None:
    primary = facts(role=ReplicatorRole.PRIMARY, link=LinkState.LIVE)
    node = Node().begin(primary).told(told())
    for _ in range(ladder.ADDRESS_ATTEMPTS - 1):
        node.failed(AddAddresses, "no such interface").wait(2_000)
        assert node.state.goal is Goal.PRIMARY
    node.failed(AddAddresses, "no such interface")
    assert node.state.goal is Goal.STANDBY and node.state.yields is not None


def test_a_refused_promotion_is_left_to_the_peer_for_a_while() -> None:
    node = Node().begin(FOLLOWING).wait(2_000).take(PeerLost())
    node.status(link=LinkState.CONNECTING).failed(Promote, "mount failed")
    assert node.state.goal is Goal.STANDBY and node.state.retry_ms > node.now_ms
    assert node.state.fault == "mount failed"


def test_what_takes_too_long_is_cancelled_and_has_failed() -> None:
    node = serving().take(Command(1, CommandKind.STOP))
    gentle = node.pending(StopApplication)
    node.take(Tick(), after_ms=gentle.timeout_ms)
    assert Cancel(gentle.serial) not in node.actions, "the rim ends it and says why"
    node.take(Tick(), after_ms=CANCEL_MARGIN_MS)
    assert Cancel(gentle.serial) in node.actions
    assert node.pending(StopApplication).operation == StopApplication(force=True)
    before = node.state
    node.done(StopApplication)
    assert node.state.application is OFF and before.application is UNKNOWN


def test_the_end_of_a_cancelled_step_counts_no_more() -> None:
    node = serving().take(Command(1, CommandKind.STOP))
    gentle = node.pending(StopApplication)
    node.take(Tick(), after_ms=gentle.timeout_ms + CANCEL_MARGIN_MS)
    asked = list(node.asked)
    node.asked = [gentle]
    node.done(StopApplication)
    assert node.state.application is UNKNOWN and node.state.running is not None
    assert asked[-1].operation == StopApplication(force=True)


def test_a_promotion_under_way_is_not_interrupted_but_undone() -> None:
    node = Node().begin(FOLLOWING).wait(2_000).take(PeerLost())
    node.status(link=LinkState.CONNECTING)
    assert node.has_asked(Promote)
    node.take(Command(1, CommandKind.STOP))
    assert not node.has_asked(Demote)
    node.status(role=ReplicatorRole.PRIMARY, link=LinkState.DOWN).done(Promote)
    assert node.pending(Demote).operation == Demote()
