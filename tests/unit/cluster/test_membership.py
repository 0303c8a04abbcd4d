"""Who is heard: loss, replay, restart, goodbye and local health."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.cluster.heartbeat import Heartbeat
from telamon.cluster.membership import (
    WINDOW,
    Change,
    Fresh,
    Heading,
    Heard,
    Ignored,
    Introduced,
    Lost,
    Membership,
    Standing,
    Times,
    head,
    hear,
    listen,
    next_loss_ms,
    tick,
)

US = 1001
TIMES = Times(interval_ms=200, lost_after_ms=2_000)


def beat(sequence: int, **changes: object) -> Heartbeat:
    return replace(Heartbeat("n2", 7, sequence, "lan", US, 1, True, False, ()), **changes)  # type: ignore[arg-type]


@dataclass
class Listener:
    """A node that ticks every interval and is given heartbeats."""

    boot_id: int = US
    peer: str = "n2"
    now_ms: int = 10_000
    membership: Membership = field(init=False)

    def __post_init__(self) -> None:
        self.membership = listen(self.boot_id, [self.peer], TIMES, self.now_ms)

    def beat_of(self, name: str) -> Heartbeat:
        """The next heartbeat that this node sends."""
        heading = self.head()
        return Heartbeat(
            sender=name,
            boot_id=self.boot_id,
            sequence=heading.sequence,
            network="lan",
            knows_boot_id=heading.knows_boot_id,
            knows_sequence=heading.knows_sequence,
            hears_receiver=heading.hears_receiver,
            says_goodbye=False,
            payloads=(),
        )

    def meet(self, boot_id: int = 7) -> None:
        """A life of the peer appears, is spoken to, and answers with its sequence 2."""
        assert self.hear(beat(1, boot_id=boot_id, knows_sequence=0)) == (Introduced("n2", boot_id),)
        heading = self.head(boot_id)
        answer = beat(2, boot_id=boot_id, knows_sequence=heading.sequence)
        assert Fresh(answer) in self.hear(answer)

    def head(self, life: int = 0) -> Heading:
        self.membership, heading = head(self.membership, self.peer, life)
        return heading

    def hear(self, heartbeat: Heartbeat) -> tuple[Change, ...]:
        self.membership, changes = hear(self.membership, heartbeat, self.now_ms)
        return changes

    def wait(self, duration_ms: int) -> list[Change]:
        end_ms = self.now_ms + duration_ms
        changes: list[Change] = []
        while self.now_ms < end_ms:
            changes += self.stall(min(TIMES.interval_ms, end_ms - self.now_ms))
        return changes

    def stall(self, duration_ms: int) -> tuple[Change, ...]:
        self.now_ms += duration_ms
        self.membership, changes = tick(self.membership, self.now_ms)
        return changes

    @property
    def standing(self) -> Standing:
        return self.membership.peers[self.peer].standing


def met() -> Listener:
    node = Listener()
    node.meet()
    return node


def test_a_peer_that_never_speaks_is_lost_after_the_loss_time() -> None:
    node = Listener()
    assert node.wait(1_900) == []
    assert node.standing is Standing.UNKNOWN
    assert node.wait(100) == [Lost("n2")]
    assert node.wait(10_000) == []


def test_heard_then_silent_then_heard() -> None:
    node = met()
    assert node.standing is Standing.HEARD
    assert node.wait(1_900) == []
    assert node.hear(beat(3)) == (Fresh(beat(3)),)
    assert node.wait(1_900) == []
    assert node.wait(100) == [Lost("n2")]
    assert node.hear(beat(4)) == (Heard("n2"), Fresh(beat(4)))


def test_one_network_is_enough() -> None:
    node = met()
    node.wait(1_500)
    node.hear(beat(3, network="repl"))
    assert node.wait(1_900) == []
    assert node.membership.silent_networks("n2", ["lan", "repl", "third"]) == ("lan", "third")


def test_the_own_late_loop_stretches_the_judgement_of_others() -> None:
    node = met()
    assert node.stall(60_000) == ()
    assert node.wait(1_500) == []
    assert node.wait(400) == [Lost("n2")]


def test_a_late_loop_is_noticed_by_a_heartbeat_as_well() -> None:
    node = met()
    node.now_ms += 60_000
    node.hear(beat(9, sender="n9"))
    assert node.wait(1_000) == []


def test_a_late_start_is_stretched_too() -> None:
    node = Listener()
    assert node.stall(30_000) == ()
    assert node.wait(1_500) == []
    assert node.standing is Standing.UNKNOWN


def test_a_sequence_counts_once_whatever_the_order() -> None:
    node = met()
    node.hear(beat(5))
    assert isinstance(node.hear(beat(5))[0], Ignored)
    assert node.hear(beat(3)) == ()
    assert isinstance(node.hear(beat(3))[0], Ignored)
    node.hear(beat(5 + WINDOW))
    assert isinstance(node.hear(beat(5))[0], Ignored)
    assert node.hear(beat(6)) == ()


def test_only_the_newest_report_counts() -> None:
    node = met()
    node.hear(beat(5, hears_receiver=False))
    node.hear(beat(4, hears_receiver=True))
    assert not node.membership.peers["n2"].hears_us


def test_a_life_that_has_not_answered_is_spoken_to_and_does_not_count() -> None:
    node = Listener()
    assert node.hear(beat(1, knows_boot_id=0, knows_sequence=0)) == (Introduced("n2", 7),)
    assert node.standing is Standing.UNKNOWN
    assert node.head() == Heading(1, knows_boot_id=7, knows_sequence=1, hears_receiver=False)
    assert node.hear(beat(2, knows_sequence=0)) == (Introduced("n2", 7),)
    assert node.head().knows_sequence == 2
    assert node.hear(beat(3, knows_sequence=1)) == (
        Heard("n2"),
        Fresh(beat(3, knows_sequence=1)),
    )


@pytest.mark.parametrize("knows", [{"knows_boot_id": 999}, {"knows_sequence": 0}])
def test_recordings_say_nothing(knows: dict[str, int]) -> None:
    node = Listener()
    for sequence in range(1, 50):
        assert node.hear(beat(sequence, **knows)) == (Introduced("n2", 7),)
        node.head()
    assert node.wait(2_000) == [Lost("n2")]


def test_two_nodes_meet_within_two_round_trips() -> None:
    nodes = {"n1": Listener(boot_id=1, peer="n2"), "n2": Listener(boot_id=2, peer="n1")}
    standings = []
    for sender, receiver in [("n1", "n2"), ("n2", "n1")] * 2:
        nodes[receiver].hear(nodes[sender].beat_of(sender))
        standings.append(nodes[receiver].standing)
    assert standings == [Standing.UNKNOWN, Standing.UNKNOWN, Standing.HEARD, Standing.HEARD]


def test_a_restarted_peer_is_believed_once_it_answered() -> None:
    node = met()
    node.hear(beat(500))
    assert node.hear(beat(1, boot_id=8, knows_sequence=0)) == (Introduced("n2", 8),)
    assert node.head().knows_boot_id == 7, "an introduction changes nothing"
    heading = node.head(8)
    assert (heading.knows_boot_id, heading.knows_sequence) == (8, 1)
    answer = beat(2, boot_id=8, knows_sequence=heading.sequence)
    assert node.hear(answer) == (Fresh(answer),)
    assert node.head().knows_boot_id == 8


def test_stragglers_of_an_ended_life_do_not_displace_the_present_one() -> None:
    node = met()
    node.meet(boot_id=8)
    assert node.hear(beat(501, boot_id=7)) == (Introduced("n2", 7),)
    assert node.hear(beat(502, boot_id=7)) == (Introduced("n2", 7),)
    present = beat(3, boot_id=8)
    assert node.hear(present) == (Fresh(present),)
    assert node.head().knows_boot_id == 8


def test_goodbye_is_a_loss_at_once_and_final_for_that_life() -> None:
    node = met()
    assert node.hear(beat(3, says_goodbye=True)) == (
        Fresh(beat(3, says_goodbye=True)),
        Lost("n2", said_goodbye=True),
    )
    assert isinstance(node.hear(beat(4))[0], Ignored)
    assert node.wait(5_000) == []
    node.meet(boot_id=8)
    assert node.standing is Standing.HEARD


def test_strangers_are_ignored() -> None:
    node = met()
    assert isinstance(node.hear(beat(1, sender="n3"))[0], Ignored)


@given(st.lists(st.integers(3, 600), max_size=60))
def test_no_sequence_is_ever_taken_twice(sequences: list[int]) -> None:
    node = met()
    taken = [s for s in sequences if not any(isinstance(c, Ignored) for c in node.hear(beat(s)))]
    assert len(taken) == len(set(taken))
    newest = 0
    for sequence in sequences:
        newest = max(newest, sequence)
        assert sequence in taken or sequence <= newest - WINDOW


def test_the_time_of_the_next_loss_is_known_beforehand() -> None:
    listener = Listener()
    assert next_loss_ms(listener.membership) == listener.now_ms + TIMES.lost_after_ms
    listener.wait(1_000)
    listener.meet()
    heard_ms = listener.now_ms
    assert next_loss_ms(listener.membership) == heard_ms + TIMES.lost_after_ms
    while next_loss_ms(listener.membership) is not None:
        listener.wait(TIMES.interval_ms)
    assert listener.now_ms >= heard_ms + TIMES.lost_after_ms
    assert listener.membership.peers["n2"].standing is Standing.LOST
