"""What may be asked of the cluster on any of its nodes: the answering node does its part and asks
the others for theirs.

Invariant: a request that came from another node is answered for this node alone, so requests never
go round. Each node answers for itself; one that is silent shows as such and holds up nobody for
long.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from urllib.parse import quote

from telamon.agent import models
from telamon.agent.faults import fault_of
from telamon.agent.models import ActionKind, ActionRequest, NodeResult, Results
from telamon.agent.node import Node
from telamon.agent.peers import Peers
from telamon.errors import NotFoundError, RefusedError, TelamonError, UnreachableError
from telamon.mirror.report import ModuleState

STATUS_LIMIT_S = 2.0
INSTALL_LIMIT_S = 60.0
RUNS_APPLICATION = frozenset({ModuleState.PRIM, ModuleState.ALONE})
FOLLOWS = frozenset({ModuleState.SECOND})
LOCAL = "?local=true"


class ClusterService:
    """Requests to the whole cluster."""

    def __init__(self, node: Node, peers: Peers) -> None:
        self._node = node
        self._peers = peers

    async def status(self) -> models.Status:
        """Everything, as far as this node reaches."""
        others = [node.name for node in self._node.cluster.nodes if node.name != self._node.name]
        own = await self._node.describe()
        answers = await asyncio.gather(*map(self._status_of, others))
        nodes = {self._node.name: own.nodes[self._node.name]}
        modules = dict(own.modules)
        for other, answer in zip(others, answers, strict=True):
            if isinstance(answer, TelamonError):
                nodes[other] = models.NodeStatus(name=other, reachable=False, reason=str(answer))
                self._add_silent(modules, other, str(answer))
            else:
                nodes[other] = answer.nodes[other]
                _merge(modules, answer.modules)
        order = [node.name for node in self._node.cluster.nodes]
        return models.Status(
            cluster=own.cluster,
            node=own.node,
            nodes={name: nodes[name] for name in order},
            modules={name: _sorted(modules[name], order) for name in sorted(modules)},
        )

    async def act(self, module: str, request: ActionRequest) -> Results:
        """Gives an order to the nodes that it concerns."""
        nodes = request.nodes or await self._concerned(module, request.action)
        self._check_nodes(nodes, self._node.nodes_of(module), module)
        results: dict[str, NodeResult] = {}
        for group in await self._in_order(module, request, nodes):
            results |= await self._each(group, lambda node: self._act_on(node, module, request))
        return Results(nodes=results)

    async def act_here(self, module: str, request: ActionRequest) -> Results:
        """Gives an order to this node alone."""
        await self._node.order(module, request.action, force=request.force)
        return Results(nodes={self._node.name: NodeResult(accepted=True)})

    async def install(self, archive: bytes, nodes: list[str] | None) -> Results:
        """Installs a module on all of its nodes, or on those named."""
        with self._node.store.staged(archive) as (_, model):
            name, members = model.module, model.nodes
        chosen = nodes or list(members)
        self._check_nodes(chosen, members, name)
        return Results(nodes=await self._each(chosen, lambda node: self._install_on(node, archive)))

    def farm_owner(
        self, module: str, protocol: str, client: str, client_port: int, port: int | None
    ) -> models.FarmOwner:
        """Who gets a client of a farm module, by this node's table."""
        return self._node.farm_owner(module, protocol, client, client_port, port)

    def farm_table(self, module: str) -> models.FarmTable:
        """The tables of a farm module that are in force on this node."""
        return self._node.farm_table(module)

    async def install_here(self, archive: bytes) -> Results:
        """Installs a module on this node alone."""
        await self._node.install(archive)
        return Results(nodes={self._node.name: NodeResult(accepted=True)})

    async def remove(self, module: str, nodes: list[str] | None) -> Results:
        """Removes a module from all of its nodes, or from those named."""
        members = await self._members(module)
        chosen = nodes or list(members)
        self._check_nodes(chosen, members, module)
        return Results(nodes=await self._each(chosen, lambda node: self._remove_on(node, module)))

    async def remove_here(self, module: str) -> Results:
        """Removes a module from this node alone."""
        await self._node.remove(module)
        return Results(nodes={self._node.name: NodeResult(accepted=True)})

    def describe_cluster(self) -> models.ClusterDescription:
        """The cluster as configured."""
        cluster = self._node.cluster
        return models.ClusterDescription(
            name=cluster.cluster,
            node=self._node.name,
            nodes={
                node.name: models.NodeDescription(
                    addresses={network: str(at) for network, at in node.addresses.items()}
                )
                for node in cluster.nodes
            },
            networks=[network.name for network in cluster.networks],
            configuration=str(self._node.paths.cluster_file),
        )

    async def stop_all(self) -> None:
        """Stops every module of this node, for its shutdown."""
        await self._node.stop_all()

    def recent_events(self, limit: int, module: str | None) -> list[models.Event]:
        """The newest events of this node."""
        return self._node.events.recent(limit, module)

    def follow_events(self, module: str | None) -> AsyncGenerator[models.Event]:
        """Events of this node from now on."""
        return self._node.events.follow(module)

    async def describe_here(self) -> models.Status:
        """This node alone."""
        return await self._node.describe()

    async def status_of(self, node: str) -> models.Status:
        """What another node says of itself."""
        answer = await self._status_of(node)
        if isinstance(answer, TelamonError):
            raise answer
        return answer

    async def _status_of(self, node: str) -> models.Status | TelamonError:
        try:
            body = await self._peers.call(node, "GET", f"/v1/status{LOCAL}", limit_s=STATUS_LIMIT_S)
            return models.Status.model_validate_json(body)
        except TelamonError as error:
            return error
        except ValueError:
            return _other_version(node)

    def _add_silent(self, modules: dict[str, models.ModuleStatus], node: str, reason: str) -> None:
        silent = models.ModuleNodeStatus(reachable=False, reason=reason)
        for name, module in modules.items():
            with contextlib.suppress(TelamonError):
                if node in self._node.nodes_of(name):
                    modules[name] = module.model_copy(
                        update={"nodes": {**module.nodes, node: silent}}
                    )

    async def _concerned(self, module: str, action: ActionKind) -> list[str]:
        """The nodes that an order without names is for."""
        members = list(self._node.nodes_of(module))
        match action:
            case ActionKind.START | ActionKind.STOP:
                return members
            case ActionKind.DRAIN | ActionKind.UNDRAIN:
                raise RefusedError(f"say which node is to {action}: one of {', '.join(members)}")
            case ActionKind.SWAP | ActionKind.RESTART:
                running = await self._running_application(module)
                return running[:1] or members[:1]
            case ActionKind.VERIFY | ActionKind.REPAIR:
                following = await self._in_states(module, FOLLOWS)
                if not following:
                    raise RefusedError(
                        f"no node follows the primary of module {module}: there is nothing to "
                        f"{action} until one is SECOND"
                    )
                return following
            case ActionKind.PRIM | ActionKind.SECOND:
                if self._node.name not in members:
                    raise RefusedError(
                        f"module {module} has no place on node {self._node.name}: say which of "
                        f"{', '.join(members)} with --node"
                    )
                return [self._node.name]

    async def _in_order(
        self, module: str, request: ActionRequest, nodes: list[str]
    ) -> list[list[str]]:
        """The nodes in groups, one group after the other."""
        if request.action is not ActionKind.STOP or len(nodes) == 1:
            return [nodes]
        # The secondary first: else it would take over from the primary that stops.
        last = await self._running_application(module)
        return [
            group
            for group in (
                [node for node in nodes if node not in last],
                [node for node in nodes if node in last],
            )
            if group
        ]

    async def _running_application(self, module: str) -> list[str]:
        return await self._in_states(module, RUNS_APPLICATION)

    async def _in_states(self, module: str, states: frozenset[str]) -> list[str]:
        shown = (await self.status()).modules.get(module)
        if shown is None:
            return []
        return [node for node, here in shown.nodes.items() if here.state in states]

    async def _members(self, module: str) -> tuple[str, ...]:
        try:
            return self._node.nodes_of(module)
        except TelamonError:
            # Not valid here, or not here: it can be removed from wherever it is.
            shown = (await self.status()).modules.get(module)
            if shown is None:
                raise
            return tuple(shown.nodes)

    def _check_nodes(self, nodes: Iterable[str], members: Iterable[str], module: str) -> None:
        for node in nodes:
            if node not in members:
                raise NotFoundError(
                    f"module {module} has no place on node {node!r}; its nodes are "
                    f"{', '.join(members)}"
                )

    async def _each(
        self, nodes: list[str], ask: Callable[[str], Awaitable[Results]]
    ) -> dict[str, NodeResult]:
        async def result_of(node: str) -> NodeResult:
            try:
                return (await ask(node)).nodes[node]
            except TelamonError as error:
                fault = fault_of(error)[1]
                message = "\n".join([fault.message, *fault.faults])
                return NodeResult(accepted=False, message=message, code=fault.code)

        results = await asyncio.gather(*map(result_of, nodes))
        return dict(zip(nodes, results, strict=True))

    async def _act_on(self, node: str, module: str, request: ActionRequest) -> Results:
        if node == self._node.name:
            return await self.act_here(module, request)
        path = f"/v1/modules/{quote(module)}/actions{LOCAL}"
        body = await self._peers.call(
            node, "POST", path, content=request.model_dump_json().encode()
        )
        return _results(node, body)

    async def _install_on(self, node: str, archive: bytes) -> Results:
        if node == self._node.name:
            return await self.install_here(archive)
        body = await self._peers.call(
            node,
            "POST",
            f"/v1/modules{LOCAL}",
            content=archive,
            content_type="application/x-tar",
            limit_s=INSTALL_LIMIT_S,
        )
        return _results(node, body)

    async def _remove_on(self, node: str, module: str) -> Results:
        if node == self._node.name:
            return await self.remove_here(module)
        body = await self._peers.call(node, "DELETE", f"/v1/modules/{quote(module)}{LOCAL}")
        return _results(node, body)


def _results(node: str, body: bytes) -> Results:
    try:
        return Results.model_validate_json(body)
    except ValueError as error:
        raise _other_version(node) from error


def _other_version(node: str) -> UnreachableError:
    return UnreachableError(
        f"node {node} answers in another version's form; bring both nodes to the same version of "
        "telamon"
    )


def _merge(modules: dict[str, models.ModuleStatus], others: dict[str, models.ModuleStatus]) -> None:
    for name, other in others.items():
        own = modules.get(name)
        if own is None:
            modules[name] = other
        else:
            modules[name] = own.model_copy(update={"nodes": {**own.nodes, **other.nodes}})


def _sorted(module: models.ModuleStatus, order: list[str]) -> models.ModuleStatus:
    nodes = {name: module.nodes[name] for name in order if name in module.nodes}
    return module.model_copy(update={"nodes": nodes})
