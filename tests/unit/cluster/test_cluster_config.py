"""cluster.yaml: what is read, and every fault at once with its line and its formula."""

import pytest

from telamon.cluster import config
from telamon.cluster.config import Cluster
from telamon.cluster.creation import render
from telamon.configuration.model import Parsed
from telamon.configuration.quantity import Duration

GOOD = """\
cluster: east
id: 0123456789abcdef0123456789abcdef
networks:
  - name: lan
  - {name: repl, replication: preferred}
  - {name: guests, replication: never}
nodes:
  - {name: n1, addresses: {lan: 10.0.0.1, repl: "fd00::1"}}
  - {name: n2, addresses: {lan: 10.0.0.2, repl: "fd00::2"}}
"""


def cluster(text: str) -> Cluster:
    parsed = config.parse(text)
    assert isinstance(parsed, Parsed), parsed
    return parsed.model


def faults(text: str) -> list[str]:
    found = config.parse(text)
    assert not isinstance(found, Parsed), found.model
    return [str(fault) for fault in sorted(found)]


def test_defaults_and_order_of_networks() -> None:
    found = cluster(GOOD)
    assert (found.ports.heartbeat, found.ports.replication, found.ports.api) == (7420, 7430, 7440)
    assert found.heartbeat.interval == Duration(200)
    assert found.heartbeat.lost_after == Duration(2_000)
    assert found.isolation == "takeover"
    assert found.replication_networks() == ("repl", "lan")
    assert found.node("n2") is found.nodes[1] and found.node("n3") is None


def test_what_init_writes_is_valid() -> None:
    written = cluster(render("east", {"n1": {"lan": "10.0.0.1"}, "n2": {"lan": "10.0.0.2"}}))
    assert [node.name for node in written.nodes] == ["n1", "n2"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("cluster: east", "cluster: East", ":1: cluster: 'East' is not a name: use 1 to 63 lower"),
        ("id: 0123", "id: xyz", ":2: id: "),
        ("10.0.0.2", "10.0.0.1", ":9: nodes[1].addresses.lan: 10.0.0.1 is already the address of"),
        ("10.0.0.2", "10.0.0.299", ":9: nodes[1].addresses.lan: '10.0.0.299' is not an IPv4"),
        ("10.0.0.2", "224.0.0.1", "224.0.0.1 cannot be a node's address: write a unicast address"),
        ("name: n2", "name: n1", ":9: nodes[1].name: 'n1' is already used; names are unique"),
        ("name: guests", "name: lan", ":6: networks[2].name: 'lan' is already used"),
        ("{lan: 10.0.0.2,", "{lam: 10.0.0.2,", "network 'lam' is not defined; known: guests, lan"),
        ("replication: never", "replication: often", ":6: networks[2].replication: "),
        ("nodes:\n", "node:\n", "unknown key; did you mean 'nodes'?"),
        ("nodes:\n", "isolation: panic\nnodes:\n", ":7: isolation: "),
    ],
)
def test_single_faults(old: str, new: str, fault: str) -> None:
    assert old in GOOD
    found = faults(GOOD.replace(old, new))
    assert any(fault in one for one in found), found


@pytest.mark.parametrize(
    ("times", "fault"),
    [
        ("{interval: 10ms}", "interval: 10ms is too short: at least 20ms"),
        (
            "{interval: 1s}",
            "lost_after: lost_after >= 3 * interval is broken: 2s < 3 * 1s",
        ),
        (
            "{interval: 500ms, lost_after: 1s}",
            "lost_after: lost_after >= 3 * interval is broken: 1s < 3 * 500ms",
        ),
        ("{lost_after: 3m}", "lost_after: 3m is too long: at most 2m"),
        ("{interval: 200}", "interval: 200 is not a duration such as 200ms"),
        ("{intervall: 200ms}", "intervall: unknown key; did you mean 'interval'?"),
    ],
)
def test_times_and_their_relations(times: str, fault: str) -> None:
    (found,) = faults(f"{GOOD}heartbeat: {times}\n")
    assert found.startswith("cluster.yaml:10: heartbeat.") and fault in found


@pytest.mark.parametrize(
    ("ports", "fault"),
    [
        ("{api: 7430}", "api != replication is broken: both are 7430"),
        ("{api: 0}", "ports.api: Input should be greater than or equal to 1"),
        ("{api: 65536}", "ports.api: Input should be less than or equal to 65535"),
        ("{api: '7440'}", "ports.api: Input should be a valid integer"),
    ],
)
def test_ports(ports: str, fault: str) -> None:
    (found,) = faults(f"{GOOD}ports: {ports}\n")
    assert fault in found


def test_a_cluster_without_a_common_network_or_one_for_replication() -> None:
    apart = GOOD.replace('lan: 10.0.0.2, repl: "fd00::2"', "guests: 10.2.0.2")
    assert any("no network reaches every node" in one for one in faults(apart))
    never = GOOD.replace("name: lan", "name: lan\n    replication: never")
    never = never.replace("preferred", "never")
    assert any("mirrors need one that does not" in one for one in faults(never))


def test_all_faults_of_a_file_at_once() -> None:
    text = GOOD.replace("10.0.0.2", "10.0.0.1").replace("name: guests", "name: lan")
    text += "heartbeat: {interval: 1s}\nports: {api: 7430}\nisolation: panic\nextra: 1\n"
    assert [one.split(":")[1] for one in faults(text)] == ["6", "9", "10", "11", "12", "13"]


def test_a_faulty_required_value_hides_no_broken_relation() -> None:
    text = GOOD.replace("cluster: east", "cluster: EAST").replace("id: 0", "id: x")
    text = text.replace("name: n1,", "name: N1,").replace("10.0.0.2", "10.0.0.1")
    text += "heartbeat: {interval: 1s}\n"
    assert [one.split(":")[1] for one in faults(text)] == ["1", "2", "8", "9", "10"]


def test_examples_that_stand_in_are_never_complained_of() -> None:
    for key in ("cluster", "id", "networks", "nodes"):
        lines = [line for line in GOOD.splitlines() if not line.startswith(key)]
        text = "\n".join(line for line in lines if not line.startswith(" "))
        found = faults(text)
        assert all("example" not in one and "192.0.2" not in one for one in found), found
        assert any(f"{key}: required, and missing" in one for one in found)
