"""G1, G2 and G3 on real hosts: committed means on both disks, no stale promotion, divergence is
seen and kept.
"""

from pathlib import Path

from mirrors import DIRECTORY, STEP_TIMEOUT_S, assert_equal_trees, mirrored
from writers import await_promises, writing

from telamon.lab.mirror import ALONE, PRIM, SECOND, WAIT, MirrorInLab
from telamon.lab.oracles import registers
from telamon.lab.spec import DEFAULT

# Long enough that a node which would promote itself has done so: several times the loss time.
SETTLING_S = 8.0


def write(mirror: MirrorInLab, node: str, name: str) -> None:
    path = f"{DIRECTORY}/{name}"
    mirror.lab.host(node).run(["sh", "-c", f"echo {node} > {path}; sync {path} {DIRECTORY}"])


def test_g1_what_was_committed_is_on_the_peers_disk(
    lab_name: str, tmp_path: Path, chosen: int
) -> None:
    """Both nodes lose their power in the middle of the work; only the secondary comes back."""
    history = tmp_path / "history"
    history.touch()
    with mirrored(lab_name, DEFAULT, acknowledge="disk") as mirror:
        with writing(mirror.lab, "n1", history, chosen):
            await_promises(history)
            mirror.lab.off("n2")
            mirror.lab.off("n1")
        mirror.lab.on("n2")
        assert registers.violations(history, mirror.lab.host("n2").backing(DIRECTORY)) == []
        mirror.lab.on("n1")
        mirror.await_in_step(STEP_TIMEOUT_S)
        assert_equal_trees(mirror)


def test_g2_a_stale_node_does_not_promote_itself(lab_name: str) -> None:
    with mirrored(lab_name, DEFAULT) as mirror:
        write(mirror, "n1", "old")
        mirror.lab.off("n2")
        mirror.await_states(STEP_TIMEOUT_S, n1=ALONE)
        write(mirror, "n1", "new")
        mirror.lab.off("n1")
        mirror.lab.on("n2")
        mirror.await_states(STEP_TIMEOUT_S, ready=False, n2=WAIT)
        mirror.assert_stays(SETTLING_S, n2=WAIT)
        assert "prim" in mirror.status()["n2"].reason
        mirror.lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
        assert_equal_trees(mirror)
        assert mirror.lab.host("n2").backing(f"{DIRECTORY}/new").read_text() == "n1\n"


def test_g3_divergence_is_seen_and_nothing_is_overwritten(lab_name: str) -> None:
    """All networks between the nodes fail, and there is no arbiter: both go on, apart."""
    with mirrored(lab_name, DEFAULT) as mirror:
        mirror.lab.cut("n2")
        mirror.await_states(STEP_TIMEOUT_S, n1=ALONE, n2=ALONE)
        write(mirror, "n1", "one")
        write(mirror, "n2", "two")
        mirror.lab.heal("n2")
        mirror.await_reason(STEP_TIMEOUT_S, "n2", "split brain")
        one, two = (mirror.lab.host(node).backing(DIRECTORY) for node in ("n1", "n2"))
        assert (one / "one").exists()
        assert not (one / "two").exists()
        assert (two / "two").exists()
        assert not (two / "one").exists()
