"""Where everything lies on a node. Only here are these paths spelled out."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """The three roots: what the operator writes, what must survive a boot, what must not."""

    configuration: Path = Path("/etc/telamon")
    state: Path = Path("/var/lib/telamon")
    run: Path = Path("/run/telamon")

    @property
    def cluster_file(self) -> Path:
        """cluster.yaml."""
        return self.configuration / "cluster.yaml"

    @property
    def modules(self) -> Path:
        """One directory for each installed module."""
        return self.configuration / "modules"

    @property
    def agent_socket(self) -> Path:
        """The API of this node's agent."""
        return self.run / "agent.sock"

    @property
    def event_log(self) -> Path:
        """The events of this node."""
        return self.state / "events.jsonl"

    def module(self, name: str) -> Path:
        """A module's configuration and scripts."""
        return self.modules / name

    def module_state(self, name: str) -> Path:
        """A module's lineage, memory and logs."""
        return self.state / "modules" / name

    def module_run(self, name: str) -> Path:
        """A module's sockets and what holds until the next boot."""
        return self.run / "modules" / name
