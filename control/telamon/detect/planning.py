"""From a module's configured checks to what drives and looks.

Invariant: everything a detector needs is settled here, once; looking decides nothing more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from telamon.detect.check import Settings
from telamon.detect.custom import CustomDetector
from telamon.detect.http import HttpDetector
from telamon.detect.interface import InterfaceDetector
from telamon.detect.ip import IpDetector
from telamon.detect.module import ModuleDetector, StateOf
from telamon.detect.outcome import Look
from telamon.detect.ping import PingDetector
from telamon.detect.process import ProcessDetector
from telamon.detect.tcp import TcpDetector
from telamon.detect.watch import Planned
from telamon.module.check_config import Check, CheckAction, Detector, When, title
from telamon.module.model import Module

Address = IPv4Address | IPv6Address

LOOPBACK = IPv4Address("127.0.0.1")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the checks of a module look from."""

    directory: Path
    """The module's, with its scripts."""
    environment: Mapping[str, str]
    """Of scripts."""
    own_addresses: Mapping[str, Address]
    """Network -> address of this node."""
    state_of: StateOf


def plan_checks(module: Module, place: Place) -> tuple[Planned, ...]:
    """Every check of a module that has passed its own check."""
    return tuple(_plan(module, check, index, place) for index, check in enumerate(module.checks))


def _plan(module: Module, check: Check, index: int, place: Place) -> Planned:
    when = check.looks_while
    grace = check.grace or module.application.start_timeout
    return Planned(
        name=title(check, index),
        detector=check.detector,
        action=check.asks_for,
        when=when,
        settings=Settings(
            failures=check.failures,
            recoveries=check.recoveries,
            grace_ms=grace.milliseconds if when is When.APPLICATION else 0,
            holds=check.asks_for is CheckAction.WAIT,
        ),
        interval_s=check.interval.seconds,
        timeout_s=check.timeout.seconds,
        look=_look(module, check, place),
    )


def _look(module: Module, check: Check, place: Place) -> Look:
    virtual = tuple(one.address.ip for one in module.virtual_ips)
    match check.detector:
        case Detector.PROCESS:
            assert check.process is not None
            return ProcessDetector(check.process)
        case Detector.TCP:
            assert check.tcp is not None
            own = virtual[0] if virtual else LOOPBACK
            return TcpDetector(check.tcp.address or own, check.tcp.port)
        case Detector.PING:
            assert check.ping is not None
            return PingDetector(check.ping.addresses)
        case Detector.INTERFACE:
            assert check.interface is not None
            network = check.interface.network
            own_address = place.own_addresses[network] if network is not None else None
            return InterfaceDetector(check.interface.name, own_address)
        case Detector.IP:
            assert check.ip is not None
            return IpDetector((check.ip.address,) if check.ip.address is not None else virtual)
        case Detector.HTTP:
            assert check.http is not None
            return HttpDetector(check.http)
        case Detector.CUSTOM:
            assert check.custom is not None
            return CustomDetector(
                script=place.directory / check.custom.script,
                arguments=check.custom.arguments,
                directory=place.directory,
                environment=place.environment,
            )
        case Detector.MODULE:
            assert check.module is not None
            return ModuleDetector(check.module, place.state_of)
