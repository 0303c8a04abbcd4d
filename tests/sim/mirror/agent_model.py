"""One life of a simulated host's agent: the real role machine and membership, and what they drive.

It can be killed between any two events, and while an operation runs: a replicator command then
takes effect without its answer being heard, a script leaves the application in an unknown state.
"""

from typing import TYPE_CHECKING

from mirror_world import NETWORKS, other
from replicator_model import RefusedError, Replicator

from telamon.cluster import membership
from telamon.cluster.heartbeat import Heartbeat
from telamon.cluster.membership import Fresh, Introduced, Lost, Membership, Times
from telamon.mirror import role
from telamon.mirror.report import Report
from telamon.mirror.role_action import (
    Action,
    AddAddresses,
    Announce,
    Answer,
    Cancel,
    Connect,
    Demote,
    Disconnect,
    Grant,
    Operation,
    Outdate,
    Perform,
    Promote,
    Remember,
    RemoveAddresses,
    SendHeartbeat,
    StartApplication,
    StartReplicator,
    StopApplication,
    StopReplicator,
)
from telamon.mirror.role_event import (
    AgentStarted,
    Command,
    CommandKind,
    Event,
    PeerLost,
    PeerReport,
    Presence,
    ReplicatorDied,
    ReplicatorFacts,
    ReplicatorFault,
    ReplicatorStatus,
    StepDone,
    StepFailed,
    Tick,
)
from telamon.mirror.role_state import RoleState

if TYPE_CHECKING:
    from host_model import Host

INTERVAL_MS = 200
TIMES = Times(INTERVAL_MS, 2_000)


