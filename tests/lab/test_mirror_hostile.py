"""Nobody without the cluster's credentials changes anything: garbage on every port, a certificate
of another cluster, a node that nobody knows. All of it is refused, and nothing ends.
"""

import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from faults import seed
from mirrors import DIRECTORY, assert_equal_trees, mirrored
from sockets import socket_in

from telamon.cluster import creation
from telamon.cluster.credentials import Authority, node_files
from telamon.lab import agent_api
from telamon.lab.mirror import PRIM, SECOND, MirrorInLab
from telamon.lab.process import Daemon, Process
from telamon.lab.spec import DEFAULT
from telamon.paths import Paths

HEARTBEAT, API = 7420, 7440
NODES = ("10.0.0.1", "10.0.0.2")
REPLY_TIMEOUT_S = 3.0


@pytest.fixture(scope="module")
def mirror() -> Iterator[MirrorInLab]:
    with mirrored("test-hostile", DEFAULT) as made:
        yield made


@pytest.fixture(autouse=True)
def unharmed(mirror: MirrorInLab) -> Iterator[None]:
    """Whatever was tried: the same processes run, the roles are the same, the mirror mirrors."""

    def processes() -> list[Process]:
        hosts = [mirror.lab.host(node) for node in ("n1", "n2")]
        return [one for host in hosts for daemon in Daemon for one in host.daemons(daemon)]

    before = processes()
    assert len(before) == 4
    yield
    assert processes() == before
    states = {node: status.state for node, status in mirror.status().items()}
    assert states == {"n1": PRIM, "n2": SECOND}
    mirror.lab.host("n1").run(["sh", "-c", f"date +%N > {DIRECTORY}/proof; sync {DIRECTORY}/proof"])
    assert_equal_trees(mirror)


def garbage(chance: random.Random) -> list[bytes]:
    """Nothing, noise, half of something, and too much."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    return [
        b"",
        b"\0" * 64,
        b"\xff" * 4096,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        hello,
        hello + chance.randbytes(500),
        *(chance.randbytes(chance.randrange(1, 2000)) for _ in range(20)),
        chance.randbytes(1 << 20),
    ]


def number(mirror: MirrorInLab, port: str) -> int:
    """The port of agents, or that of the module's replication."""
    if port == "api":
        return API
    found = mirror.status()["n1"].replication_port
    assert found is not None
    return found


@pytest.mark.parametrize("port", ["replication", "api"])
@pytest.mark.parametrize("address", NODES)
def test_garbage_on_tcp(mirror: MirrorInLab, address: str, port: str) -> None:
    chosen = seed()
    print(f"TELAMON_SEED={chosen}")
    client = mirror.lab.host("c1")
    for noise in garbage(random.Random(chosen)):
        with closing(socket_in(client, socket.SOCK_STREAM)) as connection:
            connection.settimeout(REPLY_TIMEOUT_S)
            connection.connect((address, number(mirror, port)))
            with suppress(OSError):  # being thrown out while still talking is what should happen
                connection.sendall(noise)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    continue


@pytest.mark.parametrize("address", NODES)
def test_garbage_on_udp(mirror: MirrorInLab, address: str) -> None:
    chosen = seed()
    print(f"TELAMON_SEED={chosen}")
    node = {"10.0.0.1": "n1", "10.0.0.2": "n2"}[address]
    before = agent_api.status(mirror.lab.host(node)).nodes[node].refused_datagrams
    with closing(socket_in(mirror.lab.host("c1"), socket.SOCK_DGRAM)) as sender:
        for noise in garbage(random.Random(chosen)):
            sender.sendto(noise[:1400], (address, HEARTBEAT))
    after = agent_api.status(mirror.lab.host(node)).nodes[node].refused_datagrams
    assert after > before


def contexts(mirror: MirrorInLab, directory: Path) -> dict[str, ssl.SSLContext]:
    """Clients that speak TLS well and are nobody here."""
    foreign = creation.create(creation.render("lab", {"n2": {"lan": "10.0.0.2"}})).files["n2"]
    own = mirror.lab.host("n1").path(Paths().configuration)
    authority = Authority(
        certificate=(own / "ca.crt").read_bytes(),
        key=(own / "ca.key").read_bytes(),
        secret=b"",
    )
    stranger = node_files(authority, "n3", [])
    made = {"no certificate": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    for name, files in (("another cluster", foreign), ("unknown node", stranger)):
        (directory / "crt").write_bytes(files["node.crt"])
        (directory / "key").write_bytes(files["node.key"])
        made[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made[name].load_cert_chain(directory / "crt", directory / "key")
    for context in made.values():
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return made


@pytest.mark.parametrize("who", ["no certificate", "another cluster", "unknown node"])
@pytest.mark.parametrize("port", ["replication", "api"])
@pytest.mark.parametrize("address", NODES)
def test_certificates(
    mirror: MirrorInLab, tmp_path: Path, who: str, port: str, address: str
) -> None:
    context = contexts(mirror, tmp_path)[who]
    with closing(socket_in(mirror.lab.host("c1"), socket.SOCK_STREAM)) as plain:
        plain.settimeout(REPLY_TIMEOUT_S)
        plain.connect((address, number(mirror, port)))
        try:
            with context.wrap_socket(plain) as connection:
                connection.sendall(
                    b"GET /v1/status HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n"
                )
                answer = connection.recv(4096)
        except (ssl.SSLError, ConnectionError):
            return
        assert not answer.startswith(b"HTTP/1.1 200"), answer
