"""cluster.yaml: the nodes, the networks between them, and what all modules share.

Invariant: a `Cluster` is whole and consistent in itself; `parse` gives either one or every fault of
the text. It is the same file on every node. It does not say which node this is (credentials do).
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, PlainValidator

from telamon.configuration import model
from telamon.configuration.fault import Fault, Finding, Location
from telamon.configuration.model import Parsed, Section
from telamon.configuration.quantity import Duration, DurationField

MAXIMUM_NODES = 250
REPLICATION_PORTS = 500
LOSS_INTERVALS = 3
"""So many heartbeats in a row must be missing at least before a node is taken for lost."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def _name(value: object) -> str:
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a name: use 1 to 63 lower-case letters, digits and inner hyphens"
        )
    return value


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    try:
        address = ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        address = None
    if address is None:
        raise ValueError(f"{value!r} is not an IPv4 or IPv6 address")
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{address} cannot be a node's address: write a unicast address")
    return address


Name = Annotated[str, PlainValidator(_name)]
AddressField = Annotated[Address, PlainValidator(_address), PlainSerializer(str, str)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Network(Section):
    """One network between nodes. Heartbeats use every network."""

    name: Name = Field(examples=["name-of-example"])
    replication: Literal["preferred", "allowed", "never"] = "allowed"
    """Whether mirrored data may travel here; preferred networks are dialled first."""


class Node(Section):
    """One server."""

    name: Name = Field(examples=["name-of-example"])
    addresses: dict[str, AddressField] = Field(min_length=1, examples=[{"lan": "192.0.2.1"}])
    """Network name -> this node's address in it."""


class Ports(Section):
    """Ports which every node listens on."""

    heartbeat: Port = 7420
    """UDP."""
    replication: Port = 7430
    """TCP, the first of `REPLICATION_PORTS`: a mirror module that sets no port of its own gets one
    of them by its name (telamon.module.port)."""
    api: Port = 7440
    """TCP, between agents: an order may be given on any node."""


class HeartbeatTimes(Section):
    """How often nodes say that they live, and when their silence counts."""

    interval: DurationField = Duration(200)
    lost_after: DurationField = Duration(2_000)


class Cluster(Section):
    """The whole of cluster.yaml."""

    cluster: Name = Field(examples=["name-of-example"])
    id: str = Field(pattern=r"^[0-9a-f]{32}$", examples=["0" * 32])
    """Random, made by `telamon cluster init`; nodes of different clusters never talk."""
    networks: Annotated[tuple[Network, ...], Field(min_length=1, strict=False)] = Field(
        examples=[[{"name": "name-of-example"}]]
    )
    nodes: Annotated[
        tuple[Node, ...], Field(min_length=1, max_length=MAXIMUM_NODES, strict=False)
    ] = Field(examples=[[{"name": "name-of-example", "addresses": {"lan": "192.0.2.1"}}]])
    ports: Ports = Ports()
    heartbeat: HeartbeatTimes = HeartbeatTimes()
    isolation: Literal["takeover", "wait"] = "takeover"
    """What a mirror's node does that hears nobody, unless its module says otherwise."""

    def node(self, name: str) -> Node | None:
        """The node of that name."""
        return next((node for node in self.nodes if node.name == name), None)

    def replication_networks(self) -> tuple[str, ...]:
        """Networks for mirrored data in order of preference."""
        usable = [network for network in self.networks if network.replication != "never"]
        usable.sort(key=lambda network: network.replication != "preferred")
        return tuple(network.name for network in usable)


def parse(text: str, file: str = "cluster.yaml") -> Parsed[Cluster] | tuple[Fault, ...]:
    """Read cluster.yaml."""
    return model.parse(text, file, Cluster, _relations)


def _relations(cluster: Cluster) -> Iterator[Finding]:
    yield from _repeated([n.name for n in cluster.networks], "networks")
    yield from _repeated([n.name for n in cluster.nodes], "nodes")
    yield from _addresses(cluster)
    yield from _times(cluster.heartbeat)
    if cluster.ports.api == cluster.ports.replication:
        yield Finding(
            (("ports", "api"), ("ports", "replication")),
            f"api != replication is broken: both are {cluster.ports.api}",
        )
    if not cluster.replication_networks():
        yield Finding(
            (("networks",),),
            "every network says `replication: never`; mirrors need one that does not",
        )


def _repeated(names: list[str], key: str) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Finding(((key, index, "name"),), f"{name!r} is already used; names are unique")


def _addresses(cluster: Cluster) -> Iterator[Finding]:
    known = {network.name for network in cluster.networks}
    taken: dict[Address, str] = {}
    for index, node in enumerate(cluster.nodes):
        for network, address in node.addresses.items():
            where: Location = ("nodes", index, "addresses", network)
            if network not in known:
                yield Finding(
                    (where, ("networks",)),
                    f"network {network!r} is not defined; known: {', '.join(sorted(known))}",
                )
            if address in taken:
                yield Finding((where,), f"{address} is already the address of {taken[address]}")
            taken[address] = node.name
    complete = [
        network.name
        for network in cluster.networks
        if all(network.name in node.addresses for node in cluster.nodes)
    ]
    if not complete:
        yield Finding(
            (("nodes",), ("networks",)),
            "no network reaches every node: give every node an address in one common network",
        )


def _times(times: HeartbeatTimes) -> Iterator[Finding]:
    interval: Location = ("heartbeat", "interval")
    lost_after: Location = ("heartbeat", "lost_after")
    if times.interval < Duration(20):
        yield Finding((interval,), f"{times.interval} is too short: at least 20ms")
    if times.lost_after < times.interval * LOSS_INTERVALS:
        yield Finding(
            (lost_after, interval),
            f"lost_after >= {LOSS_INTERVALS} * interval is broken: "
            f"{times.lost_after} < {LOSS_INTERVALS} * {times.interval}",
        )
    if times.lost_after > Duration(120_000):
        yield Finding((lost_after,), f"{times.lost_after} is too long: at most 2m")
