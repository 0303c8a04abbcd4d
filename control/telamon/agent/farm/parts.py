"""What a farm module is made of on this node, and the phases of its life."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from telamon.agent.events import EventLog
from telamon.agent.farm.building import Plan
from telamon.agent.farm.interface import FarmInterface
from telamon.agent.health.endpoint import Endpoint
from telamon.agent.memory import Memory
from telamon.detect.watch import Planned
from telamon.farm.layout import Address
from telamon.module.scripts import Scripts


class Phase(StrEnum):
    """Where the module stands here."""

    STOPPED = "stopped"
    STARTING = "starting"
    FAILED = "failed"  # tries again soon
    UP = "up"
    RESTARTING = "restarting"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class FarmParts:
    """Everything of one farm module that its life touches."""

    plan: Plan
    tell: Callable[[str, bytes], None]
    """A payload to another node, at once."""
    interface_of: Callable[[int], Awaitable[FarmInterface]]
    """The shared interface that the virtual IP of that index belongs on."""
    scripts: Scripts
    directory: Path
    memory: Memory
    state: Path
    events: EventLog
    host_answers: Callable[[str], Awaitable[bool]]
    own_addresses: tuple[Address, ...]
    checks: tuple[Planned, ...] = ()
    health: Endpoint | None = None
