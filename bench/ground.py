"""The ground for a benchmark: a lab with two nodes, a host that nobody mirrors, and a client.

Every host has an ext4 of its own on a loop device over memory. Ours is measured on the primary's
mirrored directory, native on the plain host's disk: equal stores that share nothing.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.mirror import ALONE, MirrorInLab

LAB = """\
networks:
  lan: {ipv4: 10.0.0.0/24}
  repl: {ipv4: 10.1.0.0/24, replication: preferred}
hosts:
  n1: {kind: node, networks: [lan, repl]}
  n2: {kind: node, networks: [lan, repl]}
  client: {kind: client, networks: [lan]}
  plain: {kind: client, networks: [lan]}
"""
PRIMARY, SECONDARY, CLIENT, PLAIN = "n1", "n2", "client", "plain"
START_TIMEOUT_S = 60.0

_WAKE_S = 0.03
_MODULE = "bench"
_MIRRORED = "/srv/mirrored"
_PLAIN = "/srv/plain"
_PROBE = Path(__file__).resolve().parent / "probe.py"


@dataclass(slots=True)
class Measuring:
    """A measuring program in a host."""

    _process: subprocess.Popen[str]

    def times_us(self, kind: str, count: int) -> list[float]:
        """Runs one kind of operation so many times; how long each took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{kind} {count}\n")
        self._process.stdin.flush()
        return [time_ns / 1000 for time_ns in json.loads(self._process.stdout.readline())]


@contextmanager
def measuring(host: RunningHost, directory: str) -> Iterator[Measuring]:
    """A measuring program that works in a directory of the host."""
    host.run(["mkdir", "--parents", directory])
    process = host.start(["python3", "-S", _PROBE, directory], stdin=subprocess.PIPE, stderr=None)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Measuring(process)
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def mirrored_lab(acknowledge: str = "disk", is_alone: bool = False) -> Iterator[Lab]:
    """A lab whose n1 is primary of a mirrored directory, with n2 in step or stopped."""
    with Lab.up(f"bench-{os.getpid()}", LAB) as lab:
        mirror = MirrorInLab(lab, _MODULE, {_MIRRORED: ()})
        for node in (PRIMARY, SECONDARY):
            lab.host(node).run(["mkdir", _MIRRORED])
        mirror.install(_write_module(lab, acknowledge))
        mirror.begin(PRIMARY, START_TIMEOUT_S)
        mirror.await_in_step(START_TIMEOUT_S)
        if is_alone:
            mirror.order("stop", SECONDARY, "--node", SECONDARY)
            mirror.await_states(START_TIMEOUT_S, n1=ALONE)
        yield lab


@contextmanager
def side_by_side(lab: Lab) -> Iterator[tuple[Measuring, Measuring]]:
    """A measuring program on the mirrored directory and one on plain ext4."""
    with (
        measuring(lab.host(PRIMARY), _MIRRORED) as ours,
        measuring(lab.host(PLAIN), _PLAIN) as native,
    ):
        yield ours, native


def interleaved_p50_us(
    ours: Measuring, native: Measuring, kind: str, rounds: int, count: int
) -> tuple[float, float]:
    """The p50 of one kind of operation, taken in turns so that both meet the same machine.

    The pair is that of the round whose difference is the median of all: a neighbour that disturbs
    some rounds decides nothing, and both figures are of one moment.
    """
    pairs = []
    for _ in range(rounds):
        pairs.append((_p50_us(ours, kind, count), _p50_us(native, kind, count)))
    return sorted(pairs, key=lambda pair: pair[0] - pair[1])[len(pairs) // 2]


def _p50_us(measuring: Measuring, kind: str, count: int) -> float:
    # What a run of commits asks of the processors ends a moment after it: not the other's merit.
    time.sleep(_WAKE_S)
    return median(measuring.times_us(kind, count))


def _write_module(lab: Lab, acknowledge: str) -> Path:
    """A module without an application; returns its directory in the first node."""
    directory = Path("/run/bench")
    module = {
        "module": _MODULE,
        "kind": "mirror",
        "nodes": [PRIMARY, SECONDARY],
        "replicate": {"directories": [{"path": _MIRRORED}], "acknowledge": acknowledge},
    }
    host = lab.host(PRIMARY)
    host.write(directory / "module.yaml", yaml.safe_dump(module))
    for script in ("start", "stop"):
        host.write(directory / "scripts" / script, "#!/bin/sh\n", mode=0o755)
    return directory
