"""A farm module on the nodes of a lab, handled as an operator would: installed, ordered about,
watched until it serves as it should; and what its table predicts.

Every wait has a deadline, and its failure says what was seen last.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from telamon.agent.farm.building import Plan, plan_of
from telamon.agent.models import ActionKind, FarmOwner, ModuleNodeStatus
from telamon.cluster.credentials import read_secret
from telamon.cluster.loading import load_cluster
from telamon.errors import TimedOutError, UnreachableError
from telamon.farm.hash import BUCKETS
from telamon.farm.table import Member, Table
from telamon.lab import agent_api
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.root import CONFIGURATION
from telamon.module.farm_config import FarmModule
from telamon.module.store import ModuleStore

_POLL_S = 0.1
_Nodes = Mapping[str, ModuleNodeStatus]


@dataclass(frozen=True, slots=True)
class FarmInLab:
    """One module, on all nodes of the lab."""

    lab: Lab
    module: str
    timeout_s: float = 40.0

    @property
    def nodes(self) -> list[str]:
        """The names of all nodes, on or off."""
        return [node.name for node in self.lab.spec.nodes]

    def install(self, source: Path | str) -> None:
        """Installs the module on the cluster from a directory that the first node sees."""
        self.telamon(self.nodes[0], "module", "install", str(source))

    def begin(self) -> None:
        """Starts the module on every node and waits until all serve."""
        self.order(ActionKind.START, *self.nodes)
        self.await_serving(*self.nodes)

    def order(self, action: ActionKind, *nodes: str) -> None:
        """Orders nodes about, through a node that is on; returns when they have accepted."""
        speaker = next(host for host in self._running() if host.name in nodes or not nodes)
        agent_api.order(speaker, self.module, action, list(nodes))

    def telamon(self, node: str, *words: str) -> str:
        """What the command `telamon WORDS` prints on a node."""
        return self.lab.host(node).run(["telamon", *words], timeout_s=60.0).stdout

    def status(self) -> _Nodes:
        """The module on every node, as the node itself sees it; mute nodes are left out."""
        found = {}
        for host in self._running():
            with suppress(UnreachableError):
                shown = agent_api.status(host).modules.get(self.module)
                if shown is not None:
                    found[host.name] = shown.nodes[host.name]
        return found

    def await_serving(self, *nodes: str) -> _Nodes:
        """Waits until exactly these nodes serve all buckets of every share, and nobody more."""

        def is_so(now: _Nodes) -> bool:
            shares: dict[str, int] = {}
            for here in now.values():
                for share in here.farm.shares if here.farm else ():
                    shares[share.services] = shares.get(share.services, 0) + share.buckets
            return (
                {node for node, here in now.items() if buckets_of(here)} == set(nodes)
                and set(shares.values()) == {BUCKETS}
                and all(now[node].ready for node in nodes)
            )

        return self.await_status(is_so, f"served by {', '.join(nodes)}")

    def await_status(self, is_so: Callable[[_Nodes], bool], wanted: str) -> _Nodes:
        """Waits until something is so."""
        deadline_s = time.monotonic() + self.timeout_s
        while not is_so(now := self.status()):
            if time.monotonic() > deadline_s:
                seen = "; ".join(f"{node}: {_seen(here)}" for node, here in now.items())
                raise TimedOutError(
                    f"{self.module} is not {wanted} after {self.timeout_s:g} s: {seen}"
                )
            time.sleep(_POLL_S)
        return now

    def packets(self, counter: str) -> int:
        """How many packets became that, over all nodes."""
        return sum(
            here.farm.packets.get(counter, 0) for here in self.status().values() if here.farm
        )

    def owner(self, node: str, client: str, client_port: int = 0) -> FarmOwner:
        """Who gets a client of the first service, as the node answers `telamon farm owner`."""
        return agent_api.farm_owner(self.lab.host(node), self.module, client, client_port)

    def prophet(self) -> "Prophet":
        """What the module's configuration and the cluster's secret predict."""
        host = next(iter(self._running()))
        directory = host.path(CONFIGURATION)
        cluster = load_cluster(directory / "cluster.yaml")
        loaded = ModuleStore(directory / "modules", cluster).load()[self.module].model
        assert isinstance(loaded, FarmModule), f"{self.module} is of kind {loaded.kind}"
        return Prophet(plan_of(loaded, cluster, host.name, read_secret(directory)))

    def _running(self) -> Iterable[RunningHost]:
        hosts = self.lab.record.hosts
        for node in self.nodes:
            if (init := hosts[node]) is not None:
                yield RunningHost(node, init)


@dataclass(frozen=True, slots=True)
class Prophet:
    """Computes the table apart from the agents, for any set of nodes that serve."""

    plan: Plan

    def table(self, nodes: Iterable[str]) -> Table:
        """The table while these nodes serve, each with weight 1."""
        members = [Member(self.plan.numbers[node]) for node in nodes]
        return Table.build(self.plan.settings.secret, members)

    def node_of(self, table: Table, client: str, client_port: int) -> str:
        """Who must answer this client of the first service."""
        service = self.plan.configured.services[0]
        bucket = self.plan.bucket(service, ip_address(client), client_port)
        return self.plan.node_of(table.owner[bucket])


def buckets_of(here: ModuleNodeStatus) -> int:
    """How many buckets a node serves, over all shares."""
    return sum(share.buckets for share in here.farm.shares) if here.farm else 0


def _seen(here: ModuleNodeStatus) -> str:
    return f"{here.state}, {buckets_of(here)} buckets, {here.reason or 'no remark'}"
