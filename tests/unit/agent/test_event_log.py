"""The event log: kept, bounded, damaged, followed."""

import asyncio
import resource
from pathlib import Path

import pytest

from telamon.agent import events
from telamon.agent.events import EventLog
from telamon.agent.models import Severity

DEADLINE_S = 10


def test_events_survive_a_restart_and_numbering_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log" / "events.jsonl"
    first = EventLog(path, "n1")
    first.append("began")
    first.append("primary", module="db", severity=Severity.WARNING)
    first.close()
    second = EventLog(path, "n1")
    second.append("went on", module="db")
    assert [event.sequence for event in second.recent(10)] == [1, 2, 3]
    assert [event.text for event in second.recent(10, module="db")] == ["primary", "went on"]
    assert [event.text for event in second.recent(1)] == ["went on"]
    assert second.recent(0) == []


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, "n1")
    log.append("whole")
    log.close()
    with path.open("ab") as stream:
        stream.write(b'{"sequence": 2, "te')
    reopened = EventLog(path, "n1")
    reopened.append("after")
    reopened.close()
    assert [event.text for event in EventLog(path, "n1").recent(10)] == ["whole", "after"]


def test_the_log_is_bounded_and_keeps_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HALF_LIMIT_BYTES", 2000)
    path = tmp_path / "events.jsonl"
    log = EventLog(path, "n1")
    for number in range(200):
        log.append(f"event {number}")
    log.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5000
    assert EventLog(path, "n1").recent(1)[0].text == "event 199"


async def test_a_follower_gets_what_comes_after(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", "n1")
    log.append("before", module="db")
    async with asyncio.timeout(DEADLINE_S):
        following = log.follow(module="db")
        first = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        log.append("of another", module="web")
        log.append("after", module="db")
        assert (await first).text == "after"
        await following.aclose()


def test_a_full_disk_costs_the_record_not_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = EventLog(tmp_path / "events.jsonl", "n1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        log.append("cannot be kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.recent(1)[0].text == "cannot be kept"
    assert "could not keep the last event" in caplog.text
