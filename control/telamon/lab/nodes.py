"""The cluster that runs on a lab's nodes: its configuration and credentials, made as `telamon
cluster init` makes them.
"""

import time
from collections.abc import Mapping

import yaml

from telamon.cluster import creation
from telamon.cluster.credentials import write_files
from telamon.errors import UnreachableError
from telamon.lab import agent_api
from telamon.lab.host import RunningHost
from telamon.lab.root import CONFIGURATION, DISK
from telamon.lab.spec import LabSpec

_START_TIMEOUT_S = 30.0
_POLL_S = 0.05


def furnish(lab: str, spec: LabSpec, hosts: Mapping[str, RunningHost]) -> None:
    """Makes the nodes a cluster, before their agents start. It survives a power failure."""
    if not spec.nodes:
        return
    cluster = creation.create(cluster_yaml(lab, spec), f"the cluster of lab {lab}")
    for number, node in enumerate(spec.nodes):
        files = cluster.files_of_first(node.name) if number == 0 else cluster.files[node.name]
        write_files(hosts[node.name].path(CONFIGURATION), dict(files))
        hosts[node.name].run(["sync", "--file-system", DISK])


def await_agents(spec: LabSpec, hosts: Mapping[str, RunningHost]) -> None:
    """Waits until every node's agent answers."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    for node in spec.nodes:
        while True:
            try:
                agent_api.status(hosts[node.name])
                break
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)


def cluster_yaml(lab: str, spec: LabSpec) -> str:
    """cluster.yaml of the lab's nodes, with what lab.yaml says under `cluster` at its end."""
    text = creation.render(
        lab,
        {
            node.name: {name: str(some[0].ip) for name, some in node.links.items()}
            for node in spec.nodes
        },
        {network.name: network.replication for network in spec.networks},
    )
    return text + (yaml.safe_dump(dict(spec.cluster)) if spec.cluster else "")
