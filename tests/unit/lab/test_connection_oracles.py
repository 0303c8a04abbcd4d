"""The farm's oracles notice what must not be."""

import socket

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from tests.farm.own_network import own_network, run

from telamon.lab.oracles.connections import Broken, Echoed, Knock, takeover_s
from telamon.lab.oracles.handshakes import HandshakeLedger, HandshakeReport, Handshakes
from telamon.lab.oracles.names import question, text_of

CLIENT_MAC, ONE, OTHER = "02:00:00:00:00:99", "02:00:00:00:00:01", "02:00:00:00:00:02"
LAYERS = [
    (IP(src="10.0.0.9", dst="10.0.0.100"), IP(src="10.0.0.100", dst="10.0.0.9")),
    (IPv6(src="fd00::9", dst="fd00::100"), IPv6(src="fd00::100", dst="fd00::9")),
]


@pytest.fixture(params=LAYERS, ids=["IPv4", "IPv6"])
def wire(request: pytest.FixtureRequest) -> tuple[bytes, dict[str, bytes]]:
    """A SYN, and the answers of two hosts to it."""
    there, back = request.param
    syn = Ether(src=CLIENT_MAC) / there / TCP(sport=4000, dport=80, flags="S", seq=2**32 - 1)
    answer = TCP(sport=80, dport=4000, flags="SA", seq=7, ack=0)
    return bytes(syn), {mac: bytes(Ether(src=mac) / back / answer) for mac in (ONE, OTHER)}


def report(*frames: tuple[bytes, bool]) -> HandshakeReport:
    ledger = HandshakeLedger()
    for frame, is_own in frames:
        ledger.note(frame, is_own)
    return ledger.report(0)


def test_one_syn_has_one_answer(wire: tuple[bytes, dict[str, bytes]]) -> None:
    syn, answers = wire
    assert report((syn, True), (answers[ONE], False)) == HandshakeReport(1, [], [], 0, 0)
    assert report((syn, True), (answers[ONE], False)).is_good


def test_a_repeated_syn_may_be_answered_again_by_the_same_host(
    wire: tuple[bytes, dict[str, bytes]],
) -> None:
    syn, answers = wire
    repeated = report((syn, True), (syn, True), (answers[ONE], False), (answers[ONE], False))
    assert repeated.is_good
    assert repeated.repeated_syns == 1


def test_two_answers_are_seen(wire: tuple[bytes, dict[str, bytes]]) -> None:
    syn, answers = wire
    for others in ([answers[ONE], answers[OTHER]], [answers[ONE], answers[ONE]]):
        found = report((syn, True), *((one, False) for one in others))
        assert len(found.answered_twice) == 1
        assert not found.is_good
    both = report((syn, True), (syn, True), (answers[ONE], False), (answers[OTHER], False))
    assert not both.is_good


def test_silence_is_seen(wire: tuple[bytes, dict[str, bytes]]) -> None:
    syn, answers = wire
    assert report((syn, True)).unanswered
    assert not report((syn, True)).is_good
    # What other hosts send each other is not judged.
    assert report((syn, False), (answers[ONE], False)) == HandshakeReport(0, [], [], 0, 0)


def test_lost_frames_prove_nothing() -> None:
    assert not HandshakeLedger().report(1).is_good


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_wire_is_heard(family: socket.AddressFamily) -> None:
    with own_network():
        run("ip", "link", "set", "lo", "up")
        handshakes = Handshakes("lo")
        address = "127.0.0.1" if family == socket.AF_INET else "::1"
        with socket.create_server((address, 0), family=family) as server:
            for _ in range(3):
                with socket.socket(family) as one:
                    one.connect((address, server.getsockname()[1]))
                    one.sendall(b"no handshake")
        heard = handshakes.close()
    assert heard.attempts == 3
    assert not heard.unanswered
    assert heard.lost_frames == 0


def test_a_broken_connection_of_a_dead_node_is_told_from_others() -> None:
    broken = [Broken("10.0.0.9", 1, node, "reset", 1.0) for node in ("n1", "n2")]
    assert Echoed({}, broken, 0).broken_beside("n2") == broken[:1]


def test_takeover_is_the_first_prompt_answer_of_another_node() -> None:
    def knock(began_s: float, took_s: float, source: str, node: str) -> Knock:
        return Knock(began_s, began_s + took_s, source, 1, node, "")

    knocks = [
        knock(9.0, 0.01, "a", "n2"),
        knock(9.5, 0.01, "b", "n1"),
        knock(10.1, 0.01, "b", "n1"),  # no client of n2
        knock(10.2, 1.0, "a", "n1"),  # had to ask again
        knock(10.9, 0.01, "a", "n1"),
    ]
    assert takeover_s(knocks, "n2", 10.0) == pytest.approx(0.9)
    assert takeover_s(knocks[:4], "n2", 10.0) == float("inf")


def test_a_question_is_what_a_name_server_expects() -> None:
    asked = DNS(question(77, "who.farm"))
    assert (asked.id, asked.qdcount, asked.rd) == (77, 1, 1)
    assert (asked.qd[0].qname, asked.qd[0].qtype) == (b"who.farm.", 16)


def test_an_answer_is_read() -> None:
    def answer(number: int, *records: DNSRR) -> bytes:
        asked = DNSQR(qname="who.farm", qtype="TXT")
        return bytes(DNS(id=number, qr=1, qd=[asked], an=list(records)))

    text = DNSRR(rrname="who.farm", type="TXT", rdata=[b"n3"])
    assert text_of(answer(77, text), 77) == "n3"
    assert text_of(answer(77), 77).startswith("<")
    assert text_of(answer(78, text), 77).startswith("<")
    other = DNSRR(rrname="who.farm", type="A", rdata="10.0.0.1")
    assert text_of(answer(77, other), 77) == "<a record of type 1>"
