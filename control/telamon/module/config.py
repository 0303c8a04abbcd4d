"""module.yaml as a model, and how modules fit their cluster and each other.

Invariant: `parse` gives a module that is consistent in itself, or every fault of the text; `relate`
gives every fault between modules and cluster. Pure: reading files is the rim's.
"""

from collections.abc import Iterator, Sequence

from telamon.cluster.config import Cluster
from telamon.configuration.document import Document, read
from telamon.configuration.fault import Fault, Finding, Location, shown
from telamon.configuration.model import Parsed, validate
from telamon.module import farm_config, mirror_config
from telamon.module.farm_config import FarmModule
from telamon.module.mirror_config import MirrorModule
from telamon.module.path import is_inside, printable
from telamon.module.port import free_port, replication_port

AnyModule = MirrorModule | FarmModule
ParsedModule = Parsed[MirrorModule] | Parsed[FarmModule]

TAKEOVER_FACTOR = 5


def parse(text: str, file: str = "module.yaml") -> ParsedModule | tuple[Fault, ...]:
    """Read module.yaml of any kind."""
    document = read(text, file)
    if isinstance(document, tuple):
        return document
    match document.value:
        case {"kind": "mirror"}:
            return validate(document, MirrorModule, mirror_config.relations)
        case {"kind": "farm"}:
            return validate(document, FarmModule, farm_config.relations)
    return (_unknown_kind(document),)


def _unknown_kind(document: Document) -> Fault:
    if not isinstance(document.value, dict):
        return document.fault((), "a module.yaml is a mapping: `module: NAME`, `kind: mirror`, …")
    given = document.value.get("kind")
    found = "required, and missing" if given is None else f"unknown kind {given!r}"
    return document.fault(("kind",), f"kind: {found}; known: mirror, farm")


def relate(modules: Sequence[ParsedModule], cluster: Cluster) -> tuple[Fault, ...]:
    """Faults between modules and their cluster, and between the modules."""
    faults: list[Fault] = []
    for index, parsed in enumerate(modules):
        findings = [*_in_cluster(parsed.model, cluster), *_checks(parsed.model, cluster)]
        findings += _health_in_cluster(parsed.model, cluster)
        if isinstance(parsed.model, MirrorModule):
            findings += _mirror_in_cluster(parsed.model, cluster)
            findings += _same_port(parsed.model, [one.model for one in modules[:index]], cluster)
        for other in modules[:index]:
            findings += _between(parsed.model, other.model, cluster)
        for finding in findings:
            where = finding.locations[0]
            message = f"{shown(where)}: {finding.message}"
            faults.append(parsed.document.fault(where, message))
    return tuple(faults)


def _in_cluster(module: AnyModule, cluster: Cluster) -> Iterator[Finding]:
    names = [node.name for node in cluster.nodes]
    for index, node in enumerate(module.nodes):
        if node not in names:
            yield Finding(
                (("nodes", index),), f"{node!r} is not in cluster.yaml; known: {', '.join(names)}"
            )
    networks = [network.name for network in cluster.networks]
    own = {address for node in cluster.nodes for address in node.addresses.values()}
    for index, virtual in enumerate(module.virtual_ips):
        if virtual.network not in networks:
            yield Finding(
                (("virtual_ips", index, "network"),),
                f"{virtual.network!r} is not in cluster.yaml; known: {', '.join(networks)}",
            )
        elif virtual.interface is None:
            yield from _reaches(module, cluster, virtual.network, index)
        if virtual.address.ip in own:
            yield Finding(
                (("virtual_ips", index, "address"),),
                f"{virtual.address.ip} is a node's own address; choose a free one",
            )


def _checks(module: AnyModule, cluster: Cluster) -> Iterator[Finding]:
    """Networks and nodes that checks name."""
    for index, check in enumerate(module.checks):
        interface, other = check.interface, check.module
        if interface is not None and interface.network is not None:
            where: Location = ("checks", index, "interface", "network")
            yield from _has_network(module, cluster, interface.network, where)
        if other is not None and other.node is not None and cluster.node(other.node) is None:
            yield Finding(
                (("checks", index, "module", "node"),),
                f"{other.node!r} is not in cluster.yaml; known: "
                f"{', '.join(node.name for node in cluster.nodes)}",
            )


def _health_in_cluster(module: AnyModule, cluster: Cluster) -> Iterator[Finding]:
    health = module.health
    if health is None:
        return
    if health.network is not None:
        yield from _has_network(module, cluster, health.network, ("health", "network"))
    taken = {cluster.ports.api: "ports.api of cluster.yaml"}
    if isinstance(module, MirrorModule):
        replication = replication_port(module, cluster)
        taken[replication] = "the port of this module's replication"
    if health.port in taken:
        yield Finding(
            (("health", "port"),),
            f"port {health.port} is {taken[health.port]}: choose a free one",
        )


def _has_network(
    module: AnyModule, cluster: Cluster, network: str, where: Location
) -> Iterator[Finding]:
    known = [one.name for one in cluster.networks]
    if network not in known:
        yield Finding((where,), f"{network!r} is not in cluster.yaml; known: {', '.join(known)}")
        return
    for name in module.nodes:
        node = cluster.node(name)
        if node is not None and network not in node.addresses:
            yield Finding((where,), f"node {name!r} has no address in {network!r}")


