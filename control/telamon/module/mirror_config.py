"""module.yaml of kind `mirror`: two nodes, replicated directories, one of the nodes is primary."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from telamon.cluster.config import Name, Port
from telamon.configuration.fault import Finding, Location
from telamon.configuration.model import Section
from telamon.configuration.quantity import (
    Duration,
    DurationField,
    Rate,
    RateField,
    Size,
    SizeField,
)
from telamon.module import model
from telamon.module.check_config import Check, CheckAction, When
from telamon.module.path import DirectoryPath, Pattern, is_inside, printable


def _mapped(value: object) -> object:
    """`mapped: true` means every file of the directory."""
    if isinstance(value, bool):
        return ("**",) if value else ()
    return value


class ReplicatedDirectory(Section):
    """A directory that is mirrored in place."""

    path: DirectoryPath = Field(examples=["/path/of/example"])
    exclude: Annotated[tuple[Pattern, ...], Field(strict=False)] = ()
    """Names that stay local, as patterns relative to the directory."""
    mapped: Annotated[tuple[Pattern, ...], Field(strict=False), BeforeValidator(_mapped)] = ()
    """Files whose shared mappings are replicated at msync: relayed, not passed through."""


class Replication(Section):
    """How the directories are mirrored."""

    directories: Annotated[
        tuple[ReplicatedDirectory, ...], Field(min_length=1, max_length=64, strict=False)
    ] = Field(examples=[[{"path": "/path/of/example"}]])
    sync: Literal["always", "fsync", "async"] = "fsync"
    acknowledge: Literal["disk", "memory"] = "disk"
    port: Port | None = None
    """TCP port on both nodes; modules on one node need different ones."""
    peer_timeout: DurationField = Duration(2_000)
    resync_bandwidth: RateField | None = None
    """None: as fast as it goes."""
    queue: SizeField = Size(64 << 20)
    """Records that wait for the peer, at most; a full queue slows writers."""
    async_lag: SizeField = Size(64 << 20)
    """With `sync: async`: how far the peer may lag behind before writers wait."""


class MirrorModule(model.Module):
    """The whole of a mirror's module.yaml."""

    kind: Literal["mirror"]
    replicate: Replication = Field(examples=[{"directories": [{"path": "/path/of/example"}]}])
    default_primary: Name | None = None
    """Becomes primary when both nodes have equal claims; else the first of `nodes`."""
    isolation: Literal["takeover", "wait"] | None = None
    """Overrides the cluster's."""

    def peer_of(self, node: str) -> str:
        """The other node."""
        first, second = self.nodes
        return second if node == first else first

    @property
    def preferred(self) -> str:
        """The node that becomes primary when both have equal claims."""
        return self.default_primary or self.nodes[0]


def relations(module: MirrorModule) -> Iterator[Finding]:
    """Relations inside one mirror module."""
    yield from model.relations(module)
    if len(module.nodes) != 2:
        yield Finding((("nodes",),), f"a mirror has exactly 2 nodes, not {len(module.nodes)}")
    if module.default_primary is not None and module.default_primary not in module.nodes:
        yield Finding(
            (("default_primary",), ("nodes",)),
            f"{module.default_primary!r} is none of the module's nodes: {', '.join(module.nodes)}",
        )
    yield from _directories(module.replicate)
    yield from _limits(module.replicate)
    for index, check in enumerate(module.checks):
        if check.detectors and check.asks_for is CheckAction.WAIT:
            yield from _waiting(module, check, ("checks", index))


def _waiting(module: MirrorModule, check: Check, where: Location) -> Iterator[Finding]:
    """A mirror that waits stops its application: it must not wait for that."""
    if check.looks_while is When.APPLICATION:
        yield Finding(
            ((*where, "when"), where),
            "`action: wait` stops the application, and this check looks only while it runs: use"
            " `when: started`, or another action",
        )
    own = [one for one in (check.tcp, check.ip) if one is not None]
    if any(model.is_own(module, one.address) for one in own):
        yield Finding(
            ((*where, "action"), where),
            "the module would wait for its own application, which then never starts: use restart,"
            " stopstart, stop, swap or none",
        )


def _directories(replicate: Replication) -> Iterator[Finding]:
    paths = [directory.path for directory in replicate.directories]
    for index, path in enumerate(paths):
        for earlier, other in enumerate(paths[:index]):
            if is_inside(path, other) or is_inside(other, path):
                here: Location = ("replicate", "directories", index, "path")
                there: Location = ("replicate", "directories", earlier, "path")
                yield Finding(
                    (here, there),
                    f"{printable(path)} and {printable(other)} overlap: name the outer one only",
                )


def _limits(replicate: Replication) -> Iterator[Finding]:
    if not Duration(200) <= replicate.peer_timeout <= Duration(120_000):
        yield Finding(
            (("replicate", "peer_timeout"),),
            f"200ms <= peer_timeout <= 2m is broken: {replicate.peer_timeout}",
        )
    for key in ("queue", "async_lag"):
        size: Size = getattr(replicate, key)
        if not Size(4 << 20) <= size <= Size(16 << 30):  # the replicator's own limit
            yield Finding((("replicate", key),), f"4MiB <= {key} <= 16GiB is broken: {size}")
    bandwidth = replicate.resync_bandwidth
    if bandwidth is not None and bandwidth < Rate(64 << 10):
        yield Finding(
            (("replicate", "resync_bandwidth"),), f"{bandwidth} never ends: at least 64KiB/s"
        )
