"""The event log of a node: what happened, kept across restarts, bounded, and followable.

One JSON object a line in the state directory; two files of at most half the limit each, so that the
oldest half goes when the newer is full. A torn last line after a crash is dropped at the next
start. Followers get what is appended after they began, each with a queue of its own: a slow one
loses the oldest and is told how many.
"""

import asyncio
import json
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from telamon.agent.models import Event, Severity

HALF_LIMIT_BYTES = 4 << 20
KEPT_IN_MEMORY = 2000
FOLLOWER_QUEUE = 1000

log = logging.getLogger("telamon.event")
_LEVEL = {
    Severity.INFO: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
}


@dataclass(eq=False, slots=True)
class _Follower:
    queue: asyncio.Queue[Event]
    lost_count: int = 0


class EventLog:
    """Appends to, reads and follows the events of one node."""

    def __init__(self, path: Path, node: str) -> None:
        self._path = path
        self._older = path.with_suffix(".older")
        self._node = node
        self._recent: deque[Event] = deque(maxlen=KEPT_IN_MEMORY)
        self._followers: set[_Follower] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in (self._older, path):
            self._recent.extend(_read(file))
        self._next_sequence = self._recent[-1].sequence + 1 if self._recent else 1
        self._stream = self._open()

    def append(
        self, text: str, *, module: str | None = None, severity: Severity = Severity.INFO
    ) -> Event:
        """Records that `text` happened now. A full disk costs the record on disk, not the agent."""
        event = Event(
            sequence=self._next_sequence,
            time=datetime.now(UTC),
            node=self._node,
            module=module,
            severity=severity,
            text=text,
        )
        self._next_sequence += 1
        self._recent.append(event)
        log.log(_LEVEL[severity], "%s%s", f"module {module}: " if module else "", text)
        try:
            self._write(event)
        except OSError as error:
            log.warning("could not keep the last event in %s: %s; make space", self._path, error)
        for follower in self._followers:
            if follower.queue.full():
                follower.queue.get_nowait()
                follower.lost_count += 1
            follower.queue.put_nowait(event)
        return event

    def recent(self, limit: int, module: str | None = None) -> list[Event]:
        """The newest `limit` events in their order, of one module if named."""
        chosen = [event for event in self._recent if module in (None, event.module)]
        return chosen[-limit:] if limit else []

    async def follow(self, module: str | None = None) -> AsyncGenerator[Event]:
        """Yields every event appended from now on."""
        follower = _Follower(asyncio.Queue(FOLLOWER_QUEUE))
        self._followers.add(follower)
        try:
            while True:
                event = await follower.queue.get()
                if module in (None, event.module):
                    yield event
                if follower.lost_count:
                    log.warning("a follower of events was slow and lost %d", follower.lost_count)
                    follower.lost_count = 0
        finally:
            self._followers.discard(follower)

    def close(self) -> None:
        """Closes the file; what is appended afterwards is logged but not kept."""
        os.close(self._stream)
        self._stream = -1

    def _open(self) -> int:
        stream = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        size_bytes = os.fstat(stream).st_size
        if size_bytes and os.pread(stream, 1, size_bytes - 1) != b"\n":
            os.write(stream, b"\n")
        return stream

    def _write(self, event: Event) -> None:
        if os.fstat(self._stream).st_size > HALF_LIMIT_BYTES:
            os.close(self._stream)
            self._path.replace(self._older)
            self._stream = self._open()
        os.write(self._stream, event.model_dump_json().encode() + b"\n")


def _read(path: Path) -> list[Event]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines[-KEPT_IN_MEMORY:]:
        try:
            events.append(Event.model_validate(json.loads(line)))
        except ValueError:
            log.warning("a damaged line of %s was skipped", path)
    return events
