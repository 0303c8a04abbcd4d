"""The connection-preserving rule against real sockets: who has the connection keeps it."""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from tests.farm.filter_bench import (
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    PEER,
    SELF,
    VIP4,
    VIP6,
    VIRTUAL_MAC,
    WIRE,
    FilterBench,
    World,
    attached_bench,
    make_interface,
    mounted_bpffs,
)
from tests.farm.own_network import own_network, run

from telamon.farm.layout import Counter, Mode

DEADLINE_S = 20
FAR4, FAR6 = "10.8.8.7", "fd00:8:8::7"
GRACE = World(previous=PEER)
FORMER = World(owner=PEER, previous=SELF)
KEEPERS = {
    "an owner in grace": GRACE,
    "a former owner": FORMER,
    "an owner whose agent is gone": World(lease_holds=False),
    "a dispatcher that was the owner": World(
        mode=Mode.DISPATCH, dispatcher=SELF, owner=PEER, previous=SELF
    ),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilterBench]:
    with own_network(), mounted_bpffs(tmp_path_factory.mktemp("bpffs")) as pins:
        make_interface()
        for address in (VIP4, CLIENT4):
            run("ip", "address", "add", f"{address}/32", "dev", "lo")
        for address in (VIP6, CLIENT6):
            run("ip", "address", "add", f"{address}/128", "dev", "lo", "nodad")
        with attached_bench(pins) as ready:
            yield ready


@dataclass(frozen=True, slots=True)
class Family:
    vip: str
    client: str
    far: str
    kind: int

    def network(self, client: str | None = None, **fields: object) -> Packet:
        if self.kind == socket.AF_INET:
            return IP(src=client or self.client, dst=self.vip, **fields)
        return IPv6(src=client or self.client, dst=self.vip, **fields)

    def segment(self, port: int, flags: str, client: str | None = None) -> Packet:
        transport = TCP(sport=port, dport=80, flags=flags, seq=1, ack=1)
        return Ether(src=CLIENT_MAC, dst=VIRTUAL_MAC) / self.network(client) / transport

    def error_about(self, port: int) -> Packet:
        reply = TCP(sport=80, dport=port, flags="A")
        frame = Ether(src=CLIENT_MAC, dst=VIRTUAL_MAC)
        if self.kind == socket.AF_INET:
            quoted = bytes(IP(src=self.vip, dst=self.client) / reply)
            return frame / IP(src=FAR4, dst=self.vip) / ICMP(type=3, code=4) / Raw(quoted)
        quoted = bytes(IPv6(src=self.vip, dst=self.client) / reply)
        return frame / IPv6(src=FAR6, dst=self.vip) / ICMPv6PacketTooBig() / Raw(quoted)


FAMILIES = [
    Family(VIP4, CLIENT4, FAR4, socket.AF_INET),
    Family(VIP6, CLIENT6, FAR6, socket.AF_INET6),
]


