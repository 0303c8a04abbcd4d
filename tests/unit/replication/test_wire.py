"""The second implementation of WIRE.md agrees with the shared vectors, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest
from construct import Container
from hypothesis import given
from hypothesis import strategies as st

from telamon.replication import wire

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "wire.json").read_text())


def values(fields: Any) -> Any:
    """Fields of a vector as the description wants them."""
    if isinstance(fields, dict):
        if set(fields) == {"hex"}:
            return bytes.fromhex(fields["hex"])
        return {name: values(value) for name, value in fields.items()}
    if isinstance(fields, list):
        return [values(value) for value in fields]
    return fields


def plain(parsed: Any) -> Any:
    """What was parsed, without the description's own book-keeping."""
    if isinstance(parsed, Container):
        return {name: plain(value) for name, value in parsed.items() if name != "_io"}
    if isinstance(parsed, list):
        return [plain(value) for value in parsed]
    return parsed


@pytest.mark.parametrize("row", VECTORS["frames"], ids=lambda row: row["name"])
def test_builds_and_parses_every_frame(row: dict[str, Any]) -> None:
    frame = bytes.fromhex(row["frame"])
    assert wire.build(row["type"], values(row["fields"]), row["lsn"]) == frame
    name, lsn, fields = wire.parse(frame)
    assert (name, lsn) == (row["type"], row["lsn"])
    assert plain(fields) == values(row["fields"])


def test_every_type_has_a_vector() -> None:
    assert {row["type"] for row in VECTORS["frames"]} == {*wire.CONTROL, *wire.LOGGED}


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["name"])
def test_refuses(row: dict[str, Any]) -> None:
    with pytest.raises(wire.WireError):
        wire.parse(bytes.fromhex(row["frame"]))


@pytest.mark.parametrize("row", VECTORS["forbidden"], ids=lambda row: row["name"])
def test_forbidden_values_are_well_formed_frames(row: dict[str, Any]) -> None:
    """They prove the replicator's own checks: only its reading of the values can refuse them."""
    wire.parse(bytes.fromhex(row["frame"]))


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else(garbage: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.parse(garbage)