class Agent:
    """One life of a host's telamond."""

    def __init__(self, host: "Host") -> None:
        self.host, self.world = host, host.world
        self.is_dead = self.is_paused = False
        self._late: list[Event] = []
        self.boot_id = self.world.chance.getrandbits(63) | 1
        self.state: RoleState = role.initial(host.settings)
        self._tasks: dict[int, Operation] = {}
        self.answers: dict[int, str] = {}
        self._orders = 0
        peer = other(host.name)
        self.membership: Membership = membership.listen(
            self.boot_id, [peer], TIMES, self.world.now_ms
        )
        self.world.note(host.name, "agent starts")
        replicator = host.replicator
        if replicator is not None:
            self._adopt(replicator)
        remembered = host.remembered
        self.take(
            AgentStarted(
                boot_id=self.boot_id,
                intent_is_started=remembered.intent_is_started,
                replicator=replicator.facts if replicator else None,
                application=host.marker,
                addresses=Presence.ON if host.holds_addresses else Presence.OFF,
                failures_ms=remembered.failures_ms,
            )
        )
        self.world.after(self.world.chance.randint(0, INTERVAL_MS), self._beat)

    def die(self) -> None:
        self.is_dead = True
        self.host.agent = None

    def pause(self) -> None:
        self.world.note(self.host.name, "agent paused")
        self.is_paused = True

    def resume(self) -> None:
        """Go on: the timer first, then what waited, as an event loop does it."""
        if self.is_dead or not self.is_paused:
            return
        self.world.note(self.host.name, "agent resumes")
        self.is_paused = False
        late, self._late = self._late, []
        if self.world.chance.random() < 0.5:
            self.take(Tick())
        for event in late:
            self.take(event)

    def say_goodbye(self) -> None:
        """A clean end of the agent."""
        for network in NETWORKS:
            self._send(network, goodbye=True)

    # --- events ---

    def take(self, event: Event) -> None:
        if self.is_dead:
            return
        if self.is_paused:
            self._late.append(event)
            return
        if not isinstance(event, Tick | PeerReport):
            self.world.note(self.host.name, event)
        self.state, actions = role.step(self.state, event, self.world.now_ms)
        for action in actions:
            self._act(action)

    def order(self, kind: CommandKind, *, force: bool = False) -> int:
        self._orders += 1
        self.take(Command(self._orders, kind, force))
        return self._orders

    def _beat(self) -> None:
        if self.is_dead:
            return
        self.world.after(INTERVAL_MS, self._beat)
        if self.is_paused:
            return
        self.membership, changes = membership.tick(self.membership, self.world.now_ms)
        for change in changes:
            if isinstance(change, Lost):
                self.take(PeerLost(change.said_goodbye))
        self.take(Tick())
        self._send_all()

    def _send_all(self) -> None:
        for network in NETWORKS:
            self._send(network)

    def _send(self, network: str, *, life: int = 0, goodbye: bool = False) -> None:
        peer = other(self.host.name)
        self.membership, heading = membership.head(self.membership, peer, life)
        heartbeat = Heartbeat(
            sender=self.host.name,
            boot_id=self.boot_id,
            sequence=heading.sequence,
            network=network,
            knows_boot_id=heading.knows_boot_id,
            knows_sequence=heading.knows_sequence,
            hears_receiver=heading.hears_receiver,
            says_goodbye=goodbye,
            payloads=(),
        )
        told = role.report(self.state)

        def arrive() -> None:
            agent = self.host.find(peer).agent
            if agent is not None:
                agent.receive(heartbeat, told)

        self.host.networks.datagram(network, self.host.name, arrive)

    def receive(self, heartbeat: Heartbeat, told: Report) -> None:
        if self.is_dead:
            return
        if self.is_paused:
            self.world.after(20, lambda: self.receive(heartbeat, told))
            return
        self.membership, changes = membership.hear(self.membership, heartbeat, self.world.now_ms)
        for change in changes:
            match change:
                case Fresh():
                    self.take(PeerReport(heartbeat.boot_id, told, heartbeat.hears_receiver))
                case Lost(_, said_goodbye):
                    self.take(PeerLost(said_goodbye))
                case Introduced(_, boot_id):
                    self._send(heartbeat.network, life=boot_id)

    # --- actions ---

    def _act(self, action: Action) -> None:
        match action:
            case Perform(serial, operation, _):
                self.world.note(self.host.name, f"#{serial} {operation}")
                self._tasks[serial] = operation
                self.host.watcher.begun(self.host.name, operation)
                delay_ms = self._duration_ms(operation)
                if delay_ms is not None:
                    self.world.after(delay_ms, lambda: self._perform(serial, operation))
            case Cancel(serial):
                self.world.note(self.host.name, f"cancel #{serial}")
                self._tasks.pop(serial, None)
            case SendHeartbeat():
                self._send_all()
            case Answer(number, refusal):
                self.answers[number] = refusal
                if refusal:
                    self.world.note(self.host.name, f"refused: {refusal}")
            case Announce(view):
                self.world.note(self.host.name, f"=> {view.state} {view.readiness}: {view.reason}")
            case Remember():
                self.host.remembered = action

    def _duration_ms(self, operation: Operation) -> int | None:
        chance, troubles = self.world.chance, self.host.troubles
        match operation:
            case StopApplication(force):
                self.host.marker = Presence.UNKNOWN
                if not force and chance.random() < troubles.stop_hangs:
                    return None
                return chance.randint(5, 60) if force else chance.randint(20, 600)
            case StartApplication():
                self.host.marker = Presence.UNKNOWN
                return chance.randint(50, 800)
            case StartReplicator():
                return chance.randint(20, 200)
            case Outdate() if chance.random() < troubles.mark_hangs:
                return chance.randint(1_000, 40_000)
        return chance.randint(1, 40)

    def _perform(self, serial: int, operation: Operation) -> None:
        """The operation takes effect; its answer is heard a little later, if the agent lives."""
        host = self.host
        is_cancelled = serial not in self._tasks
        is_script = isinstance(operation, StartApplication | StopApplication)
        if not host.is_on or ((is_cancelled or self.is_dead) and self._dies_with_agent(is_script)):
            return
        if self.is_paused:
            self.world.after(20, lambda: self._perform(serial, operation))
            return
        outcome: Event = StepDone(serial)
        try:
            self._effect(operation)
        except RefusedError as refused:
            outcome = StepFailed(serial, str(refused))
        if is_cancelled or self.is_dead:
            return
        replicator = host.replicator
        if replicator is not None:
            self.take(ReplicatorStatus(replicator.facts))
        self._tasks.pop(serial, None)
        if is_script:
            self._note_script(operation, outcome)
        self.world.after(self.world.chance.randint(0, 3), lambda: self.take(outcome))

    def _dies_with_agent(self, is_script: bool) -> bool:
        """A command that was sent takes effect; a script or an address change may not."""
        return is_script or self.world.chance.random() < 0.5

    def _note_script(self, operation: Operation, outcome: Event) -> None:
        if isinstance(outcome, StepDone):
            is_start = isinstance(operation, StartApplication)
            self.host.marker = Presence.ON if is_start else Presence.OFF

    def _effect(self, operation: Operation) -> None:
        host = self.host
        match operation:
            case StartReplicator():
                self._fail_by_chance(host.troubles.replicator_fails, "no /dev/fuse")
                if host.replicator is None:
                    host.replicator = Replicator(
                        self.world,
                        host.networks,
                        host.name,
                        host.disk,
                        host.find_replicator,
                        on_disk=host.settings.acknowledges_on_disk,
                    )
                self._adopt(host.replicator)
            case StopReplicator(force):
                self._stop_replicator(force=force)
            case AddAddresses():
                self._fail_by_chance(host.troubles.address_fails, "the interface is gone")
                host.holds_addresses = True
            case RemoveAddresses():
                self._fail_by_chance(host.troubles.address_fails, "netlink says no")
                host.holds_addresses = False
            case StartApplication():
                self._fail_by_chance(host.troubles.start_fails, "the start script exited with 1")
                host.application_runs = True
            case StopApplication():
                host.application_runs = False
            case _:
                self._command(operation)

    def _fail_by_chance(self, chance: float, reason: str) -> None:
        if self.world.chance.random() < chance:
            raise RefusedError(reason)

    def _command(self, operation: Operation) -> None:
        host = self.host
        replicator = host.replicator
        if replicator is None:
            raise RefusedError("the replicator does not run")
        match operation:
            case Connect(discard):
                replicator.connect(discard=discard)
            case Disconnect():
                replicator.disconnect()
            case Promote(force, handover):
                self._fail_by_chance(host.troubles.promote_refused, "mounting failed")
                was_ordered = self.state.order is not None
                replicator.promote(force=force, handover=handover)
                host.watcher.promoted(host.name, operation, was_ordered)
            case Demote(force):
                if not force:
                    self._fail_by_chance(host.troubles.demote_refused, "the mount is busy")
                replicator.demote(force=force)
                if force:
                    host.application_runs = False
            case Grant():
                self._fail_by_chance(host.troubles.grant_refused, "the lineage cannot be written")
                replicator.grant(f"{self.world.chance.getrandbits(64) | 1:016x}")
                host.watcher.granted(host.name)
            case Outdate():
                self._fail_by_chance(host.troubles.mark_refused, "the lineage cannot be written")
                replicator.outdate()

    def _stop_replicator(self, *, force: bool) -> None:
        host = self.host
        replicator = host.replicator
        if replicator is None:
            return
        if not force:
            if replicator.role.value == "primary":
                replicator.demote(force=False)
            elif replicator.role.value == "secondary":
                replicator.disconnect()
        replicator.die()
        host.replicator = None

    def _adopt(self, replicator: Replicator) -> None:
        """Events of the replicator come in order, a moment later."""

        def tell(facts: ReplicatorFacts) -> None:
            self.world.after(
                1, lambda: replicator.is_dead or self.take(ReplicatorStatus(replicator.facts))
            )

        def fault(reason: str, is_fatal: bool) -> None:
            self.world.after(
                2, lambda: replicator.is_dead or self.take(ReplicatorFault(reason, is_fatal))
            )

        replicator.tell, replicator.fault = tell, fault

    def replicator_ended(self) -> None:
        if self.host.replicator is None:
            self.take(ReplicatorDied("the replicator was killed by signal 9"))
