"""Every row of the lineage table, both ways round, from vectors shared with the replicator."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.mirror.lineage import (
    NEVER_HELD_DATA,
    Comparison,
    DataState,
    Lineage,
    Relation,
    ReplicatorRole,
    Source,
    compare,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "lineage.json"
TABLES = json.loads(VECTORS.read_text())
ROWS = TABLES["compare"]


def record(fields: dict[str, object]) -> Lineage:
    history = fields["history"]
    assert isinstance(history, list)
    return Lineage(
        generation=str(fields["generation"]),
        peer_generation=str(fields["peer_generation"]),
        history=tuple(history),
        data_state=DataState(fields["data_state"]),
        clean=bool(fields["clean"]),
        role_at_shutdown=ReplicatorRole(fields["role_at_shutdown"]),
    )


@pytest.mark.parametrize("row", ROWS, ids=[row["why"] for row in ROWS])
def test_compare(row: dict[str, Any]) -> None:
    source = None if row["source"] is None else Source(row["source"])
    expected = Comparison(Relation(row["verdict"]), source)
    ours, theirs = record(row["own"]), record(row["peer"])
    assert compare(ours, theirs) == expected
    assert compare(theirs, ours) == expected.mirrored()


def test_every_relation_has_a_row() -> None:
    assert {row["verdict"] for row in ROWS} == set(Relation)


STARTS = TABLES["may_start_alone"]


@pytest.mark.parametrize("row", STARTS, ids=[row["why"] for row in STARTS])
def test_may_start_alone(row: dict[str, Any]) -> None:
    assert record(row["own"]).may_start_alone is row["expected"]


GENERATIONS = st.sampled_from([NEVER_HELD_DATA, "a" * 16, "b" * 16, "c" * 16])
LINEAGES = st.builds(
    Lineage,
    generation=GENERATIONS,
    peer_generation=GENERATIONS,
    history=st.lists(GENERATIONS, max_size=3).map(tuple),
    data_state=st.sampled_from(DataState),
    clean=st.booleans(),
    role_at_shutdown=st.sampled_from(ReplicatorRole),
)


@given(LINEAGES, LINEAGES)
def test_both_nodes_reach_mirrored_answers(ours: Lineage, theirs: Lineage) -> None:
    assert compare(ours, theirs).mirrored() == compare(theirs, ours)


@given(LINEAGES, LINEAGES)
def test_a_half_copied_side_is_never_the_source_of_a_whole_one(
    ours: Lineage, theirs: Lineage
) -> None:
    whole = theirs.holds_data and theirs.data_state is not DataState.INCONSISTENT
    if ours.data_state is DataState.INCONSISTENT and whole:
        assert compare(ours, theirs).source is not Source.OURS
