"""Hundreds of connections echo while the farm changes at random: none breaks on a node that lives,
each new one has the node that the table says, and every SYN has one answer.

By default all 50 changes are made where XDP floods, and fewer with each other way to filter, to fit
the suite's time. TELAMON_FARM_CHANGES sets their number for all, TELAMON_SEED repeats a run.
"""

import os
import random
import time
from collections import Counter

import pytest
from changes import Changes
from farms import ADDRESSES, CLIENT, ECHO, assert_predicted, farm_in_lab

from telamon.lab import agent_api
from telamon.lab.farm import FarmInLab
from telamon.lab.oracles.connections import Connected, Connections

NODES = 4
VERSIONS = (4, 6)
HELD_OF_EACH = 270
CLIENTS_OF_EACH = 45
NEW_AFTER_CHANGE = 10
EVENTS = 12
CHANGES = os.environ.get("TELAMON_FARM_CHANGES")
SEED = int(os.environ.get("TELAMON_SEED") or random.randrange(1 << 32))

# What the module says of filters and layer 2, and how many changes are made by default.
WAYS: dict[str, tuple[dict[str, object], int]] = {
    "xdp": ({"filter": "xdp-generic"}, 50),
    "nft": ({"filter": "nft"}, 8),
    "nfqueue": ({"filter": "nfqueue"}, 8),
    "mixed": ({"filters": {"n1": "xdp-generic", "n2": "nft", "n3": "nfqueue"}}, 8),
    "dispatch": ({"mode": "dispatch", "filter": "xdp-generic"}, 8),
}


def events_of(farm: FarmInLab) -> str:
    """What the nodes tell of the latest changes, oldest first."""
    told = [
        f"{event.time.time()} {event.node} {event.text}"
        for host in map(farm.lab.host, farm.nodes)
        for event in agent_api.events(host, EVENTS)
    ]
    return "\n".join(["", *sorted(told)])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
def test_changes_break_no_connection(lab_name: str, way: str) -> None:
    print(f"TELAMON_SEED={SEED}")
    keys, count = WAYS[way]
    addresses = [{"address": ADDRESSES[version], "network": "lan"} for version in VERSIONS]
    with (
        farm_in_lab(lab_name, NODES, virtual_ips=addresses, **keys) as farm,
        Connections(farm.lab.host(CLIENT)) as clients,
    ):
        sources = {one: clients.add_addresses(one, CLIENTS_OF_EACH) for one in VERSIONS}

        def connect(count_of_each: int) -> list[Connected]:
            return [
                one
                for version in VERSIONS
                for one in clients.connect(
                    [sources[version][n % CLIENTS_OF_EACH] for n in range(count_of_each)],
                    ECHO[version],
                )
            ]

        clients.listen()
        changes = Changes(farm, clients, SEED)
        assert_predicted(farm, farm.nodes, connect(HELD_OF_EACH))
        exchanges = 0
        for number in range(int(CHANGES or count)):
            began_s = time.monotonic()
            change = changes.next()
            echoed = clients.echo()
            print(f"{number:3} {change:24} {time.monotonic() - began_s:5.2f} s  {echoed.works}")
            broken = Counter((one.node, ":" in one.source, one.failure) for one in echoed.broken)
            assert not broken, f"after change {number}, {change}: {events_of(farm)}"
            missing = HELD_OF_EACH * len(VERSIONS) - echoed.count
            new = connect(max(NEW_AFTER_CHANGE, -(-missing // len(VERSIONS))))
            assert_predicted(farm, changes.serving, new)
            assert echoed.exchanges > exchanges
            exchanges = echoed.exchanges
        echoed = clients.echo()
        assert echoed.broken == []
        assert echoed.count >= HELD_OF_EACH * len(VERSIONS)
        heard = clients.heard()
        print(f"{echoed.exchanges} exchanges, {heard}")
        assert heard.is_good
