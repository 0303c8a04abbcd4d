"""The farm table: properties of weighted rendezvous hashing, and values that must never change."""

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.farm import table as farm_table
from telamon.farm.table import MEMBER_MAX, NOBODY, WEIGHT_MAX, Member, Table, serving

SECRET = b"a cluster's secret"
SMALL = 1024  # buckets: enough for laws that hold bucket by bucket

weights = st.integers(0, WEIGHT_MAX)
members = st.lists(
    st.builds(Member, st.integers(1, MEMBER_MAX), weights, st.integers(0, 2)),
    max_size=12,
    unique_by=lambda member: member.number,
)


def build(chosen: list[Member], buckets: int = SMALL) -> Table:
    return Table.build(SECRET, chosen, buckets)


@given(members)
def test_every_bucket_has_one_owner_among_those_who_serve(chosen: list[Member]) -> None:
    table = build(chosen)
    allowed = {member.number for member in serving(chosen)} or {NOBODY}
    assert len(table.owner) == SMALL
    assert set(table.owner) <= allowed
    bits = [table.owned(member.number) for member in chosen]
    assert sum(bit.bit_count() for bit in bits) == (SMALL if serving(chosen) else 0)


@given(members, st.randoms(use_true_random=False))
def test_any_order_of_joins_and_leaves_ends_in_the_same_table(
    chosen: list[Member], order: Random
) -> None:
    wanted = build(chosen)
    order.shuffle(chosen)
    passing = Member(order.randint(1, MEMBER_MAX), order.randint(0, WEIGHT_MAX))
    table = build([])
    for count in range(len(chosen) + 1):
        here = chosen[:count]
        if passing.number not in {member.number for member in here}:
            table = table.changed([*here, passing])
        table = table.changed(here)
    assert table == wanted
    assert table.digest == wanted.digest


@given(members, st.data())
def test_a_change_of_one_member_moves_only_its_own_buckets(
    chosen: list[Member], data: st.DataObject
) -> None:
    one_tier = [Member(member.number, member.weight) for member in chosen]
    number = data.draw(st.integers(1, MEMBER_MAX))
    others = [member for member in one_tier if member.number != number]
    low, high = sorted(data.draw(st.tuples(weights, weights)))
    before = build([*others, Member(number, low)])
    after = before.changed([*others, Member(number, high)])
    for old, new in zip(before.owner, after.owner, strict=True):
        assert new in (old, number)


@given(members, members)
def test_changed_is_build(before: list[Member], after: list[Member]) -> None:
    assert build(before).changed(after) == build(after)


@pytest.mark.parametrize(
    "weight", [(1, 1), (1, 2), (1, 255), (3, 5, 7), (1,) * 10, (10, 20, 30, 1)]
)
def test_shares_follow_the_weights(weight: tuple[int, ...]) -> None:
    """At most 1 % beyond five standard deviations of the draw, over 16 secrets."""
    chosen = [Member(number, w) for number, w in enumerate(weight, 1)]
    owned: Counter[int] = Counter()
    for secret in range(16):
        owned.update(Table.build(bytes([secret]), chosen).owner)
    draws = sum(owned.values())
    for number, w in enumerate(weight, 1):
        share = w / sum(weight)
        noise = 5 * math.sqrt(draws * share * (1 - share))
        assert abs(owned[number] - draws * share) <= 0.01 * draws * share + noise


def test_250_members_share_evenly() -> None:
    owned = Counter(Table.build(SECRET, [Member(n) for n in range(1, 251)]).owner)
    expected = 65536 / 250
    chi_square = sum((count - expected) ** 2 / expected for count in owned.values())
    assert len(owned) == 250
    assert chi_square < 249 + 5 * math.sqrt(2 * 249)


def test_two_rows_are_independent() -> None:
    """Whoever inherits a leaver's buckets inherits in proportion."""
    table = Table.build(SECRET, [Member(n) for n in range(1, 6)])
    left = table.changed([Member(n) for n in range(2, 6)])
    heirs = Counter(new for old, new in zip(table.owner, left.owner, strict=True) if old == 1)
    expected = sum(heirs.values()) / 4
    assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in heirs.values())


def test_a_standby_serves_when_the_others_are_gone() -> None:
    active, standby = Member(1), Member(2, priority=1)
    assert set(build([active, standby]).owner) == {1}
    assert set(build([standby]).owner) == {2}
    assert set(build([Member(1, weight=0), standby]).owner) == {2}


def test_nobody_serves_without_weight() -> None:
    assert set(build([Member(1, weight=0)]).owner) == {NOBODY}
    assert set(build([]).owner) == {NOBODY}


@given(st.integers(1, 4096))
def test_the_logarithm_is_within_its_bound(leading: int) -> None:
    exact = -math.log2(leading / 4096)
    assert abs(int(farm_table._LOG[leading]) / 2**28 - exact) < 2**-26


def test_other_secrets_give_other_tables() -> None:
    chosen = [Member(1), Member(2)]
    assert Table.build(b"a", chosen).digest != Table.build(b"b", chosen).digest


def test_values_that_must_never_change() -> None:
    """Two releases of Telamon in one farm must agree: a new digest here is a breaking change."""
    even = Table.build(b"telamon", [Member(n) for n in range(1, 251)])
    weighted = Table.build(b"telamon", [Member(1, 1), Member(2, 255), Member(250, 7)])
    few = Table.build(b"telamon", [Member(n) for n in range(1, 6)])
    assert even.digest.hex() == "813237758d499a8047e17b610bf09291"
    assert weighted.digest.hex() == "b372883869a31d2a6bf7cafdd8e08702"
    assert few.owner[:24].hex() == "010103040102020303030403010501030301040503030503"


def _key_in_plain_integers(secret: bytes, member: Member, bucket: int) -> int:
    """The definition once more, without arrays, so that no property of a library hides in it."""
    word = farm_table._seed(secret, member.number) + bucket * 0x9E3779B97F4A7C15 & 2**64 - 1
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
    word = (word ^ word >> 27) * 0x94D049BB133111EB & 2**64 - 1
    word ^= word >> 31
    chord, fraction = word >> 52, word >> 20 & 2**32 - 1
    start, end = int(farm_table._LOG[chord]), int(farm_table._LOG[chord + 1])
    logarithm = start - ((start - end) * fraction >> 32)
    return logarithm * (2**24 // member.weight) << 8 | member.number


@given(members)
def test_the_arrays_compute_the_definition(chosen: list[Member]) -> None:
    able = serving(chosen)
    for bucket, owner in enumerate(build(chosen, 32).owner):
        keys = [_key_in_plain_integers(SECRET, member, bucket) for member in able]
        assert owner == (min(keys) & 0xFF if keys else NOBODY)
