"""YAML as plain values with their lines: nothing is guessed, and no text is too hostile."""

import base64
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from telamon.configuration.document import MAXIMUM_VALUES, Document, read

WORDS = st.text(st.characters(categories=("L", "N", "P", "S", "Z")), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | WORDS
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


def value(text: str) -> object:
    document = read(text, "file")
    assert isinstance(document, Document), document
    return document.value


def faults(text: str) -> list[tuple[int, str]]:
    found = read(text, "file")
    assert not isinstance(found, Document), found.value
    return [(fault.line, fault.message) for fault in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1", {"a": 1}),
        ("a: -12", {"a": -12}),
        ("a: true", {"a": True}),
        ("a: null", {"a": None}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: '1'", {"a": "1"}),
        ("a: 'true'", {"a": "true"}),
        # What YAML 1.1 would read as something else stays a word.
        ("a: no", {"a": "no"}),
        ("a: on", {"a": "on"}),
        ("a: True", {"a": "True"}),
        ("a: 010", {"a": "010"}),
        ("a: 0x10", {"a": "0x10"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 1.5", {"a": "1.5"}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: =", {"a": "="}),
        ("[1, {b: c}]", [1, {"b": "c"}]),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: !!binary /w==", {"a": b"\xff"}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
    ],
)
def test_what_is_read_is_what_is_written(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected and repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 0, "empty"),
        ("# nothing\n", 0, "empty"),
        ("a: 1\na: 2\n", 2, "key 'a' stands here twice (first in line 1)"),
        ("x:\n  a: 1\n  a: 2\n", 3, "key 'a' stands here twice (first in line 2)"),
        ("1: a", 1, "a key must be a word"),
        ("true: a", 1, "a key must be a word"),
        ("? [a]\n: b", 1, "a key must be a word"),
        ("a: !!int word", 1, "'word' is not a value of type int"),
        ("a: !!python/object:os.system x", 1, "is not a value of type"),
        ("a: !mine [1]", 1, "unknown YAML tag"),
        ("a: !!set {b}", 1, "unknown YAML tag"),
        ("a: !!binary '%%'", 1, "!!binary is not base64"),
        ("a: [1", 2, ""),
        ("a: 1\n b: 2", 2, ""),
        ("a: 1\n---\nb: 2", 2, ""),
        ("a: \x01", 1, ""),
    ],
)
def test_what_is_refused_and_where(text: str, line: int, says: str) -> None:
    found = faults(text)
    assert any(at in (line, line - 1) and says in message for at, message in found), found


def test_every_fault_of_the_form_is_found_at_once() -> None:
    found = faults("a: 1\na: 2\nb: !mine [1]\n2: c\n")
    assert [line for line, _ in found] == [2, 3, 4]


def test_lines_are_those_of_keys_and_items() -> None:
    document = read("a:\n  - b: 1\n    c: 2\n  - d\n", "file")
    assert isinstance(document, Document)
    assert document.line_of(("a",)) == 1
    assert document.line_of(("a", 0, "c")) == 3
    assert document.line_of(("a", 1)) == 4
    assert document.line_of(("a", 0, "missing")) == document.line_of(("a", 0)) == 2
    assert document.line_of(("missing",)) == document.line_of(())


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "too large or too deep" in faults("\n".join(lines))[0][1]


def test_a_deep_or_long_text_is_refused() -> None:
    assert "too large or too deep" in faults("[" * 40 + "]" * 40)[0][1]
    assert "too large or too deep" in faults("\n".join(["- x"] * (MAXIMUM_VALUES + 1)))[0][1]
    assert faults("a" * 2_000_000)


@given(VALUES)
def test_whatever_yaml_writes_is_read_back(written: object) -> None:
    text = yaml.safe_dump(written, allow_unicode=True)
    found = read(text, "file")
    if isinstance(found, Document):
        assert found.value == written


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    found = read(text, "file")
    assert isinstance(found, Document) or (found and all(fault.message for fault in found))


@given(st.binary(max_size=64))
def test_bytes_pass_through_base64(content: bytes) -> None:
    encoded = base64.b64encode(content).decode()
    assert value(f"a: !!binary '{encoded}'") == {"a": content}
