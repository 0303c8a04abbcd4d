"""From configuration to the parts of one mirror module on this node."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from telamon.agent.events import EventLog
from telamon.agent.health.endpoint import endpoint_of
from telamon.agent.memory import Memory
from telamon.agent.mirror.operations import MirrorParts
from telamon.agent.mirror.replicator_watch import ReplicatorWatch
from telamon.agent.virtual_ips import VirtualIps, Wanted
from telamon.bpf.capture import Capture
from telamon.cluster import credentials
from telamon.cluster.config import Cluster
from telamon.detect.module import StateOf
from telamon.detect.planning import Place, plan_checks
from telamon.mirror.role_event import Event
from telamon.mirror.role_state import Isolation, Settings
from telamon.module.mirror_config import MirrorModule as Configured
from telamon.module.port import replication_port
from telamon.module.scripts import ScriptContext, Scripts, environment
from telamon.paths import Paths
from telamon.replication.messages import Configuration, ReplicatedDirectory, TlsFiles
from telamon.replication.process import ReplicatorProcess, find_program


def settings_of(configured: Configured, cluster: Cluster, node: str) -> Settings:
    """What the role machine needs of both configuration files."""
    return Settings(
        module=configured.module,
        node=node,
        peer=configured.peer_of(node),
        preferred=configured.preferred,
        isolation=Isolation(configured.isolation or cluster.isolation),
        acknowledges_on_disk=configured.replicate.acknowledge == "disk",
        lost_after_ms=cluster.heartbeat.lost_after.milliseconds,
        peer_timeout_ms=configured.replicate.peer_timeout.milliseconds,
        start_timeout_ms=configured.application.start_timeout.milliseconds,
        stop_timeout_ms=configured.application.stop_timeout.milliseconds,
        failure_limit=configured.failures.limit,
        failure_window_ms=configured.failures.window.milliseconds,
    )


def build_parts(  # noqa: PLR0917 - bound one after the other: the node's, then the module's own
    configured: Configured,
    cluster: Cluster,
    node: str,
    paths: Paths,
    events: EventLog,
    state_of: StateOf,
    sink: Callable[[Event], None],
) -> MirrorParts:
    """Everything of the module that operations touch; nothing is started."""
    name = configured.module
    state, run = paths.module_state(name), paths.module_run(name)
    directory = paths.module(name)
    context = _script_context(configured, node, directory)
    own = _addresses(cluster, node)
    process = ReplicatorProcess(name, run, state / "replicator.log", find_program())
    return MirrorParts(
        module=name,
        directories=tuple(Path(one.path) for one in configured.replicate.directories),
        start_script=directory / configured.application.start,
        stop_script=directory / configured.application.stop,
        watch=ReplicatorWatch(name, process, events, sink),
        configuration=lambda capture: _configuration(configured, cluster, node, paths, capture),
        scripts=Scripts(context, state / "scripts"),
        virtual_ips=VirtualIps(name, _wanted(configured, cluster, node), events),
        memory=Memory(name, state, run),
        replication_port=replication_port(configured, cluster),
        events=events,
        checks=plan_checks(
            configured,
            Place(
                directory=directory,
                environment=environment(context, action="check", role="", is_forced=False),
                own_addresses=own,
                state_of=state_of,
            ),
        ),
        health=endpoint_of(configured, own),
    )


def _script_context(configured: Configured, node: str, directory: Path) -> ScriptContext:
    return ScriptContext(
        module=configured.module,
        node=node,
        peer=configured.peer_of(node),
        module_directory=directory,
        virtual_ips=tuple(str(virtual.address) for virtual in configured.virtual_ips),
        directories=tuple(Path(one.path) for one in configured.replicate.directories),
        variables=configured.application.variables,
    )


def _wanted(configured: Configured, cluster: Cluster, node: str) -> tuple[Wanted, ...]:
    own = _addresses(cluster, node)
    return tuple(
        Wanted(
            address=virtual.address,
            network=virtual.network,
            own_address=own.get(virtual.network),
            interface=virtual.interface,
        )
        for virtual in configured.virtual_ips
    )


def _configuration(
    configured: Configured, cluster: Cluster, node: str, paths: Paths, capture: Capture
) -> Configuration:
    replicate = configured.replicate
    port = replication_port(configured, cluster)
    peer = configured.peer_of(node)
    own, its = _addresses(cluster, node), _addresses(cluster, peer)
    networks = [
        network for network in cluster.replication_networks() if network in own and network in its
    ]
    bandwidth = replicate.resync_bandwidth
    return Configuration(
        cluster=cluster.id,
        module=configured.module,
        node=node,
        peer=peer,
        listen=tuple(_endpoint(own[network], port) for network in networks),
        dial=tuple(_endpoint(its[network], port) for network in networks),
        tls=TlsFiles(
            ca=paths.configuration / credentials.AUTHORITY,
            certificate=paths.configuration / credentials.CERTIFICATE,
            key=paths.configuration / credentials.KEY,
        ),
        state_directory=paths.module_state(configured.module),
        directories=tuple(
            ReplicatedDirectory(path=Path(one.path), exclude=one.exclude, mapped=one.mapped)
            for one in replicate.directories
        ),
        sync=replicate.sync,
        acknowledge=replicate.acknowledge,
        capture=capture.pins,
        peer_timeout_ms=replicate.peer_timeout.milliseconds,
        queue_bytes=replicate.queue.size_bytes,
        resync_bandwidth=bandwidth.bytes_per_s if bandwidth else 0,
        async_lag_bytes=replicate.async_lag.size_bytes,
    )


def _addresses(cluster: Cluster, node: str) -> dict[str, IPv4Address | IPv6Address]:
    found = cluster.node(node)
    assert found is not None, "the configuration check knows every node of a module"
    return found.addresses


def _endpoint(address: IPv4Address | IPv6Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
