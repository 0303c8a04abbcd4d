"""lab.yaml: the hosts and networks of a lab.

Strict: unknown keys, names that do not fit into an interface name, overlapping subnets and
directories are refused, and all faults are reported together. Addresses follow from the order: the
first host is .1 in each of its networks, the second .2. Does no I/O.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
)
from itertools import combinations
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from telamon.errors import InvalidError

# What `telamon lab up` makes without a file.
DEFAULT = """\
networks:
  lan: {ipv4: 10.0.0.0/24, ipv6: "fd00:0:0:1::/64"}
  repl: {ipv4: 10.1.0.0/24}
hosts:
  n1: {kind: node, networks: [lan, repl]}
  n2: {kind: node, networks: [lan, repl]}
  c1: {kind: client, networks: [lan]}
"""

_LINK_NAME_CHARACTERS = 15  # IFNAMSIZ without its terminating zero
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_RESERVED = ("/proc", "/sys", "/dev", "/run", "/tmp", "/disk", "/etc/telamon", "/var/lib/telamon")
_SIZE = re.compile(r"(\d+)\s*(KiB|MiB|GiB|TiB)")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SMALLEST_DISK_BYTES = 64 << 20

Address = IPv4Interface | IPv6Interface


class HostKind(StrEnum):
    """A node runs an agent and belongs to the cluster; a client is only there."""

    NODE = "node"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Network:
    """One layer 2 segment with its subnets."""

    name: str
    ipv4: IPv4Network
    ipv6: IPv6Network | None


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the lab; `links` holds its addresses in each of its networks."""

    name: str
    kind: HostKind
    links: Mapping[str, tuple[Address, ...]]

    @property
    def address(self) -> str:
        """The first address: that of the first network named for this host."""
        return str(next(iter(self.links.values()))[0].ip)


@dataclass(frozen=True, slots=True)
class LabSpec:
    """A whole lab. `cluster` holds further keys for the nodes' cluster.yaml."""

    networks: tuple[Network, ...]
    hosts: tuple[Host, ...]
    directories: tuple[str, ...]
    disk_bytes: int
    agents: bool
    cluster: Mapping[str, Any]

    @property
    def nodes(self) -> tuple[Host, ...]:
        """The hosts that belong to the cluster."""
        return tuple(host for host in self.hosts if host.kind is HostKind.NODE)


def link_name(host: str, network: str) -> str:
    """What a host's link is called at the bridge."""
    return f"{host}-{network}"


def _size_bytes(text: object) -> object:
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a size is a number with KiB, MiB, GiB or TiB, for example 4GiB")
    return int(match[1]) * _UNITS[match[2]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Network(_Strict):
    ipv4: IPv4Network
    ipv6: IPv6Network | None = None


class _Host(_Strict):
    kind: HostKind
    networks: list[str] = Field(min_length=1)


class _File(_Strict):
    networks: dict[str, _Network] = Field(min_length=1)
    hosts: dict[str, _Host] = Field(min_length=1)
    directories: list[str] = ["/srv", "/data", "/var/lib/postgresql", "/var/lib/mysql"]
    disk: Annotated[int, BeforeValidator(_size_bytes)] = 4 << 30
    agents: bool = True
    cluster: dict[str, Any] = {}


def lab_spec(document: object, source: str) -> LabSpec:
    """The lab of a parsed lab.yaml; InvalidError with every fault. Messages name `source`."""
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        faults = tuple(
            f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise _invalid(source, faults) from None
    faults = (*_name_faults(file), *_subnet_faults(file), *_directory_faults(file))
    if file.disk < _SMALLEST_DISK_BYTES:
        faults += (f"disk: at least {_SMALLEST_DISK_BYTES >> 20}MiB",)
    if faults:
        raise _invalid(source, faults)
    networks = tuple(Network(name, one.ipv4, one.ipv6) for name, one in file.networks.items())
    return LabSpec(
        networks=networks,
        hosts=tuple(_host(number, name, file) for number, name in enumerate(file.hosts, start=1)),
        directories=tuple(file.directories),
        disk_bytes=file.disk,
        agents=file.agents,
        cluster=file.cluster,
    )


def _invalid(source: str, faults: tuple[str, ...]) -> InvalidError:
    return InvalidError(f"{source} is not a valid lab file: {'; '.join(faults)}", faults)


def _host(number: int, name: str, file: _File) -> Host:
    def addresses(network: _Network) -> tuple[Address, ...]:
        ipv4 = IPv4Interface(f"{network.ipv4[number]}/{network.ipv4.prefixlen}")
        if network.ipv6 is None:
            return (ipv4,)
        return (ipv4, IPv6Interface(f"{network.ipv6[number]}/{network.ipv6.prefixlen}"))

    one = file.hosts[name]
    return Host(name, one.kind, {link: addresses(file.networks[link]) for link in one.networks})


def _name_faults(file: _File) -> Iterator[str]:
    for part, names in (("networks", file.networks), ("hosts", file.hosts)):
        for name in names:
            if not _NAME.fullmatch(name) or len(name) > _LINK_NAME_CHARACTERS:
                yield (
                    f"{part}.{name}: a name is at most {_LINK_NAME_CHARACTERS} lower case letters,"
                    " digits and hyphens, and starts with a letter"
                )
    for name, host in file.hosts.items():
        for network in host.networks:
            if network not in file.networks:
                yield f"hosts.{name}.networks: network {network} is not defined under networks"
            elif len(link_name(name, network)) > _LINK_NAME_CHARACTERS:
                yield (
                    f"hosts.{name}.networks: {link_name(name, network)} is longer than an interface"
                    f" name may be ({_LINK_NAME_CHARACTERS}); choose shorter names"
                )
        if len(set(host.networks)) < len(host.networks):
            yield f"hosts.{name}.networks: a network is named twice"


def _subnet_faults(file: _File) -> Iterator[str]:
    for (first, one), (second, other) in combinations(file.networks.items(), 2):
        if one.ipv4.overlaps(other.ipv4) or (
            one.ipv6 and other.ipv6 and one.ipv6.overlaps(other.ipv6)
        ):
            yield f"networks.{second}: overlaps with network {first}"
    for name, network in file.networks.items():
        if network.ipv4.num_addresses - 2 < len(file.hosts):
            yield f"networks.{name}.ipv4: {network.ipv4} has too few addresses for the hosts"


def _directory_faults(file: _File) -> Iterator[str]:
    for directory in file.directories:
        path = PurePosixPath(directory)
        if (
            not path.is_absolute()
            or str(path) != directory
            or ".." in path.parts
            or path.name == ""
        ):
            yield f"directories: {directory!r} must be an absolute path without '..' and final '/'"
    everything = [PurePosixPath(directory) for directory in (*file.directories, *_RESERVED)]
    for first, second in combinations(everything, 2):
        if str(second) in _RESERVED and str(first) in _RESERVED:
            continue
        if first.is_relative_to(second) or second.is_relative_to(first):
            yield f"directories: {first} and {second} overlap"