@pytest.fixture(params=FAMILIES, ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> Family:
    assert isinstance(request.param, Family)
    return request.param


@pytest.fixture
def listener(bench: FilterBench, family: Family) -> Iterator[socket.socket]:
    with socket.create_server((family.vip, 80), family=family.kind) as server:
        server.settimeout(DEADLINE_S)
        yield server


@dataclass(slots=True)
class Connection:
    client: socket.socket
    server: socket.socket

    @property
    def port(self) -> int:
        return int(self.client.getsockname()[1])


@pytest.fixture
def connection(family: Family, listener: socket.socket) -> Iterator[Connection]:
    with socket.create_connection(
        (family.vip, 80), timeout=DEADLINE_S, source_address=(family.client, 0)
    ) as client:
        server, _ = listener.accept()
        with server:
            yield Connection(client, server)


def unused_port(family: Family) -> int:
    with socket.socket(family.kind) as probe:
        probe.bind((family.client, 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("keeper", KEEPERS)
def test_a_live_connection_passes(
    bench: FilterBench, family: Family, connection: Connection, keeper: str
) -> None:
    bench.arrange(KEEPERS[keeper])
    assert bench.put(family.segment(connection.port, "PA"))[2] is Counter.PASS_SOCKET


def test_a_listener_is_no_connection(
    bench: FilterBench, family: Family, listener: socket.socket
) -> None:
    bench.arrange(GRACE)
    assert bench.put(family.segment(unused_port(family), "PA"))[2] is Counter.DROP_GRACE
    bench.arrange(FORMER)
    assert bench.put(family.segment(unused_port(family), "PA"))[2] is Counter.DROP_NO_SOCKET


def test_an_error_follows_the_connection_it_is_about(
    bench: FilterBench, family: Family, connection: Connection
) -> None:
    bench.arrange(FORMER)
    assert bench.put(family.error_about(connection.port))[2] is Counter.PASS_ICMP_ERROR
    assert bench.put(family.error_about(unused_port(family)))[2] is Counter.DROP_ICMP_ERROR


def test_a_half_closed_connection_passes(
    bench: FilterBench, family: Family, connection: Connection
) -> None:
    connection.server.shutdown(socket.SHUT_WR)
    assert connection.client.recv(1) == b""
    bench.arrange(GRACE)
    assert bench.put(family.segment(connection.port, "PA"))[2] is Counter.PASS_SOCKET


def test_a_connection_in_time_wait_passes(
    bench: FilterBench, family: Family, connection: Connection
) -> None:
    port = connection.port
    connection.server.shutdown(socket.SHUT_RDWR)
    assert connection.client.recv(1) == b""
    connection.client.close()
    connection.server.close()
    deadline = time.monotonic() + DEADLINE_S
    while f":{port}" not in run("ss", "-Htan", "state", "time-wait"):
        assert time.monotonic() < deadline
    bench.arrange(GRACE)
    assert bench.put(family.segment(port, "FA"))[2] is Counter.PASS_SOCKET


def test_a_connection_that_is_not_yet_accepted_passes(
    bench: FilterBench, family: Family, listener: socket.socket
) -> None:
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEADLINE_S)
    with socket.create_connection(
        (family.vip, 80), timeout=DEADLINE_S, source_address=(family.client, 0)
    ) as client:
        port = client.getsockname()[1]
        assert f":{port}" in run("ss", "-Htan", "state", "syn-recv")
        bench.arrange(GRACE)
        assert bench.put(family.segment(port, "PA"))[2] is Counter.PASS_SOCKET


def cookie_of(family: Family, syn: Packet) -> int:
    """Sends a SYN from beyond the wire and returns the sequence number of the SYN-ACK."""
    run("ip", "link", "set", WIRE, "up")
    run("ip", "link", "set", "eth0", "up")
    version = "-4" if family.kind == socket.AF_INET else "-6"
    run("ip", version, "neigh", "replace", family.far, "lladdr", CLIENT_MAC, "dev", WIRE)
    run("ip", version, "route", "replace", family.far, "dev", WIRE, "src", family.vip)
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sniffer,
        socket.socket(family.kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender,
    ):
        sniffer.bind((WIRE, 3))
        sender.sendto(bytes(syn[1]), (family.vip, 0))
        deadline = time.monotonic() + DEADLINE_S
        while True:
            sniffer.settimeout(deadline - time.monotonic())
            answer = Ether(sniffer.recv(65536))
            if TCP in answer and answer[TCP].flags == "SA" and answer[TCP].dport == 4242:
                return int(answer[TCP].seq)


def test_a_valid_cookie_is_as_good_as_a_socket(
    bench: FilterBench, family: Family, listener: socket.socket
) -> None:
    run("sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
    syn = Ether() / family.network(family.far) / TCP(sport=4242, dport=80, flags="S", seq=1000)
    cookie = cookie_of(family, syn)
    run("ip", "link", "set", "eth0", "down")

    guessed = cookie ^ 0x5A5A5A5A

    def acknowledgement(cookie: int) -> Packet:
        transport = TCP(sport=4242, dport=80, flags="A", seq=1001, ack=cookie + 1 & 0xFFFFFFFF)
        return Ether(src=CLIENT_MAC, dst=VIRTUAL_MAC) / family.network(family.far) / transport

    bench.arrange(GRACE)
    assert bench.put(acknowledgement(cookie))[2] is Counter.PASS_COOKIE
    assert bench.put(acknowledgement(guessed))[2] is Counter.DROP_GRACE
    bench.arrange(FORMER)
    assert bench.put(acknowledgement(cookie))[2] is Counter.DROP_NO_SOCKET
    bench.arrange(World(lease_holds=False))
    assert bench.put(acknowledgement(cookie))[2] is Counter.DROP_GRACE
