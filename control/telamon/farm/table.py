"""The farm table: which member owns which bucket.

Weighted rendezvous hashing: each pair of member and bucket has a pseudo-random u in (0, 1), drawn
from the cluster's secret; the bucket belongs to the member with the least -log2(u) / weight. So

- every node computes the same table from the same members, in whatever order they came;
- a share is proportional to the weight;
- a change moves only the buckets that the changed member gains or loses.

Invariant: a table is a function of (secret, members, buckets) alone. Every step is integer
arithmetic: u has 44 bits, the logarithm is a table of 4096 chords in 1/2**28 (error at most
2**-22 for u > 1/4, where owners come from, see `_log_table`), and equal keys fall to the lower
number. `digest` proves to two nodes that they mean the same table.

Only members of the best priority that has any weight own buckets; the others are standby. A weight
of 0 drains: the member owns nothing. Who may still hold connections is the view change's business.

numpy carries the loops: 250 members times 65536 buckets are 16 million draws, 0.1 s here, minutes
of the agent's loop in plain Python. Import this module only where there is a farm.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from telamon.farm.hash import BUCKETS

MEMBER_MAX = 250
WEIGHT_MAX = 255
NOBODY = 0

_Words = NDArray[np.uint64]

_CHORD_BITS = 12
_LOG_BITS = 28
_FRACTION_BITS = 32
_WEIGHT_BITS = 24
_NUMBER_BITS = 8
_LOG_OF_ZERO = 15 << _LOG_BITS
# 128 KiB of words: the draws of one block stay in the processor's cache.
_BLOCK_DRAWS = 16384
_GOLDEN_RATIO = 0x9E37_79B9_7F4A_7C15
_NO_KEY = 2**64 - 1


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A node of the farm as its table sees it."""

    number: int
    weight: int = 1
    priority: int = 0  # the smallest serves first

    def __post_init__(self) -> None:
        assert 1 <= self.number <= MEMBER_MAX, f"member number {self.number}"
        assert 0 <= self.weight <= WEIGHT_MAX, f"weight {self.weight}"


def serving(members: Iterable[Member]) -> tuple[Member, ...]:
    """Return the members that own buckets, by number: the best priority that has any weight."""
    able = sorted(member for member in members if member.weight)
    best = min((member.priority for member in able), default=0)
    return tuple(member for member in able if member.priority == best)


@dataclass(frozen=True, slots=True)
class Table:
    """The owner of every bucket; `owner[b]` is a member's number, or NOBODY without any member."""

    secret: bytes = field(repr=False)
    members: tuple[Member, ...]  # by number
    owner: bytes = field(repr=False)
    _keys: _Words = field(repr=False, compare=False)  # the least key of each bucket

    @classmethod
    def build(cls, secret: bytes, members: Iterable[Member], buckets: int = BUCKETS) -> Self:
        """Compute a table from nothing."""
        chosen = tuple(sorted(members))
        assert len({member.number for member in chosen}) == len(chosen), "one row for each member"
        return cls._of(secret, chosen, _least(secret, serving(chosen), _all_buckets(buckets)))

    def changed(self, members: Iterable[Member]) -> Self:
        """Compute the table of other members; costs about what moves."""
        chosen = tuple(sorted(members))
        before, after = set(serving(self.members)), serving(chosen)
        weight_before = {member.number: member.weight for member in before}
        weight_after = {member.number: member.weight for member in after}
        shrunk = [n for n, weight in weight_before.items() if weight_after.get(n, 0) < weight]
        grown = [member for member in after if weight_before.get(member.number, 0) < member.weight]
        keys = self._keys.copy()
        if shrunk:
            orphaned = np.flatnonzero(np.isin(np.frombuffer(self.owner, np.uint8), shrunk))
            keys[orphaned] = _least(self.secret, after, orphaned.astype(np.uint64))
        if grown:
            gained = _least(self.secret, grown, _all_buckets(len(keys)))
            np.minimum(keys, gained, out=keys)
        return self._of(self.secret, chosen, keys)

    @classmethod
    def _of(cls, secret: bytes, members: tuple[Member, ...], keys: _Words) -> Self:
        owner = (keys & np.uint64(0xFF)).astype(np.uint8)
        owner[keys == np.uint64(_NO_KEY)] = NOBODY
        keys.flags.writeable = False
        return cls(secret, members, owner.tobytes(), keys)

    @property
    def digest(self) -> bytes:
        """16 bytes that two nodes compare before they adopt a table."""
        return hashlib.blake2b(self.owner, digest_size=16, person=b"telamon table").digest()

    def owned(self, *numbers: int) -> int:
        """Return the buckets of these members as a bit set: bit b stands for bucket b."""
        return _bits(np.isin(np.frombuffer(self.owner, np.uint8), numbers))

    def losses(self, after: "Table") -> dict[int, int]:
        """Return for each owner the buckets that another has in `after`, as bit sets."""
        old, new = np.frombuffer(self.owner, np.uint8), np.frombuffer(after.owner, np.uint8)
        moved = old != new
        return {
            int(number): _bits(moved & (old == number))
            for number in np.unique(old[moved])
            if number != NOBODY
        }


