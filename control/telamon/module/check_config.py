"""Checks of a module: which detector looks at what, how often, and what its failure asks for.

Invariant: a check has exactly one detector, and an action that its kind of module knows. The
detectors themselves live in `telamon.detect`.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator

from telamon.cluster.config import AddressField, Name, Port
from telamon.configuration.fault import Finding, Location
from telamon.configuration.model import Section
from telamon.configuration.quantity import Duration, DurationField
from telamon.module.path import ScriptPath


class Detector(StrEnum):
    """The detectors of `telamon.detect`."""

    PROCESS = "process"
    TCP = "tcp"
    PING = "ping"
    INTERFACE = "interface"
    IP = "ip"
    HTTP = "http"
    CUSTOM = "custom"
    MODULE = "module"


class CheckAction(StrEnum):
    """What a failure asks for. `none` is only shown."""

    RESTART = "restart"
    STOPSTART = "stopstart"
    WAIT = "wait"
    STOP = "stop"
    SWAP = "swap"
    NONE = "none"


def _action(value: object) -> CheckAction:
    try:
        return CheckAction(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(CheckAction)
        raise ValueError(f"{value!r} is not an action; known: {known}") from None


def _expression(value: object) -> str:
    try:
        if not isinstance(value, str) or not value:
            raise ValueError("a regular expression is a non-empty string")
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


Expression = Annotated[str, PlainValidator(_expression)]
ActionField = Annotated[CheckAction, PlainValidator(_action), PlainSerializer(str, str)]
InterfaceName = Annotated[str, Field(pattern=r"^[^\s/]{1,15}$")]


class ProcessTarget(Section):
    """So many processes must run whose command line matches."""

    command: Expression
    user: str | None = None
    at_least: int = Field(default=1, ge=1)
    at_most: int | None = Field(default=None, ge=1)


class TcpTarget(Section):
    """A connection must be accepted. Without an address: the first virtual IP."""

    port: Port
    address: AddressField | None = None


class PingTarget(Section):
    """One of the addresses must answer."""

    addresses: Annotated[tuple[AddressField, ...], Field(min_length=1, strict=False)]


class InterfaceTarget(Section):
    """The link of a network interface must be up; named itself, or by its network."""

    name: InterfaceName | None = None
    network: Name | None = None


class IpTarget(Section):
    """An address must be present on this node. Without an address: every virtual IP."""

    address: AddressField | None = None


class HttpTarget(Section):
    """A URL must answer with a status."""

    url: str = Field(pattern=r"^https?://[^\s]+$")
    status: int = Field(default=200, ge=100, le=599)
    contains: str | None = None


class CustomTarget(Section):
    """A script of the module must exit with 0."""

    script: ScriptPath
    arguments: Annotated[tuple[str, ...], Field(strict=False)] = ()


class ModuleTarget(Section):
    """Another module must be ready, on this node or on a named one."""

    name: str
    node: Name | None = None


_DEFAULT_ACTION = {
    Detector.PROCESS: CheckAction.RESTART,
    Detector.TCP: CheckAction.RESTART,
    Detector.PING: CheckAction.WAIT,
    Detector.INTERFACE: CheckAction.WAIT,
    Detector.IP: CheckAction.STOPSTART,
    Detector.HTTP: CheckAction.RESTART,
    Detector.CUSTOM: CheckAction.RESTART,
    Detector.MODULE: CheckAction.WAIT,
}


class Check(Section):
    """One check: one detector, its rhythm, and the action of its failure."""

    name: Name | None = None
    process: ProcessTarget | None = None
    tcp: TcpTarget | None = None
    ping: PingTarget | None = None
    interface: InterfaceTarget | None = None
    ip: IpTarget | None = None
    http: HttpTarget | None = None
    custom: CustomTarget | None = None
    module: ModuleTarget | None = None
    interval: DurationField = Duration(2_000)
    timeout: DurationField = Duration(1_000)
    failures: int = Field(default=2, ge=1, le=1000)
    """So many failures in a row ask for the action."""
    recoveries: int = Field(default=1, ge=1, le=1000)
    """So many successes in a row end a `wait`."""
    action: ActionField | None = None

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """The detectors named by this check: one, once it has been checked."""
        return tuple(kind for kind in Detector if getattr(self, kind) is not None)

    @property
    def detector(self) -> Detector:
        """The one detector."""
        return self.detectors[0]

    @property
    def asks_for(self) -> CheckAction:
        """The configured action, else the usual one of the detector."""
        return self.action or _DEFAULT_ACTION[self.detector]


def title(check: Check, index: int) -> str:
    """The name under which a check is shown: its own, else the detector and its place."""
    return check.name or f"{check.detector}-{index + 1}"


def relations(checks: tuple[Check, ...]) -> Iterator[Finding]:
    """Relations inside each check and between them."""
    names: set[str] = set()
    for index, check in enumerate(checks):
        where: Location = ("checks", index)
        if len(check.detectors) != 1:
            named = ", ".join(check.detectors) or "none"
            yield Finding((where,), f"exactly one detector of {', '.join(Detector)}; here: {named}")
            continue
        if title(check, index) in names:
            yield Finding((where,), f"another check is named {title(check, index)!r} already")
        names.add(title(check, index))
        yield from _one(check, where)


def _one(check: Check, where: Location) -> Iterator[Finding]:
    interval, timeout = (*where, "interval"), (*where, "timeout")
    if check.interval < Duration(100):
        yield Finding((interval,), f"{check.interval} is too short: at least 100ms")
    if check.timeout > check.interval:
        yield Finding(
            (timeout, interval),
            f"timeout <= interval is broken: {check.timeout} > {check.interval}",
        )
    process = check.process
    if process and process.at_most is not None and process.at_most < process.at_least:
        yield Finding(
            ((*where, "process", "at_most"), (*where, "process", "at_least")),
            f"at_most >= at_least is broken: {process.at_most} < {process.at_least}",
        )
    interface = check.interface
    if interface and (interface.name is None) == (interface.network is None):
        yield Finding(((*where, "interface"),), "give either `name` or `network`")
