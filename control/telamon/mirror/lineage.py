"""Whose data is newer, decided from the two lineage records and from nothing else.

Invariant: `compare` gives exactly one answer for every pair of records, and the two nodes reach
mirrored answers. No clock and no order of booting takes part. The replicator holds the same
table; both are checked against tests/vectors/lineage.json.

How the records come about (replicator/CONTROL.md, "Lineage"): every grant to acknowledge commits
alone makes a new generation; `peer_generation` then keeps the one at which the peer was last in
step, and returns to zeros when the peer is in step again.
"""

from dataclasses import dataclass
from enum import StrEnum

NEVER_HELD_DATA = "0" * 16
NOBODY_BEHIND = NEVER_HELD_DATA


class DataState(StrEnum):
    """How good a node's own data is."""

    UP_TO_DATE = "UpToDate"
    OUTDATED = "Outdated"
    INCONSISTENT = "Inconsistent"


class ReplicatorRole(StrEnum):
    """What a replicator does at this moment; not the module's state in the cluster."""

    IDLE = "idle"
    SECONDARY = "secondary"
    PRIMARY = "primary"


@dataclass(frozen=True, slots=True)
class Lineage:
    """The durable record of one node. Generations are 16 hexadecimal digits; zeros mean none."""

    generation: str = NEVER_HELD_DATA
    peer_generation: str = NOBODY_BEHIND
    history: tuple[str, ...] = ()
    data_state: DataState = DataState.INCONSISTENT
    clean: bool = True
    role_at_shutdown: ReplicatorRole = ReplicatorRole.IDLE

    @property
    def holds_data(self) -> bool:
        """Whether this node ever was primary or was brought up by one."""
        return self.generation != NEVER_HELD_DATA

    @property
    def may_start_alone(self) -> bool:
        """Whether this record alone proves that the peer's data is older: this node went alone
        after the peer was last in step."""
        return (
            self.data_state is DataState.UP_TO_DATE
            and self.holds_data
            and self.peer_generation not in (NOBODY_BEHIND, self.generation)
        )


class Relation(StrEnum):
    """What two lineages are to each other."""

    IN_STEP = "in_step"
    """Nothing to do."""
    PARTIAL = "partial"
    """One side is behind: bring it what changed."""
    FULL = "full"
    """One side holds nothing usable: bring it everything."""
    SPLIT_BRAIN = "split_brain"
    """Both wrote apart from each other."""
    UNRELATED = "unrelated"
    """The data never had a common origin."""
    NO_SOURCE = "no_source"
    """Neither side is fit to be the source: the operator chooses one."""


class Source(StrEnum):
    """From which side data may flow."""

    OURS = "own"
    THEIRS = "peer"
    EITHER = "either"
    """Whichever of the two is or becomes primary."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer of the table. Without a source nothing is overwritten unasked."""

    relation: Relation
    source: Source | None = None

    def mirrored(self) -> "Comparison":
        """The same answer as the peer sees it."""
        if self.source is Source.OURS:
            return Comparison(self.relation, Source.THEIRS)
        if self.source is Source.THEIRS:
            return Comparison(self.relation, Source.OURS)
        return self


_QUALITY = {DataState.UP_TO_DATE: 2, DataState.OUTDATED: 1, DataState.INCONSISTENT: 0}


def compare(ours: Lineage, theirs: Lineage) -> Comparison:
    """Compare two records. Rules are tried in order; the first that fits decides."""
    ours_usable = ours.holds_data and ours.data_state is not DataState.INCONSISTENT
    theirs_usable = theirs.holds_data and theirs.data_state is not DataState.INCONSISTENT
    if not ours_usable and not theirs_usable:
        return Comparison(Relation.NO_SOURCE)
    if not theirs_usable:
        return Comparison(Relation.FULL, Source.OURS)
    if not ours_usable:
        return Comparison(Relation.FULL, Source.THEIRS)
    if ours.generation == theirs.generation:
        return _compare_equal(ours, theirs)
    return _compare_apart(ours, theirs)


def _compare_equal(ours: Lineage, theirs: Lineage) -> Comparison:
    """Equal generations differ by a mark or a crash; the former primary is the better source."""
    difference = _QUALITY[ours.data_state] - _QUALITY[theirs.data_state]
    if difference:
        return Comparison(Relation.PARTIAL, Source.OURS if difference > 0 else Source.THEIRS)
    if ours.data_state is DataState.OUTDATED:
        return Comparison(Relation.NO_SOURCE)
    ours_counts_behind = ours.peer_generation != NOBODY_BEHIND
    theirs_counts_behind = theirs.peer_generation != NOBODY_BEHIND
    if ours_counts_behind != theirs_counts_behind:
        source = Source.OURS if ours_counts_behind else Source.THEIRS
        return Comparison(Relation.PARTIAL, source)
    if ours.clean and theirs.clean:
        return Comparison(Relation.IN_STEP)
    ours_was_primary = ours.role_at_shutdown is ReplicatorRole.PRIMARY
    theirs_was_primary = theirs.role_at_shutdown is ReplicatorRole.PRIMARY
    if ours_was_primary == theirs_was_primary:
        return Comparison(Relation.PARTIAL, Source.EITHER)
    return Comparison(Relation.PARTIAL, Source.OURS if ours_was_primary else Source.THEIRS)


def _compare_apart(ours: Lineage, theirs: Lineage) -> Comparison:
    """Different generations: a side whose generation the other has passed is behind."""
    ours_is_behind = ours.generation in _passed_by(theirs)
    theirs_is_behind = theirs.generation in _passed_by(ours)
    if ours_is_behind and not theirs_is_behind:
        return _behind(ours, theirs).mirrored()
    if theirs_is_behind and not ours_is_behind:
        return _behind(theirs, ours)
    if (_passed_by(ours) | {ours.generation}) & (_passed_by(theirs) | {theirs.generation}):
        return Comparison(Relation.SPLIT_BRAIN)
    return Comparison(Relation.UNRELATED)


def _behind(older: Lineage, newer: Lineage) -> Comparison:
    """Only what changed since the last step in common is known; an older copy needs everything."""
    known = older.generation == newer.peer_generation
    return Comparison(Relation.PARTIAL if known else Relation.FULL, Source.OURS)


def _passed_by(record: Lineage) -> frozenset[str]:
    """Generations which that node held and left behind."""
    passed = frozenset({*record.history, record.peer_generation})
    return passed - {NEVER_HELD_DATA, record.generation}
