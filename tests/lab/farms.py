"""Farms for the tests: a module whose application says which node it runs on, and clients of it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import yaml

from telamon.agent.farm_building import Plan, plan_of
from telamon.agent.models import FarmOwner, ModuleNodeStatus
from telamon.cluster.credentials import read_secret
from telamon.cluster.loading import load_cluster
from telamon.errors import UnreachableError
from telamon.farm.table import Member, Table
from telamon.lab import agent_api
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.module.farm_config import FarmModule
from telamon.module.store import ModuleStore

MODULE = "web"
VIRTUAL_IP = "10.0.0.100"
VIRTUAL_IPV6 = "fd00::100"
CLIENT_IP = "10.0.0.4"
CLIENT_IPV6 = "fd00::4"
PORT = 7000
NODES = ("n1", "n2", "n3")
WAIT_S = 40.0
POLL_S = 0.05

LAB = """\
networks:
  lan: {ipv4: 10.0.0.0/24, ipv6: "fd00::/64"}
hosts:
  n1: {kind: node, networks: [lan]}
  n2: {kind: node, networks: [lan]}
  n3: {kind: node, networks: [lan]}
  c1: {kind: client, networks: [lan]}
"""

SERVER = """
import os, socket, socketserver, threading
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(os.environ["TELAMON_NODE"].encode() + b"\\n")
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = daemon_threads = True
    request_queue_size = 512
def answer_datagrams():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as waiting:
        # An answer must leave from the address that was asked.
        waiting.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        waiting.bind(("::", 7000))
        while True:
            _, asked, _, client = waiting.recvmsg(2048, 64)
            waiting.sendmsg([os.environ["TELAMON_NODE"].encode()], asked, 0, client)
threading.Thread(target=answer_datagrams, daemon=True).start()
Server(("::", 7000), Handler).serve_forever()
"""
START = f"#!/bin/sh\nexec {sys.executable} $TELAMON_MODULE_DIRECTORY/scripts/server &\n"
STOP = """#!/bin/sh
pkill --full $TELAMON_MODULE_DIRECTORY/scripts/server || true
"""

# Connects, remembers who answers, and echoes on order.
CLIENT = """
import json, socket, sys
virtual_ip = sys.argv[1]
held = []
def connect(count, timeout_s):
    answered = []
    for _ in range(count):
        try:
            link = socket.create_connection((virtual_ip, 7000), timeout_s)
            name = link.makefile("rb").readline().decode().strip()
        except OSError as error:
            answered.append([0, type(error).__name__])
            continue
        held.append((name, link))
        answered.append([link.getsockname()[1], name])
    return answered
def echo():
    works = {}
    broken = {}
    for name, link in held:
        link.settimeout(5)
        try:
            link.sendall(b"ping\\n")
            fine = link.recv(64) == b"ping\\n"
        except OSError:
            fine = False
        counts = works if fine else broken
        counts[name] = counts.get(name, 0) + 1
    return [works, broken]
def ask(count, timeout_s):
    answered = []
    for _ in range(count):
        kind = socket.AF_INET6 if ":" in virtual_ip else socket.AF_INET
        with socket.socket(kind, socket.SOCK_DGRAM) as asking:
            asking.connect((virtual_ip, 7000))
            asking.send(b"who")
            names = []
            asking.settimeout(timeout_s)
            try:
                while True:
                    names.append(asking.recv(64).decode())
                    asking.settimeout(0.05)
            except OSError:
                pass
            answered.append([asking.getsockname()[1], names])
    return answered
def close(name):
    for one in [one for one in held if name in (None, one[0])]:
        one[1].close()
        held.remove(one)
for line in sys.stdin:
    order, *words = json.loads(line)
    print(json.dumps(globals()[order](*words)), flush=True)
