"""Putting the API before a node. Apart from main.py, because importing the web framework takes a
second.
"""

import contextlib
from collections.abc import AsyncIterator

from telamon.agent.api import build_api
from telamon.agent.cluster_service import ClusterService
from telamon.agent.node import Node
from telamon.agent.peers import Peers, server_context
from telamon.agent.server import serving


@contextlib.asynccontextmanager
async def serve(node: Node, version: str) -> AsyncIterator[None]:
    """Answers operators and other nodes until the caller is done."""
    peers = Peers(node.cluster, node.name, node.paths.configuration)
    service = ClusterService(node, peers)
    node.ask_node = service.status_of
    own = node.cluster.node(node.name)
    assert own is not None, "Node has found itself in cluster.yaml"
    try:
        async with serving(
            build_api(service, version, is_for_nodes=False),
            build_api(service, version, is_for_nodes=True),
            unix_socket=node.paths.agent_socket,
            addresses=list(own.addresses.values()),
            port=node.cluster.ports.api,
            tls=server_context(node.paths.configuration),
            nodes=frozenset(one.name for one in node.cluster.nodes),
        ):
            yield
    finally:
        await peers.close()
