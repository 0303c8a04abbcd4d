"""Processes that a module's start script left behind and its stop script did not end.

They are known by their environment, which they inherit (`TELAMON_MODULE` and
`TELAMON_ACTION=start`); a service manager's services are not among them and end by the stop script.
Used for a forced stop only. What holds a replicated directory open is found and killed by the
replicator, whatever its environment.
"""

import asyncio
import contextlib
import os
import select
import signal
from pathlib import Path

from telamon.errors import TimedOutError

GONE_LIMIT_S = 5.0


async def kill_leftover(module: str) -> int:
    """Kills every such process of `module`; returns how many there were."""
    return await asyncio.to_thread(_kill_leftover, module)


def _kill_leftover(module: str) -> int:
    killed = 0
    # Twice, because a process may have forked between being listed and being killed.
    for _ in range(2):
        for pid in _marked(module):
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                try:
                    if pid in _marked(module, [pid]):
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        _wait_gone(descriptor, module)
                        killed += 1
                finally:
                    os.close(descriptor)
    return killed


def _wait_gone(descriptor: int, module: str) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(GONE_LIMIT_S * 1000):
        raise TimedOutError(
            f"a process of module {module} is still there {GONE_LIMIT_S:g} s after SIGKILL: it "
            "hangs in the kernel; "
            "see its stack in /proc, and restart the node"
        )


def _marked(module: str, candidates: list[int] | None = None) -> list[int]:
    marks = {f"TELAMON_MODULE={module}".encode(), b"TELAMON_ACTION=start"}
    pids = candidates or [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if marks <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                found.append(pid)
    return found
