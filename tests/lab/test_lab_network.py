"""Cuts: by host, network and direction; silent; the other network lives on."""

import socket
from contextlib import closing, suppress

import pytest
from sockets import socket_in

from telamon.errors import NotFoundError
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.network import Direction

NETWORKS = {"lan": "10.0.0", "repl": "10.1.0"}
ATTEMPTS = 15
PAUSE_S = 0.1


def reaches(sender: RunningHost, receiver: RunningHost, address: str) -> bool:
    """Whether a datagram arrives. Several are sent: an address must perhaps be asked for again."""
    with (
        closing(socket_in(sender, socket.SOCK_DGRAM)) as here,
        closing(socket_in(receiver, socket.SOCK_DGRAM)) as there,
    ):
        there.bind((address, 0))
        there.settimeout(PAUSE_S)
        for _ in range(ATTEMPTS):
            here.sendto(b"hello", there.getsockname())
            with suppress(TimeoutError):
                return there.recv(16) == b"hello"
    return False


def picture(lab: Lab) -> dict[str, tuple[bool, bool]]:
    """For each network: does n2 hear n1, does n1 hear n2?"""
    one, two = lab.host("n1"), lab.host("n2")
    return {
        name: (reaches(one, two, f"{prefix}.2"), reaches(two, one, f"{prefix}.1"))
        for name, prefix in NETWORKS.items()
    }


WHOLE = {"lan": (True, True), "repl": (True, True)}


def test_hosts_reach_each_other_by_address_and_name(bare_lab: Lab) -> None:
    assert picture(bare_lab) == WHOLE
    resolve = "import socket; print(*{a[4][0] for a in socket.getaddrinfo('n1', 1)})"
    assert bare_lab.host("c1").run(["python3", "-c", resolve]).stdout == "10.0.0.1\n"


@pytest.mark.parametrize(
    ("direction", "left"),
    [
        (Direction.BOTH, (False, False)),
        (Direction.OUT, (False, True)),
        (Direction.IN, (True, False)),
    ],
)
def test_a_cut_network(bare_lab: Lab, direction: Direction, left: tuple[bool, bool]) -> None:
    assert picture(bare_lab) == WHOLE  # neighbours know each other's addresses from here on
    bare_lab.cut("n1", "repl", direction)
    assert picture(bare_lab) == {"lan": (True, True), "repl": left}
    bare_lab.heal("n1", "repl", direction)
    assert picture(bare_lab) == WHOLE


def test_a_cut_of_all_networks_is_healed_one_by_one(bare_lab: Lab) -> None:
    assert picture(bare_lab) == WHOLE
    bare_lab.cut("n1")
    assert picture(bare_lab) == {"lan": (False, False), "repl": (False, False)}
    bare_lab.heal("n1", "lan")
    assert picture(bare_lab) == {"lan": (True, True), "repl": (False, False)}
    bare_lab.heal("n1")
    assert picture(bare_lab) == WHOLE


def test_a_cut_is_silent_and_keeps_the_carrier(bare_lab: Lab) -> None:
    bare_lab.cut("n1", "lan")
    assert bare_lab.host("n1").path("/sys/class/net/lan/carrier").read_text() == "1\n"


def test_a_cut_outlasts_a_power_failure(bare_lab: Lab) -> None:
    bare_lab.cut("n1", "repl")
    bare_lab.off("n1")
    bare_lab.on("n1")
    assert picture(bare_lab) == {"lan": (True, True), "repl": (False, False)}
    bare_lab.heal("n1")
    assert picture(bare_lab) == WHOLE


def test_unknown_hosts_and_networks_are_refused_by_name(bare_lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="n1, n2, c1"):
        bare_lab.cut("n3")
    with pytest.raises(NotFoundError, match="lan"):
        bare_lab.cut("c1", "repl")
