"""The first start of a mirror: nobody guesses which data is the good one; the operator says it."""

import pytest
from mirrors import DIRECTORY, START_TIMEOUT_S, assert_equal_trees, installed

from telamon.errors import RefusedError
from telamon.lab.lab import Lab
from telamon.lab.mirror import PRIM, SECOND, WAIT
from telamon.lab.spec import DEFAULT

READ_ONLY = "Read-only file system"


def test_both_wait_until_the_operator_decides(lab_name: str) -> None:
    with Lab.up(lab_name, DEFAULT) as lab:
        mirror = installed(lab)
        one, two = lab.host("n1"), lab.host("n2")
        one.write(f"{DIRECTORY}/old", "old")
        two.write(f"{DIRECTORY}/good", "good")
        mirror.order("start", "n1")
        mirror.await_states(START_TIMEOUT_S, ready=False, n1=WAIT, n2=WAIT)
        for node in ("n1", "n2"):
            mirror.await_reason(START_TIMEOUT_S, node, "prim")
        assert one.path(f"{DIRECTORY}/old").exists()

        mirror.order("prim", "n2")
        mirror.await_states(START_TIMEOUT_S, n1=SECOND, n2=PRIM)
        assert_equal_trees(mirror)
        assert one.backing(f"{DIRECTORY}/good").read_text() == "good"
        assert not one.backing(f"{DIRECTORY}/old").exists()


def test_the_secondary_is_read_only_and_the_primary_has_the_address(lab_name: str) -> None:
    with Lab.up(lab_name, DEFAULT) as lab:
        mirror = installed(lab)
        mirror.begin("n1", START_TIMEOUT_S)
        with pytest.raises(RefusedError, match=READ_ONLY):
            lab.host("n2").run(["touch", f"{DIRECTORY}/x"])
        lab.host("n1").run(["touch", f"{DIRECTORY}/x"])
        assert_equal_trees(mirror)
        addresses = {
            node: lab.host(node).run(["ip", "-o", "address", "show"]).stdout
            for node in ("n1", "n2")
        }
        assert "10.0.0.100/24" in addresses["n1"]
        assert "10.0.0.100" not in addresses["n2"]
