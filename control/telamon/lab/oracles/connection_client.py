"""The client of the connection oracle, on a host that does not fail: it opens connections from many
addresses, keeps them, and exchanges a number on each of them again and again.

Each line of standard input is one order in JSON, `[name, argument…]`; each line of standard output
its answer. Only the standard library beside the handshake oracle, so that it starts fast.

    python -m telamon.lab.oracles.connection_client
"""

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from telamon.lab.oracles.datagrams import ask
from telamon.lab.oracles.handshakes import Handshakes
from telamon.lab.oracles.names import question, text_of

PACE_S = 0.5
ANSWER_LIMIT_S = 5.0
DNS_PORT = 53
_numbers = itertools.count(1)


class WrongAnswerError(Exception):
    """The other side did not say what it had to say."""


class Line:
    """`NUMBER` is answered by `NODE NUMBER`."""

    @staticmethod
    async def exchange(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> str:
        """Sends a number; who sent it back."""
        writer.write(b"%d\n" % number)
        answer = await reader.readline()
        if not answer:
            raise ConnectionResetError("closed by the other side")
        node, _, echoed = answer.decode().strip().partition(" ")
        if echoed != str(number):
            raise WrongAnswerError(f"{number} was answered by {answer!r}")
        return node


class Http:
    """GET /node; the answer names its node in X-Node and repeats X-Number."""

    @staticmethod
    async def exchange(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> str:
        """Sends a request; who answered it."""
        writer.write(b"GET /node HTTP/1.1\r\nHost: farm\r\nX-Number: %d\r\n\r\n" % number)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed by the other side") from error
        status, *lines = head.split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        await reader.readexactly(int(headers.get("content-length", "0")))
        if not status.startswith("HTTP/1.1 2") or headers.get("x-number") != str(number):
            raise WrongAnswerError(f"{number} was answered by {status!r}, {lines}")
        return headers.get("x-node", "nobody")


_SPEECHES: dict[str, type[Line] | type[Http]] = {"line": Line, "http": Http}
_FAILURES = (OSError, TimeoutError, WrongAnswerError)


@dataclass(eq=False, slots=True)
class Held:
    """A connection that is kept."""

    source: str
    port: int
    speech: type[Line] | type[Http]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    node: str = ""
    failure: str = ""
    failed_at_s: float = 0.0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def exchange(self) -> None:
        """One number there and back; a connection that failed once stays broken."""
        async with self.busy:
            if self.failure:
                return
            try:
                async with asyncio.timeout(ANSWER_LIMIT_S):
                    node = await self.speech.exchange(self.reader, self.writer, next(_numbers))
                if node != (self.node or node):
                    raise WrongAnswerError(f"{node} answers on a connection with {self.node}")
                self.node = node
            except _FAILURES as error:
                self.failure = f"{type(error).__name__} {error}".strip()
                self.failed_at_s = time.monotonic()


class Client:
    """Everything that one client host does."""

    def __init__(self) -> None:
        self._held: dict[Held, asyncio.Task[None]] = {}
        self._exchanges = 0
        self._knocker: asyncio.Task[None] | None = None
        self._knocks: list[list[Any]] = []
        self._handshakes: Handshakes | None = None

    async def connect(
        self, sources: list[str], address: str, port: int, speech: str, limit_s: float
    ) -> list[list[Any]]:
        """Opens one connection from each source and keeps it: [source, port, node, error, seconds
        until it was connected].
        """

        async def one(source: str) -> list[Any]:
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(limit_s):
                    streams = await asyncio.open_connection(address, port, local_addr=(source, 0))
            except _FAILURES as error:
                return [source, 0, "", type(error).__name__, time.monotonic() - began_s]
            took_s = time.monotonic() - began_s
            own_port = streams[1].get_extra_info("sockname")[1]
            held = Held(source, own_port, _SPEECHES[speech], *streams)
            await held.exchange()
            if held.failure:
                return [source, own_port, "", held.failure, took_s]
            self._held[held] = asyncio.create_task(self._keep(held))
            return [source, own_port, held.node, "", took_s]

        return list(await asyncio.gather(*map(one, sources)))

    async def echo(self) -> list[Any]:
        """Exchanges on every connection that is kept, now: those that work, by node, those that
        broken since they were opened, and how many exchanges there were so far.
        """
        await asyncio.gather(*(held.exchange() for held in self._held))
        self._exchanges += len(self._held)
        works: dict[str, int] = {}
        broken = []
        for held in self._held:
            if held.failure:
                broken.append([held.source, held.port, held.node, held.failure, held.failed_at_s])
            else:
                works[held.node] = works.get(held.node, 0) + 1
        return [works, broken, self._exchanges]

    async def drop(self, node: str | None) -> int:
        """Closes the connections to a node, or all; how many there were."""
        leaving = [held for held in self._held if node in (None, held.node)]
        for held in leaving:
            self._held.pop(held).cancel()
            if held.failure:
                held.writer.transport.abort()
            else:
                held.writer.close()
        for held in leaving:
            with suppress(*_FAILURES):
                await held.writer.wait_closed()
        return len(leaving)

    async def knock(
        self, sources: list[str], address: str, port: int, speech: str, interval_s: float
    ) -> None:
        """Opens a new connection at every interval, exchanges once, closes; until `knocked`."""
        assert self._knocker is None, "one series of knocks at a time"

        async def one(source: str) -> None:
            began_s = time.monotonic()
            connected_s = None
            own_port, node, failure = 0, "", ""
            try:
                async with asyncio.timeout(4 * ANSWER_LIMIT_S):
                    streams = await asyncio.open_connection(address, port, local_addr=(source, 0))
                    connected_s = time.monotonic()
                    own_port = streams[1].get_extra_info("sockname")[1]
                    node = await _SPEECHES[speech].exchange(*streams, next(_numbers))
                    streams[1].close()
            except _FAILURES as error:
                failure = f"{type(error).__name__} {error}".strip()
            self._knocks.append([began_s, connected_s, source, own_port, node, failure])

        async def go_on() -> None:
            async with asyncio.TaskGroup() as group:
                next_s = time.monotonic()
                for source in itertools.cycle(sources):
                    if self._knocker is None:
                        return
                    group.create_task(one(source))
                    next_s = max(next_s + interval_s, time.monotonic())
                    await asyncio.sleep(next_s - time.monotonic())

        self._knocks = []
        self._knocker = asyncio.create_task(go_on())

    async def knocked(self) -> list[list[Any]]:
        """Ends the knocks, waits for those on their way: [began at, connected at, source, port,
        node, error], times on CLOCK_MONOTONIC.
        """
        assert self._knocker is not None, "`knock` comes first"
        knocker, self._knocker = self._knocker, None
        await knocker
        return self._knocks

    async def listen(self, interface: str) -> None:
        """Watches every handshake, until `heard`."""
        self._handshakes = Handshakes(interface)
        asyncio.get_running_loop().add_reader(self._handshakes, self._handshakes.read)

    async def heard(self) -> dict[str, Any]:
        """What became of every handshake."""
        assert self._handshakes is not None, "`listen` comes first"
        asyncio.get_running_loop().remove_reader(self._handshakes)
        handshakes, self._handshakes = self._handshakes, None
        return asdict(handshakes.close())

    async def ask(
        self, sources: list[str], address: str, port: int, limit_s: float
    ) -> list[list[Any]]:
        """Sends a datagram from each source: [source, port, all answers to it]."""
        asking = (ask(source, address, port, b"who", limit_s) for source in sources)
        asked = zip(sources, await asyncio.gather(*asking), strict=True)
        return [[source, one.port, list(map(bytes.decode, one.answers))] for source, one in asked]

    async def resolve(
        self, sources: list[str], address: str, name: str, limit_s: float
    ) -> list[list[Any]]:
        """Asks a DNS server from each source for the text of a name: [source, port, texts]."""

        async def one(source: str) -> list[Any]:
            number = random.randrange(1 << 16)
            asked = await ask(source, address, DNS_PORT, question(number, name), limit_s)
            return [source, asked.port, [text_of(answer, number) for answer in asked.answers]]

        return list(await asyncio.gather(*map(one, sources)))

    async def _keep(self, held: Held) -> None:
        while not held.failure:
            await asyncio.sleep(PACE_S)
            await held.exchange()
            self._exchanges += 1


async def main() -> None:
    """Obeys until standard input ends."""
    client = Client()
    orders = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        name, *arguments = json.loads(line)
        obey: Callable[..., Awaitable[object]] = getattr(client, name)
        print(json.dumps(await obey(*arguments)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
