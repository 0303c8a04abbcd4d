"""This node: its modules, its heartbeats, its events. What other nodes do is cluster_service.py's
business.

Invariant: an installed module that is valid runs here as a task for as long as the agent lives; a
faulty one is shown with its faults and harms no other.
"""

import asyncio
import contextlib
import functools
import importlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from telamon.agent import models
from telamon.agent.events import EventLog
from telamon.agent.heartbeats import Heartbeats
from telamon.agent.lateness import Lateness
from telamon.agent.mirror.building import build_parts, settings_of
from telamon.agent.mirror.module import MirrorModule
from telamon.agent.models import Severity
from telamon.bpf.capture import CaptureSet
from telamon.cluster.config import Cluster
from telamon.cluster.credentials import read_identity, read_secret
from telamon.cluster.heartbeat import Heartbeat, Keys
from telamon.cluster.loading import load_cluster
from telamon.cluster.membership import Standing
from telamon.detect.module import Seen
from telamon.errors import InvalidError, NotFoundError, RefusedError, UnreachableError
from telamon.module.config import AnyModule
from telamon.module.farm_config import FarmModule as ConfiguredFarm
from telamon.module.loading import Loaded
from telamon.module.mirror_config import MirrorModule as ConfiguredMirror
from telamon.module.store import ModuleStore
from telamon.paths import Paths
from telamon.replication import mounts

if TYPE_CHECKING:
    from telamon.agent.farm.module import FarmModule
    from telamon.agent.farm.node import FarmNode


REFUSALS_TOLD_LIMIT = 100


async def _nobody_asks(node: str) -> models.Status:
    raise UnreachableError(f"node {node} is not asked yet: this agent has just started")


