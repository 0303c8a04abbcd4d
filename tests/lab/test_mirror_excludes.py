"""What `exclude` names stays on its own node: it is never shipped, and each node keeps its own, but
for what lies in a directory that the primary removes.
"""

from mirrors import DIRECTORY, START_TIMEOUT_S, STEP_TIMEOUT_S, assert_equal_trees, installed

from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.mirror import PRIM, SECOND, MirrorInLab
from telamon.lab.spec import DEFAULT

EXCLUDES = ["cache/**", "*.pid", "**/scratch-?", "logs"]
CACHED = "cache/deep/entry"
LEFT_OUT = [CACHED, "server.pid", "a/b/scratch-1", "scratch-2", "logs/today"]
# Directories that a first synchronisation leaves: they hold what only that node has.
HOLDERS = {b"a", b"a/b", b"cache"}
KEPT = ["caches/entry", "a/server.pid", "a/b/scratch-12", "a/logs/today", "cache.txt"]


def make_all(host: RunningHost, content: str) -> None:
    for name in (*LEFT_OUT, *KEPT):
        path = f"{DIRECTORY}/{name}"
        host.run(["sh", "-c", f"mkdir -p $(dirname {path}); echo {content} > {path}; sync {path}"])


def contents(host: RunningHost, names: list[str]) -> set[str]:
    return {(host.backing(DIRECTORY) / name).read_text().strip() for name in names}


def names_that_differ(mirror: MirrorInLab) -> set[bytes]:
    return {difference.path for difference in mirror.differences()}


def test_excludes(lab_name: str) -> None:
    with Lab.up(lab_name, DEFAULT) as lab:
        mirror = installed(lab, of_directory={"exclude": EXCLUDES})
        one, two = lab.host("n1"), lab.host("n2")
        make_all(two, "two")
        mirror.begin("n1", START_TIMEOUT_S)
        mirror.await_in_step(STEP_TIMEOUT_S)
        assert names_that_differ(mirror) == HOLDERS
        assert contents(two, LEFT_OUT) == {"two"}
        assert not (two.backing(DIRECTORY) / "caches").exists()

        make_all(one, "one")
        assert_equal_trees(mirror)
        assert contents(two, KEPT) == {"one"}
        assert contents(two, LEFT_OUT) == {"two"}

        one.run(
            ["sh", "-c", f"cd {DIRECTORY}; rm -r cache logs *.pid; mv a/b/scratch-12 scratch-3"]
        )
        assert_equal_trees(mirror)
        assert contents(two, [name for name in LEFT_OUT if name != CACHED]) == {"two"}
        assert not (two.backing(DIRECTORY) / "a/b/scratch-12").exists()

        mirror.order("swap", "n1")
        mirror.await_states(STEP_TIMEOUT_S, n1=SECOND, n2=PRIM)
        two.run(["sh", "-c", f"cat {DIRECTORY}/server.pid; echo new > {DIRECTORY}/a/server.pid"])
        assert_equal_trees(mirror)
        assert contents(one, ["scratch-3", "scratch-2"]) == {"one"}
        assert contents(one, ["a/server.pid"]) == {"new"}
