"""Every back end of the farm filter under the agent: attached, one answer for each SYN, untouched
by a restart of the agent, detached without a trace, recovered by hand; and all of them in one farm.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from farms import LAB, MODULE, NODES, Client, FarmInLab, make_module

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
GROUPS = ("33:33:", "01:00:5e:")
QUEUE_DAEMON = "telamon_nfqueue.daemon"


@contextmanager
def farm_with(name: str, **keys: object) -> Iterator[FarmInLab]:
    with Lab.up(name, LAB) as lab:
        farm = FarmInLab(lab)
        farm.telamon("n1", "module", "install", str(make_module(lab.host("n1"), **keys)))
        farm.telamon("n1", "module", "start", MODULE)
        farm.until_serving(*NODES)
        yield farm


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


def queue_daemons(host: RunningHost) -> list[str]:
    shown = host.run(["pgrep", "--full", QUEUE_DAEMON], is_checked=False).stdout
    return shown.split()


@pytest.mark.parametrize("kind", KINDS)
def test_one_answer_each_restart_and_detach(lab_name: str, kind: str) -> None:
    with farm_with(lab_name, **KINDS[kind]) as farm, Client(farm.lab.host("c1")) as client:
        wanted = KINDS[kind].get("filters") or dict.fromkeys(NODES, kind)
        assert isinstance(wanted, dict)
        assert kinds_of(farm) == {node: [f"{wanted[node]} on lan"] for node in NODES}
        answered = client.connect(COUNT)
        assert answered == [(port, farm.predicted(NODES, port)) for port, _ in answered]
        assert {node for _, node in answered} == set(NODES)

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
    with farm_with(lab_name, **KINDS[kind]) as farm:
        host = farm.lab.host("n3")
        host.signal(Daemon.AGENT, signal.SIGSTOP)
        assert host.run(["telamon", "farm", "detach", "--force"]).stdout == "freed: lan\n"
        assert_nothing_left(host)
