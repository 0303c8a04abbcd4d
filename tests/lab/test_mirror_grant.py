"""A primary goes on alone only with its agent's grant: while the agent cannot give it, no commit is
acknowledged, however long the peer is gone.
"""

import signal
import time
from pathlib import Path

from mirrors import DIRECTORY, STEP_TIMEOUT_S, assert_equal_trees, mirrored
from writers import await_promises, writing

from telamon.lab.mirror import ALONE, PRIM, SECOND
from telamon.lab.oracles import registers
from telamon.lab.process import Daemon
from telamon.lab.spec import DEFAULT

# Several times what losing the peer, asking and granting take.
SILENCE_S = 8.0


def test_no_commit_alone_without_the_agent(lab_name: str, tmp_path: Path, chosen: int) -> None:
    history = tmp_path / "history"
    history.touch()
    with mirrored(lab_name, DEFAULT) as mirror:
        with writing(mirror.lab, "n1", history, chosen):
            await_promises(history)
            mirror.lab.host("n1").signal(Daemon.AGENT, signal.SIGSTOP)
            await_promises(history)  # a paused agent stops no commit that the peer acknowledges
            mirror.lab.off("n2")
            promised = registers.promises(history)
            # At most the answers that were on their way when the power went.
            deadline = time.monotonic() + SILENCE_S
            while time.monotonic() < deadline:
                assert registers.promises(history) <= promised + 1
                time.sleep(0.05)
            mirror.lab.host("n1").signal(Daemon.AGENT, signal.SIGCONT)
            mirror.await_states(STEP_TIMEOUT_S, n1=ALONE)
            await_promises(history)
        mirror.lab.on("n2")
        mirror.await_states(STEP_TIMEOUT_S, n1=PRIM, n2=SECOND)
        assert_equal_trees(mirror)
        assert registers.violations(history, mirror.lab.host("n2").backing(DIRECTORY)) == []
