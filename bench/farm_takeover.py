"""How soon a dead node's clients have another one.

The reference of the takeover is the detection time, that of a client's wait the second after which
its kernel sends a lost SYN again.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.farm_http import LAB, NODES
from bench.figure import Figure, Goal, GoalKind
from telamon.lab.farm import FarmInLab
from telamon.lab.lab import Lab
from telamon.lab.oracles.connections import Connections, Service, Speech, takeover_s
from telamon.lab.web import PORT, VIRTUAL_IP, Server, make_module

CLIENT, VICTIM = "client", "n2"
DEATHS = 5
CLIENTS = 40
INTERVAL_S = 0.01
DETECTION_MS, TAKEOVER_MS = 700, 300
RETRANSMISSION_MS, GAP_MS = 1000, 100
WEB = Service(VIRTUAL_IP, PORT, Speech.HTTP)


def takeover() -> Iterator[Figure]:
    """Milliseconds, medians of several deaths."""
    with (
        tempfile.TemporaryDirectory(prefix="telamon-bench-") as directory,
        Lab.up(f"bench-{os.getpid()}", LAB) as lab,
    ):
        farm = FarmInLab(lab, Server.NGINX)
        farm.install(make_module(Server.NGINX, Path(directory)))
        farm.begin()
        with Connections(lab.host(CLIENT)) as clients:
            sources = clients.add_addresses(4, CLIENTS)
            deaths = [_death(farm, clients, sources) for _ in range(DEATHS)]
    taken_ms, waited_ms = (median(column) for column in zip(*deaths, strict=True))
    goal = Goal(GoalKind.AT_MOST_MORE, TAKEOVER_MS)
    yield Figure("farm: takeover of a dead node", "ms", taken_ms, DETECTION_MS, goal)
    goal = Goal(GoalKind.AT_MOST_MORE, GAP_MS)
    yield Figure("farm: longest wait of a client", "ms", waited_ms, RETRANSMISSION_MS, goal)


def _death(farm: FarmInLab, clients: Connections, sources: list[str]) -> tuple[float, float]:
    """How long until the dead node's buckets were served, and the longest wait of a new client."""
    clients.knock(sources, WEB, INTERVAL_S)
    time.sleep(2 * len(sources) * INTERVAL_S)  # each client came before
    failed_s = time.monotonic()
    farm.lab.off(VICTIM)
    farm.await_serving(*(node for node in NODES if node != VICTIM))
    time.sleep(len(sources) * INTERVAL_S)  # and comes again
    knocks = clients.knocked()
    farm.lab.on(VICTIM)
    farm.await_serving(*NODES)
    waited_s = max(knock.waited_s for knock in knocks if knock.began_s >= failed_s)
    return takeover_s(knocks, VICTIM, failed_s) * 1000, waited_s * 1000