def _bits(chosen: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(chosen, bitorder="little").tobytes(), "little")


def _all_buckets(count: int) -> _Words:
    return np.arange(count, dtype=np.uint64)


def _least(secret: bytes, members: Iterable[Member], buckets: _Words) -> _Words:
    """Return the least key of each given bucket among the members, in blocks that fit the cache."""
    chosen = list(members)
    seeds = np.array([_seed(secret, member.number) for member in chosen], np.uint64)
    inverse = np.array([(1 << _WEIGHT_BITS) // member.weight for member in chosen], np.uint64)
    number = np.array([member.number for member in chosen], np.uint64)
    least = np.full(len(buckets), _NO_KEY, np.uint64)
    for start in range(0, len(buckets), _BLOCK_DRAWS):
        here = slice(start, start + _BLOCK_DRAWS)
        terms = buckets[here] * np.uint64(_GOLDEN_RATIO)
        rows = _BLOCK_DRAWS // len(terms)
        for first in range(0, len(chosen), rows):
            few = slice(first, first + rows)
            keys = _logarithm(_mixed(seeds[few, None] + terms))
            keys *= inverse[few, None]
            keys <<= np.uint64(_NUMBER_BITS)
            keys |= number[few, None]
            np.minimum(least[here], keys.min(axis=0), out=least[here])
    return least


def _seed(secret: bytes, number: int) -> int:
    digest = hmac.digest(secret, b"telamon farm member\0" + bytes([number]), hashlib.sha256)
    return int.from_bytes(digest[:8], "little")


def _mixed(words: _Words) -> _Words:
    """Scramble 64-bit words in place: the finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58_476D_1CE4_E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D0_49BB_1331_11EB)
    words ^= words >> np.uint64(31)
    return words


def _logarithm(words: _Words) -> _Words:
    """Return -log2 of words / 2**64 in 1/2**28, along the chord of its 12 leading bits."""
    chord = (words >> np.uint64(64 - _CHORD_BITS)).astype(np.intp)
    words >>= np.uint64(64 - _CHORD_BITS - _FRACTION_BITS)
    words &= np.uint64((1 << _FRACTION_BITS) - 1)
    words *= _LOG_DROP[chord]
    words >>= np.uint64(_FRACTION_BITS)
    logarithm: _Words = _LOG_START[chord] - words
    return logarithm


def _log_table() -> _Words:
    """Return -log2(i / 4096) for i = 0..4096 in 1/2**28, one bit of the fraction by each squaring.

    The squarings are truncated, which costs less than 2**-27. A chord lies above the curve by at
    most 0.19 / i**2, for i > 1024 less than 2**-22, and relatively less the nearer the owners are.
    -log2(0) stands at 15: a draw below 1/4096 owns a bucket only by the rarest chance.
    """
    leading = np.array([i.bit_length() - 1 for i in range(1, (1 << _CHORD_BITS) + 1)], np.uint64)
    value = np.arange(1, (1 << _CHORD_BITS) + 1, dtype=np.uint64)
    mantissa = value << (np.uint64(31) - leading)  # 1 <= mantissa / 2**31 < 2
    logarithm = leading
    for _ in range(_LOG_BITS):
        mantissa = mantissa * mantissa >> np.uint64(31)
        bit = mantissa >> np.uint64(32)
        mantissa >>= bit
        logarithm = logarithm << np.uint64(1) | bit
    falling = np.uint64(_CHORD_BITS << _LOG_BITS) - logarithm
    return np.concatenate([np.array([_LOG_OF_ZERO], np.uint64), falling])


_LOG = _log_table()
_LOG_START = _LOG[:-1].copy()
_LOG_DROP = _LOG[:-1] - _LOG[1:]
