"""module.yaml of kind `farm`: every node serves, and each client has exactly one of them.

A service says which traffic to the virtual IPs is shared out, by what, and with which shares. The
filter back end is probed for each node unless it is named here.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, PlainValidator

from telamon.cluster.config import Name
from telamon.configuration.fault import Finding, Location
from telamon.configuration.model import Section
from telamon.configuration.quantity import Duration, DurationField
from telamon.module import model
from telamon.module.check_config import CheckAction

MAXIMUM_WEIGHT = 1000
MAXIMUM_PRIORITY = 7


class FilterBackEnd(StrEnum):
    """What accepts and drops packets on a node. `auto`: the best that the interface supports."""

    AUTO = "auto"
    XDP_NATIVE = "xdp-native"
    XDP_GENERIC = "xdp-generic"
    NFT = "nft"
    NFQUEUE = "nfqueue"


def _back_end(value: object) -> FilterBackEnd:
    try:
        return FilterBackEnd(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(FilterBackEnd)
        raise ValueError(f"{value!r} is not a filter back end; known: {known}") from None


BackEndField = Annotated[FilterBackEnd, PlainValidator(_back_end), PlainSerializer(str, str)]


def _ports(value: object) -> range:
    """A port or `first-last` as the range of its ports."""
    if isinstance(value, range):
        return value
    first = last = None
    if isinstance(value, int) and not isinstance(value, bool):
        first = last = value
    elif isinstance(value, str) and (
        match := re.fullmatch(r"(\d{1,5})-(\d{1,5})", value, re.ASCII)
    ):
        first, last = int(match[1]), int(match[2])
    if first is None or last is None or not 1 <= first <= last <= 65535:
        raise ValueError(f"{value!r} is neither a port (1 to 65535) nor ports as 8000-8010")
    return range(first, last + 1)


def _mac(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", value):
        raise ValueError(f"{value!r} is not a MAC address as 02:00:5e:00:53:01")
    first = int(value[:2], 16)
    if first & 1 or not first & 2:
        raise ValueError(
            f"{value} must be unicast and locally administered: begin with x2, x6, xa or xe"
        )
    return value


def _ports_out(ports: range) -> str:
    return f"{ports[0]}-{ports[-1]}" if len(ports) > 1 else str(ports[0])


PortsField = Annotated[range, PlainValidator(_ports), PlainSerializer(_ports_out, str)]
MacField = Annotated[str, PlainValidator(_mac)]
Weight = Annotated[int, Field(ge=0, le=MAXIMUM_WEIGHT)]
Priority = Annotated[int, Field(ge=0, le=MAXIMUM_PRIORITY)]


class Service(Section):
    """Traffic to the virtual IPs that is shared out among the nodes."""

    protocol: Literal["tcp", "udp"]
    ports: Annotated[tuple[PortsField, ...], Field(min_length=1, max_length=64, strict=False)]
    affinity: Literal["client", "connection"] = "client"
    """By the client's address, or by its address and port."""
    weights: dict[Name, Weight] = Field(default_factory=dict)
    """Share of a node; 1 where none is given, 0 serves nobody."""
    priorities: dict[Name, Priority] = Field(default_factory=dict)
    """Only the highest priority with a live node serves; 0 where none is given."""


class FarmModule(model.Module):
    """The whole of a farm's module.yaml."""

    kind: Literal["farm"]
    services: Annotated[tuple[Service, ...], Field(min_length=1, max_length=64, strict=False)]
    mode: Literal["flood", "dispatch"] = "flood"
    """Flood: a virtual MAC address that every node hears. Dispatch: one node redirects."""
    virtual_mac: MacField | None = None
    """None: derived from the first virtual IP."""
    unmatched: Literal["refuse", "pass"] = "refuse"
    """What happens to traffic to a virtual IP that no service covers."""
    filter: BackEndField = FilterBackEnd.AUTO
    filters: dict[Name, BackEndField] = Field(default_factory=dict)
    """Back ends of single nodes, in place of `filter`."""
    lost_after: DurationField = Duration(700)
    """Silence after which a node's clients are given to the others."""
    drain_timeout: DurationField = Duration(60_000)
    """How long a leaving node waits for its connections to end."""

    def back_end(self, node: str) -> FilterBackEnd:
        """The configured back end of a node."""
        return self.filters.get(node, self.filter)


