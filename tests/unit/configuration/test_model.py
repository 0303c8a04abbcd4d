"""From a document to a model: every fault at once, each with its line, its value and the cure."""

from collections.abc import Iterator
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from telamon.configuration.fault import Fault, Finding, refuse
from telamon.configuration.model import Parsed, Section, parse
from telamon.configuration.quantity import Duration, DurationField


class Door(Section):
    name: str
    width: int = Field(default=1, ge=1)


class House(Section):
    kind: Literal["house", "barn"] = "house"
    open_after: DurationField = Duration(1_000)
    shut_after: DurationField = Duration(2_000)
    doors: Annotated[tuple[Door, ...], Field(strict=False)] = ()
    front: Door | None = None


def relations(house: House) -> Iterator[Finding]:
    if house.open_after > house.shut_after:
        yield Finding(
            (("open_after",), ("shut_after",)),
            f"open_after <= shut_after is broken: {house.open_after} > {house.shut_after}",
        )
    names = [door.name for door in house.doors]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Finding((("doors", index, "name"),), f"{name!r} is already used")


def faults(text: str) -> list[str]:
    found = parse(text, "house.yaml", House, relations)
    assert not isinstance(found, Parsed), found.model
    return [str(fault) for fault in sorted(found)]


def test_what_is_right_is_a_model() -> None:
    found = parse("doors: [{name: front}]\nopen_after: 1s\n", "house.yaml", House, relations)
    assert isinstance(found, Parsed)
    assert found.model == House(doors=(Door(name="front"),))
    assert found.document.line_of(("open_after",)) == 2


def test_every_fault_at_once_with_its_line() -> None:
    text = """\
kind: castle
open_after: 5
shut_afetr: 2s
doors:
  - name: front
    width: 0
  - width: two
    colour: red
front:
  - name
"""
    assert [fault.partition(": ")[0] for fault in faults(text)] == [
        f"house.yaml:{line}" for line in (1, 2, 3, 6, 7, 7, 8, 9)
    ]
    joined = "\n".join(faults(text))
    assert "kind: Input should be 'house' or 'barn'" in joined
    assert "open_after: 5 is not a duration such as" in joined
    assert "shut_afetr: unknown key; did you mean 'shut_after'?" in joined
    assert "doors[1].name: required, and missing" in joined
    assert "doors[1].colour: unknown key; known here: name, width" in joined


def test_relations_are_judged_beside_faults_of_other_values() -> None:
    text = "kind: castle\nopen_after: 5s\nshut_after: 2s\ndoors: [{name: a}, {name: a}]\n"
    assert faults(text) == [
        "house.yaml:1: kind: Input should be 'house' or 'barn'",
        "house.yaml:2: open_after: open_after <= shut_after is broken: 5s > 2s",
        "house.yaml:4: doors[1].name: 'a' is already used",
    ]


def test_a_relation_is_not_judged_on_a_value_that_is_faulty() -> None:
    assert faults("open_after: 5s\nshut_after: soon\n") == [
        "house.yaml:2: shut_after: 'soon' is not a duration such as 200ms, 2s, 5m, 24h or 1d: write"
        " the unit"
    ]


@pytest.mark.parametrize("text", ["word", "[1, 2]", "12", "!!binary /w=="])
def test_what_is_no_mapping_is_one_fault(text: str) -> None:
    assert len(faults(text)) == 1


@pytest.mark.parametrize("text", ["doors: [{name: 1}]", "doors: [{name: a, width: '1'}]"])
def test_nothing_is_converted(text: str) -> None:
    assert len(faults(text)) == 1


KEYS = st.sampled_from(["kind", "open_after", "shut_after", "doors", "front", "name", "width", "x"])
SCALARS = st.sampled_from(["house", "1s", "9s", "soon", "1", "-1", "true", "null", "a"])
FLOW = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(KEYS, inner, max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {item}" for key, item in items.items()) + "}"
        )
    ),
    max_leaves=15,
)


@given(FLOW)
def test_any_document_is_a_model_or_has_faults_with_lines(text: str) -> None:
    found = parse(text, "house.yaml", House, relations)
    if isinstance(found, Parsed):
        assert not list(relations(found.model))
    else:
        assert found and all(fault.message for fault in found)
        assert all(fault.line <= 1 for fault in found)


def test_the_refusal_counts_and_lists_faults_in_order() -> None:
    error = refuse([Fault("b", 2, "two"), Fault("a", 9, "nine"), Fault("b", 0, "whole")])
    assert str(error).startswith(
        "a, b: 3 faults; correct the configuration and run `telamon config"
    )
    assert error.faults == ("a:9: nine", "b: whole", "b:2: two")
