"""The replicator's process: found, started once, adopted, killed by id, and nothing else killed."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from telamon.errors import TelamonError
from telamon.replication import process
from telamon.replication.process import ReplicatorProcess

DEADLINE_S = 20
FAKE = Path(__file__).with_name("fake_replicator.py")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "telamon-replicator"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    path.chmod(0o755)
    return path


def _of_this_module(tmp_path: Path, program: Path) -> ReplicatorProcess:
    return ReplicatorProcess("db", tmp_path / "run", tmp_path / "log" / "replicator.log", program)


async def test_it_is_started_once_and_adopted_by_the_next_agent(
    tmp_path: Path, program: Path
) -> None:
    first = _of_this_module(tmp_path, program)
    assert first.running_pid() is None
    pid = await first.start()
    assert await first.start() == pid
    next_agent = _of_this_module(tmp_path, program)
    assert next_agent.running_pid() == pid
    assert await next_agent.start() == pid
    assert os.getsid(pid) == pid
    await next_agent.kill()
    assert first.running_pid() is None
    async with asyncio.timeout(DEADLINE_S):
        await first.wait_ended()


async def test_the_end_is_noticed_at_once_and_leaves_no_zombie(
    tmp_path: Path, program: Path
) -> None:
    replicator = _of_this_module(tmp_path, program)
    pid = await replicator.start()
    waiting = asyncio.create_task(replicator.wait_ended())
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        await waiting
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert await replicator.start() != pid
    await replicator.kill()


async def test_a_stale_pid_file_kills_nobody(tmp_path: Path, program: Path) -> None:
    replicator = _of_this_module(tmp_path, program)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "replicator.pid").write_text(f"{os.getpid()}\n")
    assert replicator.running_pid() is None
    await replicator.kill()


async def test_a_program_that_cannot_run_is_an_error_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    replicator = _of_this_module(tmp_path, tmp_path / "none")
    with pytest.raises(TelamonError, match=r"could not be started from .*; check the program"):
        await replicator.start()


def test_a_large_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_LIMIT_BYTES", 10)
    log = tmp_path / "replicator.log"
    process.turn_over(log)
    log.write_text("x" * 11)
    process.turn_over(log)
    assert not log.exists()
    assert (tmp_path / "replicator.older").stat().st_size == 11
