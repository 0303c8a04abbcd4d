"""lab.yaml: the hosts and networks of a lab.

Strict, as every configuration file here: unknown keys, names that do not fit into an interface
name, overlapping subnets and directories are refused, all faults at once. Addresses follow from
the order: the first host is .1 in each of its networks, the second .2. Does no I/O.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from itertools import combinations
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from telamon.configuration.fault import Finding, Location, refuse
from telamon.configuration.model import Section, parse
from telamon.configuration.quantity import Size, SizeField

# What `telamon lab up` makes without a file.
DEFAULT = """\
networks:
  lan: {ipv4: 10.0.0.0/24, ipv6: "fd00:0:0:1::/64"}
  repl: {ipv4: 10.1.0.0/24, replication: preferred}
hosts:
  n1: {kind: node, networks: [lan, repl]}
  n2: {kind: node, networks: [lan, repl]}
  c1: {kind: client, networks: [lan]}
"""

_LINK_NAME_CHARACTERS = 15  # IFNAMSIZ without its terminating zero
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_RESERVED = ("/proc", "/sys", "/dev", "/run", "/tmp", "/disk", "/etc/telamon", "/var/lib/telamon")
_SMALLEST_DISK = Size(64 << 20)

Address = IPv4Interface | IPv6Interface


class HostKind(StrEnum):
    """A node runs an agent and belongs to the cluster; a client is only there."""

    NODE = "node"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Network:
    """One layer 2 segment with its subnets; `replication` as in cluster.yaml."""

    name: str
    ipv4: IPv4Network
    ipv6: IPv6Network | None
    replication: str


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the lab; `links` holds its addresses in each of its networks."""

    name: str
    kind: HostKind
    links: Mapping[str, tuple[Address, ...]]

    @property
    def address(self) -> str:
        """The first address in the first network."""
        return str(next(iter(self.links.values()))[0].ip)


@dataclass(frozen=True, slots=True)
class LabSpec:
    """A whole lab. `cluster` holds further keys for the nodes' cluster.yaml."""

    networks: tuple[Network, ...]
    hosts: tuple[Host, ...]
    directories: tuple[str, ...]
    disk_bytes: int
    agents: bool
    cluster: Mapping[str, object]

    @property
    def nodes(self) -> tuple[Host, ...]:
        """The hosts that belong to the cluster."""
        return tuple(host for host in self.hosts if host.kind is HostKind.NODE)


def link_name(host: str, network: str) -> str:
    """What a host's link is called at the bridge."""
    return f"{host}-{network}"


def _directory(value: object) -> str:
    path = PurePosixPath(str(value))
    if not path.is_absolute() or str(path) != value or ".." in path.parts or not path.name:
        raise ValueError(f"{value!r} must be an absolute path without '..' and final '/'")
    return str(path)


class _Network(Section):
    ipv4: Annotated[IPv4Network, PlainValidator(IPv4Network)]
    ipv6: Annotated[IPv6Network, PlainValidator(IPv6Network)] | None = None
    replication: Literal["preferred", "allowed", "never"] = "allowed"


class _Host(Section):
    kind: Annotated[HostKind, PlainValidator(HostKind)]
    networks: list[str] = Field(min_length=1)


class _File(Section):
    networks: dict[str, _Network] = Field(min_length=1)
    hosts: dict[str, _Host] = Field(min_length=1)
    directories: list[Annotated[str, PlainValidator(_directory)]] = Field(
        default=["/srv", "/data", "/var/lib/postgresql", "/var/lib/mysql"]
    )
    disk: SizeField = Size(4 << 30)
    agents: bool = True
    cluster: dict[str, object] = Field(default={})


def lab_spec(text: str, source: str) -> LabSpec:
    """The lab of a lab.yaml; InvalidError with every fault. `source` names the file in messages."""
    parsed = parse(text, source, _File, _relations)
    if isinstance(parsed, tuple):
        raise refuse(parsed)
    file = parsed.model
    return LabSpec(
        networks=tuple(
            Network(name, one.ipv4, one.ipv6, one.replication)
            for name, one in file.networks.items()
        ),
        hosts=tuple(_host(number, name, file) for number, name in enumerate(file.hosts, start=1)),
        directories=tuple(file.directories),
        disk_bytes=file.disk.size_bytes,
        agents=file.agents,
        cluster=file.cluster,
    )


def _host(number: int, name: str, file: _File) -> Host:
    def addresses(network: _Network) -> tuple[Address, ...]:
        ipv4 = IPv4Interface(f"{network.ipv4[number]}/{network.ipv4.prefixlen}")
        if network.ipv6 is None:
            return (ipv4,)
        return (ipv4, IPv6Interface(f"{network.ipv6[number]}/{network.ipv6.prefixlen}"))

    one = file.hosts[name]
    return Host(name, one.kind, {link: addresses(file.networks[link]) for link in one.networks})


def _relations(file: _File) -> Iterator[Finding]:
    yield from _name_findings(file)
    yield from _subnet_findings(file)
    yield from _directory_findings(file)
    if file.disk < _SMALLEST_DISK:
        yield Finding((("disk",),), f"an ext4 with a journal needs at least {_SMALLEST_DISK}")


def _name_findings(file: _File) -> Iterator[Finding]:
    for part, names in (("networks", list(file.networks)), ("hosts", list(file.hosts))):
        for name in names:
            if not _NAME.fullmatch(name) or len(name) > _LINK_NAME_CHARACTERS:
                yield Finding(
                    ((part, name),),
                    "a name starts with a letter and has small letters, digits and hyphens, at most"
                    f" {_LINK_NAME_CHARACTERS}",
                )
    for name, host in file.hosts.items():
        for place, network in enumerate(host.networks):
            where: tuple[Location, ...] = (("hosts", name, "networks", place), ("networks",))
            if network not in file.networks:
                yield Finding(where, f"network {network} is not defined under `networks`")
            elif len(link_name(name, network)) > _LINK_NAME_CHARACTERS:
                longest = f"an interface name holds {_LINK_NAME_CHARACTERS} characters"
                yield Finding(where, f"{link_name(name, network)} is too long: {longest}")
            if network in host.networks[:place]:
                yield Finding(where, f"{network} is named twice")


def _subnet_findings(file: _File) -> Iterator[Finding]:
    for (first, one), (second, other) in combinations(file.networks.items(), 2):
        if one.ipv4.overlaps(other.ipv4) or (
            one.ipv6 and other.ipv6 and one.ipv6.overlaps(other.ipv6)
        ):
            yield Finding(
                (("networks", second), ("networks", first)),
                f"its subnets overlap with those of {first}",
            )
    for name, network in file.networks.items():
        if network.ipv4.num_addresses - 2 < len(file.hosts):
            yield Finding(
                (("networks", name, "ipv4"), ("hosts",)),
                f"{network.ipv4} has too few addresses for the hosts",
            )


def _directory_findings(file: _File) -> Iterator[Finding]:
    for place, directory in enumerate(file.directories):
        for other in (*file.directories[:place], *_RESERVED):
            one, two = PurePosixPath(directory), PurePosixPath(other)
            if one.is_relative_to(two) or two.is_relative_to(one):
                yield Finding((("directories", place),), f"{directory} overlaps with {other}")
