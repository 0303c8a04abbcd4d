"""Paths in module.yaml: any bytes that a file name may hold.

A path is a `str` as `os.fsdecode` gives it: bytes that are not UTF-8 are surrogate escapes, and
`os.fsencode` gives them back. In YAML such a path is written `!!binary <base64>`.
"""

import os
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

MAXIMUM_PATH_BYTES = 4095


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if not isinstance(value, str) or not value:
        raise ValueError("a path is a non-empty string, or !!binary for bytes that are not UTF-8")
    if "\0" in value or len(os.fsencode(value)) > MAXIMUM_PATH_BYTES:
        raise ValueError(f"a path has no NUL and at most {MAXIMUM_PATH_BYTES} bytes")
    return value


def _directory(value: object) -> str:
    path = _text(value)
    plain = str(PurePosixPath(path))
    if not path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{printable(path)} must be absolute and without `..`")
    if plain in ("/", "//"):
        raise ValueError("the root of the file system cannot be replicated: name directories")
    return "/" + plain.lstrip("/")


def _script(value: object) -> str:
    path = _text(value)
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{printable(path)} must be relative to the module's directory, no `..`")
    return path


def _pattern(value: object) -> str:
    pattern = _text(value)
    parts = pattern.split("/")
    if pattern.startswith("/") or ".." in parts or "." in parts or "" in parts[:-1]:
        raise ValueError(
            f"{printable(pattern)} must be relative to the directory, without `.`, `..` and `//`"
        )
    return pattern


def escaped(path: str) -> str:
    """A path as text that every encoding holds: undecodable bytes as \\xNN."""
    return os.fsencode(path).decode(errors="backslashreplace")


def printable(path: str) -> str:
    """The same in quotes, for messages."""
    return repr(escaped(path))


DirectoryPath = Annotated[str, PlainValidator(_directory), PlainSerializer(escaped, str)]
ScriptPath = Annotated[str, PlainValidator(_script), PlainSerializer(escaped, str)]
Pattern = Annotated[str, PlainValidator(_pattern), PlainSerializer(escaped, str)]


def is_inside(inner: str, outer: str) -> bool:
    """Whether `inner` is `outer` or lies below it. Compares names; symbolic links are the rim's."""
    return PurePosixPath(inner).is_relative_to(PurePosixPath(outer))