def relations(module: FarmModule) -> Iterator[Finding]:
    """Relations inside one farm module."""
    yield from model.relations(module)
    if not module.virtual_ips and module.health is None:
        yield Finding(
            (("virtual_ips",), ("health",)),
            "a farm needs a virtual IP, or `health:` for load balancers that find its nodes",
        )
    if not module.virtual_ips and module.health and module.health.notice > module.drain_timeout:
        yield Finding(
            (("health", "notice"), ("drain_timeout",), ("virtual_ips",)),
            f"health.notice <= drain_timeout is broken: {module.health.notice} >"
            f" {module.drain_timeout}",
        )
    if module.mode == "dispatch" and module.virtual_mac is not None:
        yield Finding((("virtual_mac",), ("mode",)), "`mode: dispatch` has no virtual MAC address")
    yield from _nodes(module)
    yield from _dispatching(module)
    yield from _services(module)
    yield from _health(module)
    for index, check in enumerate(module.checks):
        if check.detectors and check.asks_for is CheckAction.SWAP:
            yield Finding(
                (("checks", index, "action"), ("checks", index)),
                "a farm knows no swap: use restart, stopstart, wait, stop or none",
            )


def _health(module: FarmModule) -> Iterator[Finding]:
    health = module.health
    for index, service in enumerate(module.services):
        if (
            health is not None
            and service.protocol == "tcp"
            and any(health.port in ports for ports in service.ports)
        ):
            yield Finding(
                (("health", "port"), ("services", index, "ports")),
                f"port {health.port} is a service of the application: choose a free one",
            )


def _dispatching(module: FarmModule) -> Iterator[Finding]:
    places: list[tuple[Location, FilterBackEnd]] = [(("filter",), module.filter)]
    places += [(("filters", node), wanted) for node, wanted in module.filters.items()]
    for where, wanted in places if module.mode == "dispatch" else ():
        if wanted in (FilterBackEnd.NFT, FilterBackEnd.NFQUEUE):
            yield Finding(
                (where, ("mode",)),
                f"the filter {wanted} cannot redirect to other nodes, as `mode: dispatch` needs it:"
                " use auto, xdp-native or xdp-generic, or `mode: flood`",
            )


def _nodes(module: FarmModule) -> Iterator[Finding]:
    named: list[tuple[Location, dict[str, int]]] = []
    for index, service in enumerate(module.services):
        named.append((("services", index, "weights"), service.weights))
        named.append((("services", index, "priorities"), service.priorities))
    places = [(where, node) for where, nodes in named for node in nodes]
    places += [(("filters",), node) for node in module.filters]
    for where, node in places:
        if node not in module.nodes:
            yield Finding(
                ((*where, node), ("nodes",)),
                f"{node!r} is none of the module's nodes: {', '.join(module.nodes)}",
            )


def _services(module: FarmModule) -> Iterator[Finding]:
    taken: list[tuple[str, range, int]] = []
    for index, service in enumerate(module.services):
        where: Location = ("services", index, "ports")
        for ports in service.ports:
            for protocol, others, owner in taken:
                if (
                    protocol == service.protocol
                    and ports[0] <= others[-1]
                    and others[0] <= ports[-1]
                ):
                    yield Finding(
                        (where, ("services", owner, "ports")),
                        f"{protocol} {_ports_out(ports)} belongs to service {owner + 1} already",
                    )
            taken.append((service.protocol, ports, index))
        if all(service.weights.get(node, 1) == 0 for node in module.nodes):
            yield Finding(
                (("services", index, "weights"), ("nodes",)),
                "every node has weight 0: nobody serves",
            )
