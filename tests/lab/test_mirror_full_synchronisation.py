"""The first synchronisation of a tree of real size, while the application works on it: no commit is
refused or lost meanwhile, and the copy is exact at the end.
"""

from pathlib import Path

import pytest
from mirrors import (
    DIRECTORY,
    START_TIMEOUT_S,
    STEP_TIMEOUT_S,
    assert_equal_trees,
    installed,
)
from writers import await_promises, writing

from telamon.lab.lab import Lab
from telamon.lab.mirror import ALONE, PRIM, SECOND, WAIT
from telamon.lab.oracles import registers
from telamon.lab.spec import DEFAULT

LONG_S = 300.0

# Changes what the comparison has passed, is at, and will come to.
RESTLESS = """
cd {directory}/tree
for round in 1 2 3 4 5; do
    find . -name copyright -newer /proc/self/stat -prune -o -name copyright -print |
        shuf | head -n 200 | while read -r name; do echo $round >> "$name"; done
    for one in $(ls | shuf | head -n 5); do mv "$one" "$one.$round"; done
    mkdir "new.$round"; cp -a /usr/share/perl5/Debian* "new.$round"; rm -rf "new.$((round - 2))"
    dd if=/dev/urandom of=../large bs=1M seek=$((round * 20)) count=5 conv=notrunc,fsync status=none
done
"""


@pytest.mark.timeout(900)
def test_a_tree_of_real_size_under_work(lab_name: str, tmp_path: Path, chosen: int) -> None:
    history = tmp_path / "history"
    history.touch()
    with Lab.up(lab_name, f"{DEFAULT}disk: 16GiB\n") as lab:
        mirror = installed(lab)
        one, two = lab.host("n1"), lab.host("n2")
        fill = f"cp -a /usr/share/. {DIRECTORY}/tree; head -c 256M /dev/urandom > {DIRECTORY}/large"
        one.run(["sh", "-ec", fill], timeout_s=LONG_S)
        # A part of it is there already, brought by other means, and not all of it is right.
        part = f"cp -a /usr/share/perl {DIRECTORY}/tree; echo x > {DIRECTORY}/tree/perl/extra"
        two.run(["sh", "-ec", f"mkdir {DIRECTORY}/tree; {part}"], timeout_s=LONG_S)
        mirror.order("start", "n1")
        mirror.await_states(START_TIMEOUT_S, ready=False, n1=WAIT, n2=WAIT)
        mirror.order("prim", "n1")
        mirror.await_serving(START_TIMEOUT_S, "n1")
        assert mirror.status()["n1"].link != "live", "the synchronisation ended before the test"
        with writing(lab, "n1", history, chosen):
            await_promises(history)
            one.run(["bash", "-ec", RESTLESS.format(directory=DIRECTORY)], timeout_s=LONG_S)
            mirror.await_states(LONG_S, n1=PRIM, n2=SECOND)
            await_promises(history)
        assert_equal_trees(mirror)
        lab.off("n1")
        mirror.await_states(STEP_TIMEOUT_S, n2=ALONE)
        assert registers.violations(history, two.path(DIRECTORY)) == []
