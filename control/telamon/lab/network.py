"""The lab's wires: a bridge for each network in the lab's own network namespace, a link from it to
every host, and cuts.

A link is called like its network inside the host and HOST-NETWORK at the bridge. A cut drops every
frame at the bridge's side of a link, in one direction or both, and leaves the carrier up: the host
notices nothing but silence, as with a failed switch.
"""

import hashlib
import subprocess
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

from telamon.errors import NetworkError
from telamon.lab.process import Process
from telamon.lab.spec import Host, Network, link_name


class Direction(StrEnum):
    """Seen from the host: what it sends, what it receives, or both."""

    IN = "in"
    OUT = "out"
    BOTH = "both"

    @property
    def parts(self) -> frozenset["Direction"]:
        """The one or two single directions."""
        return (
            frozenset({Direction.IN, Direction.OUT})
            if self is Direction.BOTH
            else frozenset({self})
        )


# A frame that a host sends comes in at the bridge's side of its link, and the other way round.
_HOOKS = {Direction.OUT: "ingress", Direction.IN: "egress"}


# Where a machine has its bridges filtered, a new namespace has its own filtered too: each frame
# would pass the hooks of iptables. A wire filters nothing.
_BRIDGE_SETTINGS = Path("/proc/sys/net/bridge")
_FILTERED = ("bridge-nf-call-arptables", "bridge-nf-call-ip6tables", "bridge-nf-call-iptables")


def make_bridges(keeper: Process, networks: Iterable[Network]) -> None:
    """One bridge for each network, forwarding from the first moment on."""
    if _BRIDGE_SETTINGS.is_dir():
        settings = [f"net.bridge.{name}=0" for name in _FILTERED]
        _inside(keeper, ["sysctl", "-qw", *settings], [], "turn the bridges' filters off")
    lines = []
    for network in networks:
        lines.append(f"link add {network.name} type bridge forward_delay 0 mcast_snooping 0")
        lines.append(f"link set {network.name} up")
    _ip(keeper, lines)


def connect(keeper: Process, init: Process, host: Host) -> None:
    """Links a booting host to its networks and gives it its addresses. What a former life of the
    host left is removed first.
    """
    present = _links(keeper)
    switch: list[str] = []
    inside: list[str] = ["link set lo up"]
    for network, addresses in host.links.items():
        name = link_name(host.name, network)
        if name in present:
            switch.append(f"link del {name}")
        switch.append(
            f"link add {name} type veth"
            f" peer name {network} address {_mac(host.name, network)} netns {init.id}"
        )
        switch.append(f"link set {name} master {network} up")
        inside += [
            f"address add {address} dev {network} nodad"
            if address.version == 6
            else f"address add {address} brd + dev {network}"
            for address in addresses
        ]
        inside.append(f"link set {network} up")
    _ip(keeper, switch)
    _ip(init, inside)


def disconnect(keeper: Process, host: Host) -> None:
    """Removes the links of a host that is off. The kernel does so too, some time after the end of
    the host's last process.
    """
    present = _links(keeper)
    for network in host.links:
        name = link_name(host.name, network)
        if name in present:
            try:
                _ip(keeper, [f"link del {name}"])
            except NetworkError:
                if name in _links(keeper):
                    raise


def silence(keeper: Process, host: Host, cuts: Iterable[tuple[str, Direction]]) -> None:
    """Makes the given (network, single direction) pairs of a host the ones that are cut, and no
    others.
    """
    table = f"cuts-{host.name}"
    lines = [f"table netdev {table}", f"delete table netdev {table}", f"table netdev {table} {{"]
    for network, direction in sorted(cuts):
        name = link_name(host.name, network)
        lines.append(f"  chain cut-{network}-{direction} {{")
        lines.append(f'    type filter hook {_HOOKS[direction]} device "{name}" priority 0;')
        lines.append("    policy drop;")
        lines.append("  }")
    lines.append("}")
    _inside(keeper, ["nft", "-f", "-"], lines, "change the cuts")


def _mac(host: str, network: str) -> str:
    """A locally administered address that stays the same over the host's lives, so that its
    neighbours' caches stay true.
    """
    digest = hashlib.sha256(f"{host}/{network}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def _links(keeper: Process) -> frozenset[str]:
    output = _inside(keeper, ["ip", "-o", "link", "show", "type", "veth"], [], "list the links")
    return frozenset(line.split()[1].partition("@")[0] for line in output.splitlines())


def _ip(process: Process, lines: Sequence[str]) -> None:
    if lines:
        _inside(process, ["ip", "-batch", "-"], lines, "change the links")


def _inside(process: Process, command: list[str], lines: Sequence[str], attempt: str) -> str:
    """Runs a command in the network namespace of a process, with `lines` as its input."""
    result = subprocess.run(
        ["nsenter", f"--net=/proc/{process.id}/ns/net", *command],
        input="".join(f"{line}\n" for line in lines),
        text=True,
        capture_output=True,
        check=False,
    )
    if result.returncode != 0:
        raise NetworkError(
            f"the lab could not {attempt}: {' '.join(command)} said {result.stderr.strip()!r};"
            " check that iproute2 and nftables are installed and that you are root"
        )
    return result.stdout
