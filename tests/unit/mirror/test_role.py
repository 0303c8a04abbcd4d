"""The machine as a whole: consent, currency, divergence, two primaries, pauses and restarts."""

from dataclasses import replace

from mirror_values import (
    IN_STEP,
    OLD,
    SETTINGS,
    THEM,
    US,
    WENT_ALONE,
    WENT_APART,
    Node,
    as_primary,
    facts,
    outdated,
    told,
)

from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.report import Answered, CommitState, LinkState, ModuleState, Readiness
from telamon.mirror.role_action import (
    Answer,
    Connect,
    Demote,
    Disconnect,
    Grant,
    Outdate,
    Promote,
    RemoveAddresses,
    SendHeartbeat,
    StopApplication,
)
from telamon.mirror.role_event import (
    Command,
    CommandKind,
    PeerLost,
    PeerReport,
    Presence,
    ReplicatorDied,
    Tick,
)
from telamon.mirror.role_state import Goal

LIVE_SECOND = facts(role=ReplicatorRole.SECONDARY, link=LinkState.LIVE)
LIVE_PRIMARY = facts(role=ReplicatorRole.PRIMARY, link=LinkState.LIVE, commits=CommitState.PEER)


def serving() -> Node:
    return Node().begin(LIVE_PRIMARY, application=Presence.ON, addresses=Presence.ON).told(told())


def following() -> Node:
    return Node().begin(LIVE_SECOND).told(as_primary(link=LinkState.LIVE))


# --- consent ---


def test_nobody_is_promoted_without_the_consent_to_this_very_request() -> None:
    node = Node().begin(facts()).told(told())
    assert node.state.candidate == 1 and not node.has_asked(Promote)
    for answer in (
        None,
        Answered(US, node.state.candidate + 1),
        Answered(US + 1, node.state.candidate),
        Answered(THEM, node.state.candidate),
    ):
        node.told(told(consents_to=answer))
        assert not node.has_asked(Promote), answer
    node.told(told(consents_to=Answered(US, node.state.candidate)))
    assert node.has_asked(Promote)


def test_who_consented_does_not_ask_until_the_other_has_withdrawn() -> None:
    node = Node(replace(SETTINGS, preferred="n2")).begin(facts()).told(told(candidate=4))
    assert node.state.consents_to == Answered(THEM, 4) and not node.state.candidate
    node.told(told(candidate=4, can_take_over=False))
    assert not node.state.candidate
    node.told(as_primary())
    assert node.state.consents_to == Answered(THEM, 4), "until the claim has gone, too"
    node.told(told(can_take_over=False))
    assert node.state.consents_to is None and node.state.candidate


def test_a_consent_is_not_given_against_newer_data() -> None:
    node = Node().begin(facts(lineage=WENT_ALONE)).told(told(candidate=4))
    assert node.state.consents_to is None and node.state.candidate


def test_a_candidate_that_consents_withdraws() -> None:
    node = Node(replace(SETTINGS, preferred="n2")).begin(facts()).told(told(can_take_over=False))
    assert node.state.candidate
    node.told(told(candidate=9))
    assert node.state.consents_to == Answered(THEM, 9) and not node.state.candidate


# --- currency ---


def test_a_secondary_in_step_takes_over_when_heartbeats_and_session_are_gone() -> None:
    node = following().wait(2_000).take(PeerLost())
    assert not node.has_asked(Promote), "the session lives: only the agent is gone"
    node.status(link=LinkState.CONNECTING)
    assert node.pending(Promote).operation == Promote()


def test_a_secondary_that_was_asked_to_be_outdated_never_takes_over() -> None:
    node = following().status(link=LinkState.CONNECTING)
    node.told(as_primary(outdate_request=5))
    assert not node.state.is_current
    node.wait(2_000).take(PeerLost()).wait(20_000)
    assert not node.has_asked(Promote)
    assert node.state.view.state is ModuleState.WAIT


def test_a_side_that_is_known_to_have_diverged_never_takes_over() -> None:
    node = Node().begin(facts(lineage=WENT_ALONE)).told(as_primary(lineage=WENT_APART))
    assert node.state.has_diverged and "split brain" in node.state.view.reason
    node.status(lineage=outdated(WENT_ALONE)).done(Outdate)
    node.wait(2_000).take(PeerLost()).wait(5_000)
    assert not node.has_asked(Promote)


def test_divergence_is_kept_in_mind_while_the_mark_is_not_there_yet() -> None:
    node = Node().begin(facts(lineage=WENT_ALONE)).told(as_primary(lineage=WENT_APART))
    node.failed(Outdate, "no space").wait(2_000).take(PeerLost()).wait(5_000)
    assert not node.has_asked(Promote)
    assert "are apart" in node.state.view.reason


def test_being_current_fades_in_silence() -> None:
    waits = replace(SETTINGS, isolation=SETTINGS.isolation.WAIT)
    node = Node(waits).begin(LIVE_SECOND).told(as_primary())
    node.status(link=LinkState.CONNECTING).wait(2_000).take(PeerLost())
    assert node.state.is_current
    node.wait(10 * SETTINGS.lost_after_ms)
    assert not node.state.is_current


def test_news_of_a_newer_generation_ends_being_current() -> None:
    node = following().status(link=LinkState.CONNECTING)
    node.told(as_primary(lineage=WENT_ALONE))
    assert not node.state.is_current


def test_a_primary_that_stood_still_is_not_current_when_its_session_is_gone() -> None:
    node = serving()
    assert node.state.is_current
    node.take(Tick(), after_ms=SETTINGS.lost_after_ms).status(
        link=LinkState.DOWN, commits=CommitState.WAITING
    )
    assert not node.state.is_current
    node.take(ReplicatorDied("killed")).take(PeerLost()).wait(30_000)
    assert not node.has_asked(Promote)


