"""The health endpoint on a real port, with clients of every kind of rudeness."""

import asyncio
import contextlib
import http.client
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from telamon.agent.events import EventLog
from telamon.agent.health import endpoint as health_endpoint
from telamon.agent.health.answer import Judgement
from telamon.agent.health.endpoint import CONNECTIONS_LIMIT, Endpoint, HealthServer

LIMIT_S = 10.0
LOOPBACK = ip_address("127.0.0.1")


def free_port() -> int:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        port: int = link.getsockname()[1]
        return port


@pytest.fixture
def events(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "events.jsonl", "n1")


@asynccontextmanager
async def serving(
    events: EventLog, judge: Callable[[], Judgement], port: int, *addresses: str
) -> AsyncIterator[HealthServer]:
    endpoint = Endpoint("db", port, "/health", tuple(map(ip_address, addresses)))
    server = HealthServer(endpoint, judge, events)
    task = asyncio.create_task(server.run())
    try:
        await until(lambda: bool(server.describe().listens_on))
        yield server
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.01)


async def ask(port: int, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    def call() -> tuple[int, str]:
        connection = http.client.HTTPConnection(host, port, timeout=LIMIT_S)
        try:
            connection.request(method, "/health")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(call)


async def connected(port: int, count: int) -> list[socket.socket]:
    """Connections that say nothing."""
    return await asyncio.to_thread(
        lambda: [socket.create_connection(("127.0.0.1", port), LIMIT_S) for _ in range(count)]
    )


async def test_it_says_what_is_so_at_this_moment(events: EventLog) -> None:
    port, judgement = free_port(), [Judgement(True, "PRIM")]
    async with serving(events, lambda: judgement[0], port) as server:
        assert await ask(port) == (200, "PRIM\n")
        assert await ask(port, host="::1") == (200, "PRIM\n")
        assert await ask(port, "HEAD") == (200, "")
        judgement[0] = Judgement(False, "WAIT: gives up")
        assert await ask(port) == (503, "WAIT: gives up\n")
        assert await ask(port, "HEAD") == (503, "")
        assert await ask(port, "POST") == (405, "ask with GET or HEAD\n")
        shown = server.describe()
        assert (shown.ready, shown.reason, shown.fault) == (False, "WAIT: gives up", "")
        assert shown.listens_on == [f"0.0.0.0:{port}", f"[::]:{port}"]
    with pytest.raises(ConnectionRefusedError):
        await ask(port)


async def test_nobody_keeps_a_probe_out(events: EventLog) -> None:
    port = free_port()
    async with serving(events, lambda: Judgement(True, "UP"), port, "127.0.0.1"):
        silent = await connected(port, 300)
        try:
            for link in silent[::2]:
                link.send(b"GET /health HT")
            assert await ask(port) == (200, "UP\n")
        finally:
            for link in silent:
                link.close()
        assert await ask(port) == (200, "UP\n")


async def test_slow_clients_end(events: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_endpoint, "REQUEST_LIMIT_S", 0.3)
    port = free_port()
    async with serving(events, lambda: Judgement(True, "UP"), port, "127.0.0.1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET")
        async with asyncio.timeout(LIMIT_S):
            assert await reader.read() == b""
        writer.close()


async def test_garbage_changes_nothing(events: EventLog) -> None:
    port = free_port()
    async with serving(events, lambda: Judgement(True, "UP"), port, "127.0.0.1"):
        for rubbish in (b"\0" * 100_000, b"\n" * 10, b"\xff\xfe\n\n", b"GET " + b"/" * 70_000):
            (link,) = await connected(port, 1)
            with link, contextlib.suppress(ConnectionError):
                await asyncio.to_thread(link.sendall, rubbish)
                assert (await asyncio.to_thread(link.recv, 100)).startswith(b"HTTP/1.1 4")
        assert await ask(port) == (200, "UP\n")


async def test_a_flood_is_bounded(events: EventLog) -> None:
    port = free_port()
    async with serving(events, lambda: Judgement(True, "UP"), port, "127.0.0.1") as server:
        links = await connected(port, 200)
        assert await ask(port) == (200, "UP\n")
        assert len(server._connections) <= CONNECTIONS_LIMIT
        for link in links:
            link.close()


async def test_a_taken_port_is_said_and_tried_again(
    events: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_endpoint, "RETRY_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = HealthServer(
            Endpoint("db", port, "/", (LOOPBACK,)), lambda: Judgement(True, "UP"), events
        )
        task = asyncio.create_task(server.run())
        await until(lambda: bool(server.describe().fault))
        assert "health.port" in server.describe().fault
    await until(lambda: bool(server.describe().listens_on))
    assert server.describe().fault == ""
    assert [event.text for event in events.recent(9)] == [
        f"the health endpoint cannot listen on port {port}: Address already in use; stop what "
        "uses the port, or change health.port in module.yaml"
    ]
    task.cancel()
    await asyncio.wait([task])
