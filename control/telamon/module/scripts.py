"""Running a module's scripts as a service manager would.

Invariants: a script runs in a session of its own with /dev/null as input and a file as output,
never a pipe, so that what it leaves in the background outlives script and agent alike; every run
ends within its limit, by SIGTERM and then SIGKILL to the whole process group; every run leaves
exactly one output file, of which the newest are kept.

The environment a script may rely on is made in `environment` and documented in docs/scripts.md.
Does not decide when a script runs nor what its failure means.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from telamon.errors import ScriptError

KEPT_RUNS = 50
GRACE_S = 2.0
LAST_LINES_BYTES = 4096
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScriptContext:
    """What a script is told of its module; paths and addresses as the configuration has them."""

    module: str
    node: str
    peer: str
    module_directory: Path
    virtual_ips: tuple[str, ...]
    directories: tuple[Path, ...]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """A run that ended well."""

    script: str
    duration_s: float
    output: Path


def environment(
    context: ScriptContext, *, action: str, role: str, is_forced: bool
) -> dict[str, str]:
    """The whole environment of a script; user variables never override Telamon's own."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {
        "PATH": DEFAULT_PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        **inherited,
        **context.variables,
        "TELAMON_MODULE": context.module,
        "TELAMON_MODULE_DIRECTORY": str(context.module_directory),
        "TELAMON_NODE": context.node,
        "TELAMON_PEER": context.peer,
        "TELAMON_ACTION": action,
        "TELAMON_ROLE": role,
        "TELAMON_FORCE": "1" if is_forced else "0",
        "TELAMON_VIRTUAL_IPS": " ".join(context.virtual_ips),
        # One a line: a path may hold spaces.
        "TELAMON_DIRECTORIES": "\n".join(map(str, context.directories)),
    }


class Scripts:
    """Runs the scripts of one module, one at a time."""

    def __init__(self, context: ScriptContext, output_directory: Path) -> None:
        self._context = context
        self._output_directory = output_directory
        self._one_at_a_time = asyncio.Lock()
        self.latest_output: Path | None = None

    async def run(
        self, script: Path, *, action: str, role: str, limit_s: float, is_forced: bool = False
    ) -> ScriptRun:
        """Runs `script` to its end; an exit status other than 0 and a passed limit are errors."""
        async with self._one_at_a_time:
            output = self.latest_output = self._new_output(action)
            variables = environment(self._context, action=action, role=role, is_forced=is_forced)
            started_s = time.monotonic()
            arguments = ("force",) if is_forced else ()
            process = await self._spawn((script, *arguments), output, variables)
            try:
                async with asyncio.timeout(limit_s):
                    status = await process.wait()
            except TimeoutError as error:
                await self._end_group(process)
                raise ScriptError(
                    f"script {script.name} of module {self._context.module} did not end within "
                    f"{limit_s:g} s and was killed; "
                    f"see {output}, or raise its time-out in module.yaml"
                ) from error
            except asyncio.CancelledError:
                await self._end_group(process)
                raise
            duration_s = time.monotonic() - started_s
            if status != 0:
                raise ScriptError(self._failure(script, status, duration_s, output))
            return ScriptRun(script=script.name, duration_s=duration_s, output=output)

    def _new_output(self, action: str) -> Path:
        self._output_directory.mkdir(parents=True, exist_ok=True)
        earlier = sorted(self._output_directory.glob("*.log"))
        for path in earlier[: max(len(earlier) - KEPT_RUNS + 1, 0)]:
            path.unlink(missing_ok=True)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
        return self._output_directory / f"{stamp}_{action}.log"

    async def _spawn(
        self, command: tuple[Path | str, ...], output: Path, variables: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=self._context.module_directory,
                env=dict(variables),
                start_new_session=True,
            )
        except OSError as error:
            raise ScriptError(
                f"script {command[0]} of module {self._context.module} could not be run: "
                f"{error.strerror}; "
                "check that it exists, is executable and begins with #! and its interpreter"
            ) from error
        finally:
            os.close(descriptor)

    async def _end_group(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM, and SIGKILL to whoever of the group is left after a moment."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                async with asyncio.timeout(GRACE_S):
                    await process.wait()
            except TimeoutError:
                continue
        try:
            # The leader may be gone while its children ignored SIGTERM.
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _failure(self, script: Path, status: int, duration_s: float, output: Path) -> str:
        how = f"exited with {status}" if status > 0 else f"died of {_signal_name(-status)}"
        last = _last_line(output)
        said = f", last saying {last!r}" if last else " and said nothing"
        return (
            f"script {script.name} of module {self._context.module} {how} after {duration_s:.1f} "
            f"s{said}; "
            f"its output is in {output}"
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(output: Path) -> str:
    with output.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(stream.tell() - LAST_LINES_BYTES, 0))
        lines = stream.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]
