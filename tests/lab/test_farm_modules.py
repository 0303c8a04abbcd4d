"""Two farm modules on one interface share its filter, and neither notices what becomes of the
other.
"""

import signal

from farms import (
    CLIENT,
    ECHO,
    MODULE,
    NODES,
    PORT,
    assert_none_broken,
    assert_predicted,
    connect,
    farm_in_lab,
    make_module,
    restart_agent,
)

from telamon.lab.farm import FarmInLab
from telamon.lab.oracles.connections import Connections, Service, Speech

SECOND = "second"
SECOND_IP = "10.0.0.101"
SECOND_SERVICE = Service(SECOND_IP, PORT, Speech.LINE)
FILTERS = {"n1": "nft", "n2": "nfqueue", "n3": "xdp-generic"}
COUNT = 40
# The first module's server listens on every address; this module only opens another one.
NOTHING = "#!/bin/sh\nexit 0\n"


def second_farm(first: FarmInLab) -> FarmInLab:
    host = first.lab.host("n1")
    source = make_module(
        host,
        scripts={"start": NOTHING, "stop": NOTHING},
        module=SECOND,
        virtual_ips=[{"address": f"{SECOND_IP}/24", "network": "lan"}],
        filters=FILTERS,
    )
    farm = FarmInLab(first.lab, SECOND)
    farm.install(source)
    farm.begin()
    return farm


def test_two_modules_share_an_interface(lab_name: str) -> None:
    with (
        farm_in_lab(lab_name, filters=FILTERS) as first,
        Connections(first.lab.host(CLIENT)) as clients,
    ):
        second = second_farm(first)
        assert_predicted(first, NODES, connect(first, clients, COUNT))
        assert_predicted(second, NODES, connect(second, clients, COUNT, SECOND_SERVICE))

        # One drains a node, the other stays there.
        second.telamon("n1", "farm", "drain", "n2", "--module", SECOND)
        second.await_serving("n1", "n3")
        first.await_serving(*NODES)
        assert_predicted(second, ("n1", "n3"), connect(second, clients, COUNT, SECOND_SERVICE))
        assert_predicted(first, NODES, connect(first, clients, COUNT))
        assert_none_broken(clients, 4 * COUNT)

        # A new agent finds both.
        for node in NODES:
            restart_agent(first.lab.host(node), signal.SIGKILL)
            first.await_serving(*NODES)
            second.await_serving("n1", "n3")
        assert_none_broken(clients, 4 * COUNT)

        # One stops, the other goes on.
        clients.drop()
        connect(first, clients, COUNT)
        second.telamon("n1", "module", "stop", SECOND, "--wait")
        assert_none_broken(clients, COUNT)
        assert_predicted(first, NODES, connect(first, clients, COUNT))
        shown = first.lab.host("n1").run(["ip", "address", "show", "dev", "lo"]).stdout
        assert SECOND_IP not in shown
        assert ECHO[4].address in shown
        refused = first.lab.host("n1").run(
            ["telamon", "farm", "owner", "10.0.0.9", "--module", SECOND], is_checked=False
        )
        assert refused.returncode == 3
        assert MODULE in first.telamon("n1", "farm", "show", "--module", MODULE)
