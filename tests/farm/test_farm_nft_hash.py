"""nftables, the kernel's own jhash, agrees with the shared vectors packet by packet."""

import json
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from tests.farm.namespaces import Segment

Vector = dict[str, Any]

# A receiver refuses these sources before any rule; tests/unit/farm covers their hash.
UNSENDABLE = {"0.0.0.0", "255.255.255.255", "::", "::1"}
VECTORS: list[Vector] = [
    vector
    for vector in json.loads((Path(__file__).parents[1] / "vectors/farm_hash.json").read_text())
    if vector["client"] not in UNSENDABLE
]
SEND = """
import socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
for line in sys.stdin:
    link.send(bytes.fromhex(line))
"""
SOURCE_PORT_WITHOUT_AFFINITY = 7


def _frame(vector: Vector, index: int) -> bytes:
    """Return a datagram of the vector's client, to destination port 1000 + index."""
    family = IP if ip_address(vector["client"]).version == 4 else IPv6
    source_port = vector["port"] or SOURCE_PORT_WITHOUT_AFFINITY
    return bytes(
        Ether(dst="ff:ff:ff:ff:ff:ff")
        / family(src=vector["client"], dst="10.9.0.2" if family is IP else "fd00:9::2")
        / UDP(sport=source_port, dport=1000 + index)
    )


def _ruleset() -> str:
    rules = []
    for index, vector in enumerate(VECTORS):
        source = "ip saddr" if ip_address(vector["client"]).version == 4 else "ip6 saddr"
        key = source if vector["port"] is None else f"{source} . th sport"
        rules.append(
            f"udp dport {1000 + index} meta mark set jhash {key} mod 65536 seed {vector['seed']} "
            "update @seen { udp dport . meta mark }"
        )
    return (
        "table netdev hash { set seen { type inet_service . mark; size 65535; flags dynamic; }\n"
        'chain ingress { type filter hook ingress device "eth0" priority 0;\n'
        + "\n".join(rules)
        + "\n}\n}\n"
    )


def test_nftables_puts_every_vector_into_the_same_bucket() -> None:
    frames = "".join(_frame(vector, index).hex() + "\n" for index, vector in enumerate(VECTORS))
    with Segment(["sender", "receiver"]) as segment:
        receiver = segment.hosts["receiver"]
        receiver.run("nft", "-f", "-", stdin=_ruleset())
        segment.hosts["sender"].run("python3", "-c", SEND, stdin=frames)
        listing = receiver.run("nft", "-n", "list", "set", "netdev", "hash", "seen")
    seen = {
        int(port): int(mark, 16) for port, mark in re.findall(r"(\d+) \. (0x[0-9a-f]+)", listing)
    }
    assert seen == {1000 + index: vector["bucket"] for index, vector in enumerate(VECTORS)}
