"""HTTP requests a second on kept connections: a farm of three nginx, HAProxy in front of the same
three servers, and xt_cluster, iptables' way to share an address, on the same hosts.

The load is wrk, several processes with an address each, because a farm may tie a client's address
to a node and xt_cluster always does. All hosts share the processors, so every microsecond that a
way to spread costs is missing elsewhere: what is compared is the whole work for a request.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.figure import Figure, Goal, GoalKind
from telamon.errors import RefusedError, TelamonError
from telamon.lab.farm import FarmInLab
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.web import VIRTUAL_IP, Server, make_module

LAB = """\
networks:
  lan: {ipv4: 10.0.0.0/24}
hosts:
  n1: {kind: node, networks: [lan]}
  n2: {kind: node, networks: [lan]}
  n3: {kind: node, networks: [lan]}
  balancer: {kind: client, networks: [lan]}
  client: {kind: client, networks: [lan]}
"""
NODES = ("n1", "n2", "n3")
BALANCER, CLIENT = "balancer", "client"
ROUNDS = 4
ROUND_S = 4
CLIENTS = 6
CONNECTIONS_OF_EACH = 10
HAPROXY_GOAL = Goal(GoalKind.RATIO_AT_LEAST, 1.0)

_FIRST_USER = 20_000
_CLUSTER_IP = "10.0.0.101"
_CLUSTER_MAC = "01:00:5e:00:00:65"
_RATE = re.compile(r"^Requests/sec:\s+([0-9.]+)$", re.MULTILINE)
_WRONG = re.compile(r"^\s*(Socket errors|Non-2xx).*$", re.MULTILINE)

_HAPROXY = """\
global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  option http-keep-alive
  http-reuse always
frontend web
  bind :80
  default_backend nodes
backend nodes
  balance roundrobin
  server n1 10.0.0.1:80
  server n2 10.0.0.2:80
  server n3 10.0.0.3:80
"""


def beside_haproxy() -> Iterator[Figure]:
    """The farm beside HAProxy."""
    with _ground() as lab, _haproxy(lab) as balancer:
        ours, reference = _in_turns(
            lambda: _rate(lab.host(CLIENT), VIRTUAL_IP),
            lambda: _rate(lab.host(CLIENT), balancer),
        )
    yield Figure("farm: HTTP, beside HAProxy", "requests/s", ours, reference, HAPROXY_GOAL)


def beside_xt_cluster() -> Iterator[Figure]:
    """The farm beside xt_cluster. Its rules are there in its own turns only: what they load into
    the network stack would slow the farm down.
    """

    def clustered() -> float:
        with _xt_cluster(lab):
            return _rate(lab.host(CLIENT), _CLUSTER_IP)

    with _ground() as lab:
        ours, reference = _in_turns(lambda: _rate(lab.host(CLIENT), VIRTUAL_IP), clustered)
    yield Figure("farm: HTTP, beside xt_cluster", "requests/s", ours, reference)


@contextmanager
def _ground() -> Iterator[Lab]:
    with (
        tempfile.TemporaryDirectory(prefix="telamon-bench-") as directory,
        Lab.up(f"bench-{os.getpid()}", LAB) as lab,
    ):
        farm = FarmInLab(lab, Server.NGINX)
        farm.install(make_module(Server.NGINX, Path(directory)))
        farm.begin()
        _give_addresses(lab.host(CLIENT))
        yield lab


def _give_addresses(client: RunningHost) -> None:
    """Every load process runs as a user of its own, and every user has an address of its own."""
    lines = []
    for number in range(CLIENTS):
        user, address = _FIRST_USER + number, f"10.0.0.{150 + number}"
        lines += [
            f"address add {address}/32 dev lan",
            f"route add 10.0.0.0/24 dev lan src {address} table {user}",
            f"rule add uidrange {user}-{user} lookup {user}",
        ]
    client.run(["ip", "-batch", "-"], input_text="\n".join([*lines, ""]))


def _in_turns(ours: Callable[[], float], reference: Callable[[], float]) -> tuple[float, float]:
    ours(), reference()  # until connections, caches and clocks are warm
    pairs = [(ours(), reference()) for _ in range(ROUNDS)]
    first, second = zip(*pairs, strict=True)
    return median(first), median(second)


def _rate(client: RunningHost, address: str) -> float:
    """Requests a second of all load processes together."""
    started = [
        client.start(
            [
                "setpriv",
                f"--reuid={_FIRST_USER + number}",
                "--clear-groups",
                "wrk",
                "--threads=1",
                f"--connections={CONNECTIONS_OF_EACH}",
                f"--duration={ROUND_S}s",
                f"http://{address}/node",
            ]
        )
        for number in range(CLIENTS)
    ]
    outputs = ["".join(process.communicate(timeout=60.0)) for process in started]
    rates = [_RATE.search(output) for output in outputs]
    for output, rate in zip(outputs, rates, strict=True):
        if rate is None or _WRONG.search(output):
            raise TelamonError(f"wrk did not load http://{address} as it should: {output}")
    return sum(float(rate[1]) for rate in rates if rate)


@contextmanager
def _haproxy(lab: Lab) -> Iterator[str]:
    """HAProxy on its host; yields its address."""
    host = lab.host(BALANCER)
    host.write("/run/haproxy.cfg", _HAPROXY)
    process = host.start(["haproxy", "-db", "-f", "/run/haproxy.cfg"])
    try:
        yield next(one.address for one in lab.spec.hosts if one.name == BALANCER)
    finally:
        RunningHost.end(process)


@contextmanager
def _xt_cluster(lab: Lab) -> Iterator[None]:
    """The cluster address with its multicast MAC, which every node hears, and the rules by which
    one of them takes a client (iptables-extensions(8), `cluster`).
    """
    lab.host(CLIENT).run(
        ["ip", "neigh", "replace", _CLUSTER_IP, "lladdr", _CLUSTER_MAC, "dev", "lan"]
    )
    hosts = [lab.host(name) for name in NODES]
    try:
        for number, host in enumerate(hosts, 1):
            host.run(["ip", "address", "add", f"{_CLUSTER_IP}/32", "dev", "lo"])
            for rule in _rules(number):
                _insert(host, rule)
        yield
    finally:
        for host in hosts:
            host.run(["ip", "address", "delete", f"{_CLUSTER_IP}/32", "dev", "lo"])
            host.run(["iptables", "--table", "mangle", "--flush", "PREROUTING"])


def _rules(number: int) -> list[str]:
    mine = f"--cluster-total-nodes {len(NODES)} --cluster-local-node {number}"
    return [
        f"-i lan -d {_CLUSTER_IP} -m cluster {mine} --cluster-hash-seed 0x7e1a -j ACCEPT",
        f"-i lan -d {_CLUSTER_IP} -j DROP",
    ]


def _insert(host: RunningHost, rule: str) -> None:
    try:
        host.run(["iptables", "--table", "mangle", "--append", "PREROUTING", *rule.split()])
    except RefusedError as error:
        raise TelamonError(
            f"xt_cluster cannot be measured: this kernel refuses its rule ({error}); it needs"
            " CONFIG_NETFILTER_XT_MATCH_CLUSTER"
        ) from error
