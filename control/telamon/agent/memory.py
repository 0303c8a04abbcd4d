"""What the agent itself remembers of a module: durably its intent and failures, until the next boot
its application.

Invariants: the durable record is one file, replaced atomically and synchronised before the write is
called done. Whether the application runs is noted before and after every change of it, under /run,
so that an agent that died in between finds "unknown" and one that starts after a boot finds
nothing.
"""

import asyncio
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from telamon.errors import TelamonError
from telamon.mirror.role_event import Presence

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Remembered:
    """The durable record; failure times on the clock that stands still in no suspend and starts at
    boot.
    """

    intent_is_started: bool = False
    failures_ms: tuple[int, ...] = ()


class Memory:
    """The memory of one module on this node."""

    def __init__(self, module: str, state_directory: Path, run_directory: Path) -> None:
        self._module = module
        self._record = state_directory / "agent.json"
        self._application = run_directory / "application"
        self._latest: Remembered | None = None
        self._writing = asyncio.Lock()

    def recall(self, now_ms: int) -> Remembered:
        """The durable record, its failure times brought onto the present boot's clock."""
        try:
            stored = json.loads(self._record.read_text())
            intent, failures = stored["intent_is_started"] is True, stored["failures_at_s"]
            wall_ms = int(time.time() * 1000)
            return Remembered(intent, tuple(now_ms - (wall_ms - int(at * 1000)) for at in failures))
        except FileNotFoundError:
            return Remembered()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TelamonError(
                f"{self._record} is damaged ({error}): remove it and order `telamon module start "
                f"{self._module}` if "
                "the module is to run here"
            ) from error

    def remember(self, remembered: Remembered, now_ms: int) -> "asyncio.Task[None]":
        """Begins to store `remembered`; the newest wins. The task ends when it is on disk."""
        self._latest = remembered
        return asyncio.create_task(self._store(now_ms))

    async def _store(self, now_ms: int) -> None:
        async with self._writing:
            remembered, self._latest = self._latest, None
            if remembered is not None:
                await asyncio.to_thread(self._write, remembered, now_ms)

    def _write(self, remembered: Remembered, now_ms: int) -> None:
        # Stored as wall-clock times, because the boot's clock ends with the boot.
        wall_ms = int(time.time() * 1000)
        record = {
            "intent_is_started": remembered.intent_is_started,
            "failures_at_s": [
                (wall_ms - now_ms + at_ms) / 1000 for at_ms in remembered.failures_ms
            ],
        }
        try:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._record.with_suffix(".new")
            with temporary.open("w") as stream:
                json.dump(record, stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._record)
            directory = os.open(self._record.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise TelamonError(
                f"the order to module {self._module} could not be kept in {self._record}: "
                f"{error.strerror}; make space "
                "there and give the order again"
            ) from error

    @property
    def application(self) -> Presence:
        """Whether the application runs, as far as scripts told."""
        try:
            return Presence(self._application.read_text().strip())
        except FileNotFoundError:
            return Presence.OFF
        except ValueError:
            return Presence.UNKNOWN

    @application.setter
    def application(self, presence: Presence) -> None:
        self._application.parent.mkdir(parents=True, exist_ok=True)
        if presence is Presence.OFF:
            self._application.unlink(missing_ok=True)
            return
        temporary = self._application.with_suffix(".new")
        temporary.write_text(f"{presence}\n")
        temporary.replace(self._application)
