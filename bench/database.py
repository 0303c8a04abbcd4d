"""PostgreSQL: pgbench through the network, on mirrored nodes and on a plain host."""

import os
import re
from collections.abc import Iterator

from bench.figure import Figure, Goal, GoalKind
from bench.ground import CLIENT, LAB, PLAIN, PRIMARY, SECONDARY, START_TIMEOUT_S
from telamon.lab.database import (
    DATA,
    EXCLUDES,
    MODULE,
    MODULE_NAME,
    VIRTUAL_IP,
    admit_clients,
    prepare,
)
from telamon.lab.lab import Lab
from telamon.lab.mirror import MirrorInLab

_ROUNDS = 5
_ROUND_S = 8
_SCALE = 10
_CLIENTS = 4
_GOAL = Goal(GoalKind.RATIO_AT_LEAST, 0.6)


def pgbench() -> Iterator[Figure]:
    """Transactions a second of pgbench's standard mix, four clients."""
    with Lab.up(f"bench-{os.getpid()}", LAB) as lab:
        mirror = MirrorInLab(lab, MODULE_NAME, {DATA: EXCLUDES})
        for host in (PRIMARY, SECONDARY, PLAIN):
            prepare(lab.host(host))
        mirror.install(MODULE)
        mirror.begin(PRIMARY, START_TIMEOUT_S)
        lab.host(PLAIN).run([MODULE / "scripts" / "start"])
        addresses = {PRIMARY: VIRTUAL_IP, PLAIN: _address(lab, PLAIN)}
        for host, address in addresses.items():
            admit_clients(lab.host(host))
            _run(lab, address, "--initialize", "--quiet", f"--scale={_SCALE}")
        words = (f"--client={_CLIENTS}", "--jobs=2", f"--time={_ROUND_S}", "--no-vacuum")
        rates = [
            tuple(_rate(_run(lab, address, *words)) for address in addresses.values())
            for _ in range(_ROUNDS)
        ]
        # The pair of the round with the median ratio: both figures are of one moment.
        ours, native = sorted(rates, key=lambda pair: pair[0] / pair[1])[_ROUNDS // 2]
        yield Figure("pgbench", "tps", ours, native, _GOAL)


def _address(lab: Lab, name: str) -> str:
    return next(host.address for host in lab.spec.hosts if host.name == name)


def _run(lab: Lab, address: str, *words: str) -> str:
    command = ["pgbench", f"--host={address}", "--username=postgres", *words, "postgres"]
    return lab.host(CLIENT).run(command, timeout_s=300.0).stdout


def _rate(output: str) -> float:
    match = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
    assert match is not None, output
    return float(match[1])
