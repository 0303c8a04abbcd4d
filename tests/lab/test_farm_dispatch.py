"""Dispatch mode: one node has the virtual IP at layer 2 and redirects. No connection on a surviving
node breaks when it drains, leaves, dies or returns, and no client keeps a stale answer.
"""

from collections.abc import Iterator

import pytest
from farms import (
    ADDRESSES,
    CLIENT,
    ECHO,
    MODULE,
    NODES,
    assert_none_broken,
    assert_predicted,
    connect,
    farm_in_lab,
    own_address,
)

from telamon.lab.farm import FarmInLab
from telamon.lab.oracles.connections import Connections

COUNT = 60
KEYS: dict[str, object] = {
    "mode": "dispatch",
    "virtual_ips": [{"address": one, "network": "lan"} for one in ADDRESSES.values()],
    "services": [
        {"protocol": "tcp", "ports": [7000], "affinity": "connection"},
        {"protocol": "udp", "ports": [7000], "affinity": "connection", "weights": {"n1": 0}},
    ],
}


@pytest.fixture
def farm(lab_name: str) -> Iterator[FarmInLab]:
    with farm_in_lab(lab_name, **KEYS) as made:
        yield made


def mac_of(farm: FarmInLab, node: str) -> str:
    return farm.lab.host(node).run(["cat", "/sys/class/net/lan/address"]).stdout.strip()


def neighbour(farm: FarmInLab, virtual_ip: str) -> str:
    """The MAC at which the client reaches the virtual IP."""
    shown = farm.lab.host("c1").run(["ip", "neigh", "show", virtual_ip]).stdout.split()
    return shown[shown.index("lladdr") + 1]


@pytest.mark.parametrize("version", [4, 6])
def test_connections_survive_what_becomes_of_the_dispatcher(farm: FarmInLab, version: int) -> None:
    service = ECHO[version]
    with Connections(farm.lab.host(CLIENT)) as clients:

        def connect_to(*nodes: str) -> None:
            assert_predicted(farm, nodes, connect(farm, clients, COUNT, service))

        connect_to(*NODES)
        assert neighbour(farm, service.address) == mac_of(farm, "n1")
        for asked in clients.ask([own_address(farm, version)] * 20, service):
            assert asked.answers in (["n2"], ["n3"])

        farm.telamon("n2", "farm", "drain", "n1")
        farm.await_serving("n2", "n3")
        connect_to("n2", "n3")
        assert neighbour(farm, service.address) == mac_of(farm, "n2")
        assert_none_broken(clients, 2 * COUNT)

        farm.telamon("n2", "farm", "undrain", "n1", "--wait")
        farm.await_serving(*NODES)
        connect_to(*NODES)
        assert_none_broken(clients, 3 * COUNT)

        on_victim = clients.echo().works["n1"]
        farm.lab.off("n1")
        farm.await_serving("n2", "n3")
        connect_to("n2", "n3")
        assert neighbour(farm, service.address) == mac_of(farm, "n2")
        echoed = clients.echo()
        assert echoed.broken_beside("n1") == []
        assert echoed.count == 4 * COUNT - on_victim

        farm.lab.on("n1")
        farm.await_serving(*NODES)
        clients.drop("n1")
        connect_to(*NODES)
        assert_none_broken(clients, 5 * COUNT - on_victim)

        # Whoever leaves takes its connections with it; the dispatcher goes first.
        clients.drop("n1")
        left = clients.echo().count
        farm.telamon("n2", "module", "stop", MODULE, "--node", "n1", "--wait")
        farm.await_serving("n2", "n3")
        assert_none_broken(clients, left)
        connect_to("n2", "n3")
