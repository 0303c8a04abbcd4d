"""Two hosts for agents: a network and a mount namespace each, a cable between them, a replicator
that replicates nothing.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telamon.cluster.creation import create, render
from telamon.cluster.credentials import write_files

DEADLINE_S = 30.0
FAKE = Path(__file__).parents[1] / "replication" / "fake_replicator.py"
ADDRESSES = {"n1": {"lan": "10.66.0.1"}, "n2": {"lan": "10.66.0.2"}}
VIRTUAL_IP = "10.66.0.100"
PORT = 7440

MODULE = """\
module: db
kind: mirror
nodes: [n1, n2]
virtual_ips: [{{address: 10.66.0.100/24, network: lan}}]
replicate: {{directories: [{{path: {data}}}]}}
application: {{start_timeout: 5s, stop_timeout: 5s, variables: {{BASE: {base}}}}}
"""
START = """\
#!/bin/sh
echo start >>$BASE/$TELAMON_NODE/marks
[ ! -e $BASE/$TELAMON_NODE/marks.fails ] || { echo the port is taken; exit 1; }
"""
STOP = """\
#!/bin/sh
echo stop $1 >>$BASE/$TELAMON_NODE/marks
"""


@dataclass
class Host:
    """One host: its namespaces, its agent, its module."""

    name: str
    root: Path
    holder: subprocess.Popen[bytes]
    agent: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.root / "agent.log"

    def inside(self, *command: str | Path) -> list[str]:
        return [
            "nsenter",
            f"--target={self.holder.pid}",
            "--net",
            "--mount",
            "--root",  # the process's own: in a chroot not that of its mount namespace
            "--wdns=/",
            *map(str, command),
        ]

    def run_inside(self, *command: str | Path) -> str:
        return subprocess.run(
            self.inside(*command), check=True, capture_output=True, text=True
        ).stdout

    def directories(self) -> list[str]:
        return [
            f"--configuration={self.root / 'etc'}",
            f"--state={self.root / 'var'}",
            f"--run={self.root / 'run'}",
        ]

    def start_agent(self) -> None:
        environment = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(
                self.inside(sys.executable, "-m", "telamon.agent.main", *self.directories()),
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.until(lambda: self.telamon("cluster", "show").returncode == 0, "the agent answers")

    def end_agent(self, number: signal.Signals) -> int:
        assert self.agent is not None
        self.agent.send_signal(number)
        return self.agent.wait(timeout=DEADLINE_S)

    def telamon(self, *words: str) -> subprocess.CompletedProcess[str]:
        roots = [f"--run={self.root / 'run'}", f"--configuration={self.root / 'etc'}"]
        command = [
            sys.executable,
            "-c",
            "from telamon.cli.main import main; main()",
            *roots,
            *words,
        ]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )

    def status(self) -> dict[str, Any]:
        shown = json.loads(self.telamon("status", "--json").stdout)
        assert isinstance(shown, dict)
        return shown

    def module(self) -> dict[str, Any]:
        here: dict[str, Any] = self.status()["modules"]["db"]["nodes"][self.name]
        return here

    def until_state(self, state: str, *, ready: bool = True) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def is_there() -> bool:
            seen.clear()
            seen.update(self.module())
            return seen["state"] == state and (seen["ready"] or not ready)

        self.until(is_there, f"{self.name} is {state}", lambda: str(seen))
        return seen

    def until(
        self, is_so: Callable[[], bool], wanted: str, seen: Callable[[], str] = lambda: ""
    ) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not is_so():
            assert time.monotonic() < deadline_s, (
                f"not within {DEADLINE_S} s: {wanted}; {seen()}\n{self.log.read_text()}"
            )
            time.sleep(0.1)

    def events(self) -> list[str]:
        lines = self.telamon("events", "--json", "--limit=500").stdout.splitlines()
        return [json.loads(line)["text"] for line in lines]

    def marks(self) -> list[str]:
        path = self.root / "marks"
        return path.read_text().splitlines() if path.exists() else []

    def has_virtual_ip(self) -> bool:
        return VIRTUAL_IP in self.run_inside("ip", "-4", "address")

    def write_module(self) -> Path:
        directory = self.root / "source"
        scripts = directory / "scripts"
        scripts.mkdir(parents=True)
        (self.root / "data").mkdir()
        (directory / "module.yaml").write_text(
            MODULE.format(data=self.root / "data", base=self.root.parent)
        )
        for name, text in (("start", START), ("stop", STOP)):
            (scripts / name).write_text(text)
            (scripts / name).chmod(0o755)
        return directory

    def inject(self, **what: Any) -> None:
        """Changes what the replicator says next."""
        asyncio.run(_inject(self.root / "run" / "modules" / "db" / "replicator.sock", what))

    def clean(self) -> None:
        if self.agent is not None and self.agent.poll() is None:
            self.agent.kill()
            self.agent.wait()
        for pid in _processes_of(self.root):
            os.kill(pid, signal.SIGKILL)
        self.holder.kill()
        self.holder.wait()


def make_hosts(root: Path) -> dict[str, Host]:
    """Both hosts, joined, with the files of one cluster; no agent runs yet."""
    cluster = create(render("east", ADDRESSES))
    hosts = {}
    for name in ADDRESSES:
        place = root / name
        (place / "bin").mkdir(parents=True)
        program = place / "bin" / "telamon-replicator"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
        program.chmod(0o755)
        write_files(place / "etc", dict(cluster.files[name]))
        holder = subprocess.Popen(["unshare", "--net", "--mount", "sleep", "infinity"])
        hosts[name] = Host(name, place, holder)
        _until_unshared(holder.pid)
    first, second = hosts["n1"], hosts["n2"]
    first.run_inside(
        *f"ip link add lan0 type veth peer name lan0 netns {second.holder.pid}".split()
    )
    for name, host in hosts.items():
        address = ADDRESSES[name]["lan"]
        for command in (
            "ip link set lo up",
            "ip link set lan0 up",
            f"ip address add {address}/24 dev lan0",
            "mount -t bpf bpf /sys/fs/bpf",
        ):
            host.run_inside(*command.split())
    return hosts


def _until_unshared(pid: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
        assert time.monotonic() < deadline_s, "the host's namespaces were not made"
        time.sleep(0.01)


def _processes_of(root: Path) -> Iterable[int]:
    """Processes whose command line names the host's directory: its replicator and scripts."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(f"{root}/run") in words:
                yield int(entry.name)


async def _inject(socket: Path, what: dict[str, Any]) -> None:
    reader, writer = await asyncio.open_unix_connection(socket)
    body = json.dumps({"id": 1, "command": "inject", **what}).encode()
    writer.write(len(body).to_bytes(4, "little") + body)
    length = int.from_bytes(await reader.readexactly(4), "little")
    await reader.readexactly(length)
    writer.close()
