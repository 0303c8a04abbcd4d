"""A farm of three nodes: each client has one of them, and no connection on a surviving node breaks
whatever becomes of the others.
"""

import signal
import time
from collections.abc import Iterator

import pytest
from farms import MODULE, NODES, VIRTUAL_IP, Client, FarmInLab, farm_in_lab, served

from telamon.lab.process import Daemon

COUNT = 80


@pytest.fixture
def farm(lab_name: str) -> Iterator[FarmInLab]:
    with farm_in_lab(lab_name) as made:
        yield made


@pytest.fixture
def client(farm: FarmInLab) -> Iterator[Client]:
    with Client(farm.lab.host("c1")) as made:
        yield made


def assert_none_broken(client: Client, count: int) -> None:
    works, broken = client.echo()
    assert broken == {}
    assert sum(works.values()) == count


def test_each_client_is_answered_by_the_node_of_its_bucket_alone(
    farm: FarmInLab, client: Client
) -> None:
    before = farm.packets("pass_new")
    answered = client.connect(COUNT)
    assert {node for _, node in answered} == set(NODES)
    assert answered == [(port, farm.predicted(NODES, port)) for port, _ in answered]
    assert farm.packets("pass_new") - before == COUNT
    port, node = answered[0]
    for asked in NODES:
        assert farm.owner(asked, "10.0.0.4", port).node == node
    shown = farm.telamon("n2", "farm", "show")
    assert all(node in shown for node in NODES)


def test_connections_survive_drain_leave_join_and_restarts_of_agents(
    farm: FarmInLab, client: Client
) -> None:
    client.connect(COUNT)
    opened = COUNT

    farm.telamon("n1", "farm", "drain", "n3")
    farm.until_serving("n1", "n2")
    assert_none_broken(client, opened)
    assert {node for _, node in client.connect(20)} == {"n1", "n2"}
    opened += 20
    farm.telamon("n2", "farm", "undrain", "n3", "--wait")
    farm.until_serving(*NODES)
    assert_none_broken(client, opened)

    for number in (signal.SIGKILL, signal.SIGTERM):
        farm.lab.host("n2").signal(Daemon.AGENT, number)
        farm.until_serving("n1", "n3")
        assert_none_broken(client, opened)
        answered = client.connect(20)
        assert {node for _, node in answered} <= set(NODES)
        opened += 20
        farm.until_serving(*NODES)
        assert_none_broken(client, opened)

    # Only connections to the node that leaves are closed, by their client, as it drains.
    works, _ = client.echo()
    farm.telamon("n1", "module", "stop", MODULE, "--node", "n3")
    farm.until_serving("n1", "n2")
    assert_none_broken(client, opened)
    client.close("n3")
    opened -= works["n3"]
    stopped = farm.until(lambda now: now["n3"].state == "STOP", "stopped")["n3"]
    assert stopped.farm is not None and stopped.farm.filters == []
    assert_clean(farm, "n3")
    assert_none_broken(client, opened)
    farm.telamon("n1", "module", "start", MODULE, "--node", "n3", "--wait")
    farm.until_serving(*NODES)
    assert_none_broken(client, opened)


def assert_clean(farm: FarmInLab, node: str) -> None:
    """Nothing of the farm is left on the node."""
    host = farm.lab.host(node)
    assert VIRTUAL_IP not in host.run(["ip", "address"]).stdout
    assert "xdp" not in host.run(["ip", "link", "show", "lan"]).stdout
    for setting in ("arp_ignore", "arp_announce"):
        assert host.run(["cat", f"/proc/sys/net/ipv4/conf/lan/{setting}"]).stdout == "0\n"


def test_a_dead_node_costs_its_own_clients_only(farm: FarmInLab, client: Client) -> None:
    answered = client.connect(COUNT)
    survivors = sum(node != "n1" for _, node in answered)
    began_s = time.monotonic()
    farm.lab.off("n1")
    farm.until_serving("n2", "n3")
    takeover_s = time.monotonic() - began_s
    print(f"taken over after {takeover_s:.2f} s")
    again = client.connect(20, 10.0)
    assert again == [(port, farm.predicted(("n2", "n3"), port)) for port, _ in again]
    works, broken = client.echo()
    assert set(broken) == {"n1"}
    assert sum(works.values()) == survivors + 20
    farm.lab.on("n1")
    farm.until_serving(*NODES)
    client.close("n1")
    assert_none_broken(client, survivors + 20)
    assert sum(served(here) for here in farm.status().values()) == 65536


def test_an_application_that_dies_serves_nobody_until_it_answers_again(
    farm: FarmInLab, client: Client
) -> None:
    farm.lab.host("n2").run(["pkill", "--full", "scripts/server"])
    farm.until_serving("n1", "n3")
    # It may be back at any moment; whoever connects is served.
    assert {node for _, node in client.connect(20)} <= set(NODES)
    assert_none_broken(client, 20)
    farm.until_serving(*NODES)
    assert "does not answer on 10.0.0.100 port 7000" in farm.telamon("n2", "events")


def test_a_host_without_an_agent_is_freed_by_hand(farm: FarmInLab) -> None:
    host = farm.lab.host("n3")
    refused = host.run(["telamon", "farm", "detach"], is_checked=False)
    assert refused.returncode == 3
    assert "telamon module stop web --node n3" in refused.stderr
    assert VIRTUAL_IP in host.run(["ip", "address"]).stdout
    assert host.run(["telamon", "farm", "detach", "--force"]).stdout == "freed: lan\n"
    assert_clean(farm, "n3")
