"""Network namespaces on one bridge, for the packet tests; `close` removes all that was made."""

import itertools
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


def run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


@dataclass
class Host:
    """One namespace with the interface `eth0` on the segment."""

    namespace: str

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *command]

    def run(self, *command: str, stdin: str | None = None) -> str:
        return run(*self.command(*command), stdin=stdin)

    def start(self, *command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )


@dataclass
class Segment:
    """A bridge in a namespace of its own, with hosts 10.9.0.1, .2, … and fd00:9::1, ::2, …"""

    names: Sequence[str]
    hosts: dict[str, Host] = field(default_factory=dict)
    _made: list[str] = field(default_factory=list)
    _number: int = field(default_factory=itertools.count().__next__)

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _build(self) -> None:
        bridge = self._namespace("bridge")
        bridge.run("ip", "link", "add", "br0", "type", "bridge", "stp_state", "0")
        bridge.run("ip", "link", "set", "br0", "up")
        for number, name in enumerate(self.names, 1):
            host = self.hosts[name] = self._namespace(name)
            run(
                "ip", "link", "add", f"p{number}", "netns", bridge.namespace,
                "type", "veth", "peer", "name", "eth0", "netns", host.namespace,
            )  # fmt: skip
            bridge.run("ip", "link", "set", f"p{number}", "master", "br0", "up")
            host.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
            host.run("ip", "link", "set", "lo", "up")
            host.run("ip", "link", "set", "eth0", "up")
            host.run("ip", "address", "add", f"10.9.0.{number}/24", "dev", "eth0")
            host.run("ip", "address", "add", f"fd00:9::{number:x}/64", "dev", "eth0", "nodad")

    def _namespace(self, name: str) -> Host:
        host = Host(f"farm-{os.getpid()}-{self._number}-{name}")
        run("ip", "netns", "add", host.namespace)
        self._made.append(host.namespace)
        return host

    def close(self) -> None:
        for namespace in reversed(self._made):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)
        self._made.clear()
