"""module.yaml of a mirror: what is read, every fault at once, and how modules fit together."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from telamon.cluster import config as cluster_config
from telamon.cluster.config import Cluster
from telamon.configuration.model import Parsed
from telamon.configuration.quantity import Duration, Size
from telamon.module import config
from telamon.module.config import ParsedModule, relate
from telamon.module.mirror_config import MirrorModule
from telamon.module.port import replication_port

CLUSTER = """\
cluster: east
id: 0123456789abcdef0123456789abcdef
networks: [{name: lan}, {name: repl}, {name: guests, replication: never}]
nodes:
  - {name: n1, addresses: {lan: 10.0.0.1, repl: 10.1.0.1}}
  - {name: n2, addresses: {lan: 10.0.0.2, repl: 10.1.0.2}}
  - {name: n3, addresses: {lan: 10.0.0.3, guests: 10.2.0.3}}
"""
GOOD = """\
module: db
kind: mirror
nodes: [n1, n2]
virtual_ips: [{address: 10.0.0.100/24, network: lan}]
replicate:
  directories:
    - {path: /srv/db, exclude: ["*.pid"]}
"""


@pytest.fixture
def cluster() -> Cluster:
    parsed = cluster_config.parse(CLUSTER)
    assert isinstance(parsed, Parsed)
    return parsed.model


def parsed(text: str) -> ParsedModule:
    found = config.parse(text)
    assert isinstance(found, Parsed), found
    return found


def mirror(text: str) -> MirrorModule:
    model = parsed(text).model
    assert isinstance(model, MirrorModule)
    return model


def faults(text: str) -> list[str]:
    found = config.parse(text)
    assert not isinstance(found, Parsed), found.model
    return [str(fault) for fault in sorted(found)]


def other(name: str, **changes: Any) -> str:
    """Another module that meets the good one nowhere, save in what is changed."""
    content = {
        "module": name,
        "kind": "mirror",
        "nodes": ["n1", "n2"],
        "replicate": {"directories": [{"path": f"/srv/{name}"}]},
        **changes,
    }
    return yaml.safe_dump(content)


def between(cluster: Cluster, *texts: str) -> list[str]:
    return [str(fault) for fault in relate([parsed(text) for text in texts], cluster)]


def test_defaults() -> None:
    found = mirror(GOOD)
    assert found.preferred == "n1" and found.peer_of("n2") == "n1" and found.peer_of("n1") == "n2"
    assert (found.replicate.sync, found.replicate.acknowledge) == ("fsync", "disk")
    assert found.replicate.peer_timeout == Duration(2_000)
    assert found.replicate.queue == Size(64 << 20)
    assert found.application.start == "scripts/start"
    assert (found.failures.limit, found.failures.window) == (3, Duration(86_400_000))
    assert found.replicate.directories[0].exclude == ("*.pid",)


@pytest.mark.parametrize(
    ("mapped", "expected"), [("true", ("**",)), ("false", ()), ('["*.idx"]', ("*.idx",))]
)
def test_mapped(mapped: str, expected: tuple[str, ...]) -> None:
    found = mirror(GOOD.replace("{path: /srv/db,", f"{{path: /srv/db, mapped: {mapped},"))
    assert found.replicate.directories[0].mapped == expected


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "kind: mirror",
            "kind: mirrored",
            ":2: kind: unknown kind 'mirrored'; known: mirror, farm",
        ),
        ("kind: mirror\n", "", "kind: required, and missing; known: mirror, farm"),
        ("module: db", "module: DB", ":1: module: 'DB' is not a module's name"),
        ("[n1, n2]", "[n1]", ":3: nodes: a mirror has exactly 2 nodes, not 1"),
        ("[n1, n2]", "[n1, n2, n3]", ":3: nodes: a mirror has exactly 2 nodes, not 3"),
        ("[n1, n2]", "[n1, n1]", ":3: nodes[1]: 'n1' stands here twice"),
        ("10.0.0.100/24", "10.0.0.100", "'10.0.0.100' is not an address with its prefix"),
        ("10.0.0.100/24", "10.0.0.0/24", "10.0.0.0/24 is the network or broadcast address"),
        ("10.0.0.100/24", "127.0.0.1/8", "127.0.0.1 cannot be a virtual IP"),
        ("/srv/db,", "srv/db,", ":7: replicate.directories[0].path: "),
        ("/srv/db,", "/srv/../db,", ":7: replicate.directories[0].path: "),
        ("replicate:", "replicat:", "unknown key; did you mean 'replicate'?"),
        ("replicate:", "default_primary: n3\nreplicate:", ":5: default_primary: 'n3' is none of"),
        ("replicate:", "isolation: maybe\nreplicate:", ":5: isolation: "),
        ("replicate:\n", "replicate:\n  sync: sometimes\n", ":6: replicate.sync: "),
        ("replicate:\n", "replicate:\n  port: 99999\n", ":6: replicate.port: "),
        (
            "replicate:\n",
            "replicate:\n  peer_timeout: 3m\n",
            ":6: replicate.peer_timeout: 200ms <= peer_timeout <= 2m is broken: 3m",
        ),
        (
            "replicate:\n",
            "replicate:\n  queue: 1KiB\n",
            ":6: replicate.queue: 4MiB <= queue <= 16GiB is broken: 1KiB",
        ),
        (
            "replicate:\n",
            "replicate:\n  async_lag: 32GiB\n",
            ":6: replicate.async_lag: 4MiB <= async_lag <= 16GiB is broken: 32GiB",
        ),
        (
            "replicate:\n",
            "replicate:\n  resync_bandwidth: 1KiB/s\n",
            ":6: replicate.resync_bandwidth: 1KiB/s never ends: at least 64KiB/s",
        ),
        (
            "replicate:",
            "application: {start_timeout: 5ms}\nreplicate:",
            ":5: application.start_timeout: too short for any script: at least 100ms",
        ),
        (
            "replicate:",
            "application: {variables: {TELAMON_X: a}}\nreplicate:",
            "'TELAMON_X' is not a variable's name",
        ),
        (
            "    - {path",
            "    - {path: /srv/db/inner}\n    - {path",
            ":8: replicate.directories[1].path: '/srv/db' and '/srv/db/inner' overlap: name",
        ),
    ],
)
def test_single_faults(old: str, new: str, fault: str) -> None:
    assert old in GOOD
    found = faults(GOOD.replace(old, new, 1))
    assert any(fault in one for one in found), found


def test_all_faults_of_a_file_at_once() -> None:
    text = """\
