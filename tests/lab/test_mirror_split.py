"""G3 to its end: both nodes wrote apart, the operator chooses a side, and what the other side had
is kept outside its tree before it is overwritten.
"""

import json
from pathlib import Path

from mirrors import DIRECTORY, MODULE, STEP_TIMEOUT_S, assert_equal_trees, mirrored

from telamon.lab.mirror import ALONE, PRIM, SECOND, STOP, WAIT, MirrorInLab
from telamon.lab.spec import DEFAULT

KEPT = f"/var/lib/telamon/modules/{MODULE}/kept"


def shell(mirror: MirrorInLab, node: str, script: str) -> None:
    """Runs a script in the replicated directory, and flushes it."""
    mirror.lab.host(node).run(["sh", "-e", "-c", f"cd {DIRECTORY}\n{script}\nsync ."])


def kept_names(tree: Path) -> set[str]:
    """Every kept object that is no directory, by its path in the replicated directory."""
    found = (path for path in tree.rglob("*") if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(tree)) for path in found}


def write_apart(mirror: MirrorInLab, more: str = "") -> None:
    """All networks between the nodes fail, and there is no arbiter: both go on, apart."""
    shell(mirror, "n1", "for n in same changed mode gone; do echo common > $n; done; mkdir d")
    mirror.await_in_step(STEP_TIMEOUT_S)
    mirror.lab.cut("n2")
    mirror.await_states(STEP_TIMEOUT_S, n1=ALONE, n2=ALONE)
    shell(mirror, "n1", "echo n1 > changed; echo n1 > 'only n1'; chmod 640 mode; rm gone")
    shell(mirror, "n2", "echo n2 > changed; mkdir d/deep; echo n2 > 'd/deep/only n2'")
    shell(mirror, "n2", "ln 'd/deep/only n2' second; ln -s nowhere link; mkfifo pipe")
    shell(mirror, "n2", more)
    mirror.lab.heal("n2")


def test_the_losers_files_are_kept_and_nothing_else(lab_name: str) -> None:
    with mirrored(lab_name, DEFAULT) as mirror:
        write_apart(mirror)
        mirror.await_states(STEP_TIMEOUT_S, ready=False, n1=ALONE, n2=WAIT)
        mirror.await_reason(STEP_TIMEOUT_S, "n2", "split brain")
        loser = mirror.lab.host("n2")
        assert not loser.path(KEPT).exists()
        mirror.order("second", "n2")
        mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
        assert_equal_trees(mirror)
        kept = mirror.status()["n2"].kept
        assert kept is not None
        assert kept.directory.startswith(KEPT)
        assert kept.files == 7
        tree = loser.path(kept.directory + DIRECTORY)
        assert kept_names(tree) == {
            "changed",
            "mode",
            "gone",
            "d/deep/only n2",
            "second",
            "link",
            "pipe",
        }
        assert (tree / "changed").read_text() == "n2\n"
        assert (tree / "mode").stat().st_mode & 0o777 == 0o644
        assert (tree / "second").samefile(tree / "d/deep/only n2")
        events = loser.run(["telamon", "events", "--json"]).stdout
        assert any(kept.directory in json.loads(line)["text"] for line in events.splitlines())
        # The winner keeps nothing, and neither does an ordinary return.
        mirror.lab.off("n2")
        mirror.await_states(STEP_TIMEOUT_S, n1=ALONE)
        shell(mirror, "n1", "echo later > changed")
        mirror.lab.on("n2")
        mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
        assert_equal_trees(mirror)
        assert not mirror.lab.host("n1").path(KEPT).exists()
        assert mirror.status()["n2"].kept == kept


def test_the_other_side_may_be_chosen_and_an_interruption_forgets_nothing(lab_name: str) -> None:
    """The node that went on is stopped for it; its power fails in the middle of the copying."""
    with mirrored(lab_name, DEFAULT, resync_bandwidth="2MiB/s") as mirror:
        write_apart(mirror, "head -c 20000000 /dev/urandom > large")
        mirror.await_reason(STEP_TIMEOUT_S, "n2", "split brain")
        mirror.order("stop", "n1", "--node", "n1")
        mirror.await_states(STEP_TIMEOUT_S, ready=False, n1=STOP)
        mirror.order("prim", "n2", "--force")
        mirror.await_states(STEP_TIMEOUT_S, n2=ALONE)
        mirror.order("start", "n1", "--node", "n1")
        mirror.await_reason(STEP_TIMEOUT_S, "n1", "split brain")
        mirror.order("second", "n1")
        mirror.await_reason(STEP_TIMEOUT_S, "n1", "brought up")
        mirror.lab.off("n1")
        mirror.lab.on("n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=SECOND, n2=PRIM)
        assert_equal_trees(mirror)
        kept = mirror.status()["n1"].kept
        assert kept is not None
        host = mirror.lab.host("n1")
        assert [path.name for path in host.path(KEPT).iterdir() if path.is_dir()] == [
            Path(kept.directory).name
        ]
        tree = host.path(kept.directory + DIRECTORY)
        assert kept_names(tree) == {"changed", "mode", "only n1"}
        assert (tree / "changed").read_text() == "n1\n"
        assert (tree / "mode").stat().st_mode & 0o777 == 0o640
