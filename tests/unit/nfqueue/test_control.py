"""The daemon's control socket: whole messages come through, garbage ends the connection only."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP

from telamon.farm import footprint
from telamon.farm.footprint import Claim
from telamon.farm.hash import BUCKETS, Affinity
from telamon.farm.layout import AddressRule, Mode, Other, Service, TableImage
from telamon_nfqueue import control
from telamon_nfqueue.daemon import Daemon
from telamon_nfqueue.queue import ACCEPT, DROP

VIRTUAL_IP = ip_address("10.0.0.100")
CLAIM = Claim(
    (0,),
    {VIRTUAL_IP: AddressRule(0, Mode.FLOOD, Other.OWNER, bytes(6))},
    (Service(VIRTUAL_IP, 6, 80, 0, Affinity.CLIENT, Mode.FLOOD),),
)
IMAGE = TableImage(bytes([3, 0]) * BUCKETS, 7, 8)
ANSWER_S = 20.0


class WaitingQueue:
    """In place of the kernel's queue: packets wait in it, but nobody is told of them."""

    def __init__(self) -> None:
        self._ends = socket.socketpair()
        self.waiting: list[tuple[int, bytes]] = []
        self.verdicts: dict[int, int] = {}

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def packets(self) -> list[tuple[int, bytes]]:
        taken, self.waiting = self.waiting[:1], self.waiting[1:]
        return taken

    def decide(self, identifier: int, verdict: int) -> None:
        self.verdicts[identifier] = verdict


@contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(ANSWER_S)
        link.connect(path)
        yield link


@pytest.fixture(scope="module")
def queue() -> WaitingQueue:
    return WaitingQueue()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, queue: WaitingQueue) -> str:
    path = str(tmp_path_factory.mktemp("nfqueue") / "control.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    running = Daemon(queue, listener)  # type: ignore[arg-type] - a queue as far as it matters
    threading.Thread(target=running.run, daemon=True).start()
    return path


def ask(link: socket.socket, order: str, **details: Any) -> Any:
    control.send(link, {"order": order, **details})
    answer = control.receive(link)
    assert answer is not None
    return answer


def test_what_was_told_is_found_again(daemon: str) -> None:
    with connected(daemon) as link:
        assert ask(link, "hello") == {"answer": control.VERSION}
        claim = footprint.stored(CLAIM)
        assert ask(link, "configure", member=3, claim=claim) == {"answer": None}
        ask(link, "switch", table=0, image=control.image_out(IMAGE))
        ask(link, "renew", until_ns=1 << 60)
    with connected(daemon) as link:
        known = ask(link, "configuration")["answer"]
        assert (known["member"], footprint.claim_of(known["claim"])) == (3, CLAIM)
        assert control.image_in(ask(link, "table", table=0)["answer"]) == IMAGE
        assert ask(link, "table", table=1) == {"answer": None}
        assert ask(link, "lease") == {"answer": 1 << 60}
        assert ask(link, "counters") == {"answer": {}}


def test_what_waits_is_judged_by_the_table_in_force_when_it_came(
    daemon: str, queue: WaitingQueue
) -> None:
    syns = [
        (number, bytes(IP(src=f"192.0.2.{number}", dst=str(VIRTUAL_IP)) / TCP(dport=80, flags="S")))
        for number in range(1, 6)
    ]
    owned, nobodys = IMAGE, TableImage(bytes(2 * BUCKETS), 9, 8)
    with connected(daemon) as link:
        ask(link, "configure", member=3, claim=footprint.stored(CLAIM))
        ask(link, "renew", until_ns=1 << 62)
        for before, after, verdict in ((nobodys, owned, DROP), (owned, nobodys, ACCEPT)):
            ask(link, "switch", table=0, image=control.image_out(before))
            queue.waiting, queue.verdicts = list(syns), {}
            ask(link, "switch", table=0, image=control.image_out(after))
            assert queue.verdicts == {number: verdict for number, _ in syns}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"order": "fly"},
        {"order": "switch", "table": 0, "image": "!"},
        {"order": "switch", "table": 0, "image": "AAAA"},
        {"order": "configure", "member": 1, "claim": {}},
        {"order": "configure", "member": 1, "claim": None},
        {"order": "renew", "until_ns": None},
    ],
)
def test_what_is_no_order_is_refused_and_changes_nothing(
    daemon: str, message: dict[str, Any]
) -> None:
    with connected(daemon) as link:
        before = ask(link, "lease")
        control.send(link, message)
        answer = control.receive(link)
        assert answer is not None
        assert "is not understood" in answer["refusal"]
        assert ask(link, "lease") == before


GARBAGE = [
    struct.pack("!I", control.LIMIT_BYTES + 1),
    struct.pack("!I", 4) + b"{{{{",
    struct.pack("!I", 2) + b"[]",
    struct.pack("!I", 2) + b"\xff\xff",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_ends_the_connection_only(daemon: str, garbage: bytes) -> None:
    with connected(daemon) as link:
        link.sendall(garbage)
        assert control.receive(link) is None
    with connected(daemon) as link:
        assert ask(link, "hello") == {"answer": control.VERSION}


def test_a_message_may_come_in_pieces(daemon: str) -> None:
    content = json.dumps({"order": "hello"}).encode()
    framed = struct.pack("!I", len(content)) + content
    with connected(daemon) as link:
        for byte in framed:
            link.sendall(bytes([byte]))
        assert control.receive(link) == {"answer": control.VERSION}
