"""Heartbeats through real sockets on loopback: heard, lost, said goodbye; garbage refused and
logged.
"""

import asyncio
import logging
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telamon.agent.heartbeats import Heartbeats
from telamon.cluster import config
from telamon.cluster.config import Cluster
from telamon.cluster.creation import render
from telamon.cluster.heartbeat import MAGIC, VERSION, Heartbeat, Keys, Refusal, seal
from telamon.cluster.membership import Standing
from telamon.configuration.model import Parsed
from telamon.errors import NetworkError

DEADLINE_S = 15
SECRET = bytes(range(32))
NONSENSE = b"nonsense"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cluster() -> Cluster:
    nodes = {
        "n1": {"lan": "127.0.7.1", "repl": "127.0.8.1"},
        "n2": {"lan": "127.0.7.2", "repl": "127.0.8.2"},
    }
    text = render("east", nodes)
    text += (
        f"ports: {{heartbeat: {_free_port()}}}\nheartbeat: {{interval: 50ms, lost_after: 500ms}}\n"
    )
    parsed = config.parse(text)
    assert isinstance(parsed, Parsed), parsed
    return parsed.model


class Ear:
    """Records what it is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[object] = asyncio.Queue()
        self.report = b"report"

    def payloads(self, receiver: str) -> tuple[tuple[str, bytes], ...]:
        return (("db", self.report),)

    def peer_heard(self, node: str) -> None:
        self.told.put_nowait(("heard", node))

    def peer_lost(self, node: str, said_goodbye: bool) -> None:
        self.told.put_nowait(("lost", node, said_goodbye))

    def peer_reported(self, heartbeat: Heartbeat) -> None:
        self.told.put_nowait(heartbeat)

    def misunderstood(self, heartbeat: Heartbeat) -> str:
        is_nonsense = any(content == NONSENSE for _, content in heartbeat.payloads)
        return "makes no sense" if is_nonsense else ""

    def heartbeat_refused(self, network: str, source: str, reason: str) -> None:
        self.told.put_nowait(("refused", source, reason))

    async def until(self, wanted: object) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.told.get() != wanted:
                pass

    async def until_report(self, content: bytes) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                told = await self.told.get()
                if isinstance(told, Heartbeat) and told.payloads == (("db", content),):
                    return


@asynccontextmanager
async def _node(
    cluster: Cluster, name: str, secret: bytes = SECRET
) -> AsyncIterator[tuple[Heartbeats, Ear]]:
    ear = Ear()
    keys = Keys(cluster.id, secret)
    heartbeats = Heartbeats(cluster, name, keys, random.getrandbits(63) + 1, ear)
    await heartbeats.open()
    running = asyncio.create_task(heartbeats.run())
    try:
        yield heartbeats, ear
    finally:
        running.cancel()
        heartbeats.close()


async def test_nodes_hear_each_other_and_exchange_reports() -> None:
    cluster = _cluster()
    async with _node(cluster, "n1") as (first, first_ear), _node(cluster, "n2") as (_, second_ear):
        await first_ear.until(("heard", "n2"))
        await second_ear.until_report(b"report")
        first_ear.report = b"changed"
        first.send_soon()
        await second_ear.until_report(b"changed")
        shown = first.describe()["n2"]
        assert shown.keys() == {"lan", "repl"}


async def test_silence_is_noticed_and_return_is_heard() -> None:
    cluster = _cluster()
    async with _node(cluster, "n1") as (first, ear):
        async with _node(cluster, "n2"):
            await ear.until(("heard", "n2"))
        await ear.until(("lost", "n2", False))
        assert first.standing("n2") is Standing.LOST
        assert first.describe()["n2"]["lan"].state == "lost"
        async with _node(cluster, "n2"):
            await ear.until(("heard", "n2"))


async def test_goodbye_is_believed_at_once() -> None:
    cluster = _cluster()
    async with _node(cluster, "n1") as (_, ear), _node(cluster, "n2") as (second, _):
        await ear.until(("heard", "n2"))
        second.say_goodbye()
        await ear.until(("lost", "n2", True))


async def test_garbage_is_refused_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)
    cluster = _cluster()
    other_key = seal(
        Keys(cluster.id, bytes(32)), Heartbeat("n2", 1, 1, "lan", 0, 0, True, False, ()), "n1"
    )
    wrong_network = seal(
        Keys(cluster.id, SECRET), Heartbeat("n2", 1, 1, "repl", 0, 0, True, False, ()), "n1"
    )
    datagrams = [
        b"",
        other_key,
        wrong_network,
        *(chance.randbytes(chance.randrange(2000)) for _ in range(50)),
        *(MAGIC + bytes([VERSION]) + chance.randbytes(chance.randrange(60)) for _ in range(50)),
    ]
    async with _node(cluster, "n1") as (first, ear), _node(cluster, "n2"):
        await ear.until(("heard", "n2"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            for datagram in datagrams:
                attacker.sendto(datagram, ("127.0.7.1", cluster.ports.heartbeat))
        await ear.until_report(b"report")
        async with asyncio.timeout(DEADLINE_S):
            while first.refused_count < len(datagrams):
                await ear.until_report(b"report")
        assert first.standing("n2") is Standing.HEARD
    assert "not sealed for this node with the cluster's secret" in caplog.text
    assert "sealed for another network" in caplog.text
    # A flood is not a flood of log lines.
    assert len(caplog.records) < 10


async def test_a_node_with_another_secret_is_never_heard() -> None:
    cluster = _cluster()
    async with _node(cluster, "n1") as (first, ear), _node(cluster, "n2", bytes(32)):
        await ear.until(("lost", "n2", False))
        assert first.refused_count > 0


async def test_a_report_that_makes_no_sense_is_silence_and_is_told() -> None:
    cluster = _cluster()
    async with _node(cluster, "n1") as (first, ear), _node(cluster, "n2") as (_, broken):
        await ear.until(("heard", "n2"))
        broken.report = NONSENSE
        await ear.until(("refused", "127.0.7.2", "makes no sense"))
        await ear.until(("lost", "n2", False))
        broken.report = b"sense"
        await ear.until_report(b"sense")
        assert first.standing("n2") is Standing.HEARD


async def test_another_version_is_silence_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _cluster()
    monkeypatch.setattr("telamon.cluster.heartbeat.VERSION", VERSION + 1)
    sealed = seal(
        Keys(cluster.id, SECRET), Heartbeat("n2", 1, 1, "lan", 0, 0, True, False, ()), "n1"
    )
    monkeypatch.undo()
    async with _node(cluster, "n1") as (first, ear):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as newer:
            newer.bind(("127.0.7.2", 0))
            newer.sendto(sealed, ("127.0.7.1", cluster.ports.heartbeat))
        await ear.until(("refused", "127.0.7.2", Refusal.VERSION))
        await ear.until(("lost", "n2", False))
        assert "the same version of telamon" in Refusal.VERSION
        assert first.refused_count == 1


async def test_a_port_in_use_is_an_error_with_a_cure() -> None:
    cluster = _cluster()
    async with _node(cluster, "n1"):
        with pytest.raises(NetworkError, match=r"stop what uses the port, or change ports"):
            async with _node(cluster, "n1"):
                pass
