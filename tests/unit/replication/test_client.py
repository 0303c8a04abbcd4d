"""The client against a replicator that answers, refuses, stalls, dies and talks nonsense."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_replicator import FakeReplicator

from telamon.errors import TimedOutError, UnreachableError
from telamon.mirror.lineage import ReplicatorRole
from telamon.replication.client import ReplicatorClient, ReplicatorRefusedError
from telamon.replication.messages import (
    Configuration,
    Hello,
    KeptEvent,
    PeerEvent,
    ReplicatedDirectory,
    ReplicatorEvent,
    RoleEvent,
    TlsFiles,
    VerifiedEvent,
)

DEADLINE_S = 10


class Ear:
    """Hears what the client reports, in order."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[object] = asyncio.Queue()

    def replicator_connected(self, hello: Hello) -> None:
        self.heard.put_nowait(hello)

    def replicator_disconnected(self, reason: str) -> None:
        self.heard.put_nowait(f"disconnected: {reason}")

    def replicator_event(self, event: ReplicatorEvent) -> None:
        self.heard.put_nowait(event)

    async def next(self) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return await self.heard.get()


@asynccontextmanager
async def _client(path: Path) -> AsyncIterator[tuple[ReplicatorClient, Ear]]:
    ear = Ear()
    client = ReplicatorClient(path, "db", ear)
    running = asyncio.create_task(client.run())
    try:
        yield client, ear
    finally:
        running.cancel()


@asynccontextmanager
async def _pair(
    directory: Path,
) -> AsyncIterator[tuple[FakeReplicator, ReplicatorClient, Ear]]:
    fake = FakeReplicator(directory / "control.sock")
    async with await fake.serve(), _client(fake.control_socket) as (client, ear):
        await client.wait_connected(DEADLINE_S)
        assert isinstance(await ear.next(), Hello)
        yield fake, client, ear


def _configuration(directory: Path) -> Configuration:
    return Configuration(
        cluster="c",
        module="db",
        node="n1",
        peer="n2",
        listen=("10.1.0.1:7430",),
        dial=("10.1.0.2:7430",),
        tls=TlsFiles(ca=Path("/ca"), certificate=Path("/crt"), key=Path("/key")),
        state_directory=directory,
        directories=(ReplicatedDirectory(path=directory / "data"),),
        sync="fsync",
        acknowledge="disk",
        capture=None,
        peer_timeout_ms=2000,
        queue_bytes=1 << 26,
        resync_bandwidth=0,
        async_lag_bytes=1 << 26,
    )


async def test_commands_status_and_events(tmp_path: Path) -> None:
    async with _pair(tmp_path) as (fake, client, ear):
        await client.configure(_configuration(tmp_path))
        await client.promote(force=True, handover=False)
        assert await ear.next() == RoleEvent(event="role", role=ReplicatorRole.PRIMARY)
        status = await client.status()
        assert status.role is ReplicatorRole.PRIMARY
        assert status.directories[0].path == tmp_path / "data"
        await client.grant()
        await client.demote(force=False, limit_s=1)
        await client.connect()
        await client.disconnect()
        await client.outdate(by="1" * 16)
        await client.verify(repair=False)
        assert fake.commands[:3] == ["hello", "configure", "promote"]


async def test_a_refusal_is_shown_unchanged(tmp_path: Path) -> None:
    async with _pair(tmp_path) as (fake, client, _):
        fake.refusals["promote"] = "data of db is Outdated: start the other node first"
        with pytest.raises(ReplicatorRefusedError, match=r"^data of db is Outdated: start the"):
            await client.promote(force=False, handover=False)


async def test_a_stalled_command_times_out_and_status_still_answers(tmp_path: Path) -> None:
    async with _pair(tmp_path) as (fake, client, _):
        fake.stalled.add("promote")
        with pytest.raises(TimedOutError, match=r"did not end promote within 0\.2 s"):
            await client.promote(force=False, handover=False, limit_s=0.2)
        assert (await client.status()).role is ReplicatorRole.IDLE


