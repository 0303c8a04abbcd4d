"""A farm in network namespaces: a client with many addresses and nodes with one filter each."""

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from tests.farm.namespaces import Host, Segment

from telamon.farm.hash import BUCKETS, bucket
from telamon.farm.layout import TableImage
from telamon.farm.table import Member, Table

HERE = Path(__file__).parent
ADDRESSES = {4: "10.9.0.100", 6: "fd00:9::100"}
VIRTUAL_MAC = "02:74:65:6c:61:64"
SECRET = b"secret"
SEED = 0x7E1A_0D05
LEASE_S = 600.0
ANSWER_S = 30.0
PORT_BY_CLIENT, PORT_BY_CONNECTION = 7000, 7001


class Agent:
    """A Python process in a namespace that answers JSON commands."""

    def __init__(self, host: Host, script: str, *arguments: str) -> None:
        command = host.command(sys.executable, str(HERE / script), *arguments)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, name: str, *arguments: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{self._process.args} died of {name}"
        return json.loads(answer)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(ANSWER_S)

    def close(self) -> None:
        if self._process.poll() is None:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait(ANSWER_S)


@dataclass(frozen=True)
class Connected:
    """A connection attempt: who answered, or the error's name."""

    source: str
    port: int
    owner: int | str


class Farm:
    """Nodes 1, 2, …; `kinds` says which filter each of them has."""

    def __init__(self, kinds: Sequence[str], seed: int, other: str = "OWNER") -> None:
        print(f"seed {seed}")
        self.random = Random(seed)
        self.kinds = dict(enumerate(kinds, 1))
        self.other = other
        self.agents: dict[int, Agent] = {}
        self.shown: dict[int, bytes] = {}

    def __enter__(self) -> "Farm":
        with ExitStack() as stack:
            names = ["client", *(f"n{number}" for number in self.kinds)]
            self.segment = stack.enter_context(Segment(names))
            self._route_clients()
            self.client = Agent(self.segment.hosts["client"], "client.py")
            stack.callback(self.client.close)
            for number in self.kinds:
                self.start(number)
                stack.callback(self._close, number)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _close(self, number: int) -> None:
        self.agents[number].close()

    def host(self, number: int) -> Host:
        return self.segment.hosts[f"n{number}"]

    def _route_clients(self) -> None:
        client = self.segment.hosts["client"]
        client.run("ip", "route", "add", "local", "10.10.0.0/16", "dev", "lo")
        client.run("ip", "-6", "route", "add", "local", "fd00:10::/64", "dev", "lo")
        client.run("sysctl", "-qw", "net.ipv6.ip_nonlocal_bind=1")
        for number in self.kinds:
            host = self.host(number)
            host.run("ip", "route", "add", "10.10.0.0/16", "via", "10.9.0.1")
            host.run("ip", "-6", "route", "add", "fd00:10::/64", "via", "fd00:9::1")
            for setting in ("arp_ignore=1", "arp_announce=2"):
                host.run("sysctl", "-qw", f"net.ipv4.conf.all.{setting}")
            host.run("ip", "address", "add", f"{ADDRESSES[4]}/32", "dev", "lo")
            host.run("ip", "address", "add", f"{ADDRESSES[6]}/128", "dev", "lo", "nodad")

    def start(self, number: int) -> None:
        """Start the node's agent and its servers, as no owner of anything."""
        agent = Agent(self.host(number), "node.py", self.kinds[number], str(number))
        self.agents[number] = agent
        self.configure(number)
        self.show(number, bytes(BUCKETS), bytes(BUCKETS))
        agent.ask("lease", LEASE_S)
        agent.ask("serve", list(ADDRESSES.values()))

    def configure(self, number: int) -> None:
        self.agents[number].ask("configure", list(ADDRESSES.values()), VIRTUAL_MAC, self.other)

    def show(self, number: int, owner: bytes, previous: bytes) -> None:
        """Switch one node's filter."""
        pairs = np.empty((BUCKETS, 2), np.uint8)
        pairs[:, 0] = np.frombuffer(owner, np.uint8)
        pairs[:, 1] = np.frombuffer(previous, np.uint8)
        packed = TableImage(pairs.tobytes(), 1, SEED).packed()
        self.agents[number].ask("switch", base64.b64encode(packed).decode())
        self.shown[number] = owner

    def change(self, members: Sequence[int], weights: dict[int, int] | None = None) -> Table:
        """Bring the farm to these members, break before make, with everyone in grace."""
        weight = weights or {}
        table = Table.build(SECRET, [Member(n, weight.get(n, 1)) for n in members])
        wanted = np.frombuffer(table.owner, np.uint8)
        for number in self.agents:
            was = np.frombuffer(self.shown[number], np.uint8)
            kept = np.where((was == number) & (wanted != number), 0, was)
            self.show(number, kept.astype(np.uint8).tobytes(), self._grace(number))
        for number in self.agents:
            self.show(number, table.owner, self._grace(number))
        return table

    def _grace(self, number: int) -> bytes:
        return bytes([1 if number != 1 else 2]) * BUCKETS

    def settle(self, table: Table) -> None:
        """End the grace: nobody holds connections in others' buckets."""
        for number in self.agents:
            self.show(number, table.owner, bytes(BUCKETS))

    @staticmethod
    def owner_of(table: Table, client: str) -> int:
        return table.owner[bucket(client, None, SEED)]

    def sources(self, version: int, count: int) -> list[str]:
        draw = self.random
        if version == 4:
            return [f"10.10.{draw.randint(0, 255)}.{draw.randint(1, 254)}" for _ in range(count)]
        return [f"fd00:10::{draw.randint(1, 0xFFFF):x}" for _ in range(count)]

    def connect(self, version: int, count: int, port: int = PORT_BY_CLIENT) -> list[Connected]:
        """Open so many connections from random clients; they stay open."""
        sources = self.sources(version, count)
        answers = self.client.ask("connect_all", sources, ADDRESSES[version], port)
        return [Connected(*answer) for answer in answers]


def predicted(table: Table, one: Connected, port: int) -> int:
    """Return who should have this client."""
    return table.owner[bucket(one.source, None if port == PORT_BY_CLIENT else one.port, SEED)]
