"""Farms for the tests: a module whose application repeats what it hears and says where it runs."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from types import MappingProxyType

import yaml

from telamon.errors import UnreachableError
from telamon.lab import agent_api
from telamon.lab.farm import FarmInLab
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.oracles.connections import Connected, Connections, Service, Speech
from telamon.lab.process import Daemon
from telamon.lab.web import VIRTUAL_IP, VIRTUAL_IP_6

MODULE = "echo"
PORT = 7000
ECHO = {
    4: Service(VIRTUAL_IP, PORT, Speech.LINE),
    6: Service(VIRTUAL_IP_6, PORT, Speech.LINE),
}
ADDRESSES = {4: f"{VIRTUAL_IP}/24", 6: f"{VIRTUAL_IP_6}/64"}
NODES = ("n1", "n2", "n3")
CLIENT = "c1"
NO_SCRIPTS: Mapping[str, str] = MappingProxyType({})
RESTART_LIMIT_S = 20.0
POLL_S = 0.05

SERVER = """
import asyncio, os, socket, threading
NODE = os.environ["TELAMON_NODE"].encode()
async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(NODE + b" " + line)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, None, 7000, backlog=2048)
    await server.serve_forever()
def answer_datagrams():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as waiting:
        # An answer must leave from the address that was asked.
        waiting.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        waiting.bind(("::", 7000))
        while True:
            _, asked, _, client = waiting.recvmsg(2048, 64)
            waiting.sendmsg([NODE], asked, 0, client)
threading.Thread(target=answer_datagrams, daemon=True).start()
asyncio.run(main())
"""
START = f"#!/bin/sh\nexec {sys.executable} $TELAMON_MODULE_DIRECTORY/scripts/server &\n"
STOP = """#!/bin/sh
pkill --full $TELAMON_MODULE_DIRECTORY/scripts/server || true
"""


def lab_file(count: int = len(NODES)) -> str:
    """So many nodes n1, n2, … and the client c1 on one network."""
    hosts = {f"n{number}": {"kind": "node", "networks": ["lan"]} for number in range(1, count + 1)}
    return yaml.safe_dump(
        {
            "networks": {"lan": {"ipv4": "10.0.0.0/24", "ipv6": "fd00:0:0:1::/64"}},
            "hosts": {**hosts, CLIENT: {"kind": "client", "networks": ["lan"]}},
        },
        sort_keys=False,
    )


def make_module(
    host: RunningHost,
    *,
    nodes: Sequence[str] = NODES,
    scripts: Mapping[str, str] = NO_SCRIPTS,
    **keys: object,
) -> Path:
    """Writes the module, with further scripts; returns its directory in the host."""
    source = Path("/run/module")
    module: dict[str, object] = {
        "module": MODULE,
        "kind": "farm",
        "nodes": list(nodes),
        "virtual_ips": [{"address": ADDRESSES[4], "network": "lan"}],
        "services": [{"protocol": "tcp", "ports": [PORT], "affinity": "connection"}],
        "application": {"start_timeout": "20s", "stop_timeout": "10s"},
        "drain_timeout": "20s",
        **keys,
    }
    host.write(source / "module.yaml", yaml.safe_dump(module))
    host.write(source / "scripts" / "server", SERVER, mode=0o755)
    host.write(source / "scripts" / "start", START, mode=0o755)
    host.write(source / "scripts" / "stop", STOP, mode=0o755)
    for name, text in scripts.items():
        host.write(source / "scripts" / name, text, mode=0o755)
    return source


@contextmanager
def farm_in_lab(
    name: str, count: int = len(NODES), scripts: Mapping[str, str] = NO_SCRIPTS, **keys: object
) -> Iterator[FarmInLab]:
    """So many nodes that serve the module, which has these scripts and keys, and a client."""
    with Lab.up(name, lab_file(count)) as lab:
        farm = FarmInLab(lab, MODULE)
        farm.install(make_module(lab.host("n1"), nodes=farm.nodes, scripts=scripts, **keys))
        farm.begin()
        yield farm


def own_address(farm: FarmInLab, version: int) -> str:
    """The client host's own."""
    links = next(host.links for host in farm.lab.spec.hosts if host.name == CLIENT)
    return next(str(one.ip) for one in links["lan"] if one.version == version)


def connect(
    farm: FarmInLab, clients: Connections, count: int, service: Service = ECHO[4]
) -> list[Connected]:
    """So many connections from the client host's own address, kept."""
    address = own_address(farm, 6 if ":" in service.address else 4)
    return clients.connect([address] * count, service)


def assert_predicted(farm: FarmInLab, nodes: Sequence[str], connected: Sequence[Connected]) -> None:
    """Each client was answered by the node that the table of these nodes gives it."""
    prophet = farm.prophet()
    table = prophet.table(nodes)
    misled = [
        f"{one.source} {one.port} in place of {due}: {one.node or one.failure}, {one.took_s:.2f} s"
        for one in connected
        if one.node != (due := prophet.node_of(table, one.source, one.port))
    ]
    assert misled == [], f"{len(misled)} of {len(connected)}"


def assert_none_broken(clients: Connections, count: int) -> None:
    """So many connections are kept, and all of them work."""
    echoed = clients.echo()
    assert echoed.broken == []
    assert echoed.count == count


def restart_agent(host: RunningHost, number: Signals) -> None:
    """Ends the agent and waits until another one answers."""
    (before,) = host.daemons(Daemon.AGENT)
    host.signal(Daemon.AGENT, number)
    assert before.wait_until_ended(RESTART_LIMIT_S), f"the agent of {host.name} does not end"
    deadline_s = time.monotonic() + RESTART_LIMIT_S
    while True:
        try:
            agent_api.status(host)
            break
        except UnreachableError:
            assert time.monotonic() < deadline_s, f"the agent of {host.name} does not answer"
            time.sleep(POLL_S)