module: DB
kind: mirror
nodes: [n1, n2, n2]
virtual_ips: [{address: 10.0.0.100, network: lan}]
default_primary: n9
replicate:
  peer_timeout: 5
  queue: 1KiB
  directories:
    - {path: srv/db}
    - {path: /srv/x, exlude: [a]}
aplication: {}
"""
    lines = [int(one.split(":")[1]) for one in faults(text)]
    assert lines == [1, 3, 3, 4, 5, 7, 8, 10, 11, 12]


@pytest.mark.parametrize("text", ["", "word", "[]", "kind: mirror", "kind: farm", "kind: {}"])
def test_what_is_hardly_a_module_is_refused(text: str) -> None:
    assert faults(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            GOOD.replace("n2]", "n4]"),
            ":3: nodes[1]: 'n4' is not in cluster.yaml; known: n1, n2, n3",
        ),
        (
            GOOD.replace("network: lan", "network: dmz"),
            ":4: virtual_ips[0].network: 'dmz' is not in cluster.yaml; known: lan, repl, guests",
        ),
        (
            GOOD.replace("network: lan", "network: guests"),
            ":4: virtual_ips[0].network: node 'n1' has no address in 'guests'",
        ),
        (
            GOOD.replace("10.0.0.100", "10.0.0.3"),
            ":4: virtual_ips[0].address: 10.0.0.3 is a node's own address",
        ),
        (
            GOOD.replace("replicate:\n", "replicate:\n  port: 7440\n"),
            "port 7440 is ports.api of cluster.yaml",
        ),
        (
            GOOD.replace("replicate:\n", "replicate:\n  peer_timeout: 11s\n"),
            ":6: replicate.peer_timeout: peer_timeout <= 5 * heartbeat.lost_after is broken: "
            "11s > 5 * 2s; a takeover waits for the longer of the two",
        ),
    ],
)
def test_a_module_that_does_not_fit_its_cluster(cluster: Cluster, text: str, fault: str) -> None:
    found = between(cluster, text)
    assert any(fault in one for one in found), found


def test_a_module_that_fits(cluster: Cluster) -> None:
    assert between(cluster, GOOD, other("web")) == []


def test_an_interface_of_its_own_needs_no_address_in_the_network(cluster: Cluster) -> None:
    assert between(cluster, GOOD.replace("network: lan", "network: guests, interface: eth3")) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"module": "db"}, "another module is named 'db' already"),
        (
            {"virtual_ips": [{"address": "10.0.0.100/24", "network": "lan"}]},
            "virtual_ips[0].address: 10.0.0.100 belongs to module 'db' already",
        ),
        (
            {"replicate": {"directories": [{"path": "/srv/db/sub"}]}},
            "'/srv/db/sub' overlaps '/srv/db' of module 'db'; a directory belongs to one module",
        ),
        (
            {"replicate": {"directories": [{"path": "/srv"}]}},
            "'/srv' overlaps '/srv/db' of module 'db'",
        ),
    ],
)
def test_modules_that_meet(cluster: Cluster, changes: dict[str, Any], fault: str) -> None:
    found = between(cluster, GOOD, other("web", **changes))
    assert any(fault in one for one in found), found


# --- the replication port ---


NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,30}", fullmatch=True)


def at_port(name: str, port: int | None, **changes: Any) -> str:
    replicate: dict[str, Any] = {"directories": [{"path": f"/srv/{name}"}]}
    if port is not None:
        replicate["port"] = port
    return other(name, replicate=replicate, **changes)


@given(NAMES)
def test_every_name_has_a_port_in_the_range_that_nobody_else_uses(name: str) -> None:
    found = cluster_config.parse(CLUSTER)
    assert isinstance(found, Parsed)
    port = replication_port(mirror(other(name)), found.model)
    assert 7430 <= port < 7930 and port != found.model.ports.api
    assert port == replication_port(mirror(other(name)), found.model)
    assert replication_port(mirror(at_port(name, 9999)), found.model) == 9999


def test_the_range_ends_with_the_ports(cluster: Cluster) -> None:
    ports = cluster.ports.model_copy(update={"replication": 65535})
    last = cluster.model_copy(update={"ports": ports})
    assert replication_port(mirror(GOOD), last) == 65535


def test_two_modules_that_share_a_port_are_refused_with_a_free_one(cluster: Cluster) -> None:
    port = replication_port(mirror(GOOD), cluster)
    (fault,) = between(cluster, GOOD, at_port("web", port))
    assert (
        f"port {port} is used by module 'db' on a common node; set `replicate.port: 7430`" in fault
    )
    (fault,) = between(cluster, at_port("web", port), GOOD)
    assert f"port {port}, which 'db' gets by its name, is used by module 'web'" in fault
    assert between(cluster, GOOD, at_port("web", port, nodes=["n3", "n1"])) != []


def test_modules_without_a_common_node_may_share_a_port(cluster: Cluster) -> None:
    nodes = (*cluster.nodes, cluster.nodes[2].model_copy(update={"name": "n4"}))
    larger = cluster.model_copy(update={"nodes": nodes})
    port = replication_port(mirror(GOOD), larger)
    apart = between(larger, GOOD, at_port("web", port, nodes=["n3", "n4"]))
    assert not any("is used by module" in fault for fault in apart)
