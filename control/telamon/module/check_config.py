"""Checks of a module: which detector looks at what, how often, and what its failure asks for.

Invariant: a check has exactly one detector, and an action that its kind of module knows. The
detectors themselves live in `telamon.detect`.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator

from telamon.cluster.config import Name
from telamon.configuration.fault import Finding, Location
from telamon.configuration.model import Section
from telamon.configuration.quantity import Duration, DurationField
from telamon.module.check_target import (
    CustomTarget,
    HttpTarget,
    InterfaceTarget,
    IpTarget,
    ModuleTarget,
    PingTarget,
    ProcessTarget,
    TcpTarget,
)


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


class When(StrEnum):
    """While what a check looks."""

    APPLICATION = "application"
    """While the application runs on this node."""
    STARTED = "started"
    """While the module is started on this node, in whichever role."""


def _action(value: object) -> CheckAction:
    try:
        return CheckAction(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(CheckAction)
        raise ValueError(f"{value!r} is not an action; known: {known}") from None


def _when(value: object) -> When:
    try:
        return When(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(When)
        raise ValueError(f"{value!r} is no time to look; known: {known}") from None


ActionField = Annotated[CheckAction, PlainValidator(_action), PlainSerializer(str, str)]
WhenField = Annotated[When, PlainValidator(_when), PlainSerializer(str, str)]

MINIMUM_INTERVAL = Duration(100)
MAXIMUM_CHECKS = 64

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
_OF_SURROUNDINGS = frozenset({Detector.PING, Detector.INTERFACE, Detector.MODULE})


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
    """So many successes in a row end a failure."""
    grace: DurationField | None = None
    """So long after its start the application may fail, until it has answered once; None: the
    application's `start_timeout`."""
    when: WhenField | None = None
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

    @property
    def looks_while(self) -> When:
        """The configured time, else the usual one: who waits must look before it starts."""
        if self.when is not None:
            return self.when
        is_of_surroundings = self.detector in _OF_SURROUNDINGS
        is_wait = self.asks_for is CheckAction.WAIT
        return When.STARTED if is_of_surroundings or is_wait else When.APPLICATION


def title(check: Check, index: int) -> str:
    """The name under which a check is shown: its own, else the detector and its place."""
    return check.name or f"{check.detector}-{index + 1}"


def relations(checks: tuple[Check, ...]) -> Iterator[Finding]:
    """Relations inside each check and between them."""
    if len(checks) > MAXIMUM_CHECKS:
        yield Finding((("checks",),), f"at most {MAXIMUM_CHECKS} checks, not {len(checks)}")
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
    if check.interval < MINIMUM_INTERVAL:
        yield Finding((interval,), f"{check.interval} is too short: at least {MINIMUM_INTERVAL}")
    if check.timeout > check.interval:
        yield Finding(
            (timeout, interval),
            f"timeout <= interval is broken: {check.timeout} > {check.interval}",
        )
    if check.timeout == Duration(0):
        yield Finding((timeout,), "0s ends every look before it begins: give it time")
    if check.grace is not None and check.looks_while is When.STARTED:
        yield Finding(
            ((*where, "grace"), where),
            "only a check `when: application` has a grace: it begins with the application",
        )
    if check.process is not None:
        for keys, message in check.process.faults():
            yield Finding(tuple((*where, "process", key) for key in keys), message)
    interface = check.interface
    if interface and (interface.name is None) == (interface.network is None):
        yield Finding(((*where, "interface"),), "give either `name` or `network`")
