"""UDP: a DNS server on every node. Each question has one answer, by the node that the table says;
when a node dies, the others answer its clients.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from farms import ADDRESSES, CLIENT, lab_file

from telamon.lab.farm import FarmInLab
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.oracles.connections import Connections
from telamon.lab.web import VIRTUAL_IP, VIRTUAL_IP_6

MODULE = "names"
NODES = ("n1", "n2", "n3")
CLIENTS = 60
WHO = "who.farm"
LIMIT_S = 10.0
ADDRESS = {4: VIRTUAL_IP, 6: VIRTUAL_IP_6}

START = f"""#!/bin/sh
exec dnsmasq --conf-file=/dev/null --pid-file=/run/names.pid --user=root --no-resolv --no-hosts \\
    --bind-dynamic --listen-address={VIRTUAL_IP} --listen-address={VIRTUAL_IP_6} \\
    --txt-record={WHO},$TELAMON_NODE
"""
STOP = "#!/bin/sh\nif [ -e /run/names.pid ]; then kill $(cat /run/names.pid); fi\n"


def make_module(host: RunningHost) -> Path:
    source = Path("/run/module")
    module = {
        "module": MODULE,
        "kind": "farm",
        "nodes": list(NODES),
        "virtual_ips": [{"address": one, "network": "lan"} for one in ADDRESSES.values()],
        "services": [{"protocol": "udp", "ports": [53], "affinity": "client"}],
    }
    host.write(source / "module.yaml", yaml.safe_dump(module))
    host.write(source / "scripts" / "start", START, mode=0o755)
    host.write(source / "scripts" / "stop", STOP, mode=0o755)
    return source


def predicted(farm: FarmInLab, nodes: Sequence[str], sources: Sequence[str]) -> list[list[str]]:
    prophet = farm.prophet()
    table = prophet.table(nodes)
    return [[prophet.node_of(table, source, 0)] for source in sources]


def ask(
    clients: Connections, sources: Sequence[str], version: int, limit_s: float = 1.0
) -> list[list[str]]:
    return [one.answers for one in clients.resolve(sources, ADDRESS[version], WHO, limit_s)]


@pytest.mark.parametrize("version", [4, 6])
def test_each_question_has_one_answer_also_when_a_node_dies(lab_name: str, version: int) -> None:
    with Lab.up(lab_name, lab_file(len(NODES))) as lab, Connections(lab.host(CLIENT)) as clients:
        farm = FarmInLab(lab, MODULE)
        farm.install(make_module(lab.host("n1")))
        farm.begin()
        sources = clients.add_addresses(version, CLIENTS)
        answers = ask(clients, sources, version)
        assert answers == predicted(farm, NODES, sources)
        assert {node for nodes in answers for node in nodes} == set(NODES)

        failed_s = time.monotonic()
        lab.off("n2")
        due = predicted(farm, ("n1", "n3"), sources)
        while (answers := ask(clients, sources, version, 0.2)) != due:
            assert time.monotonic() - failed_s < LIMIT_S, answers
            given = [(nodes, one) for nodes, one in zip(answers, due, strict=True) if nodes]
            assert all(nodes == one for nodes, one in given), "answered by another node"
        print(f"all clients are answered again after {time.monotonic() - failed_s:.2f} s")
        lab.on("n2")
        farm.await_serving(*NODES)
        assert ask(clients, sources, version) == predicted(farm, NODES, sources)
