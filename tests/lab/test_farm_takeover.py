"""A node that loses its power costs its own clients only, and these have another one soon.

The times are the promise with the default detection of 0.7 s. A loaded machine may miss them now
and then without a fault of ours, so a miss is tried again; one that stays is a failure.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from farms import CLIENT, ECHO, assert_none_broken, assert_predicted, farm_in_lab

from telamon.lab.farm import FarmInLab
from telamon.lab.oracles.connections import Connections, Knock, takeover_s

NODES = ("n1", "n2", "n3")
CLIENTS = 40
HELD = 120
INTERVAL_S = 0.01
DETECTION_S = 0.7
TAKEOVER_S = DETECTION_S + 0.3
GAP_S = 1.1
ATTEMPTS = 4


@contextmanager
def knocking(clients: Connections, sources: list[str], version: int) -> Iterator[list[Knock]]:
    knocks: list[Knock] = []
    clients.knock(sources, ECHO[version], INTERVAL_S)
    try:
        yield knocks
    finally:
        knocks += clients.knocked()


def lose(farm: FarmInLab, clients: Connections, sources: list[str], version: int) -> list[float]:
    """The power of n2 fails: how long until its buckets are served, and the longest wait of a new
    client.
    """
    with knocking(clients, sources, version) as knocks:
        time.sleep(2 * len(sources) * INTERVAL_S)  # each client came before
        failed_s = time.monotonic()
        farm.lab.off("n2")
        farm.await_serving("n1", "n3")
        time.sleep(len(sources) * INTERVAL_S)  # and comes again
    its_own = {knock.source for knock in knocks if knock.node == "n2"}
    assert its_own and len(its_own) < len(sources)
    wrong = [
        knock
        for knock in knocks
        if knock.failure and (knock.connected_s is None or knock.source not in its_own)
    ]
    assert wrong == []
    after = [knock for knock in knocks if knock.began_s > failed_s]
    others = [knock.waited_s for knock in after if knock.source not in its_own]
    assert max(others) < GAP_S
    return [takeover_s(knocks, "n2", failed_s), max(knock.waited_s for knock in after)]


@pytest.mark.parametrize("version", [4, 6])
def test_a_dead_node_costs_its_own_clients_only(lab_name: str, version: int) -> None:
    addresses = [
        {"address": "10.0.0.100/24", "network": "lan"},
        {"address": "fd00:0:0:1::100/64", "network": "lan"},
    ]
    services = [{"protocol": "tcp", "ports": [7000], "affinity": "client"}]
    with (
        farm_in_lab(lab_name, virtual_ips=addresses, services=services) as farm,
        Connections(farm.lab.host(CLIENT)) as clients,
    ):
        sources = clients.add_addresses(version, CLIENTS)
        found = []
        for _ in range(ATTEMPTS):
            clients.listen()
            connected = clients.connect(sources * (HELD // CLIENTS), ECHO[version])
            assert_predicted(farm, NODES, connected)
            found.append(lose(farm, clients, sources, version))
            print("taken over after {:.2f} s, longest wait {:.2f} s".format(*found[-1]))
            echoed = clients.echo()
            assert echoed.broken_beside("n2") == []
            assert len(echoed.broken) == sum(one.node == "n2" for one in connected)
            assert echoed.count == HELD - len(echoed.broken)
            clients.drop("n2")
            farm.lab.on("n2")
            farm.await_serving(*NODES)
            assert_none_broken(clients, echoed.count)
            assert clients.heard().is_good
            clients.drop()
            if found[-1][0] <= TAKEOVER_S and found[-1][1] <= GAP_S:
                return
        pytest.fail(f"takeover and longest wait in s: {found}")
