"""The health endpoint of a module: where load balancers outside the cluster ask whether this node
serves it.
"""

from collections.abc import Iterator

from pydantic import Field

from telamon.cluster.config import AddressField, Name, Port
from telamon.configuration.fault import Finding
from telamon.configuration.model import Section
from telamon.configuration.quantity import Duration, DurationField


class HealthEndpoint(Section):
    """HTTP on a port of every node of the module: 200 where it is ready, 503 elsewhere."""

    port: Port
    path: str = Field(default="/", pattern=r"^/[!-\"$->@-~]*$", max_length=200)
    """What is asked for; other paths do not exist."""
    address: AddressField | None = None
    """Listens on this address alone; without it and `network`, on all of the node's."""
    network: Name | None = None
    """Listens on the node's own address in this network alone."""
    notice: DurationField = Duration(10_000)
    """A farm without virtual IPs goes on so long after the first 503 before it stops, so that load
    balancers notice."""

    def meets(self, other: "HealthEndpoint") -> bool:
        """Whether both could not listen on one node."""
        if self.port != other.port:
            return False
        ours, theirs = (self.address, self.network), (other.address, other.network)
        everywhere = (None, None)
        return ours == theirs or everywhere in (ours, theirs)


def relations(health: HealthEndpoint | None) -> Iterator[Finding]:
    """Relations inside the section."""
    if health is not None and health.address is not None and health.network is not None:
        yield Finding(
            (("health", "network"), ("health", "address")), "give either `address` or `network`"
        )
