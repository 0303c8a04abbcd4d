"""Whose data is newer, decided from the two lineage records and from nothing else.

Invariant: `compare` gives exactly one answer for every pair of records, and the two nodes reach
mirrored answers. No clock and no order of booting takes part. The replicator holds the same
table; both are checked against tests/vectors/lineage.json.

How the records come about (replicator/CONTROL.md, "Lineage"): every grant to acknowledge commits
alone makes a new generation; `peer_generation` keeps the one at which the peer was last in step.
In step means `peer_generation == generation`.
"""

from dataclasses import dataclass
from enum import StrEnum

NEVER_HELD_DATA = "0" * 16


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
    peer_generation: str = NEVER_HELD_DATA
    history: tuple[str, ...] = ()
    data_state: DataState = DataState.INCONSISTENT
    clean: bool = True
    role_at_shutdown: ReplicatorRole = ReplicatorRole.IDLE

    @property
    def holds_data(self) -> bool:
        """Whether this node ever was primary or was brought up by one."""
        return self.generation != NEVER_HELD_DATA

    @property
    def proves_peer_behind(self) -> bool:
        """Whether this node went alone after the peer was last in step."""
        return self.peer_generation not in (NEVER_HELD_DATA, self.generation)


class Relation(StrEnum):
    """What two lineages are to each other."""

    EMPTY = "empty"
    """Neither node holds data: the operator chooses the first primary."""
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


class Source(StrEnum):
    """From which side data may flow."""

    OURS = "ours"
    THEIRS = "theirs"
    EITHER = "either"
    """Whichever of the two is or becomes primary."""
    NONE = "none"
    """Nothing may be overwritten before the operator chose a side."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer of the table: the relation, and from which side data may flow."""

    relation: Relation
    source: Source

    def mirrored(self) -> "Comparison":
        """The same answer as the peer sees it."""
        swapped = {Source.OURS: Source.THEIRS, Source.THEIRS: Source.OURS}
        return Comparison(self.relation, swapped.get(self.source, self.source))


_QUALITY = {DataState.UP_TO_DATE: 2, DataState.OUTDATED: 1, DataState.INCONSISTENT: 0}


def compare(ours: Lineage, theirs: Lineage) -> Comparison:
    """Compare two records. Rows are tried in order; the first that fits decides."""
    if not ours.holds_data and not theirs.holds_data:
        return Comparison(Relation.EMPTY, Source.NONE)
    if not theirs.holds_data:
        return Comparison(Relation.FULL, Source.OURS)
    if not ours.holds_data:
        return Comparison(Relation.FULL, Source.THEIRS)
    if ours.generation == theirs.generation:
        return _compare_equal(ours, theirs)
    if not _known_to(ours) & _known_to(theirs):
        return Comparison(Relation.UNRELATED, Source.NONE)
    return _compare_apart(ours, theirs)


def _compare_equal(ours: Lineage, theirs: Lineage) -> Comparison:
    """Equal generations: the better data state is the source; equal ones differ by a crash."""
    difference = _QUALITY[ours.data_state] - _QUALITY[theirs.data_state]
    inconsistent = DataState.INCONSISTENT in (ours.data_state, theirs.data_state)
    relation = Relation.FULL if inconsistent else Relation.PARTIAL
    if difference:
        return Comparison(relation, Source.OURS if difference > 0 else Source.THEIRS)
    if ours.data_state is DataState.UP_TO_DATE and ours.clean and theirs.clean:
        return Comparison(Relation.IN_STEP, Source.EITHER)
    return Comparison(relation, Source.EITHER)


def _compare_apart(ours: Lineage, theirs: Lineage) -> Comparison:
    """Different generations, one origin: a side whose generation the other has passed is behind."""
    ours_unusable = ours.data_state is DataState.INCONSISTENT
    theirs_unusable = theirs.data_state is DataState.INCONSISTENT
    if ours_unusable != theirs_unusable:
        return Comparison(Relation.FULL, Source.THEIRS if ours_unusable else Source.OURS)
    relation = Relation.FULL if ours_unusable else Relation.PARTIAL
    ours_is_behind = ours.generation in _passed_by(theirs)
    theirs_is_behind = theirs.generation in _passed_by(ours)
    if ours_is_behind == theirs_is_behind:
        return Comparison(Relation.SPLIT_BRAIN, Source.NONE)
    return Comparison(relation, Source.THEIRS if ours_is_behind else Source.OURS)


def _passed_by(record: Lineage) -> frozenset[str]:
    """Generations which that node held and left behind."""
    return frozenset({*record.history, record.peer_generation}) - {
        NEVER_HELD_DATA,
        record.generation,
    }


def _known_to(record: Lineage) -> frozenset[str]:
    return _passed_by(record) | {record.generation}
