"""Hosts that are gone after the test, whatever it did."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from host import Host, make_hosts


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[dict[str, Host]]:
    made = make_hosts(tmp_path)
    yield made
    for host in made.values():
        host.clean()


@pytest.fixture
def n1(hosts: dict[str, Host]) -> Host:
    """A node with its agent and the module, its peer silent."""
    host = hosts["n1"]
    host.start_agent()
    done = host.telamon("module", "install", str(host.write_module()), "--node=n1")
    assert done.returncode == 0, done.stderr
    return host