class Node:
    """Everything that runs on this node."""

    def __init__(self, paths: Paths, version: str) -> None:
        identity = read_identity(paths.configuration)
        self.cluster: Cluster = load_cluster(paths.cluster_file)
        if identity.cluster_id != self.cluster.id:
            raise InvalidError(
                f"{paths.cluster_file} is of cluster {self.cluster.id}, the node's certificate of "
                "cluster "
                f"{identity.cluster_id}: run `telamon cluster join BUNDLE` with the bundle of one "
                "cluster"
            )
        if self.cluster.node(identity.node) is None:
            raise InvalidError(
                f"{paths.cluster_file} does not know node {identity.node}, whose certificate this "
                "is: add it there, or join "
                "with the right bundle"
            )
        self.name = identity.node
        self.paths = paths
        self.events = EventLog(paths.event_log, self.name)
        self.store = ModuleStore(paths.modules, self.cluster)
        self._version = version
        self._started_s = time.monotonic()
        self._boot_id = random.SystemRandom().randrange(1, 1 << 63)
        self._lateness = Lateness()
        self._modules: dict[str, MirrorModule | FarmModule] = {}
        self._farms: FarmNode | None = None
        self._refusals: dict[str, str] = {}  # why valid modules do not run here
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._installed: dict[str, Loaded] = {}
        self._group: asyncio.TaskGroup | None = None
        self._changing = asyncio.Lock()
        self._member_addresses = frozenset(
            str(address) for node in self.cluster.nodes for address in node.addresses.values()
        )
        self._refused_told: set[tuple[str, str]] = set()
        self.ask_node: Callable[[str], Awaitable[models.Status]] = _nobody_asks
        keys = Keys(self.cluster.id, read_secret(paths.configuration))
        self.heartbeats = Heartbeats(self.cluster, self.name, keys, self._boot_id, self)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs heartbeats and modules while the caller does; a defect in any of them ends it."""
        await asyncio.to_thread(self.store.sweep)
        await self.heartbeats.open()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                background = [
                    group.create_task(self._lateness.run()),
                    group.create_task(self.heartbeats.run()),
                ]
                self.events.append(f"the agent starts, version {self._version}")
                await self._load()
                yield
                if all(module.is_stopped for module in self._modules.values()):
                    # Nothing runs here: the peers need not wait for silence.
                    self.heartbeats.say_goodbye()
                self.events.append("the agent ends")
                for task in (*background, *self._tasks.values()):
                    task.cancel()
        finally:
            self.heartbeats.close()
            self.events.close()

    def payloads(self, receiver: str) -> tuple[tuple[str, bytes], ...]:
        """The reports for one peer: of the modules it shares with this node."""
        return tuple(
            (name, payload)
            for name, module in self._modules.items()
            for payload in module.payloads(receiver)
        )

    def peer_heard(self, node: str) -> None:
        self.events.append(f"node {node} is heard")

    def peer_lost(self, node: str, said_goodbye: bool) -> None:
        how = "said goodbye" if said_goodbye else "is silent on every network"
        self.events.append(f"node {node} {how}", severity=Severity.WARNING)
        for module in self._modules.values():
            module.peer_lost(node, said_goodbye)

    def misunderstood(self, heartbeat: Heartbeat) -> str:
        """Why the payloads make no sense to the modules they are for; empty if they do."""
        for name, payload in heartbeat.payloads:
            module = self._modules.get(name)
            if isinstance(module, MirrorModule) and (reason := module.misunderstood(payload)):
                return reason
        return ""

    def heartbeat_refused(self, network: str, source: str, reason: str) -> None:
        """Tells an operator why a node of the cluster is not heard, each reason once; what
        strangers send is only in the log."""
        is_told = (source, reason) in self._refused_told
        is_member = source in self._member_addresses
        if is_member and not is_told and len(self._refused_told) < REFUSALS_TOLD_LIMIT:
            self._refused_told.add((source, reason))
            self.events.append(
                f"heartbeats from {source} on network {network} are refused: {reason}",
                severity=Severity.WARNING,
            )

    def peer_reported(self, heartbeat: Heartbeat) -> None:
        for name, payload in heartbeat.payloads:
            if (module := self._modules.get(name)) is not None:
                module.peer_reported(heartbeat, payload)

    def nodes_of(self, module: str) -> tuple[str, ...]:
        """The nodes that an installed module belongs to."""
        return self._configured(module).nodes

    async def order(self, module: str, kind: models.ActionKind, *, force: bool) -> None:
        """Gives an order to a module on this node."""
        running = self._module(module)
        self.events.append(f"{kind}{' --force' if force else ''} ordered", module=module)
        try:
            await running.order(kind, force=force)
        except RefusedError as error:
            self.events.append(f"{kind} refused: {error}", module=module)
            raise

    def farm_owner(
        self, module: str, protocol: str, client: str, client_port: int, port: int | None
    ) -> models.FarmOwner:
        """Who gets a client of a farm module."""
        return self._farm(module).owner(protocol, client, client_port, port)

    def farm_table(self, module: str) -> models.FarmTable:
        """The tables of a farm module that are in force here."""
        return self._farm(module).table()

    def _farm(self, module: str) -> "FarmModule":
        running = self._module(module)
        if isinstance(running, MirrorModule):
            raise RefusedError(f"module {module} is a mirror: its primary gets every client")
        return running

    async def install(self, archive: bytes) -> str:
        """Installs a module, or a new version of a stopped one; returns its name."""
        async with self._changing:
            with self.store.staged(archive) as (_, model):
                name = model.module
            running = self._modules.get(name)
            if running is not None and not running.is_stopped:
                raise RefusedError(
                    f"module {name} runs on node {self.name}: run `telamon module stop {name}` "
                    "first, then install it again"
                )
            if self.name not in model.nodes:
                raise RefusedError(
                    f"module {name} does not belong on node {self.name} but on "
                    f"{', '.join(model.nodes)}: install it there"
                )
            await self._end(name)
            await asyncio.to_thread(self.store.install, archive)
            self.events.append("installed", module=name)
            await self._load()
            return name

    async def remove(self, name: str) -> None:
        """Takes a stopped module away and gives its directories back; data and lineage stay."""
        async with self._changing:
            running = self._modules.get(name)
            if running is not None and not running.is_stopped:
                raise RefusedError(
                    f"module {name} runs on node {self.name}: run `telamon module stop {name}` "
                    "first"
                )
            configured = self._installed.get(name)
            await self._end(name)
            if isinstance(running, MirrorModule):
                await asyncio.to_thread(mounts.bare, name, running.directories)
                await asyncio.to_thread(CaptureSet(name).remove)
            await asyncio.to_thread(self.store.remove, name)
            if configured is not None:
                self.events.append("removed", module=name)
            self._installed.pop(name, None)

    async def state_of(self, module: str, node: str | None) -> Seen:
        """How a module stands on a node, for the checks of others."""
        here: models.ModuleNodeStatus | None = None
        if node is None or node == self.name:
            if module in self._installed:
                here = await self._describe(module, self._installed[module])
        else:
            shown = (await self.ask_node(node)).modules.get(module)
            here = shown.nodes.get(node) if shown is not None else None
        if here is None:
            raise NotFoundError(f"module {module} is not installed on node {node or self.name}")
        return Seen(here.state or "unknown", bool(here.ready), here.reason)

    async def stop_all(self) -> None:
        """Stops every module in order, for a shutdown; the next boot starts what was started."""
        await asyncio.gather(*(module.stop_for_shutdown() for module in self._modules.values()))

    async def describe(self) -> models.Status:
        """This node and its modules, as the API shows them."""
        modules = {}
        for name, loaded in self._installed.items():
            configured = loaded.parsed.model if loaded.parsed is not None else None
            modules[name] = models.ModuleStatus(
                name=name,
                kind=configured.kind if configured else "unknown",
                nodes={self.name: await self._describe(name, loaded)},
            )
        return models.Status(
            cluster=self.cluster.cluster,
            node=self.name,
            nodes={
                self.name: models.NodeStatus(
                    name=self.name,
                    reachable=True,
                    reason="",
                    version=self._version,
                    uptime_s=round(time.monotonic() - self._started_s, 1),
                    loop_late_ms=int(self._lateness.worst_s(time.monotonic()) * 1000),
                    heartbeats=self.heartbeats.describe(),
                    refused_datagrams=self.heartbeats.refused_count,
                )
            },
            modules=modules,
        )

    async def _describe(self, name: str, loaded: Loaded) -> models.ModuleNodeStatus:
        if name in self._modules:
            return await self._modules[name].describe()
        reason = self._refusals.get(name, "")
        if loaded.faults:
            reason = f"not valid: {loaded.faults[0]}; run `telamon config check`"
        return models.ModuleNodeStatus(reachable=True, reason=reason)

    async def _load(self) -> None:
        """Starts every valid module that does not run yet."""
        self._installed = await asyncio.to_thread(self.store.load)
        for name, loaded in self._installed.items():
            if name in self._modules:
                continue
            for fault in loaded.faults:
                self.events.append(str(fault), module=name, severity=Severity.ERROR)
            if loaded.faults or loaded.model is None:
                continue
            if isinstance(loaded.model, ConfiguredMirror):
                self._begin(name, self._mirror(loaded.model))
            else:
                await self._begin_farm(name, loaded.model)

    def _begin(self, name: str, module: "MirrorModule | FarmModule") -> None:
        assert self._group is not None, "modules begin while the node runs"
        self._modules[name] = module
        self._tasks[name] = self._group.create_task(module.run(), name=f"module {name}")

    async def _begin_farm(self, name: str, configured: ConfiguredFarm) -> None:
        if self._farms is None:
            farm_node = await asyncio.to_thread(importlib.import_module, "telamon.agent.farm.node")
            self._farms = farm_node.FarmNode(
                self.name,
                self.cluster,
                self.paths,
                self.events,
                tell=self.heartbeats.tell,
                state_of=self.state_of,
            )
        try:
            self._begin(name, self._farms.make(configured))
        except InvalidError as error:
            self._refusals[name] = str(error)
            self.events.append(str(error), module=name, severity=Severity.ERROR)

    def _mirror(self, configured: ConfiguredMirror) -> MirrorModule:
        peer = configured.peer_of(self.name)
        return MirrorModule(
            settings_of(configured, self.cluster, self.name),
            functools.partial(
                build_parts,
                configured,
                self.cluster,
                self.name,
                self.paths,
                self.events,
                self.state_of,
            ),
            boot_id=self._boot_id,
            tick_s=self.cluster.heartbeat.interval.seconds,
            send_heartbeat_soon=self.heartbeats.send_soon,
            peer_is_lost=lambda: self.heartbeats.standing(peer) is Standing.LOST,
        )

    async def _end(self, name: str) -> None:
        self._modules.pop(name, None)
        self._refusals.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _module(self, name: str) -> "MirrorModule | FarmModule":
        configured = self._configured(name)
        if name in self._refusals:
            raise RefusedError(self._refusals[name])
        if name not in self._modules:
            raise RefusedError(
                f"module {name} does not run on node {self.name} because its configuration is not "
                "valid (kind "
                f"{configured.kind}): run `telamon config check` there"
            )
        return self._modules[name]

    def _configured(self, name: str) -> AnyModule:
        loaded = self._installed.get(name)
        if loaded is None:
            raise NotFoundError(
                f"module {name} is not installed on node {self.name}: `telamon module list` shows "
                "those that are"
            )
        if loaded.parsed is None:
            raise InvalidError(
                f"module {name} is not valid on node {self.name}: run `telamon config check` there",
                tuple(map(str, loaded.faults)),
            )
        return loaded.parsed.model
