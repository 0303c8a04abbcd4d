"""lab.yaml: what it means, and that every fault is found at once."""

import pytest

from telamon.errors import InvalidError
from telamon.lab.spec import DEFAULT, HostKind, lab_spec


def test_default_lab_is_two_nodes_and_a_client() -> None:
    spec = lab_spec(DEFAULT, "default")
    assert [(host.name, host.kind) for host in spec.hosts] == [
        ("n1", HostKind.NODE),
        ("n2", HostKind.NODE),
        ("c1", HostKind.CLIENT),
    ]
    assert {host.name: tuple(host.links) for host in spec.hosts} == {
        "n1": ("lan", "repl"),
        "n2": ("lan", "repl"),
        "c1": ("lan",),
    }
    assert spec.agents


def test_addresses_follow_the_order_of_hosts() -> None:
    spec = lab_spec(DEFAULT, "default")
    assert [str(address) for address in spec.hosts[1].links["lan"]] == [
        "10.0.0.2/24",
        "fd00:0:0:1::2/64",
    ]
    assert spec.hosts[2].address == "10.0.0.3"


def faults_of(text: str) -> list[str]:
    with pytest.raises(InvalidError) as caught:
        lab_spec(text, "lab.yaml")
    return list(caught.value.faults)


def test_all_faults_are_reported_at_once_with_their_lines() -> None:
    faults = faults_of(
        """\
networks:
  lan: {ipv4: 10.0.0.0/24}
  other: {ipv4: 10.0.0.0/16}
hosts:
  N1: {kind: node, networks: [lan]}
  n2: {kind: node, networks: [nowhere]}
  averylongname: {kind: client, networks: [lan, lan]}
directories: [/srv, /srv/x, /run]
disk: 1MiB
"""
    )
    assert [fault.split(": ")[0] for fault in faults] == [
        "lab.yaml:3",  # overlapping subnets
        "lab.yaml:5",  # a capital letter
        "lab.yaml:6",  # unknown network
        "lab.yaml:7",  # averylongname-lan, twice
        "lab.yaml:7",
        "lab.yaml:7",  # named twice
        "lab.yaml:8",
        "lab.yaml:8",
        "lab.yaml:9",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("colour: red", "colour"),
        ("disk: 5", "unit"),
        ("directories: [srv]", "absolute"),
        ("directories: [/srv/]", "absolute"),
        ("directories: [/a/../b]", "absolute"),
        ("agents: maybe", "agents"),
    ],
)
def test_one_fault(change: str, says: str) -> None:
    (fault,) = faults_of(f"{DEFAULT}{change}\n")
    assert says in fault


def test_a_subnet_must_hold_all_hosts() -> None:
    hosts = "\n".join(f"  h{n}: {{kind: client, networks: [lan]}}" for n in range(3))
    (fault,) = faults_of(f"networks: {{lan: {{ipv4: 10.0.0.0/30}}}}\nhosts:\n{hosts}\n")
    assert "too few addresses" in fault
