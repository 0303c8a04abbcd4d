"""Messages on the wire: whole and in range, or refused."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.farm.hash import BUCKETS
from telamon.farm.message import Commit, Goodbye, Message, Offer, Proposal, Status, View
from telamon.farm.table import Member
from telamon.farm.wire import Parcel, WireError, pack, unpack

numbers = st.integers(1, 250)
counts = st.integers(0, (1 << 64) - 1)
buckets = st.sets(st.integers(0, BUCKETS - 1), max_size=50).map(
    lambda chosen: sum(1 << bucket for bucket in chosen)
)
statuses = st.builds(
    Status,
    sender=numbers,
    incarnation=counts,
    sequence=counts,
    offer=st.builds(Offer, st.integers(0, 255), st.integers(0, 7)),
    hears=st.frozensets(numbers),
    leader=st.integers(0, 250),
    is_listening=st.booleans(),
    epoch=counts,
    is_joined=st.booleans(),
    is_committed=st.booleans(),
    members=st.frozensets(numbers),
    holding=buckets,
)
views = st.builds(
    View,
    counts,
    st.sets(numbers, min_size=1).map(lambda some: tuple(Member(one) for one in sorted(some))),
    st.binary(min_size=16, max_size=16),
)
messages = st.one_of(
    statuses,
    st.builds(Proposal, numbers, views),
    st.builds(Commit, numbers, counts, counts),
    st.builds(Goodbye, numbers, counts, counts),
)


MACS = ("02:00:00:00:00:01", "fe:dc:ba:98:76:54")


@given(st.lists(messages, max_size=4), st.integers(0, 31))
def test_what_is_packed_is_unpacked(some: list[Message], share: int) -> None:
    parcel = Parcel("configuration", share, tuple(some), MACS)
    assert unpack(pack("configuration", share, some, MACS)) == parcel


def test_the_worst_set_of_buckets_fits_a_datagram() -> None:
    everyone = frozenset(range(1, 251))
    scattered = Random(5).getrandbits(BUCKETS) | 1 << BUCKETS - 1
    status = Status(1, 2, 3, Offer(1), everyone, 1, False, 4, True, True, everyone, scattered)
    content = pack("c", 0, [status], MACS)
    assert len(content) < 20_000
    assert unpack(content).messages == (status,)


@given(st.binary(max_size=200))
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(WireError):
        unpack(content)


STRANGE = {
    "a member number out of range": {"kind": "commit", "sender": 251, "epoch": 1, "incarnation": 1},
    "a negative epoch": {"kind": "commit", "sender": 1, "epoch": -1, "incarnation": 1},
    "an unknown kind": {"kind": "decree", "sender": 1},
    "a key too many": {"kind": "commit", "sender": 1, "epoch": 1, "incarnation": 1, "more": 1},
    "a view without members": {
        "kind": "proposal", "sender": 1, "epoch": 1, "members": [], "digest": "00",
    },
    "a member twice": {
        "kind": "proposal", "sender": 1, "epoch": 1, "members": [[1, 1, 0], [1, 1, 0]],
        "digest": "00",
    },
    "a weight out of range": {
        "kind": "proposal", "sender": 1, "epoch": 1, "members": [[1, 256, 0]], "digest": "00",
    },
}  # fmt: skip


@pytest.mark.parametrize("message", STRANGE.values(), ids=STRANGE)
def test_numbers_out_of_range_are_refused(message: dict[str, object]) -> None:
    parcel = {"configuration": "c", "share": 0, "messages": [message], "macs": []}
    content = json.dumps(parcel).encode()
    with pytest.raises(WireError):
        unpack(content)


@pytest.mark.parametrize("holding", ["", "AAAA", "eJwBAAD//wAAAAE=", 7])
def test_sets_of_another_size_are_refused(holding: object) -> None:
    status = Status(1, 2, 3, Offer(1), frozenset({2}), 1, False, 4, True, True, frozenset({1}), 5)
    content = json.loads(pack("c", 0, [status], MACS))
    content["messages"][0]["holding"] = holding
    with pytest.raises(WireError):
        unpack(json.dumps(content).encode())


@pytest.mark.parametrize("mac", ["", "02:00:00:00:00", "02:00:00:00:00:0G", "02-00-00-00-00-01", 7])
def test_what_is_no_mac_is_refused(mac: object) -> None:
    parcel = {"configuration": "c", "share": 0, "messages": [], "macs": [mac]}
    with pytest.raises(WireError):
        unpack(json.dumps(parcel).encode())
