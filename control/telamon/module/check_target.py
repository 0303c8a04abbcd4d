"""What each detector of a check looks at, as module.yaml says it.

Invariant: a target is well formed in itself. How it fits its check and module is the business of
check_config.py and model.py.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator

from telamon.cluster.config import AddressField, Name, Port
from telamon.configuration.model import Section
from telamon.module.path import ScriptPath, printable

MAXIMUM_PROCESS_NAME = 15
"""The kernel keeps no more of it."""


def _expression(value: object) -> str:
    try:
        if not isinstance(value, str) or not value:
            raise ValueError("a regular expression is a non-empty string")
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


def _file(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        shown = printable(value) if isinstance(value, str) else repr(value)
        raise ValueError(f"{shown} is not the absolute path of a file")
    return value


def _process_name(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a process's name is a non-empty string")
    if len(value.encode(errors="surrogateescape")) > MAXIMUM_PROCESS_NAME:
        raise ValueError(
            f"the kernel keeps {MAXIMUM_PROCESS_NAME} bytes of a process's name, and {value!r} has"
            " more: cut it off there, or use `command`"
        )
    return value


def _url(value: object) -> str:
    expected = f"{value!r} is not a URL as http://10.0.0.100:8080/ready"
    if not isinstance(value, str) or not re.fullmatch(r"https?://[!-~]{1,2000}", value):
        raise ValueError(expected)
    try:
        parts = urlsplit(value)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ValueError(f"{expected}: {error}") from None
    if not is_whole:
        raise ValueError(expected)
    return value


Argument = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Expression = Annotated[str, PlainValidator(_expression)]
FilePath = Annotated[str, PlainValidator(_file)]
Url = Annotated[str, PlainValidator(_url)]
InterfaceName = Annotated[str, Field(pattern=r"^[^\s/]{1,15}$")]
ProcessName = Annotated[str, PlainValidator(_process_name)]


class ProcessTarget(Section):
    """Processes of this host: the one that a file names, or those that look as described."""

    pid_file: FilePath | None = None
    """Its first line is the process's number."""
    name: ProcessName | None = None
    """Exactly as in /proc/PID/comm: 15 bytes of the program's name."""
    command: Expression | None = None
    """A regular expression, found anywhere in the command line, its words joined by spaces."""
    user: str | None = None
    at_least: int = Field(default=1, ge=1)
    at_most: int | None = Field(default=None, ge=1)

    def faults(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Broken relations: the keys, the message."""
        if self.pid_file is None and self.name is None and self.command is None:
            yield ("command",), "give `pid_file`, `name` or `command`, or several of them"
        if self.at_most is not None and self.at_most < self.at_least:
            yield (
                ("at_most", "at_least"),
                f"at_most >= at_least is broken: {self.at_most} < {self.at_least}",
            )
        if self.pid_file is not None and (self.at_least > 1 or self.at_most is not None):
            yield (
                ("pid_file", "at_least", "at_most"),
                "a pid file names one process: leave out `at_least` and `at_most`",
            )


class TcpTarget(Section):
    """A connection must be accepted. Without an address: on the first virtual IP, or on 127.0.0.1
    where there is none.
    """

    port: Port
    address: AddressField | None = None


class PingTarget(Section):
    """One of the addresses must answer."""

    addresses: Annotated[tuple[AddressField, ...], Field(min_length=1, max_length=16, strict=False)]


class InterfaceTarget(Section):
    """The link of a network interface must be up; named itself, or by its network."""

    name: InterfaceName | None = None
    network: Name | None = None


class IpTarget(Section):
    """An address must be present on this node. Without an address: every virtual IP."""

    address: AddressField | None = None


class HttpTarget(Section):
    """A URL must answer with a status."""

    url: Url
    status: int = Field(default=200, ge=100, le=599)
    contains: str | None = Field(default=None, min_length=1)
    """Text that the first MiB of the answer must contain."""
    verify_certificate: bool = True
    """Whether an https server must prove its name to this host's authorities."""


class CustomTarget(Section):
    """A script of the module must exit with 0."""

    script: ScriptPath
    arguments: Annotated[tuple[Argument, ...], Field(strict=False)] = ()


class ModuleTarget(Section):
    """Another module must be ready, on this node or on a named one."""

    name: str
    node: Name | None = None
    states: Annotated[
        tuple[Literal["ALONE", "PRIM", "SECOND", "UP"], ...], Field(strict=False)
    ] = ()
    """Only these states count; without them, every one that is ready."""
