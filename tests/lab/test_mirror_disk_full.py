"""A full disk on the secondary: the primary goes on alone, the secondary says why, and comes back
once there is room.
"""

from mirrors import DIRECTORY, STEP_TIMEOUT_S, assert_equal_trees, mirrored

from telamon.lab.mirror import ALONE, PRIM, SECOND
from telamon.lab.root import DISK
from telamon.lab.spec import DEFAULT

FILLER = DISK / "filler"


def test_full_secondary(lab_name: str) -> None:
    with mirrored(lab_name, f"{DEFAULT}disk: 256MiB\n") as mirror:
        primary, secondary = mirror.lab.host("n1"), mirror.lab.host("n2")
        secondary.run(["sh", "-c", f"dd if=/dev/zero of={FILLER} bs=1M status=none || true"])
        primary.run(
            ["dd", "if=/dev/urandom", f"of={DIRECTORY}/large", "bs=1M", "count=40", "conv=fsync"],
            timeout_s=STEP_TIMEOUT_S,
        )
        mirror.await_states(STEP_TIMEOUT_S, n1=ALONE)
        primary.run(["sh", "-c", f"echo on > {DIRECTORY}/after && sync {DIRECTORY}/after"])
        mirror.await_reason(STEP_TIMEOUT_S, "n2", "space")

        secondary.run(["rm", FILLER])
        mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
        assert_equal_trees(mirror)
        assert secondary.backing(f"{DIRECTORY}/after").read_text() == "on\n"
