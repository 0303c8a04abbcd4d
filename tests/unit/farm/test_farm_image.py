"""What the filter shows of a state: owners, and the way along the holders."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from telamon.farm.hash import BUCKETS
from telamon.farm.image import found, render
from telamon.farm.message import Offer, View
from telamon.farm.table import Member, Table
from telamon.farm.view_state import Resumed, Settings, State, initial

ME = 2
MEMBERS = (Member(1), Member(2), Member(3), Member(4))
TABLE = Table.build(b"secret", MEMBERS)
SEED = 77


def state(**changes: object) -> State:
    young = initial(Settings(ME, b"secret"), 1, Offer(1), now=0)
    view = View(1000, MEMBERS, TABLE.digest)
    joined = replace(young, view=view, table=TABLE, epoch=1000, unmeasured=0)
    return replace(joined, **changes)  # type: ignore[arg-type]


def pair(one: State, bucket: int) -> tuple[int, int]:
    buckets = render(one, SEED).buckets
    return buckets[2 * bucket], buckets[2 * bucket + 1]


def test_an_accepted_view_shows_others_buckets_but_not_yet_its_own() -> None:
    image = render(state(), SEED)
    owners = image.buckets[0::2]
    assert set(owners) == {0, 1, 3, 4}
    assert bytes(ME if owner == 0 else owner for owner in owners) == TABLE.owner
    assert (image.epoch, image.seed, image.dispatcher) == (1000, SEED, 1)


def test_a_committed_view_shows_the_table() -> None:
    assert render(state(active=TABLE.owned(ME)), SEED).buckets[0::2] == TABLE.owner


def test_out_of_every_view_nothing_is_owned() -> None:
    assert set(render(state(view=None), SEED).buckets[0::2]) == {0}


def test_an_owner_sees_the_lowest_holder() -> None:
    bucket = TABLE.owner.index(ME)
    bit = 1 << bucket
    reported = {"active": TABLE.owned(ME), "peers": {}, "view": View(1000, (Member(ME),), b"")}
    assert pair(state(**reported), bucket) == (ME, 0)
    assert pair(state(**reported, holders={3: bit, 4: bit}), bucket) == (ME, 3)
    assert pair(state(**reported, holders={1: bit, 4: bit}), bucket) == (ME, 1)


def test_an_owner_is_careful_until_all_have_reported() -> None:
    bucket = TABLE.owner.index(ME)
    unreported = state(active=TABLE.owned(ME))
    assert unreported.unreported == {1, 3, 4}
    assert pair(unreported, bucket) == (ME, 1)
    likely = replace(unreported, holders={4: 1 << bucket})
    assert pair(likely, bucket) == (ME, 4)


def test_a_holder_sees_the_next_higher_one_or_itself() -> None:
    bucket = TABLE.owner.index(3)
    bit = 1 << bucket
    assert pair(state(), bucket) == (3, 0)
    assert pair(state(sockets=bit), bucket) == (3, ME)
    assert pair(state(sockets=bit, holders={1: bit}), bucket) == (3, ME)
    assert pair(state(sockets=bit, holders={1: bit, 4: bit}), bucket) == (3, 4)


@given(st.integers(0, 2**32))
def test_a_restarted_agent_finds_what_it_served(seed: int) -> None:
    served = Random(seed).getrandbits(BUCKETS) & TABLE.owned(ME)
    image = render(state(active=served), SEED)
    assert found(image, ME, lease_until=9) == Resumed(1000, served, 9)
