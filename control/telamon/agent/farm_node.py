"""What the farm modules of one node have in common: their interfaces, their way to the other nodes.

Imported only where there is a farm: the table's arithmetic takes a moment to load.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from telamon.agent.farm import FarmModule, FarmParts
from telamon.agent.farm_application import answers_at_all
from telamon.agent.farm_building import Plan, plan_of
from telamon.agent.farm_interface import FarmInterface
from telamon.agent.memory import Memory
from telamon.agent.models import Severity
from telamon.cluster.credentials import read_secret
from telamon.module.farm_config import FarmModule as Configured
from telamon.module.scripts import ScriptContext, Scripts
from telamon.net.addresses import interface_named, interface_with

if TYPE_CHECKING:
    from telamon.agent.node import Node


class FarmNode:
    """Makes the farm modules of a node."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._interfaces: dict[str, FarmInterface] = {}

    def make(self, configured: Configured) -> FarmModule:
        """A module that is not running yet; InvalidError with what this node cannot do."""
        node = self._node
        name = configured.module
        plan = plan_of(configured, node.cluster, node.name, read_secret(node.paths.configuration))
        state, run = node.paths.module_state(name), node.paths.module_run(name)
        directory = node.paths.module(name)
        context = ScriptContext(
            module=name,
            node=node.name,
            peer="",
            module_directory=directory,
            virtual_ips=tuple(str(virtual.address) for virtual in configured.virtual_ips),
            directories=(),
            variables=configured.application.variables,
        )
        return FarmModule(
            FarmParts(
                plan=plan,
                tell=self._teller(name),
                interface_of=partial(self._interface_of, plan),
                scripts=Scripts(context, state / "scripts"),
                directory=directory,
                memory=Memory(name, state, run),
                state=state,
                events=node.events,
                host_answers=self._host_answers,
            )
        )

    def _teller(self, module: str) -> Callable[[str, bytes], None]:
        heartbeats = self._node.heartbeats
        return lambda node, content: heartbeats.tell(node, (module, content))

    async def _interface_of(self, plan: Plan, index: int) -> FarmInterface:
        virtual = plan.configured.virtual_ips[index]
        if virtual.interface is not None:
            interface = await interface_named(virtual.interface)
        else:
            own = self._node.cluster.node(self._node.name)
            assert own is not None, "Node has found itself in cluster.yaml"
            interface = await interface_with(own.addresses[virtual.network])
        if interface.name not in self._interfaces:
            run = self._node.paths.run
            self._interfaces[interface.name] = FarmInterface(interface, run, self._complain)
        return self._interfaces[interface.name]

    async def _host_answers(self, node: str) -> bool:
        """Whether the host of a node lives, whatever its agent does."""
        found = self._node.cluster.node(node)
        addresses = found.addresses.values() if found else ()
        port = self._node.cluster.ports.api
        return any(
            await asyncio.gather(*(answers_at_all(str(address), port) for address in addresses))
        )

    def _complain(self, text: str) -> None:
        self._node.events.append(text, severity=Severity.WARNING)
