"""Every back end of the farm filter under the agent: attached, one answer for each SYN, untouched
by a restart of the agent, detached without a trace, recovered by hand; and all of them in one farm.
"""

import json
import signal

import pytest
from farms import (
    CLIENT_IP,
    CLIENT_IPV6,
    LAB,
    MODULE,
    NODES,
    VIRTUAL_IP,
    VIRTUAL_IPV6,
    Client,
    FarmInLab,
    farm_in_lab,
    make_module,
)

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.process import Daemon

COUNT = 60
KINDS = {
    "xdp-generic": {"filter": "xdp-generic"},
    "nft": {"filter": "nft"},
    "nfqueue": {"filter": "nfqueue"},
    "mixed": {"filters": {"n1": "nft", "n2": "nfqueue", "n3": "xdp-generic"}},
}
# Of fd00::100, as /proc/net/igmp6 writes it.
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
    command = ["telamon", "farm", "trace", f"{VIRTUAL_IP}:7000", "--table", "-", "--json"]
    traced = json.loads(farm.lab.host("c1").run(command, input_text=table).stdout)
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
    with farm_in_lab(lab_name, **KINDS[kind]) as farm, Client(farm.lab.host("c1")) as client:
        wanted = KINDS[kind].get("filters") or dict.fromkeys(NODES, kind)
        assert isinstance(wanted, dict)
        assert kinds_of(farm) == {node: [f"{wanted[node]} on lan"] for node in NODES}
        answered = client.connect(COUNT)
        assert answered == [(port, farm.predicted(NODES, port)) for port, _ in answered]
        assert {node for _, node in answered} == set(NODES)

        assert_traced(farm)

        daemons = {node: queue_daemons(farm.lab.host(node)) for node in NODES}
        for node in NODES:
            assert bool(daemons[node]) is (wanted[node] == "nfqueue")
            farm.lab.host(node).signal(Daemon.AGENT, signal.SIGKILL)
            # The restarted agent takes part again, and its filter was never gone.
            farm.until_serving(*NODES)
            works, broken = client.echo()
            assert (sum(works.values()), broken) == (COUNT, {})
        assert {node: queue_daemons(farm.lab.host(node)) for node in NODES} == daemons
        again = client.connect(COUNT)
        assert again == [(port, farm.predicted(NODES, port)) for port, _ in again]

        refused = farm.lab.host("n1").run(["telamon", "farm", "detach"], is_checked=False)
        assert refused.returncode == 3
        client.close()
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


ADDRESSES = {
    "virtual_ips": [
        {"address": f"{VIRTUAL_IP}/24", "network": "lan"},
        {"address": "10.0.0.101/24", "network": "lan"},
        {"address": f"{VIRTUAL_IPV6}/64", "network": "lan"},
    ],
    "services": [
        {"protocol": "tcp", "ports": [7000], "affinity": "connection"},
        {"protocol": "udp", "ports": [7000], "affinity": "connection", "weights": {"n1": 3}},
    ],
}
CLIENTS = {VIRTUAL_IP: CLIENT_IP, "10.0.0.101": CLIENT_IP, VIRTUAL_IPV6: CLIENT_IPV6}


@pytest.mark.parametrize("kind", ["xdp-generic", "mixed"])
def test_several_addresses_and_services_of_both_families(lab_name: str, kind: str) -> None:
    with farm_in_lab(lab_name, **ADDRESSES, **KINDS[kind]) as farm:
        for virtual_ip, client_ip in CLIENTS.items():
            with Client(farm.lab.host("c1"), virtual_ip) as client:
                answered = client.connect(20)
                assert answered == [
                    (port, farm.predicted(NODES, port, client_ip)) for port, _ in answered
                ]
                for port, names in client.ask(20):
                    owner = farm.telamon(
                        "n1", "farm", "owner", f"[{client_ip}]:{port}", "--service", "udp:7000"
                    )
                    assert len(names) == 1
                    assert f": {names[0]}," in owner
                assert client.echo()[1] == {}
        for node in NODES:
            reported = farm.lab.host(node).run(["cat", "/proc/net/igmp6"]).stdout.splitlines()
            assert [line.split()[1] for line in reported if SOLICITED_NODE in line] == ["lan"]
        uncovered = ["telamon", "farm", "trace", f"{VIRTUAL_IP}:9", "--count", "5", "--json"]
        traced = farm.lab.host("c1").run(uncovered, is_checked=False)
        assert traced.returncode == 1
        summary = json.loads(traced.stdout)
        assert (summary["unanswered"], summary["refused"]) == (5, 0)


def test_a_back_end_that_cannot_work_is_refused_and_leaves_nothing(lab_name: str) -> None:
    with Lab.up(lab_name, LAB) as lab:
        farm = FarmInLab(lab)
        source = make_module(lab.host("n1"), filter="xdp-native", failures={"limit": 0})
        farm.telamon("n1", "module", "install", str(source))
        farm.telamon("n1", "module", "start", MODULE, "--node", "n1")
        refused = farm.until(
            lambda now: now["n1"].state == "STOP" and bool(now["n1"].reason), "refused"
        )
        assert "lan is a virtual interface" in refused["n1"].reason
        assert "use `filter: xdp-generic`" in refused["n1"].reason
        assert_nothing_left(lab.host("n1"))


@pytest.mark.parametrize("kind", ["nft", "nfqueue"])
def test_a_filter_that_is_gone_is_made_again_and_connections_go_on(
    lab_name: str, kind: str
) -> None:
    with farm_in_lab(lab_name, **KINDS[kind]) as farm, Client(farm.lab.host("c1")) as client:
        client.connect(COUNT)
        host = farm.lab.host("n2")

        # Under a living agent a firewall is loaded anew, and the queue's process dies.
        host.run(["nft", "flush", "ruleset"])
        for daemon in queue_daemons(host):
            host.run(["kill", "-KILL", daemon])
        farm.until(lambda _: stands(host) and client.echo()[1] == {}, "made again")

        # The same while no agent looks.
        host.signal(Daemon.AGENT, signal.SIGSTOP)
        host.run(["nft", "flush", "ruleset"])
        for daemon in queue_daemons(host):
            host.run(["kill", "-KILL", daemon])
        host.signal(Daemon.AGENT, signal.SIGKILL)
        farm.until(lambda now: "n2" in now and stands(host), "made again")
        farm.until_serving(*NODES)
        works, broken = client.echo()
        assert (sum(works.values()), broken) == (COUNT, {})
        again = client.connect(COUNT)
        assert again == [(port, farm.predicted(NODES, port)) for port, _ in again]


def stands(host: RunningHost) -> bool:
    return "telamon_farm_lan" in host.run(["nft", "list", "chains", "netdev"]).stdout