"""


def make_module(
    host: RunningHost, scripts: Mapping[str, str] = MappingProxyType({}), **keys: object
) -> Path:
    """Writes the module, with further scripts; returns its directory in the host."""
    source = Path("/run/module")
    module: dict[str, object] = {
        "module": MODULE,
        "kind": "farm",
        "nodes": list(NODES),
        "virtual_ips": [{"address": f"{VIRTUAL_IP}/24", "network": "lan"}],
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


@dataclass
class FarmInLab:
    """One farm module on the nodes of a lab."""

    lab: Lab

    def telamon(self, node: str, *words: str) -> str:
        return self.lab.host(node).run(["telamon", *words], timeout_s=60.0).stdout

    def status(self) -> dict[str, ModuleNodeStatus]:
        """The module on every node that answers, as the node itself sees it."""
        found = {}
        for node, init in self.lab.record.hosts.items():
            if init is not None and node in NODES:
                with suppress(UnreachableError):
                    shown = agent_api.status(RunningHost(node, init)).modules.get(MODULE)
                    if shown is not None:
                        found[node] = shown.nodes[node]
        return found

    def until(
        self, is_so: Callable[[Mapping[str, ModuleNodeStatus]], bool], wanted: str
    ) -> dict[str, ModuleNodeStatus]:
        deadline_s = time.monotonic() + WAIT_S
        while not is_so(now := self.status()):
            assert time.monotonic() < deadline_s, f"not {wanted}: {now}"
            time.sleep(POLL_S)
        return now

    def until_serving(self, *nodes: str) -> dict[str, ModuleNodeStatus]:
        """Waits until exactly these nodes share all buckets, in one view, and nobody holds more."""

        def is_so(now: Mapping[str, ModuleNodeStatus]) -> bool:
            shares: dict[str, int] = {}
            for here in now.values():
                for share in here.farm.shares if here.farm else ():
                    shares[share.services] = shares.get(share.services, 0) + share.buckets
            return (
                {node for node, here in now.items() if served(here)} == set(nodes)
                and set(shares.values()) == {65536}
                and all(now[node].ready for node in nodes)
            )

        return self.until(is_so, f"served by {nodes}")

    def plan(self) -> Plan:
        """The module as its nodes compute it."""
        paths = self.lab.host("n2").path("/etc/telamon")
        cluster = load_cluster(paths / "cluster.yaml")
        loaded = ModuleStore(paths / "modules", cluster).load()[MODULE].model
        assert isinstance(loaded, FarmModule)
        return plan_of(loaded, cluster, "n2", read_secret(paths))

    def predicted(
        self, nodes: Iterable[str], client_port: int, client: str = CLIENT_IP, service: int = 0
    ) -> str:
        """Who must answer the client while these nodes serve."""
        plan = self.plan()
        members = [Member(plan.numbers[node]) for node in nodes]
        table = Table.build(plan.settings.secret, members)
        bucket = plan.bucket(plan.configured.services[service], ip_address(client), client_port)
        return plan.node_of(table.owner[bucket])

    def packets(self, counter: str) -> int:
        """How many packets became that, over all nodes."""
        return sum(
            here.farm.packets.get(counter, 0) for here in self.status().values() if here.farm
        )

    def owner(self, node: str, client: str, port: int) -> FarmOwner:
        shown = self.telamon(node, "farm", "owner", f"{client}:{port}", "--json")
        return FarmOwner.model_validate_json(shown)


@contextmanager
def farm_in_lab(
    name: str, scripts: Mapping[str, str] = MappingProxyType({}), **keys: object
) -> Iterator[FarmInLab]:
    """Three nodes that serve, and a client; `keys` of module.yaml in place of the usual ones."""
    with Lab.up(name, LAB) as lab:
        farm = FarmInLab(lab)
        farm.telamon("n1", "module", "install", str(make_module(lab.host("n1"), scripts, **keys)))
        farm.telamon("n1", "module", "start", MODULE)
        farm.until_serving(*NODES)
        yield farm


def served(here: ModuleNodeStatus) -> int:
    return sum(share.buckets for share in here.farm.shares) if here.farm else 0


class Client:
    """A process on the client host that opens connections and keeps them."""

    def __init__(self, host: RunningHost, virtual_ip: str = VIRTUAL_IP) -> None:
        command = [sys.executable, "-c", CLIENT, virtual_ip]
        self._process = host.start(command, stdin=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        RunningHost.end(self._process)

    def _ask(self, *order: object) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._process.communicate()
        return json.loads(answer)

    def connect(self, count: int, timeout_s: float = 4.0) -> list[tuple[int, str]]:
        """Opens connections; returns the client's port and who answered, or the error's name."""
        return [(port, name) for port, name in self._ask("connect", count, timeout_s)]

    def ask(self, count: int, timeout_s: float = 2.0) -> list[tuple[int, list[str]]]:
        """Sends datagrams; returns the client's port and who answered, as often as they did."""
        return [(port, names) for port, names in self._ask("ask", count, timeout_s)]

    def echo(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many connections to each node work, and how many are broken."""
        works, broken = self._ask("echo")
        return works, broken

    def close(self, node: str | None = None) -> None:
        """Closes the connections to a node, or all."""
        self._ask("close", node)
