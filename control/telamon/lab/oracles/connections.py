"""The connection oracle: a connection that works on a host that lives goes on working.

connection_client.py is the client and runs on a host of the lab; here it is started, ordered about,
and its answers become values.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Self

from telamon.errors import RefusedError
from telamon.lab.host import RunningHost
from telamon.lab.oracles.handshakes import HandshakeReport

_CONNECT_LIMIT_S = 10.0
_DATAGRAM_LIMIT_S = 1.0
_PROMPT_S = 0.5  # sooner than a SYN is sent again
_FIRST = {4: IPv4Address("10.0.0.150"), 6: IPv6Address("fd00:0:0:1::1:1")}


class Speech(StrEnum):
    """What client and server say to each other."""

    LINE = "line"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Service:
    """Where the client connects, and how it speaks there."""

    address: str
    port: int
    speech: Speech


@dataclass(frozen=True, slots=True)
class Connected:
    """One attempt to connect; `node` is empty and `failure` says why if it failed."""

    source: str
    port: int
    node: str
    failure: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Broken:
    """A connection that worked and does so no more; the time is CLOCK_MONOTONIC's."""

    source: str
    port: int
    node: str
    failure: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Echoed:
    """All connections that are kept, after an exchange on each of them."""

    works: dict[str, int]
    broken: list[Broken]
    exchanges: int

    @property
    def count(self) -> int:
        """How many work."""
        return sum(self.works.values())

    def broken_beside(self, *dead: str) -> list[Broken]:
        """Those that broke although their nodes are not among the dead ones."""
        return [one for one in self.broken if one.node not in dead]


@dataclass(frozen=True, slots=True)
class Knock:
    """A client that came for the first time; times are CLOCK_MONOTONIC's."""

    began_s: float
    connected_s: float | None
    source: str
    port: int
    node: str
    failure: str

    @property
    def waited_s(self) -> float:
        """How long until it was connected; for ever if it never was."""
        return float("inf") if self.connected_s is None else self.connected_s - self.began_s


@dataclass(frozen=True, slots=True)
class Asked:
    """One datagram, and every answer to it."""

    source: str
    port: int
    answers: list[str]


class Connections:
    """The client, while it runs."""

    def __init__(self, host: RunningHost, interface: str = "lan") -> None:
        self._host = host
        self._interface = interface
        command = [sys.executable, "-m", "telamon.lab.oracles.connection_client"]
        self._process = host.start(command, stdin=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        RunningHost.end(self._process)

    def add_addresses(self, version: int, count: int) -> list[str]:
        """Gives the host so many further addresses, so that many clients can come from it."""
        addresses = [str(_FIRST[version] + number) for number in range(count)]
        ending = "/32" if version == 4 else "/128"
        lines = [
            f"address add {one}{ending} dev {self._interface}{' nodad' if version == 6 else ''}\n"
            for one in addresses
        ]
        self._host.run(["ip", "-batch", "-"], input_text="".join(lines))
        return addresses

    def connect(
        self, sources: Sequence[str], service: Service, limit_s: float = _CONNECT_LIMIT_S
    ) -> list[Connected]:
        """Opens one connection from each source and keeps it."""
        answers = self._order("connect", list(sources), *_words(service), limit_s)
        return [Connected(*answer) for answer in answers]

    def echo(self) -> Echoed:
        """Exchanges on every connection that is kept, now."""
        works, broken, exchanges = self._order("echo")
        return Echoed(works, [Broken(*one) for one in broken], exchanges)

    def drop(self, node: str | None = None) -> int:
        """Closes the connections to a node, or all, broken ones too; how many there were."""
        return int(self._order("drop", node))

    def knock(self, sources: Sequence[str], service: Service, interval_s: float) -> None:
        """Lets a new client come at every interval, until `knocked`."""
        self._order("knock", list(sources), *_words(service), interval_s)

    def knocked(self) -> list[Knock]:
        """Every client that came, in the order in which they were done."""
        return [Knock(*one) for one in self._order("knocked")]

    def listen(self) -> None:
        """Watches every handshake, until `heard`."""
        self._order("listen", self._interface)

    def heard(self) -> HandshakeReport:
        """What became of every handshake."""
        return HandshakeReport(**self._order("heard"))

    def ask(
        self, sources: Sequence[str], service: Service, limit_s: float = _DATAGRAM_LIMIT_S
    ) -> list[Asked]:
        """Sends one datagram from each source; who answered it."""
        words = (service.address, service.port, limit_s)
        return [Asked(*one) for one in self._order("ask", list(sources), *words)]

    def resolve(
        self,
        sources: Sequence[str],
        address: str,
        name: str,
        limit_s: float = _DATAGRAM_LIMIT_S,
    ) -> list[Asked]:
        """Asks the DNS server there once from each source for the text of a name."""
        answers = self._order("resolve", list(sources), address, name, limit_s)
        return [Asked(*one) for one in answers]

    def _order(self, *order: object) -> Any:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            said = self._process.communicate()[1]
            raise RefusedError(f"the connection client on {self._host.name} ended: {said}")
        return json.loads(answer)


def by_node(connected: Sequence[Connected]) -> dict[str, int]:
    """How many each node answered, in the order of names."""
    return dict(sorted(Counter(one.node for one in connected).items()))


def takeover_s(knocks: Sequence[Knock], victim: str, failed_s: float) -> float:
    """How long after a failure the first new client of the dead node was answered by another one
    without having to ask again; for ever if none was. Clients are tied to nodes by their address.
    """
    clients = {knock.source for knock in knocks if knock.node == victim}
    prompt_s = [
        knock.began_s - failed_s
        for knock in knocks
        if knock.source in clients
        and knock.node not in ("", victim)
        and knock.began_s >= failed_s
        and knock.waited_s < _PROMPT_S
    ]
    return min(prompt_s, default=float("inf"))


def _words(service: Service) -> tuple[str, int, str]:
    return service.address, service.port, service.speech
