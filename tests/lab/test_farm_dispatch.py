"""Dispatch mode: one node has the virtual IP at layer 2 and redirects. No connection on a surviving
node breaks when it drains, leaves, dies or returns, and no client keeps a stale answer.
"""

from collections.abc import Iterator

import pytest
from farms import (
    CLIENT_IP,
    CLIENT_IPV6,
    MODULE,
    NODES,
    VIRTUAL_IP,
    VIRTUAL_IPV6,
    Client,
    FarmInLab,
    farm_in_lab,
)

COUNT = 60
CLIENTS = {VIRTUAL_IP: CLIENT_IP, VIRTUAL_IPV6: CLIENT_IPV6}
KEYS = {
    "mode": "dispatch",
    "virtual_ips": [
        {"address": f"{VIRTUAL_IP}/24", "network": "lan"},
        {"address": f"{VIRTUAL_IPV6}/64", "network": "lan"},
    ],
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


@pytest.mark.parametrize("virtual_ip", CLIENTS)
def test_connections_survive_what_becomes_of_the_dispatcher(
    farm: FarmInLab, virtual_ip: str
) -> None:
    client_ip = CLIENTS[virtual_ip]
    with Client(farm.lab.host("c1"), virtual_ip) as client:

        def connect(*nodes: str) -> None:
            answered = client.connect(COUNT, 10.0)
            assert answered == [
                (port, farm.predicted(nodes, port, client_ip)) for port, _ in answered
            ]

        def none_is_broken(count: int) -> None:
            works, broken = client.echo()
            assert (sum(works.values()), broken) == (count, {})

        connect(*NODES)
        assert neighbour(farm, virtual_ip) == mac_of(farm, "n1")
        for _, names in client.ask(20):
            assert len(names) == 1
            assert names[0] in ("n2", "n3")

        farm.telamon("n2", "farm", "drain", "n1")
        farm.until_serving("n2", "n3")
        connect("n2", "n3")
        assert neighbour(farm, virtual_ip) == mac_of(farm, "n2")
        none_is_broken(2 * COUNT)

        farm.telamon("n2", "farm", "undrain", "n1", "--wait")
        farm.until_serving(*NODES)
        connect(*NODES)
        none_is_broken(3 * COUNT)

        works, _ = client.echo()
        farm.lab.off("n1")
        farm.until_serving("n2", "n3")
        connect("n2", "n3")
        assert neighbour(farm, virtual_ip) == mac_of(farm, "n2")
        still, broken = client.echo()
        assert set(broken) == {"n1"}
        assert sum(still.values()) == 4 * COUNT - works["n1"]

        farm.lab.on("n1")
        farm.until_serving(*NODES)
        client.close("n1")
        connect(*NODES)
        none_is_broken(5 * COUNT - works["n1"])

        # Whoever leaves takes its connections with it; the dispatcher goes first.
        client.close("n1")
        left = sum(client.echo()[0].values())
        farm.telamon("n2", "module", "stop", MODULE, "--node", "n1", "--wait")
        farm.until_serving("n2", "n3")
        none_is_broken(left)
        connect("n2", "n3")
