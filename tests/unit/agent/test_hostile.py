"""Garbage on every port of an agent: a logged refusal, no crash, no change."""

import contextlib
import os
import random
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

from host import ADDRESSES, PORT, Host

from telamon.cluster.credentials import (
    new_authority,
    node_files,
    write_files,
)

PIECES = 40

# Speaks to the agents' port from inside the host: plain bytes, then TLS with somebody else's
# certificate, then without any.
ATTACK = """
import contextlib, random, socket, ssl, sys
address, port, seed, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
chance = random.Random(seed)
for piece in [b"", b"GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"] + [
    chance.randbytes(chance.randrange(1, 5000)) for _ in range(40)
]:
    with socket.create_connection((address, port), timeout=5) as raw:
        with contextlib.suppress(OSError):
            raw.sendall(piece)
            raw.shutdown(socket.SHUT_WR)
            raw.recv(100)
for with_certificate in (True, False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if with_certificate:
        context.load_cert_chain(files + "/node.crt", files + "/node.key")
    try:
        with socket.create_connection((address, port), timeout=5) as raw:
            with context.wrap_socket(raw) as tls:
                tls.sendall(b"POST /v1/modules/db/actions HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                answer = tls.recv(100)
    except (ssl.SSLError, ConnectionError):
        continue
    assert answer == b"", answer
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    for _ in range(40):
        datagrams.sendto(chance.randbytes(chance.randrange(1400)), (address, 7420))
"""


def test_garbage_on_the_network_is_refused_and_logged(n1: Host, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    address = ADDRESSES["n1"]["lan"]
    strangers = tmp_path / "strangers"
    authority = new_authority("east", "00" * 16)
    write_files(strangers, node_files(authority, "n2", [ip_address(address)]))
    before = n1.module()
    attack = [sys.executable, "-c", ATTACK, address, str(PORT), str(seed), str(strangers)]
    subprocess.run(n1.inside(*attack), check=True, timeout=120)
    assert n1.module() == before
    assert n1.agent is not None
    assert n1.agent.poll() is None
    log = n1.log.read_text()
    assert "refused a connection to the agents' port" in log
    assert "heartbeats on network lan" in log
    assert n1.status()["nodes"]["n1"]["refused_datagrams"] == PIECES


def test_a_node_of_the_cluster_gets_in_and_only_this_far(n1: Host) -> None:
    """The right certificate is answered, for this node alone."""
    program = (
        "import http.client, ssl, sys\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n"
        "context.load_verify_locations(sys.argv[2] + '/ca.crt')\n"
        "context.load_cert_chain(sys.argv[2] + '/node.crt', sys.argv[2] + '/node.key')\n"
        "for path in ('/v1/status', '/v1/events', '/v1/cluster'):\n"
        "    link = http.client.HTTPSConnection(sys.argv[1], 7440, context=context, timeout=5)\n"
        "    link.request('GET', path)\n"
        "    print(link.getresponse().status)\n"
    )
    other = n1.root.parent / "n2" / "etc"
    shown = n1.run_inside(sys.executable, "-c", program, ADDRESSES["n1"]["lan"], other)
    assert shown.split() == ["200", "404", "404"]


def test_garbage_on_the_unix_socket_is_refused(n1: Host) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)
    before = n1.module()
    requests = [
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/modules/db/actions HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{}}",
        b"POST /v1/modules/..%2f..%2fetc/actions HTTP/1.1\r\nHost: x\r\n\r\n",
        b"DELETE /v1/modules/.. HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
        *(chance.randbytes(chance.randrange(1, 4000)) for _ in range(PIECES)),
    ]
    for request in requests:
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(ConnectionError):
            client.settimeout(5)
            client.connect(str(n1.root / "run" / "agent.sock"))
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(65536)
            assert b"Traceback" not in answer
            assert not answer.startswith(b"HTTP/1.1 2")
            assert not answer.startswith(b"HTTP/1.1 500")
    assert n1.module() == before
    assert "Traceback" not in n1.log.read_text()
    assert "refused" in n1.log.read_text()


def test_the_unix_socket_is_for_root_and_the_group_only(n1: Host) -> None:
    mode = (n1.root / "run" / "agent.sock").stat().st_mode
    assert mode & 0o777 == 0o660
