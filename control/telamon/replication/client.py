"""A client of one replicator's control socket that reconnects for as long as it runs.

Invariant: every call ends: with the answer, a refusal, or an error when its limit passes or the
connection goes. What is learnt of the replicator reaches the observer in the order in which it was
sent. A frame that is not valid ends that connection, never the agent. Does not start or kill the
process (process.py) and decides nothing.
"""

import asyncio
import itertools
import json
import logging
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from telamon.errors import RefusedError, TelamonError, TimedOutError, UnreachableError
from telamon.replication.messages import (
    EVENT,
    PROTOCOL,
    Answer,
    Configuration,
    Hello,
    ReplicatorEvent,
    ReplicatorStatus,
)

FRAME_LIMIT_BYTES = 1 << 20
LENGTH_BYTES = 4
RETRY_S = 0.1
QUICK_S = 5.0
PROMOTE_S = 60.0

log = logging.getLogger(__name__)


class ReplicatorRefusedError(RefusedError):
    """The replicator refused a command; `refusal_code` is its own word for the reason."""

    def __init__(self, refusal_code: str, message: str) -> None:
        super().__init__(message)
        self.refusal_code = refusal_code


class ProtocolError(TelamonError):
    """A frame from the replicator does not follow replicator/CONTROL.md."""


class Observer(Protocol):
    """Who hears what the replicator says of its own accord. Called on the loop; must not block."""

    def replicator_connected(self, hello: Hello) -> None: ...

    def replicator_disconnected(self, reason: str) -> None: ...

    def replicator_event(self, event: ReplicatorEvent) -> None: ...


