"""Only what a module's own start script left behind is killed."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from telamon.module.leftover import kill_leftover


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def _sleeper(started: list[subprocess.Popen[bytes]], **variables: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sleep", "300"], env={"PATH": os.environ["PATH"], **variables})
    started.append(process)
    return process


async def test_only_processes_of_the_modules_start_script_are_killed(
    started: list[subprocess.Popen[bytes]],
) -> None:
    name = f"test-{os.getpid()}"
    own = _sleeper(started, TELAMON_MODULE=name, TELAMON_ACTION="start")
    stopping = _sleeper(started, TELAMON_MODULE=name, TELAMON_ACTION="stop")
    other = _sleeper(started, TELAMON_MODULE=f"{name}2", TELAMON_ACTION="start")
    assert await kill_leftover(name) >= 1
    assert own.wait(timeout=10) == -9
    assert stopping.poll() is None
    assert other.poll() is None
