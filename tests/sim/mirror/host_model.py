"""One simulated host: its power, its processes, its disk, and what goes wrong on it.

Virtual IPs, application and replicator outlive the agent; only the disk outlives the host.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from agent_model import Agent
from disk_model import Disk
from mirror_world import Networks, World
from replicator_model import Replicator

from telamon.mirror.role_action import Operation, Promote, Remember
from telamon.mirror.role_event import Presence
from telamon.mirror.role_state import Settings


@dataclass
class Troubles:
    """What goes wrong on this host when it is tried: chances from 0 to 1."""

    start_fails: float = 0.0
    stop_hangs: float = 0.0
    promote_refused: float = 0.0
    address_fails: float = 0.0
    demote_refused: float = 0.0
    grant_refused: float = 0.0
    mark_refused: float = 0.0
    mark_hangs: float = 0.0
    replicator_fails: float = 0.0


@dataclass
class Watcher:
    """What oracle and schedule are told."""

    begun: Callable[[str, Operation], None]
    promoted: Callable[[str, Promote, bool], None]
    granted: Callable[[str], None]


@dataclass(eq=False)
class Host:
    """A host and everything on it."""

    name: str
    world: World
    networks: Networks
    settings: Settings
    watcher: Watcher
    find: Callable[[str], "Host"]
    disk: Disk = field(default_factory=Disk)
    troubles: Troubles = field(default_factory=Troubles)
    is_on: bool = True
    holds_addresses: bool = False
    application_runs: bool = False
    replicator: Replicator | None = None
    agent: Agent | None = None
    agent_born_ms: int = 0
    """When the agent began, also of one that has died: what it ordered may take effect later."""
    remembered: Remember = field(default_factory=lambda: Remember(False, ()))
    marker: Presence = Presence.OFF
    """The agent's note on whether the application runs; in /run, so it ends with the host."""

    # --- power and processes ---

    def power_off(self) -> None:
        self.world.note(self.name, "POWER OFF")
        self.is_on = False
        if self.replicator is not None:
            self.replicator.die(silently=True)
            self.replicator = None
        if self.agent is not None:
            self.agent.die()
        self.holds_addresses = self.application_runs = False
        self.marker = Presence.OFF
        self.disk.lose_power(lambda: self.world.chance.random() < 0.5)

    def power_on(self) -> None:
        self.world.note(self.name, "POWER ON")
        self.is_on = True
        self.world.after(self.world.chance.randint(100, 1_500), self.start_agent)

    def start_agent(self) -> None:
        if self.is_on and self.agent is None:
            self.agent = Agent(self)
            self.agent_born_ms = self.world.now_ms

    def kill_agent(self) -> None:
        if self.agent is not None:
            self.world.note(self.name, "agent killed")
            self.agent.die()
            self.world.after(self.world.chance.randint(100, 1_200), self.start_agent)

    def kill_replicator(self) -> None:
        replicator = self.replicator
        if replicator is None:
            return
        self.world.note(self.name, "replicator killed")
        replicator.die()
        self.replicator = None
        agent = self.agent
        if agent is not None:
            self.world.after(self.world.chance.randint(1, 50), agent.replicator_ended)

    def find_replicator(self, host: str) -> Replicator | None:
        return self.find(host).replicator

    @property
    def serves(self) -> bool:
        """Whether a client that comes to this host can commit."""
        return (
            self.replicator is not None
            and self.replicator.role.value == "primary"
            and self.application_runs
            and self.holds_addresses
        )
