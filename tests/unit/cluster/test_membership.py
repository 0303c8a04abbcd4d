"""Who is heard: loss, replay, restart, goodbye and local health."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from telamon.cluster.heartbeat import Heartbeat
from telamon.cluster.membership import (
    WINDOW,
    Change,
    Fresh,
    Heard,
    Ignored,
    Introduced,
    Lost,
    Membership,
    Standing,
    Times,
    hear,
    listen,
    tick,
)

US = 1001
TIMES = Times(interval_ms=200, lost_after_ms=2_000)


def beat(sequence: int, **changes: object) -> Heartbeat:
    return replace(Heartbeat("n2", 7, sequence, "lan", US, True, False, ()), **changes)  # type: ignore[arg-type]


@dataclass
class Listener:
    """A node that ticks every interval and is given heartbeats."""

    now_ms: int = 10_000
    membership: Membership = field(init=False)

    def __post_init__(self) -> None:
        self.membership = listen(US, ["n2"], TIMES, self.now_ms)

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
        return self.membership.peers["n2"].standing


def test_a_peer_that_never_speaks_is_lost_after_the_loss_time() -> None:
    node = Listener()
    assert node.wait(1_900) == []
    assert node.standing is Standing.UNKNOWN
    assert node.wait(100) == [Lost("n2")]
    assert node.wait(10_000) == []


def test_heard_then_silent_then_heard() -> None:
    node = Listener()
    assert node.hear(beat(1)) == (Heard("n2"), Fresh(beat(1)))
    assert node.wait(1_900) == []
    assert node.hear(beat(2)) == (Fresh(beat(2)),)
    assert node.wait(1_900) == []
    assert node.wait(100) == [Lost("n2")]
    assert node.hear(beat(3)) == (Heard("n2"), Fresh(beat(3)))


def test_one_network_is_enough() -> None:
    node = Listener()
    node.hear(beat(1))
    node.wait(1_500)
    node.hear(beat(2, network="repl"))
    assert node.wait(1_900) == []
    assert node.membership.silent_networks("n2", ["lan", "repl", "third"]) == ("lan", "third")


def test_the_own_late_loop_stretches_the_judgement_of_others() -> None:
    node = Listener()
    node.hear(beat(1))
    assert node.stall(60_000) == ()
    assert node.wait(1_500) == []
    assert node.wait(400) == [Lost("n2")]


def test_a_late_loop_is_noticed_by_a_heartbeat_as_well() -> None:
    node = Listener()
    node.hear(beat(1))
    node.now_ms += 60_000
    node.hear(beat(9, sender="n9"))
    assert node.wait(1_000) == []


def test_a_late_start_is_stretched_too() -> None:
    node = Listener()
    assert node.stall(30_000) == ()
    assert node.wait(1_500) == []
    assert node.standing is Standing.UNKNOWN


def test_a_sequence_counts_once_whatever_the_order() -> None:
    node = Listener()
    node.hear(beat(5))
    assert isinstance(node.hear(beat(5))[0], Ignored)
    assert node.hear(beat(3)) == ()
    assert isinstance(node.hear(beat(3))[0], Ignored)
    node.hear(beat(5 + WINDOW))
    assert isinstance(node.hear(beat(5))[0], Ignored)
    assert node.hear(beat(6)) == ()


def test_only_the_newest_report_counts() -> None:
    node = Listener()
    node.hear(beat(5, hears_receiver=False))
    node.hear(beat(4, hears_receiver=True))
    assert not node.membership.peers["n2"].hears_us


def test_who_does_not_know_this_life_is_introduced_first() -> None:
    node = Listener()
    assert node.hear(beat(1, knows_boot_id=0)) == (Introduced("n2", 7),)
    assert node.standing is Standing.UNKNOWN
    assert node.membership.knows_boot_id("n2") == 7
    assert Heard("n2") in node.hear(beat(2))


def test_recordings_for_an_earlier_life_say_nothing() -> None:
    node = Listener()
    for sequence in range(1, 50):
        assert node.hear(beat(sequence, knows_boot_id=999)) == (Introduced("n2", 7),)
    assert node.wait(2_000) == [Lost("n2")]


def test_a_restarted_peer_replaces_its_former_life_for_good() -> None:
    node = Listener()
    node.hear(beat(500))
    assert node.hear(beat(1, boot_id=8, knows_boot_id=0)) == (Introduced("n2", 8),)
    assert node.membership.knows_boot_id("n2") == 7, "a mere introduction changes nothing"
    assert node.hear(beat(2, boot_id=8)) == (Fresh(beat(2, boot_id=8)),)
    assert isinstance(node.hear(beat(501))[0], Ignored)
    assert node.membership.knows_boot_id("n2") == 8


def test_an_introduction_by_replay_does_not_silence_the_true_peer() -> None:
    node = Listener()
    node.hear(beat(1))
    node.hear(beat(1, boot_id=6, knows_boot_id=0))
    assert node.hear(beat(2)) == (Fresh(beat(2)),)
    assert node.membership.knows_boot_id("n2") == 7


def test_goodbye_is_a_loss_at_once_and_final_for_that_life() -> None:
    node = Listener()
    node.hear(beat(1))
    assert node.hear(beat(2, says_goodbye=True)) == (
        Fresh(beat(2, says_goodbye=True)),
        Lost("n2", said_goodbye=True),
    )
    assert isinstance(node.hear(beat(3))[0], Ignored)
    assert node.wait(5_000) == []
    assert Heard("n2") in node.hear(beat(1, boot_id=8))


def test_strangers_are_ignored() -> None:
    node = Listener()
    assert isinstance(node.hear(beat(1, sender="n3"))[0], Ignored)


@given(st.lists(st.integers(1, 600), max_size=60))
def test_no_sequence_is_ever_taken_twice(sequences: list[int]) -> None:
    node = Listener()
    taken = [s for s in sequences if not any(isinstance(c, Ignored) for c in node.hear(beat(s)))]
    assert len(taken) == len(set(taken))
    newest = 0
    for sequence in sequences:
        newest = max(newest, sequence)
        assert sequence in taken or sequence <= newest - WINDOW
