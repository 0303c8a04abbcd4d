"""The sealed datagram: what is said arrives whole, everything else is refused without a trace."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.cluster.heartbeat import (
    MAXIMUM_DATAGRAM_BYTES,
    Heartbeat,
    Keys,
    Refusal,
    open_heartbeat,
    seal,
)

KEYS = Keys("6f1c" * 8, b"s" * 32)
NAMES = st.text(st.sampled_from("abcdefghij0123456789-"), min_size=1, max_size=63)
U64 = st.integers(1, (1 << 64) - 1)
HEARTBEATS = st.builds(
    Heartbeat,
    sender=NAMES,
    boot_id=U64,
    sequence=U64,
    network=NAMES,
    knows_boot_id=U64 | st.just(0),
    knows_sequence=U64 | st.just(0),
    hears_receiver=st.booleans(),
    says_goodbye=st.booleans(),
    payloads=st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=4).map(tuple),
)
ONE = Heartbeat("n1", 7, 42, "lan", 9, 5, True, False, (("postgresql", b"report"),))


@given(HEARTBEATS, NAMES)
def test_what_is_sealed_is_opened_by_its_receiver(heartbeat: Heartbeat, receiver: str) -> None:
    assert open_heartbeat(KEYS, seal(KEYS, heartbeat, receiver), receiver) == heartbeat


@given(st.binary(max_size=400))
def test_garbage_is_refused(datagram: bytes) -> None:
    assert isinstance(open_heartbeat(KEYS, datagram, "n2"), Refusal)


@given(st.data())
def test_no_bit_can_be_changed(data: st.DataObject) -> None:
    datagram = bytearray(seal(KEYS, ONE, "n2"))
    position = data.draw(st.integers(0, len(datagram) * 8 - 1))
    datagram[position // 8] ^= 1 << position % 8
    assert isinstance(open_heartbeat(KEYS, bytes(datagram), "n2"), Refusal)


@given(st.data())
def test_truncated_or_extended_is_refused(data: st.DataObject) -> None:
    datagram = seal(KEYS, ONE, "n2")
    shorter = datagram[: data.draw(st.integers(0, len(datagram) - 1))]
    longer = datagram + data.draw(st.binary(min_size=1, max_size=20))
    assert isinstance(open_heartbeat(KEYS, shorter, "n2"), Refusal)
    assert isinstance(open_heartbeat(KEYS, longer, "n2"), Refusal)


@pytest.mark.parametrize(
    ("keys", "receiver"),
    [
        (Keys(KEYS.cluster_id, b"t" * 32), "n2"),
        (Keys("0" * 32, KEYS.secret), "n2"),
        (KEYS, "n3"),
        (KEYS, "n1"),
    ],
    ids=["other secret", "other cluster", "other receiver", "reflected to its sender"],
)
def test_a_stranger_cannot_open(keys: Keys, receiver: str) -> None:
    assert open_heartbeat(keys, seal(KEYS, ONE, "n2"), receiver) is Refusal.FORGED


def test_every_datagram_looks_different() -> None:
    assert seal(KEYS, ONE, "n2")[-30:] != seal(KEYS, replace(ONE, sequence=43), "n2")[-30:]


def test_foreign_version_and_length_have_their_own_reasons() -> None:
    datagram = seal(KEYS, ONE, "n2")
    assert open_heartbeat(KEYS, b"HTTP" + datagram[4:], "n2") is Refusal.FOREIGN
    assert open_heartbeat(KEYS, datagram[:4] + b"\1" + datagram[5:], "n2") is Refusal.VERSION
    assert open_heartbeat(KEYS, bytes(MAXIMUM_DATAGRAM_BYTES + 1), "n2") is Refusal.LENGTH
    assert open_heartbeat(KEYS, b"", "n2") is Refusal.LENGTH


def test_too_much_to_say_is_an_error_of_the_sender() -> None:
    with pytest.raises(ValueError, match="fewer modules"):
        seal(KEYS, replace(ONE, payloads=(("m", bytes(60_000)),)), "n2")


def test_the_secret_is_not_shown() -> None:
    assert "sss" not in repr(KEYS)
