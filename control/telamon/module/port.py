"""The TCP port on which a mirror module is replicated: the one it sets, else one by its name.

Invariant: a function of module.yaml and cluster.yaml alone, which are the same on both nodes, so
that the nodes agree on it without talking. Two names may share a port; that is a fault which the
configuration check finds between installed modules, with a free port as the cure.
"""

import hashlib
from collections.abc import Container

from telamon.cluster.config import REPLICATION_PORTS, Cluster
from telamon.module.mirror_config import MirrorModule


def replication_port(module: MirrorModule, cluster: Cluster) -> int:
    """The module's port on both of its nodes."""
    if module.replicate.port is not None:
        return module.replicate.port
    usable = _usable(cluster)
    digest = hashlib.blake2b(module.module.encode(), digest_size=8).digest()
    return usable[int.from_bytes(digest) % len(usable)]


def free_port(cluster: Cluster, taken: Container[int]) -> int | None:
    """The first port of the range that is not taken."""
    return next((port for port in _usable(cluster) if port not in taken), None)


def _usable(cluster: Cluster) -> list[int]:
    first = cluster.ports.replication
    return [
        port
        for port in range(first, min(first + REPLICATION_PORTS, 1 << 16))
        if port != cluster.ports.api
    ]
