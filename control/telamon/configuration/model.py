"""From a document to a checked model: every fault at once, each with its line.

Invariant: either a model that satisfies its form and its relations, or at least one fault. A value
whose form is wrong does not hide other faults: it is set aside, a required one for its field's
example, and the rest is checked without it, save relations that depend on it.
"""

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from telamon.configuration.document import Document, read
from telamon.configuration.fault import Fault, Finding, Location, shown


class Section(BaseModel):
    """A mapping of a configuration file: unknown keys are refused, nothing is converted. A required
    field has an example, of a form that meets nothing real."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


M = TypeVar("M", bound=Section)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[M]):
    """A model and the document it stands in."""

    model: M
    document: Document


def validate(
    document: Document, model: type[M], relations: Callable[[M], Iterable[Finding]]
) -> Parsed[M] | tuple[Fault, ...]:
    """Check the form of `document`, then the relations between its values."""
    faults: dict[tuple[Location, str], Fault] = {}
    aside: set[Location] = set()
    value = copy.deepcopy(document.value)
    while True:
        try:
            checked = model.model_validate(value)
            break
        except ValidationError as error:
            before = len(aside)
            for detail in _details(error):
                if detail["loc"] in aside:
                    continue
                location = _written(detail["loc"], document)
                message = _message(detail["type"], detail["msg"], detail["loc"], model)
                faults.setdefault((location, message), document.fault(location, message))
                aside |= _set_aside(value, detail["loc"], model) or _set_aside(
                    value, location, model
                )
            if len(aside) == before:
                return tuple(faults.values())
    for finding in relations(checked):
        if not any(_touches(where, gone) for where in finding.locations for gone in aside):
            where = finding.locations[0]
            message = f"{shown(where)}: {finding.message}" if where else finding.message
            faults.setdefault((where, message), document.fault(where, message))
    return tuple(faults.values()) or Parsed(checked, document)


def _details(error: ValidationError) -> list[ErrorDetails]:
    """What pydantic found, save that a list is too short because its items are faulty."""
    details = error.errors(include_url=False)
    return [
        detail
        for detail in details
        if detail["type"] != "too_short" or not any(_lies_in(one, detail) for one in details)
    ]


def _lies_in(inner: ErrorDetails, outer: ErrorDetails) -> bool:
    depth = len(outer["loc"])
    return len(inner["loc"]) > depth and inner["loc"][:depth] == outer["loc"]


def parse(
    text: str, file: str, model: type[M], relations: Callable[[M], Iterable[Finding]]
) -> Parsed[M] | tuple[Fault, ...]:
    """`read` and `validate` in one."""
    document = read(text, file)
    return document if isinstance(document, tuple) else validate(document, model, relations)


def _written(reported: tuple[int | str, ...], document: Document) -> Location:
    """The longest part of pydantic's location that stands in the document: it may end in the name
    of a missing key, or in a type's name."""
    location: Location = reported
    while location and location not in document.lines:
        location = location[:-1]
    return location


def _set_aside(value: object, location: Location, model: type[Section]) -> set[Location]:
    """Put the field's example in place of the faulty or missing value, or of the whole list that it
    stands in; without an example remove it. Gives the location, or nothing if there is no way."""
    while location and isinstance(location[-1], int):
        location = location[:-1]
    holder = _holder(value, location)
    if holder is None:
        return set()
    key = location[-1]
    field = _fields_at(model, location[:-1]).get(str(key))
    if field is not None and field.examples:
        holder[key] = copy.deepcopy(field.examples[0])
    elif key in holder:
        del holder[key]
    else:
        return set()
    return {location}


def _holder(value: object, location: Location) -> dict[str | int, object] | None:
    """The mapping in which the last part of a location stands, or should."""
    if not location:
        return None
    for part in location[:-1]:
        is_there = isinstance(value, dict) and part in value
        is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not is_there and not is_item:
            return None
        value = value[part]  # type: ignore[index]
    return value if isinstance(value, dict) else None


def _touches(one: Location, other: Location) -> bool:
    """Whether one location lies in the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _message(kind: str, text: str, reported: tuple[int | str, ...], model: type[Section]) -> str:
    """Pydantic's finding in our words: the key, what is wrong, what would be right."""
    key = reported[-1] if reported else ""
    if kind == "extra_forbidden":
        known = sorted(_fields_at(model, reported[:-1]))
        near = difflib.get_close_matches(str(key), known, n=1)
        cure = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"{shown(reported)}: unknown key; {cure}"
    if kind == "missing":
        return f"{shown(reported)}: required, and missing"
    return f"{shown(reported)}: {text.removeprefix('Value error, ')}"


def _fields_at(model: type[Section], location: Location) -> Mapping[str, FieldInfo]:
    """The fields which the model knows at a location."""
    holder: object = model
    for part in location:
        if isinstance(part, str) and isinstance(holder, type) and issubclass(holder, BaseModel):
            entry = holder.model_fields.get(part)
            holder = _model_in(entry.annotation) if entry else None
    if isinstance(holder, type) and issubclass(holder, BaseModel):
        return holder.model_fields
    return {}


def _model_in(annotation: object) -> object:
    """The model inside `tuple[Model, ...]`, `Model | None` and the like."""
    if get_origin(annotation) is None:
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return None
