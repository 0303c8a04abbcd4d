"""Every back end of the farm filter under the agent: attached, one answer for each SYN, untouched
by a restart of the agent, detached without a trace, recovered by hand; and all of them in one farm.
"""

import json
import signal

import pytest
from farms import (
    ADDRESSES,
    CLIENT,
    ECHO,
    MODULE,
    NODES,
    PORT,
    assert_none_broken,
    assert_predicted,
    connect,
    farm_in_lab,
    lab_file,
    make_module,
    own_address,
    restart_agent,
)

from telamon.lab.farm import FarmInLab
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.oracles.connections import Connections, Service, Speech, by_node
from telamon.lab.process import Daemon
from telamon.lab.web import VIRTUAL_IP

COUNT = 60
KINDS = {
    "xdp-generic": {"filter": "xdp-generic"},
    "nft": {"filter": "nft"},
    "nfqueue": {"filter": "nfqueue"},
    "mixed": {"filters": {"n1": "nft", "n2": "nfqueue", "n3": "xdp-generic"}},
}
# Of the virtual IPv6 address, as /proc/net/igmp6 writes it.
SOLICITED_NODE = "ff0200000000000000000001ff000100"
GROUPS = ("33:33:", "01:00:5e:")
QUEUE_DAEMON = "telamon_nfqueue.daemon"


def kinds_of(farm: FarmInLab) -> dict[str, list[str]]:
    return {node: here.farm.filters for node, here in farm.status().items() if here.farm}


def assert_nothing_left(host: RunningHost) -> None:
    assert "telamon" not in host.run(["nft", "list", "ruleset"]).stdout
    for save in ("iptables-save", "ip6tables-save"):
        assert "TELAMON" not in host.run([save]).stdout
    assert "xdp" not in host.run(["ip", "link", "show", "lan"]).stdout
    assert "10.0.0.100" not in host.run(["ip", "address"]).stdout
    heard = host.run(["bridge", "fdb", "show", "dev", "lan"]).stdout.splitlines()
    assert [line for line in heard if not line.startswith(GROUPS)] == []
    for setting in ("arp_ignore", "arp_announce"):
        assert host.run(["cat", f"/proc/sys/net/ipv4/conf/lan/{setting}"]).stdout == "0\n"
    assert queue_daemons(host) == []


def assert_traced(farm: FarmInLab) -> None:
    """Each SYN of a client is answered by the node that the table names, and nothing is left."""
    table = farm.telamon("n2", "farm", "table")
    command = ["telamon", "farm", "trace", f"{VIRTUAL_IP}:{PORT}", "--table", "-", "--json"]
    traced = json.loads(farm.lab.host(CLIENT).run(command, input_text=table).stdout)
    assert (traced["sent"], traced["exactly_one"], traced["several"]) == (100, 100, 0)
    assert (traced["predicted"], traced["other_than_predicted"]) == (100, 0)
    assert set(traced["by_node"]) == set(NODES)
    for node in NODES:
        half_open = farm.lab.host(node).run(["ss", "-Htan", "state", "syn-recv"]).stdout
        assert half_open == ""


def queue_daemons(host: RunningHost) -> list[str]:
    shown = host.run(["pgrep", "--full", QUEUE_DAEMON], is_checked=False).stdout
    return shown.split()


@pytest.mark.parametrize("kind", KINDS)
def test_one_answer_each_restart_and_detach(lab_name: str, kind: str) -> None:
    with (
        farm_in_lab(lab_name, **KINDS[kind]) as farm,
        Connections(farm.lab.host(CLIENT)) as clients,
    ):
        wanted = KINDS[kind].get("filters") or dict.fromkeys(NODES, kind)
        assert isinstance(wanted, dict)
        assert kinds_of(farm) == {node: [f"{wanted[node]} on lan"] for node in NODES}
        connected = connect(farm, clients, COUNT)
        assert_predicted(farm, NODES, connected)
        assert set(by_node(connected)) == set(NODES)

        assert_traced(farm)

        daemons = {node: queue_daemons(farm.lab.host(node)) for node in NODES}
        for node in NODES:
            assert bool(daemons[node]) is (wanted[node] == "nfqueue")
            restart_agent(farm.lab.host(node), signal.SIGKILL)
            # The restarted agent takes part again, and its filter was never gone.
            farm.await_serving(*NODES)
            assert_none_broken(clients, COUNT)
        assert {node: queue_daemons(farm.lab.host(node)) for node in NODES} == daemons
        assert_predicted(farm, NODES, connect(farm, clients, COUNT))

        refused = farm.lab.host("n1").run(["telamon", "farm", "detach"], is_checked=False)
        assert refused.returncode == 3
        clients.drop()
        farm.telamon("n1", "module", "stop", MODULE, "--wait")
        for node in NODES:
            assert_nothing_left(farm.lab.host(node))


@pytest.mark.parametrize("kind", ["nft", "nfqueue"])
def test_a_host_is_freed_by_hand(lab_name: str, kind: str) -> None:
    with farm_in_lab(lab_name, **KINDS[kind]) as farm:
        host = farm.lab.host("n3")
        host.signal(Daemon.AGENT, signal.SIGSTOP)
        assert host.run(["telamon", "farm", "detach", "--force"]).stdout == "freed: lan\n"
        assert_nothing_left(host)


