"""What the operator orders: every command in every situation, accepted or refused with the cure."""

from typing import Any

import pytest
from mirror_values import (
    IN_STEP,
    WENT_ALONE,
    as_primary,
    facts,
    heard,
    lost,
    outdated,
    standby,
    told,
)

from telamon.mirror import command
from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.report import LinkState
from telamon.mirror.role_action import Answer, Remember
from telamon.mirror.role_event import Command, CommandKind, Presence
from telamon.mirror.role_state import Goal, Order, RoleState, Yield
from telamon.mirror.role_turn import Turn

PRIMARY = facts(role=ReplicatorRole.PRIMARY, link=LinkState.LIVE)
SERVING = {
    "goal": Goal.PRIMARY,
    "replicator": PRIMARY,
    "application": Presence.ON,
    "addresses": Presence.ON,
    "peer": heard(told()),
}
STOPPED = {"goal": Goal.STOP, "intent_is_started": False, "replicator": None}
BEHIND_PRIMARY = {"peer": heard(as_primary())}


def obey(
    kind: CommandKind, changes: dict[str, Any], *, force: bool = False
) -> tuple[str, RoleState]:
    """The answer, and what became of the state."""
    before = standby(**{"failures_ms": (1, 2), **changes})
    turn = Turn(before)
    command.obey(turn, Command(7, kind, force))
    answer = turn.actions[-1]
    assert isinstance(answer, Answer) and answer.number == 7
    remembered = [action for action in turn.actions if isinstance(action, Remember)]
    if answer.refusal:
        assert turn.state == standby(**{"failures_ms": (1, 2), **changes}), (
            "a refusal changes nothing"
        )
        assert not remembered
    else:
        assert remembered[-1] == Remember(turn.state.intent_is_started, ())
    return answer.refusal, turn.state


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        (CommandKind.START, STOPPED, {"goal": Goal.STANDBY, "intent_is_started": True}),
        (CommandKind.START, SERVING, {"goal": Goal.PRIMARY}),
        (CommandKind.START, {}, {"goal": Goal.STANDBY, "order": None}),
        (CommandKind.STOP, SERVING, {"goal": Goal.STOP, "intent_is_started": False}),
        (
            CommandKind.STOP,
            {"order": Order(), "discards": True, "yields": Yield("failed")},
            {"goal": Goal.STOP, "order": None, "discards": False, "yields": None},
        ),
        (CommandKind.STOP, STOPPED, {"goal": Goal.STOP}),
        (CommandKind.PRIM, {"peer": lost()}, {"order": Order(), "discards": False}),
        (CommandKind.PRIM, {**STOPPED, "peer": lost()}, {"goal": Goal.STANDBY, "order": Order()}),
        (CommandKind.PRIM, SERVING, {"goal": Goal.PRIMARY, "order": None}),
        (
            CommandKind.SECOND,
            BEHIND_PRIMARY,
            {"discards": True, "order": None, "goal": Goal.STANDBY},
        ),
        (CommandKind.SECOND, {**STOPPED, **BEHIND_PRIMARY}, {"goal": Goal.STANDBY}),
        (CommandKind.SWAP, SERVING, {"goal": Goal.STANDBY}),
        (CommandKind.SWAP, {**BEHIND_PRIMARY, "is_current": True}, {"swap_request": 1}),
        (CommandKind.RESTART, SERVING, {"restarts": True, "is_urgent": False}),
    ],
)
def test_what_is_accepted(
    kind: CommandKind, changes: dict[str, Any], expected: dict[str, object]
) -> None:
    refusal, state = obey(kind, changes)
    assert refusal == ""
    assert {key: getattr(state, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (CommandKind.STOP, {"goal": Goal.STOP, "is_urgent": True}),
        (CommandKind.RESTART, {"restarts": True, "is_urgent": True}),
    ],
)
def test_what_is_forced(kind: CommandKind, expected: dict[str, object]) -> None:
    refusal, state = obey(kind, SERVING, force=True)
    assert refusal == ""
    assert {key: getattr(state, key) for key in expected} == expected


def test_prim_by_force_takes_older_data() -> None:
    peer = heard(told(lineage=WENT_ALONE))
    assert obey(CommandKind.PRIM, {"peer": peer}, force=True)[1].order == Order(force=True)


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        (
            CommandKind.PRIM,
            BEHIND_PRIMARY,
            "n2 is primary: exchange the roles with `telamon",
        ),
        (CommandKind.PRIM, {"peer": heard(told(lineage=WENT_ALONE))}, "n2 has newer data"),
        (CommandKind.PRIM, {"lineage": outdated(IN_STEP), "peer": lost()}, "is Outdated: start n2"),
        (CommandKind.SECOND, SERVING, "this node is primary: run `telamon module swap db`"),
        (CommandKind.SECOND, {"peer": lost()}, "n2 is not primary: run `telamon module prim db`"),
        (CommandKind.SECOND, {"peer": heard(told())}, "n2 is not primary"),
        (CommandKind.SWAP, BEHIND_PRIMARY, "wait until this node is SECOND ready"),
        (CommandKind.SWAP, {"peer": lost()}, "no node is primary"),
        (CommandKind.SWAP, {**SERVING, "peer": lost()}, "n2 is not heard: bring it up first"),
        (CommandKind.RESTART, {}, "the application runs on no node: `telamon module status db`"),
        (CommandKind.RESTART, BEHIND_PRIMARY, "runs on n2: run `telamon module restart db` there"),
        (CommandKind.RESTART, {**SERVING, "restarts": True}, "try again when it is ready"),
        (
            CommandKind.RESTART,
            {**SERVING, "application": Presence.UNKNOWN},
            "is being started or stopped",
        ),
    ],
)
def test_what_is_refused(kind: CommandKind, changes: dict[str, Any], says: str) -> None:
    refusal, _ = obey(kind, changes)
    assert says in refusal


def test_every_command_is_known() -> None:
    for kind in CommandKind:
        obey(kind, {"peer": lost()})
