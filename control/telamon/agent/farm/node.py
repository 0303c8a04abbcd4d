"""What the farm modules of one node have in common: their interfaces, their way to the other nodes.

Imported only where there is a farm: the table's arithmetic takes a moment to load.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from telamon.agent.events import EventLog
from telamon.agent.farm.application import answers_at_all
from telamon.agent.farm.building import Plan, plan_of
from telamon.agent.farm.interface import FarmInterface
from telamon.agent.farm.module import FarmModule
from telamon.agent.farm.parts import FarmParts
from telamon.agent.health.endpoint import endpoint_of
from telamon.agent.memory import Memory
from telamon.agent.models import Severity
from telamon.cluster.config import Cluster
from telamon.cluster.credentials import read_secret
from telamon.detect.module import StateOf
from telamon.detect.planning import Place, plan_checks
from telamon.module.farm_config import FarmModule as Configured
from telamon.module.scripts import ScriptContext, Scripts, environment
from telamon.net.addresses import interface_named, interface_with
from telamon.paths import Paths


class FarmNode:
    """Makes the farm modules of a node."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        paths: Paths,
        events: EventLog,
        *,
        tell: Callable[[str, tuple[str, bytes]], None],
        state_of: StateOf,
    ) -> None:
        self._name = name
        self._cluster = cluster
        self._paths = paths
        self._events = events
        self._tell = tell
        self._state_of = state_of
        self._interfaces: dict[str, FarmInterface] = {}

    def make(self, configured: Configured) -> FarmModule:
        """A module that is not running yet; InvalidError with what this node cannot do."""
        name, paths = configured.module, self._paths
        plan = plan_of(configured, self._cluster, self._name, read_secret(paths.configuration))
        state, run = paths.module_state(name), paths.module_run(name)
        directory = paths.module(name)
        node = self._cluster.node(self._name)
        assert node is not None, "the agent has found itself in cluster.yaml"
        own = node.addresses
        context = ScriptContext(
            module=name,
            node=self._name,
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
                events=self._events,
                host_answers=self._host_answers,
                own_addresses=tuple(own.values()),
                checks=plan_checks(
                    configured,
                    Place(
                        directory=directory,
                        environment=environment(context, action="check", role="", is_forced=False),
                        own_addresses=own,
                        state_of=self._state_of,
                    ),
                ),
                health=endpoint_of(configured, own),
            )
        )

    def _teller(self, module: str) -> Callable[[str, bytes], None]:
        return lambda node, content: self._tell(node, (module, content))

    async def _interface_of(self, plan: Plan, index: int) -> FarmInterface:
        virtual = plan.configured.virtual_ips[index]
        if virtual.interface is not None:
            interface = await interface_named(virtual.interface)
        else:
            own = self._cluster.node(self._name)
            assert own is not None, "Node has found itself in cluster.yaml"
            interface = await interface_with(own.addresses[virtual.network])
        if interface.name not in self._interfaces:
            run = self._paths.run
            self._interfaces[interface.name] = FarmInterface(interface, run, self._complain)
        return self._interfaces[interface.name]

    async def _host_answers(self, node: str) -> bool:
        """Whether the host of a node lives, whatever its agent does."""
        found = self._cluster.node(node)
        addresses = found.addresses.values() if found else ()
        port = self._cluster.ports.api
        return any(
            await asyncio.gather(*(answers_at_all(str(address), port) for address in addresses))
        )

    def _complain(self, text: str) -> None:
        self._events.append(text, severity=Severity.WARNING)