SECOND_IP = "10.0.0.101"
KEYS: dict[str, object] = {
    "virtual_ips": [
        {"address": one, "network": "lan"} for one in (*ADDRESSES.values(), f"{SECOND_IP}/24")
    ],
    "services": [
        {"protocol": "tcp", "ports": [PORT], "affinity": "connection"},
        {"protocol": "udp", "ports": [PORT], "affinity": "connection", "weights": {"n1": 3}},
    ],
}


@pytest.mark.parametrize("kind", ["xdp-generic", "mixed"])
def test_several_addresses_and_services_of_both_families(lab_name: str, kind: str) -> None:
    with (
        farm_in_lab(lab_name, **KEYS, **KINDS[kind]) as farm,
        Connections(farm.lab.host(CLIENT)) as clients,
    ):
        for service in (*ECHO.values(), Service(SECOND_IP, PORT, Speech.LINE)):
            assert_predicted(farm, NODES, connect(farm, clients, 20, service))
            source = own_address(farm, 6 if ":" in service.address else 4)
            for asked in clients.ask([source] * 20, service):
                client = f"[{source}]:{asked.port}"
                owner = farm.telamon("n1", "farm", "owner", client, "--service", f"udp:{PORT}")
                assert len(asked.answers) == 1
                assert f": {asked.answers[0]}," in owner
        assert_none_broken(clients, 60)
        for node in NODES:
            reported = farm.lab.host(node).run(["cat", "/proc/net/igmp6"]).stdout.splitlines()
            assert [line.split()[1] for line in reported if SOLICITED_NODE in line] == ["lan"]
        uncovered = ["telamon", "farm", "trace", f"{VIRTUAL_IP}:9", "--count", "5", "--json"]
        traced = farm.lab.host(CLIENT).run(uncovered, is_checked=False)
        assert traced.returncode == 1
        summary = json.loads(traced.stdout)
        assert (summary["unanswered"], summary["refused"]) == (5, 0)


@pytest.mark.parametrize("kind", ["xdp-generic", "nft", "nfqueue"])
def test_what_no_service_covers_goes_to_the_owner_if_it_passes(lab_name: str, kind: str) -> None:
    with farm_in_lab(lab_name, unmatched="pass", **KINDS[kind]) as farm:
        uncovered = ["telamon", "farm", "trace", f"{VIRTUAL_IP}:9", "--count", "20", "--json"]
        traced = json.loads(farm.lab.host(CLIENT).run(uncovered, is_checked=False).stdout)
        # Nobody listens there: the kernel of the client's owner says so, and nobody else's.
        assert traced["refused"] == traced["sent"]
        (owner,) = {tuple(probe["refused_by"]) for probe in traced["probes"]}
        assert len(owner) == 1


def test_a_back_end_that_cannot_work_is_refused_and_leaves_nothing(lab_name: str) -> None:
    with Lab.up(lab_name, lab_file()) as lab:
        farm = FarmInLab(lab, MODULE)
        source = make_module(lab.host("n1"), filter="xdp-native", failures={"limit": 0})
        farm.telamon("n1", "module", "install", str(source))
        farm.telamon("n1", "module", "start", MODULE, "--node", "n1")
        refused = farm.await_status(
            lambda now: now["n1"].state == "STOP" and bool(now["n1"].reason), "refused"
        )
        assert "lan is a virtual interface" in refused["n1"].reason
        assert "use `filter: xdp-generic`" in refused["n1"].reason
        assert_nothing_left(lab.host("n1"))


@pytest.mark.parametrize("kind", ["nft", "nfqueue"])
def test_a_filter_that_is_gone_is_made_again_and_connections_go_on(
    lab_name: str, kind: str
) -> None:
    with (
        farm_in_lab(lab_name, **KINDS[kind]) as farm,
        Connections(farm.lab.host(CLIENT)) as clients,
    ):
        connect(farm, clients, COUNT)
        host = farm.lab.host("n2")

        # Under a living agent a firewall is loaded anew, and the queue's process dies.
        host.run(["nft", "flush", "ruleset"])
        for daemon in queue_daemons(host):
            host.run(["kill", "-KILL", daemon])
        farm.await_status(lambda _: stands(host), "made again")
        assert clients.echo().broken == []

        # The same while no agent looks.
        host.signal(Daemon.AGENT, signal.SIGSTOP)
        host.run(["nft", "flush", "ruleset"])
        for daemon in queue_daemons(host):
            host.run(["kill", "-KILL", daemon])
        host.signal(Daemon.AGENT, signal.SIGKILL)
        farm.await_status(lambda now: "n2" in now and stands(host), "made again")
        farm.await_serving(*NODES)
        assert_none_broken(clients, COUNT)
        assert_predicted(farm, NODES, connect(farm, clients, COUNT))


def stands(host: RunningHost) -> bool:
    return "telamon_farm_lan" in host.run(["nft", "list", "chains", "netdev"]).stdout