def _reaches(module: AnyModule, cluster: Cluster, network: str, index: int) -> Iterator[Finding]:
    for name in module.nodes:
        node = cluster.node(name)
        if node is not None and network not in node.addresses:
            yield Finding(
                (("virtual_ips", index, "network"),),
                f"node {name!r} has no address in {network!r}: give it one, or name an `interface`",
            )


def _mirror_in_cluster(module: MirrorModule, cluster: Cluster) -> Iterator[Finding]:
    nodes = [node for name in module.nodes if (node := cluster.node(name))]
    usable = cluster.replication_networks()
    if len(nodes) == len(module.nodes) and not any(
        all(network in node.addresses for node in nodes) for network in usable
    ):
        yield Finding((("nodes",),), "the two nodes share no network that may carry replication")
    if replication_port(module, cluster) == cluster.ports.api:
        yield Finding(
            (("replicate", "port"),),
            f"port {cluster.ports.api} is ports.api of cluster.yaml; set another one",
        )
    lost_after = cluster.heartbeat.lost_after
    timeout = module.replicate.peer_timeout
    if timeout > lost_after * TAKEOVER_FACTOR:
        yield Finding(
            (("replicate", "peer_timeout"),),
            f"peer_timeout <= {TAKEOVER_FACTOR} * heartbeat.lost_after is broken: {timeout} > "
            f"{TAKEOVER_FACTOR} * {lost_after}; a takeover waits for the longer of the two",
        )


def _between(module: AnyModule, other: AnyModule, cluster: Cluster) -> Iterator[Finding]:
    if module.module == other.module:
        yield Finding((("module",),), f"another module is named {module.module!r} already")
    taken = {virtual.address.ip for virtual in other.virtual_ips}
    for index, virtual in enumerate(module.virtual_ips):
        if virtual.address.ip in taken:
            yield Finding(
                (("virtual_ips", index, "address"),),
                f"{virtual.address.ip} belongs to module {other.module!r} already",
            )
    if not set(module.nodes) & set(other.nodes):
        return
    yield from _between_endpoints(module, other, cluster)
    if isinstance(module, MirrorModule) and isinstance(other, MirrorModule):
        yield from _between_mirrors(module, other)


def _between_endpoints(module: AnyModule, other: AnyModule, cluster: Cluster) -> Iterator[Finding]:
    """The health endpoint of either against what the other listens on."""
    ours, theirs = module.health, other.health
    if ours is not None and theirs is not None and ours.meets(theirs):
        yield Finding(
            (("health", "port"),),
            f"port {ours.port} is the health endpoint of module {other.module!r} on a common"
            " node; choose a free one",
        )
    if ours is not None and (used := _tcp_use(other, ours.port, cluster)):
        yield Finding(
            (("health", "port"),),
            f"port {ours.port} is {used} of module {other.module!r} on a common node; choose a"
            " free one",
        )
    if theirs is not None and (used := _tcp_use(module, theirs.port, cluster)):
        yield Finding(
            (_place_of_use(module),),
            f"port {theirs.port}, {used} here, is the health endpoint of module"
            f" {other.module!r} on a common node; choose another one",
        )


def _tcp_use(module: AnyModule, port: int, cluster: Cluster) -> str:
    """What a module uses a TCP port for, beside its health endpoint."""
    if isinstance(module, MirrorModule):
        replication = replication_port(module, cluster)
        return "the replication port" if port == replication else ""
    is_service = any(
        port in ports
        for service in module.services
        if service.protocol == "tcp"
        for ports in service.ports
    )
    return "a service" if is_service else ""


def _place_of_use(module: AnyModule) -> Location:
    return ("replicate", "port") if isinstance(module, MirrorModule) else ("services",)


def _same_port(
    module: MirrorModule, others: Sequence[AnyModule], cluster: Cluster
) -> Iterator[Finding]:
    """Two mirrors on a common node need two ports."""
    taken = {
        replication_port(other, cluster): other.module
        for other in others
        if isinstance(other, MirrorModule) and set(module.nodes) & set(other.nodes)
    }
    port = replication_port(module, cluster)
    if port in taken:
        is_set = module.replicate.port is not None
        origin = "" if is_set else f", which {module.module!r} gets by its name,"
        free = free_port(cluster, taken)
        cure = "set another one" if free is None else f"set `replicate.port: {free}`"
        yield Finding(
            (("replicate", "port"),),
            f"port {port}{origin} is used by module {taken[port]!r} on a common node; {cure}",
        )


def _between_mirrors(module: MirrorModule, other: MirrorModule) -> Iterator[Finding]:
    for index, directory in enumerate(module.replicate.directories):
        for taken in other.replicate.directories:
            if is_inside(directory.path, taken.path) or is_inside(taken.path, directory.path):
                yield Finding(
                    (("replicate", "directories", index, "path"),),
                    f"{printable(directory.path)} overlaps {printable(taken.path)} of module "
                    f"{other.module!r}; a directory belongs to one module",
                )