def test_a_short_pause_costs_nothing() -> None:
    node = following().take(Tick(), after_ms=SETTINGS.lost_after_ms // 2)
    node.status(link=LinkState.CONNECTING).wait(2_000).take(PeerLost())
    assert node.state.is_current and node.has_asked(Promote)


def test_short_times_are_no_pauses() -> None:
    hasty = replace(SETTINGS, lost_after_ms=600, peer_timeout_ms=600)
    node = Node(hasty).begin(LIVE_SECOND).told(as_primary(link=LinkState.LIVE)).wait(1_000)
    node.status(link=LinkState.CONNECTING).wait(600).take(PeerLost())
    assert node.state.is_current and node.has_asked(Promote)


def test_an_agent_that_finds_a_waiting_primary_does_not_take_it_for_current() -> None:
    node = Node().begin(facts(role=ReplicatorRole.PRIMARY))
    assert node.state.goal is Goal.PRIMARY and not node.state.is_current
    node.wait(2_000).take(PeerLost())
    node.status(commits=CommitState.ALONE, lineage=WENT_ALONE).done(Grant)
    assert node.state.is_current


def test_a_loss_that_was_judged_before_a_pause_is_judged_anew() -> None:
    node = following().status(link=LinkState.CONNECTING)
    node.take(PeerLost(), after_ms=SETTINGS.lost_after_ms - 600)
    assert not node.has_asked(Promote)
    node.told(as_primary())
    assert node.wait(5_000).state.goal is Goal.STANDBY


# --- two primaries ---


def test_of_two_primaries_the_one_with_the_older_data_gives_up_by_force() -> None:
    node = serving()
    node.told(as_primary(lineage=WENT_ALONE))
    assert node.state.goal is Goal.STANDBY
    assert node.pending(StopApplication).operation == StopApplication(force=True)
    node.done(StopApplication).done(RemoveAddresses)
    assert node.pending(Demote).operation == Demote(force=True)


def test_the_one_with_the_newer_data_stays() -> None:
    node = Node().begin(
        replace(LIVE_PRIMARY, link=LinkState.DOWN, commits=CommitState.ALONE, lineage=WENT_ALONE),
        application=Presence.ON,
        addresses=Presence.ON,
    )
    assert node.told(as_primary()).state.goal is Goal.PRIMARY


# --- swap, second, start ---


def test_a_swap_hands_over_and_follows() -> None:
    node = serving().take(Command(3, CommandKind.SWAP))
    assert Answer(3, "") in node.actions
    node.done(StopApplication).done(RemoveAddresses)
    node.status(role=ReplicatorRole.IDLE, link=LinkState.DOWN).done(Demote)
    assert node.state.yields is not None and node.state.consents_to is None
    node.told(told(candidate=2))
    assert node.state.consents_to == Answered(THEM, 2)
    node.told(as_primary())
    assert node.has_asked(Connect) and node.state.yields is None


def test_the_secondary_asks_the_primary_for_a_swap_and_hears_a_refusal() -> None:
    node = following().take(Command(3, CommandKind.SWAP))
    assert node.state.swap_request == 1
    refused = as_primary(swap_answered=Answered(US, 1), swap_refusal="still in transition")
    node.told(refused)
    assert node.state.swap_request == 0
    assert "swap refused: still in transition" in node.state.fault


def test_the_primary_answers_a_request_for_a_swap_once() -> None:
    node = serving().told(told(swap_request=6))
    assert node.state.swap_answered == Answered(THEM, 6)
    assert node.state.goal is Goal.STANDBY


def test_second_on_the_losing_side_of_a_split_connects_with_permission() -> None:
    node = Node().begin(facts(lineage=WENT_ALONE)).told(as_primary(lineage=WENT_APART))
    assert not node.has_asked(Connect)
    node.take(Command(1, CommandKind.SECOND))
    assert node.pending(Connect).operation == Connect(discard=True)


def test_a_secondary_that_was_outdated_in_a_live_session_contacts_anew() -> None:
    node = following().status(lineage=outdated(IN_STEP))
    assert node.has_asked(Disconnect)


# --- what others see ---


def test_every_change_of_the_report_is_sent_at_once() -> None:
    node = following()
    node.status(link=LinkState.CONNECTING)
    assert SendHeartbeat() in node.actions
    node.take(Tick(), after_ms=200)
    assert SendHeartbeat() not in node.actions


def test_the_reason_of_waiting_commits_names_the_peer_that_cannot_mark() -> None:
    waits = replace(SETTINGS, isolation=SETTINGS.isolation.WAIT)
    node = Node(waits).begin(LIVE_PRIMARY, application=Presence.ON, addresses=Presence.ON)
    node.told(told()).status(link=LinkState.DOWN, commits=CommitState.WAITING)
    request = Answered(US, node.state.outdate_request)
    node.told(told(outdated_for=request, outdate_refusal="n2 cannot mark its data Outdated: full"))
    assert not node.has_asked(Grant)
    assert node.state.view.readiness is Readiness.TRANSIENT
    assert "commits wait for n2: n2 cannot mark its data Outdated: full" in node.state.view.reason


def test_reports_of_an_earlier_life_are_told_apart() -> None:
    node = serving().status(link=LinkState.DOWN, commits=CommitState.WAITING)
    node.take(PeerReport(THEM, told(outdated_for=Answered(US - 1, node.state.outdate_request))))
    assert not node.has_asked(Grant)
    assert node.state.lineage is not None and node.state.lineage.generation == OLD
