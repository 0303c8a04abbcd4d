"""Connections of a silent node are spared until its host is known to be dead."""

from dataclasses import replace

from telamon.farm.linger import joined, lingering
from telamon.farm.message import Offer, Status, View
from telamon.farm.table import Member, Table
from telamon.farm.view_state import Peer, Settings, State, initial

ME, OTHER = 1, 2
NOBODY_GONE: set[int] = set()
BOTH = (Member(ME), Member(OTHER))
TABLE = Table.build(b"secret", BOTH)
ALONE = Table.build(b"secret", BOTH[:1])


def heard(number: int) -> Peer:
    status = Status(
        number, 1, 1, Offer(1), frozenset({ME}), ME, False, 1, True, True, frozenset(), 0
    )
    return Peer(status, 0, None)


def together() -> State:
    young = initial(Settings(ME, b"secret"), 1, Offer(1), now=0)
    peers = {OTHER: heard(OTHER)}
    return replace(young, view=View(1, BOTH, TABLE.digest), table=TABLE, peers=peers)


def alone() -> State:
    return replace(together(), view=View(2, BOTH[:1], ALONE.digest), table=ALONE, peers={})


def test_a_node_that_falls_silent_keeps_its_buckets_in_grace() -> None:
    assert lingering({}, together(), alone(), NOBODY_GONE) == {OTHER: TABLE.owned(OTHER)}


def test_a_joiner_spares_all_buckets_of_nodes_that_fall_silent_before_it_has_a_view() -> None:
    joining = replace(together(), view=None, table=None)
    every = joining.every_bucket
    assert lingering({}, joining, alone(), NOBODY_GONE) == {OTHER: every}
    stranger = replace(alone(), peers={OTHER: heard(OTHER)})
    assert lingering({}, stranger, alone(), NOBODY_GONE) == {OTHER: every}
    idle = heard(OTHER)
    idle = replace(idle, status=replace(idle.status, is_joined=False))
    assert lingering({}, replace(joining, peers={OTHER: idle}), alone(), NOBODY_GONE) == {}


def test_what_it_held_of_others_is_spared_too() -> None:
    foreign = TABLE.owned(ME) & -TABLE.owned(ME)
    before = replace(together(), holders={OTHER: foreign})
    spared = lingering({}, before, alone(), NOBODY_GONE)
    assert spared == {OTHER: TABLE.owned(OTHER) | foreign}


def test_it_counts_as_long_as_the_view_has_it() -> None:
    silent = replace(together(), peers={})
    assert lingering({}, together(), silent, NOBODY_GONE) == {}
    assert lingering({}, silent, alone(), NOBODY_GONE) == {OTHER: TABLE.owned(OTHER)}


def test_a_node_that_said_goodbye_holds_nothing() -> None:
    assert lingering({}, together(), alone(), {OTHER}) == {}
    assert lingering({OTHER: 5}, alone(), alone(), {OTHER}) == {}


def test_a_node_that_is_heard_again_speaks_for_itself() -> None:
    back = replace(alone(), peers={OTHER: heard(OTHER)})
    assert lingering({OTHER: 5}, alone(), back, NOBODY_GONE) == {}
    assert lingering({OTHER: 5}, alone(), alone(), NOBODY_GONE) == {OTHER: 5}


def test_what_a_node_had_ready_to_send_when_it_was_stopped_frees_nothing() -> None:
    """It was taken out of view 2 meanwhile; its next word knows that."""
    gone = replace(alone(), epoch=2)
    stale, fresh = (
        replace(gone, peers={OTHER: replace(heard(OTHER), status=status)})
        for status in (
            replace(heard(OTHER).status, epoch=1),
            replace(heard(OTHER).status, epoch=2),
        )
    )
    assert lingering({OTHER: 5}, gone, stale, NOBODY_GONE) == {OTHER: 5}
    assert lingering({OTHER: 5}, gone, fresh, NOBODY_GONE) == {}
    assert joined({OTHER: 5}, {OTHER: 2, ME: 1}) == {OTHER: 7, ME: 1}
