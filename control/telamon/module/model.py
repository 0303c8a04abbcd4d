"""What every kind of module says of itself in module.yaml: nodes, virtual IPs, scripts, checks.

Invariant: a model is consistent in itself. How it fits the cluster and the other modules is
`config.relate`'s business.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator

from telamon.cluster.config import MAXIMUM_NODES, Name
from telamon.configuration.fault import Finding, Location
from telamon.configuration.model import Section
from telamon.configuration.quantity import Duration, DurationField
from telamon.module import check_config, health_config
from telamon.module.check_config import Check
from telamon.module.check_target import InterfaceName
from telamon.module.health_config import HealthEndpoint
from telamon.module.path import ScriptPath

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
AddressWithPrefix = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MODULE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}", re.ASCII)


def _module_name(value: object) -> str:
    if not isinstance(value, str) or not _MODULE_NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a module's name: a lower-case letter, then up to 30 letters, digits,"
            " hyphens and underscores"
        )
    return value


def _address_with_prefix(value: object) -> AddressWithPrefix:
    if isinstance(value, AddressWithPrefix):
        return value
    expected = f"{value!r} is not an address with its prefix, as 10.0.0.100/24"
    if not isinstance(value, str) or "/" not in value:
        raise ValueError(expected)
    try:
        address = ipaddress.ip_interface(value)
    except ValueError:
        raise ValueError(expected) from None
    if address.ip.is_unspecified or address.ip.is_multicast or address.ip.is_loopback:
        raise ValueError(f"{address.ip} cannot be a virtual IP: write a unicast address")
    single = address.network.num_addresses <= 2
    if (
        not single
        and address.version == 4
        and address.ip
        in (
            address.network.network_address,
            address.network.broadcast_address,
        )
    ):
        raise ValueError(f"{address} is the network or broadcast address of {address.network}")
    return address


ModuleName = Annotated[str, PlainValidator(_module_name)]
VirtualAddress = Annotated[
    AddressWithPrefix, PlainValidator(_address_with_prefix), PlainSerializer(str, str)
]


class VirtualIp(Section):
    """An address that moves with the module."""

    address: VirtualAddress = Field(examples=["192.0.2.1/32"])
    network: Name = Field(examples=["name-of-example"])
    interface: InterfaceName | None = None
    """Without it: the interface that holds the node's own address in `network`."""


class Application(Section):
    """The scripts that start and stop the application, and how long they may take."""

    start: ScriptPath = "scripts/start"
    stop: ScriptPath = "scripts/stop"
    start_timeout: DurationField = Duration(60_000)
    stop_timeout: DurationField = Duration(60_000)
    variables: dict[str, str] = Field(default_factory=dict)
    """Added to the environment of the scripts."""


class FailureCounter(Section):
    """So many failures in the window are cured here; the next one stops the module on this node."""

    limit: int = Field(default=3, ge=0, le=1000)
    window: DurationField = Duration(24 * 3_600_000)


class Module(Section):
    """What all kinds have in common."""

    module: ModuleName = Field(examples=["name-of-example"])
    nodes: Annotated[
        tuple[Name, ...], Field(min_length=1, max_length=MAXIMUM_NODES, strict=False)
    ] = Field(examples=[["name-of-example", "name-of-another"]])
    virtual_ips: Annotated[tuple[VirtualIp, ...], Field(strict=False)] = ()
    application: Application = Application()
    checks: Annotated[tuple[Check, ...], Field(strict=False)] = ()
    failures: FailureCounter = FailureCounter()
    health: HealthEndpoint | None = None


def relations(module: Module) -> Iterator[Finding]:
    """Relations that hold for every kind."""
    for index, node in enumerate(module.nodes):
        if node in module.nodes[:index]:
            yield Finding((("nodes", index),), f"{node!r} stands here twice")
    addresses = [virtual.address.ip for virtual in module.virtual_ips]
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            yield Finding((("virtual_ips", index, "address"),), f"{address} stands here twice")
    for key in ("start_timeout", "stop_timeout"):
        if getattr(module.application, key) < Duration(100):
            yield Finding((("application", key),), "too short for any script: at least 100ms")
    for name in module.application.variables:
        if not _VARIABLE_NAME.fullmatch(name) or name.startswith("TELAMON_"):
            yield Finding(
                (("application", "variables", name),),
                f"{name!r} is not a variable's name: letters, digits and underscores, not"
                " beginning with a digit or TELAMON_",
            )
    yield from check_config.relations(module.checks)
    yield from health_config.relations(module.health)
    yield from _targets(module)


def _targets(module: Module) -> Iterator[Finding]:
    for index, check in enumerate(module.checks):
        where: Location = ("checks", index)
        if check.ip and check.ip.address is None and not module.virtual_ips:
            yield Finding(
                ((*where, "ip"), ("virtual_ips",)), "without virtual IPs `address` is required"
            )
        if check.module and check.module.name == module.module:
            yield Finding(((*where, "module", "name"),), "a module cannot check itself")
        tcp, health = check.tcp, module.health
        if tcp and health and tcp.port == health.port and is_own(module, tcp.address):
            yield Finding(
                (("health", "port"), (*where, "tcp", "port")),
                f"port {health.port} is the application's, by a check: choose a free one",
            )


def is_own(module: Module, address: Address | None) -> bool:
    """Whether a checked address is the application's own: a virtual IP, or loopback."""
    virtual = {one.address.ip for one in module.virtual_ips}
    return address is None or address.is_loopback or address in virtual
