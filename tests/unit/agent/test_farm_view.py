"""The driver of the view change: the filter has switched before anyone hears of it, a filter that
cannot be told ends the share, and messages that come meanwhile are not lost.
"""

import asyncio
from dataclasses import dataclass, field

import pytest

from telamon.agent.farm.view import LARGE_FARM_NODES, Outlets, ViewChange
from telamon.errors import NetworkError, TelamonError
from telamon.farm.hash import BUCKETS
from telamon.farm.layout import TableImage
from telamon.farm.message import Goodbye, Message, Offer, Proposal, Status
from telamon.farm.view_state import MILLISECOND, Settings

DEADLINE_S = 30.0
TIMES = {"interval": 20 * MILLISECOND, "loss": 70 * MILLISECOND, "lease": 60 * MILLISECOND}


@dataclass
class Recorder:
    """What was done, in its order; `may_show` holds the filter back, `refusal` lets it fail."""

    done: list[str] = field(default_factory=list)
    images: list[TableImage] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    failures: list[TelamonError] = field(default_factory=list)
    may_show: asyncio.Event = field(default_factory=asyncio.Event)
    is_showing: asyncio.Event = field(default_factory=asyncio.Event)
    has_failed: asyncio.Event = field(default_factory=asyncio.Event)
    serves: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: TelamonError | None = None

    def outlets(self) -> Outlets:
        return Outlets(
            show=self.show,
            renew=self.renew,
            send=self.send,
            measure=lambda: None,
            note=lambda text: self.done.append("note"),
            fail=self.fail,
            defect=self.fail,  # type: ignore[arg-type] - a defect fails the test all the same
        )

    async def show(self, image: TableImage) -> None:
        self.is_showing.set()
        await self.may_show.wait()
        if self.refusal is not None:
            raise self.refusal
        self.done.append("show")
        self.images.append(image)

    async def renew(self, until: int) -> None:
        self.done.append("renew")
        if self.images and 1 in self.images[-1].buckets[0::2]:
            self.serves.set()

    def send(self, to: int | None, message: Message) -> None:
        self.done.append("send")
        self.sent.append(message)

    def fail(self, error: TelamonError) -> None:
        self.failures.append(error)
        self.has_failed.set()


def begun(recorder: Recorder, nodes: int = 3) -> ViewChange:
    return ViewChange(
        Settings(1, b"secret", **TIMES),
        5,
        recorder.outlets(),
        nodes=nodes,
        incarnation=1,
        offer=Offer(1),
        resumed=None,
    )


def status(number: int, sequence: int, members: int) -> Status:
    everyone = frozenset(range(1, members + 1))
    return Status(
        number, 1, sequence, Offer(1), everyone, 1, False, 0, False, False, frozenset(), 0
    )


async def within(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), DEADLINE_S)


@pytest.mark.parametrize("nodes", [3, LARGE_FARM_NODES])
async def test_a_node_alone_comes_to_serve_everything(nodes: int) -> None:
    recorder = Recorder()
    recorder.may_show.set()
    change = begun(recorder, nodes)
    await within(recorder.serves)
    assert recorder.images[-1].buckets == bytes([1, 0]) * BUCKETS
    await change.leave()
    assert recorder.images[-1].buckets[0::2] == bytes(BUCKETS)
    assert isinstance(recorder.sent[-1], Goodbye)
    assert change.goodbye == recorder.sent[-1]
    assert recorder.failures == []


async def test_nobody_hears_of_what_the_filter_does_not_show_yet() -> None:
    recorder = Recorder()
    change = begun(recorder)
    await within(recorder.is_showing)
    before = list(recorder.done)
    for sequence in range(5):
        change.receive((status(2, sequence + 1, 2),))
        await asyncio.sleep(0)
    assert recorder.done == before
    recorder.may_show.set()
    await within(recorder.serves)
    after = recorder.done[len(before) :]
    assert after[0] == "show"
    assert after.index("send") < after.index("renew")
    # What came in the meantime was taken: the other node counts.
    assert 2 in change.state.peers
    change.close()


async def test_a_slow_filter_does_not_make_its_node_silent() -> None:
    recorder = Recorder()
    recorder.may_show.set()
    change = begun(recorder)
    await within(recorder.serves)
    recorder.may_show.clear()
    recorder.is_showing.clear()
    change.offer(Offer(1, priority=3))
    change.show_again()
    await within(recorder.is_showing)
    said = len(recorder.sent)
    # For longer than the lease, and than the silence after which others take its buckets.
    await asyncio.sleep(3 * TIMES["loss"] / 1e9)
    meanwhile = recorder.sent[said:]
    assert len(meanwhile) >= TIMES["loss"] // TIMES["interval"]
    shown = len(recorder.images)
    recorder.may_show.set()
    recorder.serves.clear()
    await within(recorder.serves)
    sequences = [one.sequence for one in recorder.sent if isinstance(one, Status)]
    assert sequences == sorted(set(sequences))
    assert all(1 in image.buckets[0::2] for image in recorder.images[shown:])
    change.close()


async def test_a_filter_that_cannot_be_told_ends_the_share_in_silence() -> None:
    recorder = Recorder(refusal=NetworkError("the filter is gone"))
    recorder.may_show.set()
    change = begun(recorder)
    await within(recorder.has_failed)
    said = len(recorder.sent)
    change.receive((status(2, 1, 2),))
    change.offer(Offer(0))
    await change.leave()
    assert [str(one) for one in recorder.failures] == ["the filter is gone"]
    assert len(recorder.sent) == said
    assert "renew" not in recorder.done[recorder.done.index("note") :]


async def test_a_large_farm_gets_its_view() -> None:
    recorder = Recorder()
    recorder.may_show.set()
    members = 40
    change = begun(recorder, members)
    for sequence in range(1, 1000):
        for number in range(2, members + 1):
            change.receive((status(number, sequence, members),))
        await asyncio.sleep(0.01)
        if any(isinstance(message, Proposal) for message in recorder.sent):
            break
    proposals = [message for message in recorder.sent if isinstance(message, Proposal)]
    assert len(proposals[0].view.members) == members
    change.close()
