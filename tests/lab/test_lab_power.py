"""A power failure takes what was not flushed, and tells nobody."""

import socket
from contextlib import closing

import pytest
from sockets import socket_in

from telamon.errors import RefusedError
from telamon.lab.lab import Lab

DEADLINE_S = 10.0


def test_flushed_data_stays_and_the_rest_is_lost(bare_lab: Lab) -> None:
    host = bare_lab.host("n1")
    host.run(["sh", "-c", "echo kept > /srv/kept && sync /srv/kept /srv && echo lost > /srv/lost"])
    assert host.path("/srv/lost").read_text() == "lost\n"
    bare_lab.off("n1")
    bare_lab.on("n1")
    host = bare_lab.host("n1")
    assert host.path("/srv/kept").read_text() == "kept\n"
    assert not host.path("/srv/lost").exists()


def test_memory_is_empty_after_boot(bare_lab: Lab) -> None:
    before = bare_lab.host("n1")
    before.run(["touch", "/run/x", "/dev/shm/x", "/var/log/x"])
    left_behind = before.start(["sleep", "1000"])
    bare_lab.off("n1")
    assert left_behind.wait(DEADLINE_S) != 0
    bare_lab.on("n1")
    after = bare_lab.host("n1")
    for name in ("/run/x", "/dev/shm/x", "/var/log/x"):
        assert not after.path(name).exists()
    assert "sleep" not in after.run(["ps", "-A"]).stdout


def test_a_dying_host_says_nothing(bare_lab: Lab) -> None:
    """An established connection sees silence: no FIN and no RST of the dying process."""
    client, server = bare_lab.host("c1"), bare_lab.host("n1")
    with (
        closing(socket_in(server, socket.SOCK_STREAM)) as listener,
        closing(socket_in(client, socket.SOCK_STREAM)) as connection,
    ):
        listener.bind(("10.0.0.1", 5000))
        listener.listen()
        connection.settimeout(DEADLINE_S)
        connection.connect(("10.0.0.1", 5000))
        accepted, _ = listener.accept()
        with closing(accepted):
            holder = server.start(["sleep", "1000"], stdin=accepted.fileno())
            accepted.detach()
            bare_lab.off("n1")
            holder.wait(DEADLINE_S)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_addresses_stay_the_same_over_a_power_failure(bare_lab: Lab) -> None:
    def links() -> list[str]:
        lines = bare_lab.host("n1").run(["ip", "-o", "link", "show", "type", "veth"]).stdout
        return sorted(line.split("link/ether ")[1].split()[0] for line in lines.splitlines())

    before = links()
    assert len(before) == 2
    bare_lab.off("n1")
    bare_lab.on("n1")
    assert links() == before


def test_off_twice_and_on_twice_are_refused(bare_lab: Lab) -> None:
    with pytest.raises(RefusedError, match="on already"):
        bare_lab.on("n1")
    bare_lab.off("n1")
    with pytest.raises(RefusedError, match="off already"):
        bare_lab.off("n1")
    with pytest.raises(RefusedError, match="telamon lab on n1"):
        bare_lab.host("n1")
