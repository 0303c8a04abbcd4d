"""Two mirror modules on one cluster: installed with one command each, and each fails over alone."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from mirrors import START_TIMEOUT_S, STEP_TIMEOUT_S, assert_equal_trees
from services import make_service
from sockets import socket_in

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.mirror import ALONE, PRIM, SECOND, MirrorInLab
from telamon.lab.spec import DEFAULT

SERVICES = {"ledger": ("10.0.0.101", 7001), "catalogue": ("10.0.0.102", 7002)}
ANSWER_LIMIT_S = 2.0


@pytest.fixture
def mirrors(lab_name: str) -> Iterator[dict[str, MirrorInLab]]:
    with Lab.up(lab_name, DEFAULT) as lab:
        made = {}
        for name, (address, port) in SERVICES.items():
            directory = f"/srv/{name}"
            for node in lab.spec.nodes:
                lab.host(node.name).run(["mkdir", "--parents", directory])
            made[name] = MirrorInLab(lab, name, {directory: ()})
            made[name].install(
                make_service(lab.host("n1"), name, directory, port, [f"{address}/24"])
            )
            made[name].begin("n1", START_TIMEOUT_S)
        yield made


def assert_answers(client: RunningHost, name: str) -> None:
    """The service answers at its virtual IP."""
    deadline_s = time.monotonic() + STEP_TIMEOUT_S
    while True:
        with closing(socket_in(client, socket.SOCK_STREAM)) as connection:
            connection.settimeout(ANSWER_LIMIT_S)
            with suppress(OSError):
                connection.connect(SERVICES[name])
                if connection.recv(1) == b"!":
                    return
        assert time.monotonic() < deadline_s, f"{name} does not answer"


@pytest.mark.timeout(300)
def test_each_fails_over_alone(mirrors: dict[str, MirrorInLab]) -> None:
    ledger, catalogue = mirrors["ledger"], mirrors["catalogue"]
    lab = ledger.lab
    before = {name: mirror.status() for name, mirror in mirrors.items()}
    for shown in before.values():
        assert shown["n1"].replication_port == shown["n2"].replication_port
    ports = {shown["n1"].replication_port for shown in before.values()}
    assert len(ports) == len(SERVICES)

    killed = before["ledger"]["n1"].replicator_pid
    lab.host("n1").run(["kill", "-KILL", str(killed)])
    ledger.await_states(STEP_TIMEOUT_S, n2=PRIM, n1=SECOND)
    catalogue.assert_stays(1.0, n1=PRIM, n2=SECOND)
    assert catalogue.status()["n1"].replicator_pid == before["catalogue"]["n1"].replicator_pid
    for name, mirror in mirrors.items():
        assert_answers(lab.host("c1"), name)
        assert_equal_trees(mirror)

    lab.off("n1")
    for name, mirror in mirrors.items():
        mirror.await_states(STEP_TIMEOUT_S, n2=ALONE)
        assert_answers(lab.host("c1"), name)
    lab.on("n1")
    for mirror in mirrors.values():
        mirror.await_states(STEP_TIMEOUT_S, n2=PRIM, n1=SECOND)
        assert_equal_trees(mirror)


def test_a_second_module_on_the_same_port_is_refused_with_the_cure(
    mirrors: dict[str, MirrorInLab],
) -> None:
    n1 = mirrors["ledger"].lab.host("n1")
    taken = mirrors["ledger"].status()["n1"].replication_port
    source = make_service(n1, "third", "/srv/third", 7003, ["10.0.0.103/24"])
    text = n1.path(source / "module.yaml").read_text()
    n1.write(source / "module.yaml", text.replace("replicate:\n", f"replicate:\n  port: {taken}\n"))
    refused = n1.run(["telamon", "module", "install", str(source)], is_checked=False)
    assert refused.returncode == 6
    assert f"port {taken} is used by module 'ledger'" in refused.stderr
    assert "set `replicate.port: 7430`" in refused.stderr