async def test_a_lost_connection_ends_the_call_and_is_made_again(tmp_path: Path) -> None:
    async with _pair(tmp_path) as (fake, client, ear):
        fake.stalled.add("promote")
        call = asyncio.create_task(client.promote(force=False, handover=False))
        async with asyncio.timeout(DEADLINE_S):
            await fake.until_asked("promote")
        fake.drop_connections()
        with pytest.raises(UnreachableError, match="connection to the replicator of module db"):
            await call
        assert str(await ear.next()).startswith("disconnected")
        assert isinstance(await ear.next(), Hello)
        assert (await client.status()).role is ReplicatorRole.IDLE


async def test_without_a_replicator_a_call_says_so(tmp_path: Path) -> None:
    async with _client(tmp_path / "none.sock") as (client, _):
        with pytest.raises(UnreachableError, match="promote was not tried"):
            await client.promote(force=False, handover=False)
        with pytest.raises(TimedOutError, match="did not answer"):
            await client.wait_connected(0.2)


@pytest.mark.parametrize(
    "raw",
    [
        (1 << 21).to_bytes(4, "little"),
        (3).to_bytes(4, "little") + b"{}}",
        (2).to_bytes(4, "little") + b"[]",
        (3).to_bytes(4, "little") + b"\xff\xfe\xfd",
        (17).to_bytes(4, "little") + b'{"event":"dance"}',
        (20).to_bytes(4, "little") + b'{"id":1,"ok":"maybe"',
        (100_000).to_bytes(4, "little") + b"[" * 100_000,
    ],
)
async def test_garbage_ends_the_connection_and_nothing_else(
    tmp_path: Path, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with _pair(tmp_path) as (fake, client, ear):
        fake.send_raw(raw)
        assert str(await ear.next()).startswith("disconnected")
        assert isinstance(await ear.next(), Hello)
        assert (await client.status()).role is ReplicatorRole.IDLE
    assert "connection to the replicator ended" in caplog.text


async def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    async with _pair(tmp_path) as (fake, client, ear):
        fake.changed["novelty"] = 1
        assert (await client.status()).role is ReplicatorRole.IDLE
        fake.send_event({"event": "peer", "link": "live", "reason": "", "novelty": 1})
        assert isinstance(await ear.next(), PeerEvent)


async def test_what_was_kept_and_what_was_verified_is_told(tmp_path: Path) -> None:
    kept = {"directory": "/var/kept/2026-11-22T081500Z", "files": 7, "bytes": 300}
    path = {"path": {"bytes": "L3Nydi9h/yBi"}, "aspect": "content"}
    found = {"running": False, "files": 9, "bytes": 800, "differing": 1, "changing": 0} | {
        "paths": [path],
        "repairs": False,
        "fault": "",
    }
    async with _pair(tmp_path) as (fake, client, ear):
        assert (await client.status()).kept is None
        fake.changed |= {"kept": kept, "verification": found}
        status = await client.status()
        assert status.kept is not None
        assert status.kept.size_bytes == 300
        assert status.verification is not None
        assert status.verification.paths[0].path == Path("/srv/a\udcff b")
        fake.send_event({"event": "kept"} | kept)
        event = await ear.next()
        assert isinstance(event, KeptEvent)
        assert event.directory == Path("/var/kept/2026-11-22T081500Z")
        fake.send_event({"event": "verified"} | found)
        event = await ear.next()
        assert isinstance(event, VerifiedEvent)
        assert (event.differing, event.paths[0].aspect) == (1, "content")


def test_a_path_that_is_not_utf8_keeps_its_bytes() -> None:
    odd = Path("/srv/a\udcff b")
    directory = ReplicatedDirectory(path=odd, exclude=("a/\udcff/",))
    wire = directory.model_dump(mode="json")
    assert wire["path"] == {"bytes": "L3Nydi9h/yBi"}
    assert wire["exclude"] == [{"bytes": "YS//Lw=="}]
    assert ReplicatedDirectory.model_validate(wire) == directory
