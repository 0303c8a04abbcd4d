"""Every row of the check machine, and its promises over arbitrary histories."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.detect.check import (
    NOT_LOOKED_YET,
    Begin,
    CheckState,
    End,
    Event,
    Failed,
    Looked,
    Recovered,
    Settings,
    Standing,
    Verdict,
    step,
)
from telamon.detect.outcome import GOOD, bad, unseen

TWO = Settings(failures=2, recoveries=2, grace_ms=1000)
WAITS = Settings(failures=2, recoveries=1, holds=True)
UP, DOWN, BLIND = Looked(GOOD), Looked(bad("refused")), Looked(unseen("no socket"))
REFUSED = Failed("refused")


def play(
    settings: Settings, events: Sequence[tuple[int, Event]], state: CheckState | None = None
) -> tuple[CheckState, list[Verdict]]:
    state = state or CheckState()
    verdicts = []
    for now_ms, event in events:
        state, verdict = step(settings, state, event, now_ms)
        verdicts.append(verdict)
    return state, verdicts


def test_only_so_many_failures_in_a_row_ask() -> None:
    state, verdicts = play(
        TWO, [(0, Begin()), (1, UP), (2, DOWN), (3, UP), (4, DOWN), (5, DOWN), (6, DOWN)]
    )
    assert verdicts == [None, None, None, None, None, REFUSED, None]
    assert (state.standing, state.since_ms, state.failures) == (Standing.DOWN, 5, 3)
    assert (state.error, state.error_ms) == ("refused", 6)


def test_it_asks_again_after_as_many_further_failures() -> None:
    _, verdicts = play(TWO, [(0, Begin()), (1, UP)] + [(2 + n, DOWN) for n in range(6)])
    assert verdicts[2:] == [None, REFUSED, None, REFUSED, None, REFUSED]


def test_an_application_may_fail_for_its_grace() -> None:
    state, verdicts = play(TWO, [(0, Begin()), (1, DOWN), (500, DOWN), (999, DOWN)])
    assert verdicts == [None] * 4
    assert (state.standing, state.failures, state.error) == (Standing.STARTING, 0, "refused")
    _, verdicts = play(TWO, [(1000, DOWN), (1001, DOWN)], state)
    assert verdicts == [None, REFUSED]


def test_the_grace_ends_with_the_first_good_look() -> None:
    _, verdicts = play(TWO, [(0, Begin()), (1, UP), (2, DOWN), (3, DOWN)])
    assert verdicts[-1] == REFUSED


def test_it_recovers_after_so_many_good_looks_in_a_row() -> None:
    down, _ = play(TWO, [(0, Begin()), (1, UP), (2, DOWN), (3, DOWN)])
    state, verdicts = play(TWO, [(4, UP), (5, DOWN), (6, UP), (7, UP)], down)
    assert verdicts == [None, None, None, Recovered()]
    assert (state.standing, state.since_ms, state.failures) == (Standing.UP, 7, 0)
    assert state.error == "refused"


def test_what_saw_nothing_counts_neither_way() -> None:
    state, verdicts = play(TWO, [(0, Begin()), (1, UP), (2, DOWN), (3, BLIND), (4, DOWN)])
    assert verdicts[-1] == REFUSED
    state, verdicts = play(TWO, [(0, Begin()), *[(1 + n, BLIND) for n in range(9)]])
    assert set(verdicts) == {None}
    assert (state.standing, state.error) == (Standing.STARTING, "no socket")


def test_what_holds_stands_in_the_way_until_it_was_good() -> None:
    state, verdicts = play(WAITS, [(0, Begin())])
    assert verdicts == [Failed(NOT_LOOKED_YET)]
    _, verdicts = play(WAITS, [(1, BLIND), (2, UP)], state)
    assert verdicts == [None, Recovered()]
    _, verdicts = play(WAITS, [(1, DOWN), (2, DOWN), (3, UP)], state)
    assert verdicts == [None, REFUSED, Recovered()]


def test_what_holds_does_not_stop_what_serves_already() -> None:
    _, verdicts = play(WAITS, [(0, Begin(is_serving=True)), (1, UP)])
    assert verdicts == [None, None]


@pytest.mark.parametrize("settings", [TWO, WAITS])
def test_a_check_that_ends_takes_back_what_it_asked_for(settings: Settings) -> None:
    _, verdicts = play(settings, [(0, Begin()), (1, UP), (2, DOWN), (3, DOWN), (4, End())])
    assert verdicts[-1] == Recovered()
    state, verdicts = play(settings, [(0, Begin(is_serving=True)), (1, UP), (4, End())])
    assert verdicts[-1] is None
    assert state.standing is Standing.IDLE
    assert play(settings, [(5, End()), (6, DOWN), (7, UP)], state) == (state, [None] * 3)


def test_beginning_twice_changes_nothing() -> None:
    state, _ = play(TWO, [(0, Begin()), (1, UP)])
    assert step(TWO, state, Begin(), 2) == (state, None)


def test_a_new_beginning_has_a_new_grace_and_keeps_the_last_error() -> None:
    state, _ = play(TWO, [(0, Begin()), (1, UP), (2, DOWN), (3, DOWN), (4, End())])
    again, verdict = step(TWO, state, Begin(), 9000)
    assert verdict is None
    assert again == replace(state, standing=Standing.STARTING, since_ms=9000, grace_until_ms=10_000)


events = st.one_of(
    st.just(UP), st.just(DOWN), st.just(BLIND), st.builds(Begin, st.booleans()), st.just(End())
)
settings_of = st.builds(
    Settings,
    failures=st.integers(1, 4),
    recoveries=st.integers(1, 4),
    grace_ms=st.integers(0, 5),
    holds=st.booleans(),
)


@given(settings_of, st.lists(st.tuples(st.integers(0, 3), events), max_size=60))
def test_no_history_breaks_a_promise(settings: Settings, history: list[tuple[int, Event]]) -> None:
    state, now_ms, bad_in_a_row, asked = CheckState(), 0, 0, False
    for passed_ms, event in history:
        now_ms += passed_ms
        before = state
        state, verdict = step(settings, state, event, now_ms)
        if event == DOWN and before.standing is not Standing.IDLE:
            bad_in_a_row += 1
        elif event not in (BLIND, DOWN) and not isinstance(event, Begin):
            bad_in_a_row = 0
        if verdict == REFUSED:
            assert bad_in_a_row >= settings.failures
            assert state.standing is Standing.DOWN
        if isinstance(verdict, Failed):
            asked = True
        if verdict == Recovered():
            assert asked
            asked = False
        assert asked is state.has_asked
        assert (state.standing is Standing.UP) <= (not state.has_asked)
        assert state.since_ms <= now_ms
