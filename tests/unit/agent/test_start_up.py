"""telamond that cannot start says why in a sentence, with a status and without a traceback."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from telamon.cluster.creation import create, render
from telamon.cluster.credentials import write_files

LIMIT_S = 30.0


def telamond(root: Path) -> subprocess.CompletedProcess[str]:
    roots = [f"--{kind}={root / kind}" for kind in ("configuration", "state", "run")]
    return subprocess.run(
        [sys.executable, "-m", "telamon.agent.main", *roots],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def refused(root: Path, status: int, says: str) -> None:
    ended = telamond(root)
    assert (ended.returncode, says in ended.stderr) == (status, True), ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host that belongs to a cluster on loopback, with ports of this test alone."""
    made = create(render("east", {"n1": {"lan": "127.0.9.1"}, "n2": {"lan": "127.0.9.2"}}))
    write_files(tmp_path / "configuration", dict(made.files["n1"]))
    return tmp_path


def append(root: Path, text: str) -> None:
    with (root / "configuration" / "cluster.yaml").open("a") as file:
        file.write(text)


def free(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.9.1", 0))
        return int(probe.getsockname()[1])


def test_without_a_cluster(tmp_path: Path) -> None:
    refused(tmp_path, 1, "belongs to no cluster: run `telamon cluster init` here")


def test_every_fault_of_the_cluster_is_told(root: Path) -> None:
    append(root, "nodez: 1\nports: {api: 0}\n")
    refused(root, 6, "unknown key; did you mean 'nodes'?")
    assert "ports.api: Input should be greater" in telamond(root).stderr


def test_a_certificate_of_another_node(root: Path) -> None:
    file = root / "configuration" / "cluster.yaml"
    file.write_text(file.read_text().replace("n1", "n7"))
    refused(root, 6, "does not know node n1, whose certificate this is")


@pytest.mark.parametrize(
    ("key", "kind"), [("api", socket.SOCK_STREAM), ("heartbeat", socket.SOCK_DGRAM)]
)
def test_a_port_that_is_taken(root: Path, key: str, kind: socket.SocketKind) -> None:
    ports = {"api": free(socket.SOCK_STREAM), "heartbeat": free(socket.SOCK_DGRAM)}
    append(root, f"ports: {{api: {ports['api']}, heartbeat: {ports['heartbeat']}}}\n")
    with socket.socket(socket.AF_INET, kind) as taker:
        taker.bind(("127.0.9.1", ports[key]))
        if kind is socket.SOCK_STREAM:
            taker.listen()
        refused(root, 1, f"or change ports.{key} in cluster.yaml on every node")
