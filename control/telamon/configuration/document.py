"""A YAML text as plain values, with the line of each of them.

Invariant: what is read is what is written. Only `true` and `false` are booleans and only decimal
digits are integers (YAML 1.1 would read `no`, `010` and `1:30` as something else), a key stands
once, and the size of a document is bounded also when aliases repeat parts of it. `!!binary` gives
bytes, for paths that are not UTF-8.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field

import yaml

from telamon.configuration.fault import Fault, Location

MAXIMUM_VALUES = 20_000
MAXIMUM_DEPTH = 16
MAXIMUM_CHARACTERS = 1_000_000

_RESOLVERS = {
    "tag:yaml.org,2002:bool": re.compile(r"true|false"),
    "tag:yaml.org,2002:null": re.compile(r"null|~|"),
    "tag:yaml.org,2002:int": re.compile(r"-?(0|[1-9][0-9]*)"),
}


@dataclass(frozen=True, slots=True)
class Document:
    """The values of one file and the line of each location."""

    file: str
    value: object
    lines: dict[Location, int]

    def line_of(self, location: Location) -> int:
        """The line of the value, or of the nearest one around it."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location, 0)

    def fault(self, location: Location, message: str) -> Fault:
        """A fault shown at that location."""
        return Fault(self.file, self.line_of(location), message)


class _Loader(yaml.SafeLoader):
    """Resolves no plain scalar but those of `_RESOLVERS`."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


@dataclass(slots=True)
class _Reading:
    file: str
    lines: dict[Location, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: int = 0

    def fault(self, node: yaml.Node, message: str) -> None:
        self.faults.append(Fault(self.file, node.start_mark.line + 1, message))


def read(text: str, file: str) -> Document | tuple[Fault, ...]:
    """Read one YAML document. A text that is not YAML gives one fault, any other all of them."""
    if len(text) > MAXIMUM_CHARACTERS:
        return (
            Fault(file, 0, f"longer than {MAXIMUM_CHARACTERS} characters: not a configuration"),
        )
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(filter(None, (error.context, error.problem)))
        return (Fault(file, mark.line + 1 if mark else 0, f"not YAML: {message}"),)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return (Fault(file, 0, f"not YAML: {' '.join(str(error).split())}"),)
    if node is None:
        return (Fault(file, 0, "the file is empty"),)
    reading = _Reading(file)
    value = _value(node, (), reading)
    if reading.faults:
        return tuple(reading.faults)
    return Document(file, value, reading.lines)


def _value(node: yaml.Node, location: Location, reading: _Reading) -> object:
    reading.values += 1
    reading.lines.setdefault(location, node.start_mark.line + 1)
    if reading.values > MAXIMUM_VALUES or len(location) > MAXIMUM_DEPTH:
        if not reading.faults:
            limits = f"{MAXIMUM_VALUES} values, {MAXIMUM_DEPTH} levels"
            reading.fault(node, f"too large or too deep (at most {limits}): use fewer aliases")
        return None
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, location, reading)
    if isinstance(node, yaml.SequenceNode):
        if node.tag != "tag:yaml.org,2002:seq":
            reading.fault(node, f"unknown YAML tag {node.tag}")
        return [_value(item, (*location, n), reading) for n, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node, reading)


def _mapping(node: yaml.MappingNode, location: Location, reading: _Reading) -> object:
    if node.tag != "tag:yaml.org,2002:map":
        reading.fault(node, f"unknown YAML tag {node.tag}")
    mapping: dict[str, object] = {}
    for key_node, value_node in node.value:
        key = _scalar(key_node, reading) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            reading.fault(key_node, "a key must be a word; put quotes around anything else")
            continue
        if key in mapping:
            first = reading.lines[(*location, key)]
            reading.fault(key_node, f"key {key!r} stands here twice (first in line {first})")
            continue
        reading.lines[(*location, key)] = key_node.start_mark.line + 1
        mapping[key] = _value(value_node, (*location, key), reading)
    return mapping


def _scalar(node: yaml.ScalarNode, reading: _Reading) -> object:
    text: str = node.value
    tag = node.tag
    is_plain = node.style is None and tag == "tag:yaml.org,2002:str"
    if is_plain:
        tag = next((t for t, form in _RESOLVERS.items() if form.fullmatch(text)), tag)
    match tag:
        case "tag:yaml.org,2002:str":
            return text
        case "tag:yaml.org,2002:null":
            return None
        case "tag:yaml.org,2002:bool" if text in ("true", "false"):
            return text == "true"
        case "tag:yaml.org,2002:int" if _RESOLVERS[tag].fullmatch(text) and len(text) <= 18:
            return int(text)
        case "tag:yaml.org,2002:binary":
            try:
                return base64.b64decode("".join(text.split()), validate=True)
            except (binascii.Error, ValueError):
                reading.fault(node, "!!binary is not base64")
                return None
    reading.fault(node, f"{text!r} is not a value of type {tag.rpartition(':')[2]}")
    return None
