"""Real connections through real filters: one owner each, and none broken by a change."""

from collections.abc import Iterator

import pytest
from tests.farm.farm import (
    ADDRESSES,
    LEASE_S,
    PORT_BY_CLIENT,
    PORT_BY_CONNECTION,
    VIRTUAL_MAC,
    Farm,
    predicted,
)

KINDS = {
    "xdp": ["xdp"] * 3,
    "nft": ["nft"] * 3,
    "nfqueue": ["nfqueue"] * 3,
    "mixed": ["xdp", "nft", "nfqueue"],
}
SEED = 41
NODES = [1, 2, 3]


@pytest.fixture(scope="module", params=KINDS)
def shared_farm(request: pytest.FixtureRequest) -> Iterator[Farm]:
    with Farm(KINDS[request.param], SEED) as made:
        yield made


@pytest.fixture
def farm(shared_farm: Farm) -> Iterator[Farm]:
    """A farm whose connections of earlier tests are closed and whose leases run."""
    for number in NODES:
        shared_farm.agents[number].ask("lease", LEASE_S)
    yield shared_farm
    shared_farm.client.ask("close_all")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("port", [PORT_BY_CLIENT, PORT_BY_CONNECTION])
def test_each_client_is_answered_by_its_owner(farm: Farm, version: int, port: int) -> None:
    table = farm.change(NODES)
    connected = farm.connect(version, 100, port)
    assert [one.owner for one in connected] == [predicted(table, one, port) for one in connected]
    assert {one.owner for one in connected} == set(NODES)


@pytest.mark.parametrize("version", [4, 6])
def test_each_datagram_is_answered_by_its_owner_alone(farm: Farm, version: int) -> None:
    table = farm.change(NODES)
    sources = farm.sources(version, 60)
    answers = farm.client.ask("ask_all", sources, ADDRESSES[version], PORT_BY_CLIENT)
    assert answers == [[farm.owner_of(table, source)] for source in sources]


@pytest.mark.parametrize("version", [4, 6])
def test_no_change_breaks_a_connection(farm: Farm, version: int) -> None:
    farm.change(NODES)
    farm.client.ask("capture")
    opened = 0
    for _ in range(8):
        members = farm.random.sample(NODES, farm.random.randint(1, 3))
        weights = {number: farm.random.choice([0, 1, 1, 5]) for number in members}
        weights[members[0]] = 1
        table = farm.change(members, weights)
        connected = farm.connect(version, 40)
        assert all(one.owner == predicted(table, one, PORT_BY_CLIENT) for one in connected)
        opened += len(connected)
        assert farm.client.ask("echo_all") == opened
    answered = farm.client.ask("captured")
    assert len(answered) >= opened
    assert {flow: macs for flow, macs in answered.items() if len(macs) != 1} == {}


def test_without_its_lease_a_node_takes_nobody_and_keeps_everybody(farm: Farm) -> None:
    table = farm.change([1])
    assert {one.owner for one in farm.connect(4, 20)} == {1}
    farm.agents[1].ask("lease", 0.0)
    assert farm.client.ask("ask_all", farm.sources(4, 5), ADDRESSES[4], PORT_BY_CLIENT) == [[]] * 5
    assert farm.client.ask("who_has", ADDRESSES[4], "10.9.0.1") == []
    assert farm.client.ask("echo_all") == 20
    farm.agents[1].ask("lease", LEASE_S)
    farm.settle(table)
    assert {one.owner for one in farm.connect(4, 5)} == {1}


@pytest.mark.parametrize(("version", "source"), [(4, "10.10.3.4"), (6, "fd00:10::7")])
def test_a_stranger_is_refused_only_by_a_settled_owner(
    farm: Farm, version: int, source: str
) -> None:
    table = farm.change(NODES)
    question = ("stranger", source, ADDRESSES[version], PORT_BY_CLIENT)
    assert farm.client.ask(*question) is False
    farm.settle(table)
    owner = farm.owner_of(table, source)
    # What is neither new nor known never reaches the queue's user.
    assert farm.client.ask(*question) is (farm.kinds[owner] != "nfqueue")


def test_the_owner_of_the_requester_alone_says_who_has_the_address(farm: Farm) -> None:
    table = farm.change(NODES)
    for requester in ["10.9.0.1", *farm.sources(4, 2)]:
        owner = farm.host(farm.owner_of(table, requester))
        own_mac = owner.run("cat", "/sys/class/net/eth0/address").strip()
        assert farm.client.ask("who_has", ADDRESSES[4], requester) == [[own_mac, VIRTUAL_MAC]]


def test_what_no_service_covers_is_the_owners(farm: Farm) -> None:
    farm.settle(farm.change(NODES))
    for version, address in ADDRESSES.items():
        for source in farm.sources(version, 2):
            assert farm.client.ask("ping", source, address) == 1
    refused = farm.client.ask("connect_all", farm.sources(4, 10), ADDRESSES[4], 9)
    assert {answer[2] for answer in refused} == {"ConnectionRefusedError"}


def test_a_restarted_agent_finds_its_filter_as_it_was(farm: Farm) -> None:
    table = farm.change(NODES)
    connected = farm.connect(4, 30)
    for number in NODES:
        farm.agents[number].ask("adopt")
        owned = farm.agents[number].ask("owned")
        assert owned == [bucket for bucket, owner in enumerate(table.owner) if owner == number]
        assert LEASE_S - 60 < farm.agents[number].ask("lease_remaining") <= LEASE_S
    assert farm.client.ask("echo_all") == len(connected)
    again = farm.connect(4, 30)
    assert all(one.owner == predicted(table, one, PORT_BY_CLIENT) for one in again)
    for number in NODES:
        farm.configure(number)


def test_flushed_rules_stand_again_with_the_next_renewal(farm: Farm) -> None:
    table = farm.change(NODES)
    opened = farm.connect(4, 30)
    for number in NODES:
        farm.host(number).run("nft", "flush", "ruleset")
        farm.agents[number].ask("lease", LEASE_S)
    assert farm.client.ask("echo_all") == len(opened)
    again = farm.connect(4, 30)
    assert all(one.owner == predicted(table, one, PORT_BY_CLIENT) for one in again)


def test_counters_tell_what_became_of_the_packets(farm: Farm) -> None:
    farm.settle(farm.change([1]))
    before = {number: farm.agents[number].ask("counters") for number in NODES}
    assert len(farm.connect(4, 50)) == 50
    after = {number: farm.agents[number].ask("counters") for number in NODES}
    assert after[1]["PASS_NEW"] - before[1]["PASS_NEW"] == 50
    assert after[2]["DROP_NOT_OWNER"] - before[2]["DROP_NOT_OWNER"] == 50
    assert after[2]["PASS_NEW"] == before[2]["PASS_NEW"]


@pytest.mark.parametrize("kind", ["xdp", "nft", "nfqueue"])
def test_detaching_leaves_nothing(kind: str) -> None:
    with Farm([kind], SEED) as farm:
        farm.change([1])
        assert {one.owner for one in farm.connect(4, 5)} == {1}
        farm.agents[1].ask("detach")
        host = farm.host(1)
        assert "telamon" not in host.run("nft", "list", "ruleset")
        for save in ("iptables-save", "ip6tables-save"):
            assert "TELAMON" not in host.run(save)
        assert "xdp" not in host.run("ip", "link", "show", "eth0")
