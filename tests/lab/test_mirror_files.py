"""Plain files: what fsync promised survives the loss of the node that promised it, and the loss of
the peer stops nobody for long.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import FAULTS, other
from mirrors import DIRECTORY, STEP_TIMEOUT_S, assert_equal_trees, mirrored
from writers import await_promises, writing

from telamon.lab.mirror import ALONE, PRIM, SECOND, MirrorInLab
from telamon.lab.oracles import registers
from telamon.lab.spec import DEFAULT

# peer_timeout and heartbeat.lost_after, 2 s each, run side by side; the rest is for a busy machine.
STALL_LIMIT_S = 10.0


@pytest.fixture(scope="module")
def mirror() -> Iterator[MirrorInLab]:
    with mirrored("test-files", DEFAULT) as made:
        yield made


@pytest.mark.timeout(900)
def test_every_promise_is_kept_through_every_fault(
    mirror: MirrorInLab, tmp_path: Path, chosen: int
) -> None:
    history = tmp_path / "history"
    history.touch()
    primary = mirror.primary()
    faults = list(FAULTS)
    random.Random(chosen).shuffle(faults)
    for fault in faults:
        with writing(mirror.lab, primary, history, chosen):
            await_promises(history)
            fault.strike(mirror, primary)
        fault.heal(mirror, primary)
        primary = other(primary) if fault.moves_primary else primary
        served = mirror.lab.host(primary).path(DIRECTORY)
        assert registers.violations(history, served) == [], fault.name
        assert_equal_trees(mirror)


def test_the_peers_death_stops_nobody_for_long(
    mirror: MirrorInLab, tmp_path: Path, chosen: int, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history"
    history.touch()
    primary = mirror.primary()
    secondary = other(primary)
    with writing(mirror.lab, primary, history, chosen):
        await_promises(history)
        mirror.lab.off(secondary)
        stalled_s = await_promises(history)
        mirror.await_states(STEP_TIMEOUT_S, **{primary: ALONE})
        mirror.lab.on(secondary)
        mirror.await_states(STEP_TIMEOUT_S, **{primary: PRIM, secondary: SECOND})
        await_promises(history)
    assert_equal_trees(mirror)
    assert registers.violations(history, mirror.lab.host(secondary).backing(DIRECTORY)) == []
    with capsys.disabled():
        print(f"the writer stood still for {stalled_s:.2f} s")
    assert stalled_s < STALL_LIMIT_S
