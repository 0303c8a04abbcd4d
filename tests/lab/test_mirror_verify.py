"""`telamon module verify`: damage on the secondary that nobody else sees is found and repaired."""

import json
import os
from pathlib import Path

from mirrors import DIRECTORY, MODULE, STEP_TIMEOUT_S, assert_equal_trees, mirrored
from writers import await_promises, writing

from telamon.lab.host import RunningHost
from telamon.lab.mirror import PRIM, SECOND
from telamon.lab.spec import DEFAULT


def verify(host: RunningHost, *options: str) -> tuple[int, dict[str, object]]:
    """The exit status, and what the secondary found."""
    words = ["telamon", "module", "verify", MODULE, "--json", *options]
    ended = host.run(words, timeout_s=STEP_TIMEOUT_S, is_checked=False)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)["n2"]


def damage(file: Path) -> None:
    """Changes content behind everybody's back, times included."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(300_000)
        opened.write(b"damaged")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_damage_is_found_beside_the_work_and_repaired_on_request(
    lab_name: str, tmp_path: Path
) -> None:
    history = tmp_path / "history"
    history.touch()
    with mirrored(lab_name, DEFAULT) as mirror:
        primary, secondary = mirror.lab.host("n1"), mirror.lab.host("n2")
        primary.run(["sh", "-c", f"head -c 1000000 /dev/urandom > {DIRECTORY}/large; sync"])
        mirror.await_in_step(STEP_TIMEOUT_S)
        with writing(mirror.lab, "n1", history, seed=1):
            await_promises(history)
            status, sound = verify(primary)
            assert (status, sound["differing"]) == (0, 0), sound
            damage(secondary.backing(f"{DIRECTORY}/large"))
            status, found = verify(primary)
            named = [{"path": f"{DIRECTORY}/large", "aspect": "content"}]
            assert (status, found["paths"]) == (1, named), found
            assert mirror.status()["n2"].data_state == "UpToDate"
            status, found = verify(secondary, "--repair")
            assert (status, found["repairs"]) == (0, True), found
            mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
            await_promises(history)
        assert_equal_trees(mirror)
        assert verify(secondary)[0] == 0
