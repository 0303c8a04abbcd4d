"""From configuration to the parts of one farm module on this node.

Invariant: everything here follows from cluster.yaml, module.yaml and the cluster's secret alone, so
all nodes come to the same; `digest` proves it to each other. Services with equal weights and
priorities are one share: they have one table and one view.
"""

import hashlib
import hmac
import json
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from telamon.cluster.config import Cluster
from telamon.errors import InvalidError
from telamon.farm.footprint import Claim
from telamon.farm.hash import Affinity, bucket, module_seed
from telamon.farm.layout import Address, AddressRule, Mode, Other, Service
from telamon.farm.message import Offer
from telamon.farm.table import WEIGHT_MAX
from telamon.farm.view_state import MILLISECOND, Settings
from telamon.module.farm_config import MAXIMUM_PRIORITY, FarmModule
from telamon.module.farm_config import Service as ConfiguredService

SERVICES_LIMIT = 1024
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}


@dataclass(frozen=True, slots=True)
class Share:
    """Services that are shared out together."""

    services: tuple[ConfiguredService, ...]
    offers: dict[str, Offer]

    @property
    def title(self) -> str:
        """For people: `tcp 80,443`."""
        return ", ".join(
            f"{one.protocol} {','.join(_ports_shown(ports) for ports in one.ports)}"
            for one in self.services
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """One farm module as the configuration has it."""

    configured: FarmModule
    node: str
    numbers: dict[str, int]  # of the module's nodes, for the filter
    shares: tuple[Share, ...]
    settings: Settings
    seed: int
    virtual_mac: bytes
    digest: str

    @property
    def module(self) -> str:
        """Its name."""
        return self.configured.module

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The virtual addresses."""
        return tuple(virtual.address.ip for virtual in self.configured.virtual_ips)

    @property
    def is_balanced_elsewhere(self) -> bool:
        """There is no virtual address: load balancers ask the health endpoint."""
        return not self.configured.virtual_ips

    def node_of(self, number: int) -> str:
        """The node with a member's number."""
        return next(node for node, one in self.numbers.items() if one == number)

    def claim(self, addresses: tuple[Address, ...], tables: tuple[int, ...]) -> Claim:
        """What the module needs on the interface of these addresses."""
        other = Other.DROP if self.configured.unmatched == "refuse" else Other.OWNER
        mode = Mode.DISPATCH if self.configured.mode == "dispatch" else Mode.FLOOD
        services = tuple(
            Service(
                address,
                _PROTOCOLS[service.protocol],
                port,
                table,
                Affinity(service.affinity),
                mode,
            )
            for address in addresses
            for table, share in zip(tables, self.shares, strict=True)
            for service in share.services
            for ports in service.ports
            for port in ports
        )
        rule = AddressRule(tables[0], mode, other, self.virtual_mac)
        return Claim(tables, dict.fromkeys(addresses, rule), services)

    def place(self, protocol: str, port: int) -> tuple[int, ConfiguredService] | None:
        """The share and the service that cover a port."""
        for index, share in enumerate(self.shares):
            for service in share.services:
                if service.protocol == protocol and any(port in ports for ports in service.ports):
                    return index, service
        return None

    def serves(self, protocol: str, port: int) -> bool:
        """Whether a service covers a port."""
        return any(
            service.protocol == protocol and any(port in ports for ports in service.ports)
            for service in self.configured.services
        )

    def bucket(self, service: ConfiguredService, client: Address, client_port: int) -> int:
        """The bucket of a client of a service."""
        by_port = service.affinity == Affinity.CONNECTION.value
        return bucket(client, client_port if by_port else None, self.seed)


def plan_of(configured: FarmModule, cluster: Cluster, node: str, secret: bytes) -> Plan:
    """The plan of a module, or InvalidError with what this node cannot do."""
    _refuse_too_many_ports(configured)
    numbers = {
        one.name: number
        for number, one in enumerate(cluster.nodes, start=1)
        if one.name in configured.nodes
    }
    name = configured.module
    loss_ms = configured.lost_after.milliseconds
    return Plan(
        configured=configured,
        node=node,
        numbers=numbers,
        shares=_shares(configured),
        settings=Settings(
            self_number=numbers[node],
            secret=hmac.digest(secret, b"telamon farm table\0" + name.encode(), hashlib.sha256),
            interval=min(cluster.heartbeat.interval.milliseconds, loss_ms * 2 // 7) * MILLISECOND,
            loss=loss_ms * MILLISECOND,
            lease=loss_ms * 9 // 10 * MILLISECOND,
        ),
        seed=module_seed(secret, name),
        virtual_mac=_virtual_mac(configured, cluster.id),
        digest=_digest(configured, numbers),
    )


def _refuse_too_many_ports(configured: FarmModule) -> None:
    name = configured.module
    ports = sum(len(ports) for service in configured.services for ports in service.ports)
    if ports * len(configured.virtual_ips) > SERVICES_LIMIT:
        raise InvalidError(
            f"module {name} covers {ports} ports on {len(configured.virtual_ips)} addresses: the"
            f" filter holds {SERVICES_LIMIT} of them at most; name fewer ports"
        )


def _shares(configured: FarmModule) -> tuple[Share, ...]:
    if not configured.virtual_ips:
        # Whoever balances elsewhere shares out by a table of its own.
        return ()
    groups: dict[str, list[ConfiguredService]] = {}
    offers: dict[str, dict[str, Offer]] = {}
    for service in configured.services:
        offered = _offers(configured, service)
        key = repr(sorted(offered.items(), key=lambda item: item[0]))
        groups.setdefault(key, []).append(service)
        offers[key] = offered
    return tuple(Share(tuple(services), offers[key]) for key, services in groups.items())


def _offers(configured: FarmModule, service: ConfiguredService) -> dict[str, Offer]:
    """What each node offers when it is ready; weights above the table's range are scaled down."""
    weights = {node: service.weights.get(node, 1) for node in configured.nodes}
    largest = max(weights.values())
    if largest > WEIGHT_MAX:
        weights = {
            node: max(weight * WEIGHT_MAX // largest, 1) if weight else 0
            for node, weight in weights.items()
        }
    # In the configuration the highest priority serves, in the table the lowest.
    return {
        node: Offer(weight, MAXIMUM_PRIORITY - service.priorities.get(node, 0))
        for node, weight in weights.items()
    }


def _virtual_mac(configured: FarmModule, cluster_id: str) -> bytes:
    """The configured one, else one derived from the first virtual IP, the same on every node:
    unicast, locally administered.
    """
    if configured.virtual_mac is not None:
        return bytes.fromhex(configured.virtual_mac.replace(":", ""))
    if not configured.virtual_ips:
        return bytes(6)
    first: IPv4Address | IPv6Address = configured.virtual_ips[0].address.ip
    derived = hashlib.sha256(b"telamon farm mac\0" + cluster_id.encode() + first.packed).digest()
    return b"\x02" + derived[:5]


def _digest(configured: FarmModule, numbers: dict[str, int]) -> str:
    """Of all that two nodes must have in common to share clients out between them."""
    common = {
        "numbers": numbers,
        "services": [service.model_dump(mode="json") for service in configured.services],
        "addresses": [str(virtual.address.ip) for virtual in configured.virtual_ips],
        "mac": configured.virtual_mac,
        "mode": configured.mode,
        "unmatched": configured.unmatched,
        "lost_after_ms": configured.lost_after.milliseconds,
    }
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:16]


def _ports_shown(ports: range) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"
