"""A farm of three nodes: each client has one of them, and no connection on a surviving node breaks
whatever becomes of the others.
"""

import signal
from collections.abc import Iterator

import pytest
from farms import (
    CLIENT,
    MODULE,
    assert_none_broken,
    assert_predicted,
    connect,
    farm_in_lab,
    restart_agent,
)

from telamon.agent.models import ActionKind
from telamon.farm.hash import BUCKETS
from telamon.lab.farm import FarmInLab, buckets_of
from telamon.lab.oracles.connections import Connections, by_node
from telamon.lab.web import VIRTUAL_IP

COUNT = 80
NODES = ("n1", "n2", "n3")


@pytest.fixture
def farm(lab_name: str) -> Iterator[FarmInLab]:
    with farm_in_lab(lab_name) as made:
        yield made


@pytest.fixture
def clients(farm: FarmInLab) -> Iterator[Connections]:
    with Connections(farm.lab.host(CLIENT)) as made:
        yield made


def test_each_client_is_answered_by_the_node_of_its_bucket_alone(
    farm: FarmInLab, clients: Connections
) -> None:
    before = farm.packets("pass_new")
    connected = connect(farm, clients, COUNT)
    assert set(by_node(connected)) == set(NODES)
    assert_predicted(farm, NODES, connected)
    assert farm.packets("pass_new") - before == COUNT
    for asked in NODES:
        for one in connected[:10]:
            assert farm.owner(asked, one.source, one.port).node == one.node
    one = connected[0]
    told = farm.telamon("n2", "farm", "owner", f"{one.source}:{one.port}")
    assert f": {one.node}, " in told
    shown = farm.telamon("n2", "farm", "show")
    assert all(node in shown for node in NODES)


def test_connections_survive_drain_leave_join_and_restarts_of_agents(
    farm: FarmInLab, clients: Connections
) -> None:
    connect(farm, clients, COUNT)
    opened = COUNT

    farm.telamon("n1", "farm", "drain", "n3")
    farm.await_serving("n1", "n2")
    assert_none_broken(clients, opened)
    assert_predicted(farm, ("n1", "n2"), connect(farm, clients, 20))
    opened += 20
    farm.telamon("n2", "farm", "undrain", "n3", "--wait")
    farm.await_serving(*NODES)
    assert_none_broken(clients, opened)

    for number in (signal.SIGKILL, signal.SIGTERM):
        restart_agent(farm.lab.host("n2"), number)
        assert_none_broken(clients, opened)
        farm.await_serving(*NODES)
        assert_predicted(farm, NODES, connect(farm, clients, 20))
        opened += 20
        assert_none_broken(clients, opened)

    # Only connections to the node that leaves are closed, by their client, as it drains.
    farm.telamon("n1", "module", "stop", MODULE, "--node", "n3")
    farm.await_serving("n1", "n2")
    assert_none_broken(clients, opened)
    opened -= clients.drop("n3")
    stopped = farm.await_status(lambda now: now["n3"].state == "STOP", "stopped")["n3"]
    assert stopped.farm is not None and stopped.farm.filters == []
    assert_clean(farm, "n3")
    assert_none_broken(clients, opened)
    farm.telamon("n1", "module", "start", MODULE, "--node", "n3", "--wait")
    farm.await_serving(*NODES)
    assert_none_broken(clients, opened)


def assert_clean(farm: FarmInLab, node: str) -> None:
    """Nothing of the farm is left on the node."""
    host = farm.lab.host(node)
    assert VIRTUAL_IP not in host.run(["ip", "address"]).stdout
    assert "xdp" not in host.run(["ip", "link", "show", "lan"]).stdout
    for setting in ("arp_ignore", "arp_announce"):
        assert host.run(["cat", f"/proc/sys/net/ipv4/conf/lan/{setting}"]).stdout == "0\n"


def test_an_application_that_dies_serves_nobody_until_it_answers_again(
    farm: FarmInLab, clients: Connections
) -> None:
    farm.lab.host("n2").run(["pkill", "--full", "scripts/server"])
    farm.await_serving("n1", "n3")
    # It may be back at any moment; whoever connects is served.
    assert set(by_node(connect(farm, clients, 20))) <= set(NODES)
    assert_none_broken(clients, 20)
    farm.await_serving(*NODES)
    assert "does not answer on 10.0.0.100 port 7000" in farm.telamon("n2", "events")
    assert sum(buckets_of(here) for here in farm.status().values()) == BUCKETS


def test_a_host_without_an_agent_is_freed_by_hand(farm: FarmInLab) -> None:
    host = farm.lab.host("n3")
    refused = host.run(["telamon", "farm", "detach"], is_checked=False)
    assert refused.returncode == 3
    assert f"telamon module stop {MODULE} --node n3" in refused.stderr
    assert VIRTUAL_IP in host.run(["ip", "address"]).stdout
    assert host.run(["telamon", "farm", "detach", "--force"]).stdout == "freed: lan\n"
    assert_clean(farm, "n3")


def test_a_node_that_refuses_an_order_says_why(farm: FarmInLab) -> None:
    with pytest.raises(Exception, match=r"n1 does not swap echo: .* use start, stop, restart"):
        farm.order(ActionKind.SWAP, "n1")