class ReplicatorClient:
    """One module's replicator, as seen through its control socket."""

    def __init__(self, control_socket: Path, module: str, observer: Observer) -> None:
        self._control_socket = control_socket
        self._module = module
        self._observer = observer
        self._writer: asyncio.StreamWriter | None = None
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._ids = itertools.count(1)
        self._connected = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether the replicator has said hello on the present connection."""
        return self._connected.is_set()

    async def wait_connected(self, limit_s: float) -> None:
        """Returns when the replicator answers on its socket."""
        try:
            async with asyncio.timeout(limit_s):
                await self._connected.wait()
        except TimeoutError as error:
            raise TimedOutError(
                f"the replicator of module {self._module} did not answer on "
                f"{self._control_socket} within {limit_s:g} s; "
                "see its log beside its state"
            ) from error

    async def run(self) -> None:
        """Keeps a connection until cancelled."""
        while True:
            await self._one_connection()
            await asyncio.sleep(RETRY_S)

    async def configure(self, configuration: Configuration) -> None:
        """Tells the replicator what it serves; equal content again changes nothing."""
        await self._call("configure", QUICK_S, **configuration.model_dump(mode="json"))

    async def connect(self, *, discard: bool = False) -> None:
        """idle -> secondary; with `discard` own data may be overwritten although lineages split."""
        await self._call("connect", QUICK_S, discard=discard)

    async def disconnect(self, limit_s: float = PROMOTE_S) -> None:
        """secondary -> idle, after what was received is applied."""
        await self._call("disconnect", limit_s)

    async def promote(self, *, force: bool, handover: bool, limit_s: float = PROMOTE_S) -> None:
        """Mounts the directories and becomes primary."""
        await self._call("promote", limit_s, force=force, handover=handover)

    async def grant(self, limit_s: float = QUICK_S) -> None:
        """Lets the primary acknowledge commits alone, under a new durable generation."""
        await self._call("grant", limit_s)

    async def outdate(self, by: str, limit_s: float = QUICK_S) -> None:
        """Durably marks the local data Outdated: the peer goes on alone as generation `by`."""
        await self._call("outdate", limit_s, by=by)

    async def demote(self, *, force: bool, limit_s: float) -> None:
        """primary -> idle: unmounts, flushes, waits for the peer, fences."""
        # The replicator gets its own limit so that it can answer with a refusal that names who is
        # in the way.
        await self._call("demote", limit_s + QUICK_S, force=force, timeout_ms=int(limit_s * 1000))

    async def status(self, limit_s: float = QUICK_S) -> ReplicatorStatus:
        """Everything the replicator says of itself; answered also while another command runs."""
        result = await self._call("status", limit_s)
        try:
            return ReplicatorStatus.model_validate(result)
        except ValidationError as error:
            raise self._malformed(error) from error

    async def resync(self) -> None:
        """Asks for a full comparison with the peer."""
        await self._call("resync", QUICK_S)

    async def verify(self, *, repair: bool) -> None:
        """Begins to compare with the peer online; what is found stands in the status."""
        await self._call("verify", QUICK_S, repair=repair)

    async def stop(self, limit_s: float) -> None:
        """Leaves every role cleanly and ends the process."""
        await self._call("stop", limit_s)

    async def _call(self, command: str, limit_s: float, **arguments: object) -> dict[str, object]:
        if self._writer is None or not (self.is_connected or command == "hello"):
            raise UnreachableError(
                f"the replicator of module {self._module} does not answer on "
                f"{self._control_socket}, so {command} was not "
                "tried; see its log beside its state"
            )
        request_id = next(self._ids)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = future
        try:
            async with asyncio.timeout(limit_s):
                await self._send({"id": request_id, "command": command, **arguments})
                answer = await future
        except TimeoutError as error:
            raise TimedOutError(
                f"the replicator of module {self._module} did not end {command} within "
                f"{limit_s:g} s; "
                "see `telamon events` and its log"
            ) from error
        except OSError as error:
            raise self._lost(str(error)) from error
        finally:
            self._pending.pop(request_id, None)
        if not answer.ok:
            if answer.refusal is None:
                raise ProtocolError(
                    f"the replicator of module {self._module} refused {command} without saying why"
                )
            raise ReplicatorRefusedError(answer.refusal.code, answer.refusal.message)
        return answer.result

    async def _send(self, request: dict[str, object]) -> None:
        assert self._writer is not None
        body = json.dumps(request).encode()
        if len(body) > FRAME_LIMIT_BYTES:
            raise ProtocolError(
                f"the request {request['command']} to the replicator of module {self._module} is "
                f"{len(body)} bytes, over the "
                f"limit of {FRAME_LIMIT_BYTES}; configure fewer directories or patterns"
            )
        self._writer.write(len(body).to_bytes(LENGTH_BYTES, "little") + body)
        await self._writer.drain()

    async def _one_connection(self) -> None:
        try:
            reader, self._writer = await asyncio.open_unix_connection(self._control_socket)
        except OSError:
            return
        reason = "it closed the connection"
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(reader))
                await self._greet()
                await reading
        except* (OSError, asyncio.IncompleteReadError) as group_error:
            reason = str(group_error.exceptions[0])
        except* TelamonError as group_error:
            reason = str(group_error.exceptions[0])
            log.warning("module %s: connection to the replicator ended: %s", self._module, reason)
        finally:
            self._end_connection(reason)

    async def _greet(self) -> None:
        result = await self._call("hello", QUICK_S, protocol=PROTOCOL)
        try:
            hello = Hello.model_validate(result)
        except ValidationError as error:
            raise self._malformed(error) from error
        self._connected.set()
        self._observer.replicator_connected(hello)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "little")
            if length > FRAME_LIMIT_BYTES:
                raise ProtocolError(
                    f"the replicator announced a frame of {length} bytes, over the limit"
                )
            self._receive(await reader.readexactly(length))

    def _receive(self, body: bytes) -> None:
        try:
            message = json.loads(body)
            if not isinstance(message, dict):
                raise ProtocolError("the replicator sent a frame that is not an object")
            if "event" in message:
                self._observer.replicator_event(EVENT.validate_python(message))
                return
            answer = Answer.model_validate(message)
        except (ValueError, RecursionError) as error:
            raise self._malformed(error) from error
        future = self._pending.get(answer.id)
        if future is None or future.done():
            log.info("module %s: a late answer from the replicator was dropped", self._module)
            return
        future.set_result(answer)

    def _end_connection(self, reason: str) -> None:
        was_connected = self.is_connected
        self._connected.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._lost(reason))
        if was_connected:
            self._observer.replicator_disconnected(reason)

    def _lost(self, reason: str) -> UnreachableError:
        return UnreachableError(
            f"the connection to the replicator of module {self._module} was lost ({reason}); "
            "the agent restarts it, see `telamon events`"
        )

    def _malformed(self, error: ValueError | RecursionError) -> ProtocolError:
        return ProtocolError(
            f"the replicator of module {self._module} sent a frame that does not follow the "
            "control protocol "
            f"({str(error).splitlines()[0]}); agent and replicator must be of the same release"
        )
