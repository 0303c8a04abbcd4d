"""The rules that bring packets to the queue: text for nft and for iptables-restore. Pure.

Ingress (nft) makes the flooded frames the host's own and keeps questions for the address from the
stack. Then iptables, behind connection tracking, queues new TCP and whatever is not TCP, lets
through what belongs to a connection here, and drops the rest. Without a listener on the queue the
kernel drops what is queued: a dead agent takes no clients.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address

from telamon.farm.layout import Address
from telamon.farm.nft_rules import ingress_table, resolution

_TABLE = "mangle"


def chain(interface: str) -> str:
    """The chain that all packets for virtual addresses take."""
    return f"TELAMON-{interface}"


def ingress(interface: str, addresses: Iterable[Address]) -> str:
    """Replace the ingress rules of the interface."""
    table = ingress_table(interface)
    lines = [
        f"add table {table}",
        f'add chain {table} ingress {{ type filter hook ingress device "{interface}"'
        " priority -10; policy accept; }",
        f"flush table {table}",
    ]
    for address in addresses:
        lines += resolution(f"add rule {table} ingress", address, "drop")
        ip = "ip" if isinstance(address, IPv4Address) else "ip6"
        lines.append(f"add rule {table} ingress {ip} daddr {address} meta pkttype set host accept")
    return "\n".join(lines) + "\n"


def tracked(
    interface: str, addresses: Iterable[Address], queue: int, version: int, first: bool
) -> str:
    """Input of iptables-restore --noflush: replace the chain, and enter it if it is the `first`."""
    name = chain(interface)
    queued = f"-j NFQUEUE --queue-num {queue}"
    lines = [f"*{_TABLE}", f":{name} - [0:0]"]
    if first:
        lines.append(f"-I PREROUTING -i {interface} -j {name}")
    for address in addresses:
        if address.version != version:
            continue
        to = f"-A {name} -d {address}"
        lines += [
            f"{to} -p tcp --tcp-flags SYN,ACK SYN {queued}",
            f"{to} -p tcp -m conntrack --ctstate ESTABLISHED -j ACCEPT",
            f"{to} -m conntrack --ctstate RELATED -j ACCEPT",
            f"{to} -p tcp -j DROP",
            f"{to} {queued}",
        ]
    return "\n".join([*lines, "COMMIT", ""])


def removal(interface: str) -> str:
    """Input of iptables-restore --noflush: remove the chain."""
    name = chain(interface)
    lines = [f"-D PREROUTING -i {interface} -j {name}", f"-F {name}", f"-X {name}"]
    return "\n".join([f"*{_TABLE}", *lines, "COMMIT", ""])
