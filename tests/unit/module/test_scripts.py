"""Scripts as real processes: their world, their end, and what they leave behind."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from telamon.errors import ScriptError
from telamon.module.scripts import KEPT_RUNS, ScriptContext, Scripts

DEADLINE_S = 20


@pytest.fixture
def module_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "module"
    directory.mkdir()
    return directory


@pytest.fixture
def scripts(module_directory: Path, tmp_path: Path) -> Scripts:
    context = ScriptContext(
        module="db",
        node="n1",
        peer="n2",
        module_directory=module_directory,
        virtual_ips=("10.0.0.100/24", "fd00::100/64"),
        directories=(Path("/srv/a b"), Path("/srv/c")),
        variables={"PORT": "5432", "TELAMON_NODE": "forged"},
    )
    return Scripts(context, tmp_path / "output")


def _script(directory: Path, text: str) -> Path:
    path = directory / "script"
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def _gone(pid: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while _is_alive(pid):  # noqa: ASYNC110 - a process that is not our child gives no event
            await asyncio.sleep(0.02)


async def test_the_environment_is_the_documented_one(
    scripts: Scripts, module_directory: Path
) -> None:
    script = _script(module_directory, "env; echo cwd=$PWD; read x || echo no input")
    run = await scripts.run(script, action="start", role="prim", limit_s=DEADLINE_S)
    output = run.output.read_text()
    for line in (
        "TELAMON_MODULE=db",
        "TELAMON_NODE=n1",
        "TELAMON_PEER=n2",
        "TELAMON_ACTION=start",
        "TELAMON_ROLE=prim",
        "TELAMON_FORCE=0",
        "TELAMON_VIRTUAL_IPS=10.0.0.100/24 fd00::100/64",
        "TELAMON_DIRECTORIES=/srv/a b\n/srv/c",
        f"TELAMON_MODULE_DIRECTORY={module_directory}",
        "PORT=5432",
        f"cwd={module_directory}",
        "no input",
    ):
        assert line in output


async def test_a_failure_names_script_status_and_last_words(
    scripts: Scripts, module_directory: Path
) -> None:
    script = _script(module_directory, "echo port 5432 is taken; exit 3")
    with pytest.raises(ScriptError, match=r"exited with 3 .* last saying 'port 5432 is taken'"):
        await scripts.run(script, action="start", role="prim", limit_s=DEADLINE_S)
    script = _script(module_directory, "kill -SEGV $$")
    with pytest.raises(ScriptError, match=r"died of SIGSEGV .* said nothing"):
        await scripts.run(script, action="start", role="prim", limit_s=DEADLINE_S)


async def test_a_script_that_cannot_run_is_an_error_with_a_cure(
    scripts: Scripts, module_directory: Path
) -> None:
    with pytest.raises(ScriptError, match="check that it exists, is executable"):
        await scripts.run(module_directory / "none", action="start", role="prim", limit_s=1)
    script = _script(module_directory, "true")
    script.chmod(0o644)
    with pytest.raises(ScriptError, match="check that it exists, is executable"):
        await scripts.run(script, action="start", role="prim", limit_s=1)


async def test_background_children_of_a_start_script_live_on(
    scripts: Scripts, module_directory: Path
) -> None:
    script = _script(module_directory, "sleep 300 & echo $!")
    run = await scripts.run(script, action="start", role="prim", limit_s=DEADLINE_S)
    pid = int(run.output.read_text())
    os.kill(pid, 0)
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGKILL)


async def test_at_the_limit_the_whole_group_dies_even_if_it_ignores_sigterm(
    scripts: Scripts, module_directory: Path
) -> None:
    pids = module_directory / "pids"
    script = _script(
        module_directory,
        f"trap '' TERM; (trap '' TERM; sleep 300) & echo $! $$ >{pids}; while :; do sleep 300; "
        "done",
    )
    with pytest.raises(ScriptError, match=r"did not end within 0\.5 s and was killed"):
        await scripts.run(script, action="stop", role="prim", limit_s=0.5)
    for pid in map(int, pids.read_text().split()):
        await _gone(pid)


async def test_cancelling_ends_the_script(scripts: Scripts, module_directory: Path) -> None:
    mark = module_directory / "mark"
    os.mkfifo(mark)
    script = _script(module_directory, f"echo $$ >{mark}; exec sleep 300")
    running = asyncio.create_task(
        scripts.run(script, action="start", role="prim", limit_s=DEADLINE_S)
    )
    pid = int(await asyncio.to_thread(mark.read_text))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await _gone(pid)


async def test_force_is_told_and_old_outputs_are_dropped(
    scripts: Scripts, module_directory: Path
) -> None:
    script = _script(module_directory, "echo force=$TELAMON_FORCE $1")
    outputs = []
    for _ in range(KEPT_RUNS + 3):
        run = await scripts.run(
            script, action="stop", role="prim", limit_s=DEADLINE_S, is_forced=True
        )
        outputs.append(run.output)
    assert outputs[-1].read_text() == "force=1 force\n"
    assert sorted(outputs[-1].parent.iterdir()) == outputs[-KEPT_RUNS:]
