"""nginx and Apache httpd of Debian as farms, by the ready-made modules: requests are spread as the
table says, an address keeps its node over all its connections, and the servers stop and start.
"""

from pathlib import Path

import pytest
from farms import ADDRESSES, CLIENT, assert_none_broken, assert_predicted, lab_file

from telamon.agent.models import ActionKind
from telamon.lab.farm import FarmInLab
from telamon.lab.lab import Lab
from telamon.lab.oracles.connections import Connections, Service, Speech, by_node
from telamon.lab.web import PORT, VIRTUAL_IP, VIRTUAL_IP_6, Server, make_module

NODES = 5
CLIENTS = 40
CONNECTIONS_OF_EACH = 3
WEB = {4: Service(VIRTUAL_IP, PORT, Speech.HTTP), 6: Service(VIRTUAL_IP_6, PORT, Speech.HTTP)}


@pytest.mark.parametrize(
    ("server", "version"), [(Server.NGINX, 4), (Server.NGINX, 6), (Server.HTTPD, 4)]
)
def test_web_servers(lab_name: str, tmp_path: Path, server: Server, version: int) -> None:
    with Lab.up(lab_name, lab_file(NODES)) as lab, Connections(lab.host(CLIENT)) as clients:
        farm = FarmInLab(lab, server)
        addresses = [{"address": one, "network": "lan"} for one in ADDRESSES.values()]
        farm.install(make_module(server, tmp_path, nodes=farm.nodes, virtual_ips=addresses))
        farm.begin()
        sources = clients.add_addresses(version, CLIENTS)
        clients.listen()
        connected = clients.connect(sources * CONNECTIONS_OF_EACH, WEB[version])
        assert_predicted(farm, farm.nodes, connected)
        assert set(by_node(connected)) == set(farm.nodes)
        nodes_of = {
            source: {one.node for one in connected if one.source == source} for source in sources
        }
        assert {len(nodes) for nodes in nodes_of.values()} == {1}
        told = {source: farm.owner("n1", source).node for source in sources}
        assert told == {source: nodes.pop() for source, nodes in nodes_of.items()}

        farm.order(ActionKind.STOP, "n5")
        farm.await_serving("n1", "n2", "n3", "n4")
        assert_none_broken(clients, len(connected))
        left = len(connected) - clients.drop("n5")
        farm.await_status(lambda now: now["n5"].state == "STOP", "stopped on n5")
        assert lab.host("n5").run(["pgrep", "--ns", "1", server], is_checked=False).stdout == ""
        again = clients.connect(sources, WEB[version])
        assert_predicted(farm, ("n1", "n2", "n3", "n4"), again)
        farm.order(ActionKind.START, "n5")
        farm.await_serving(*farm.nodes)
        assert_none_broken(clients, left + len(again))
        assert clients.heard().is_good
