"""What must hold after every event, and at the end.

- An acknowledged commit is on whoever becomes primary, unless the operator ordered the promotion or
  the commit was acknowledged alone behind a full partition that has lasted since.
- While a heartbeat network connects the two agents, at most one node is primary, acknowledges alone
  and holds the virtual IP; after a partition ends, they have a moment to sort it out.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from host_model import Host
from mirror_world import Networks, World, other

from telamon.mirror.lineage import DataState, Relation, ReplicatorRole, compare
from telamon.mirror.report import CommitState
from telamon.mirror.role_action import Operation, Promote
from telamon.mirror.role_state import Goal

CONNECTED_MS = 6_000
"""A connection that has lasted so long was time enough to hear each other, and for one to give up:
the loss time, a lost heartbeat or two, and the forced steps."""
MOMENT_MS = 500
PARTED_MS = 1_000
"""A node that goes alone by silence has heard nothing for the loss time: it was parted so long."""


HURRY_MS = 1_000
HURRIED_TIMES = 8
"""A step that fails is tried again after a pause: an operation of one kind is begun at most so
often within a second."""


class BrokenError(AssertionError):
    """A guarantee does not hold."""


@dataclass
class Acknowledged:
    """A commit that a client was told of."""

    number: int
    host: str
    alone: bool
    at_ms: int
    parted_for_ms: int
    """How long the nodes had not been connected then."""


@dataclass
class Oracle:
    """Watches two hosts."""

    world: World
    networks: Networks
    hosts: dict[str, Host] = field(default_factory=dict)
    acknowledged: dict[int, Acknowledged] = field(default_factory=dict)
    connected_since_ms: int | None = None
    connected_ms: int = 0
    """When the nodes were last connected for longer than a moment."""
    given_up: set[int] = field(default_factory=set)
    """Commits which an operator's decision, or a partition, may cost."""
    promotions: int = 0
    grants: int = 0
    begun_ms: dict[tuple[str, type[Operation]], deque[int]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=HURRIED_TIMES))
    )

    def begun(self, host: str, operation: Operation) -> None:
        """Nothing is hammered."""
        times = self.begun_ms[host, type(operation)]
        times.append(self.world.now_ms)
        if len(times) == HURRIED_TIMES and times[-1] - times[0] < HURRY_MS:
            name = type(operation).__name__
            raise BrokenError(f"{host} begins {name} {HURRIED_TIMES} times within a second")

    def acknowledge(self, host: str, number: int, alone: bool) -> None:
        now_ms = self.world.now_ms
        parted_for_ms = now_ms - self.connected_ms
        self.acknowledged[number] = Acknowledged(number, host, alone, now_ms, parted_for_ms)
        peer = self.hosts[other(host)]
        if alone and self._is_connected_for_long() and self._acknowledges_alone(peer):
            raise BrokenError(f"both nodes acknowledge alone (commit {number} on {host})")

    def promoted(self, host: str, operation: Promote, was_ordered: bool) -> None:
        """A promotion took effect: is every acknowledged commit there?"""
        self.promotions += 1
        content = self.hosts[host].disk.content
        missing = [
            commit
            for number, commit in self.acknowledged.items()
            if number not in content and number not in self.given_up
        ]
        if was_ordered or operation.force:
            self.given_up |= {commit.number for commit in missing}
            return
        for commit in missing:
            if not self._is_behind_partition(commit, host):
                raise BrokenError(
                    f"{host} was promoted without commit {commit.number}, acknowledged on "
                    f"{commit.host} at {commit.at_ms / 1000:.3f} {'alone' if commit.alone else ''}"
                )
            self.given_up.add(commit.number)

    def _is_behind_partition(self, commit: Acknowledged, host: str) -> bool:
        """Both nodes lived and were cut off from each other from before the commit until now:
        without an arbiter each may go on alone, also by an agent that began anew and found its
        replicator in a session that it still held for live. A node that was down has no such
        excuse, unless it had gone alone before, so that the lineages are split already. Once the
        split was seen, the losing side is marked Outdated, and kept; while the other side is
        stopped and its agent began anew, nobody can see it."""
        replicator = self.hosts[host].replicator
        ours, theirs = (self.hosts[name].disk.lineage for name in (host, other(host)))
        if not commit.alone or commit.host == host or replicator is None:
            return False
        is_split = compare(ours, theirs).relation is Relation.SPLIT_BRAIN
        peer_agent = self.hosts[other(host)].agent
        is_unknown = peer_agent is None or peer_agent.state.lineage is None
        if is_split and (is_unknown or theirs.data_state is DataState.OUTDATED):
            return True
        born_ms = min(self.hosts[host].agent_born_ms, replicator.born_ms)
        lived_through = born_ms < commit.at_ms and commit.parted_for_ms >= PARTED_MS
        return (is_split or lived_through) and not self._were_connected_since(commit.at_ms)

    def granted(self, host: str) -> None:
        self.grants += 1
        peer = self.hosts[other(host)]
        if self._is_connected_for_long() and self._acknowledges_alone(peer):
            raise BrokenError(f"{host} goes alone while {peer.name} is alone already")
        if self._is_connected_for_long() and self._is_unmarked(host, peer):
            raise BrokenError(f"{host} goes alone, and {peer.name} is not marked Outdated")

    def look(self) -> None:
        """After every event."""
        now_ms = self.world.now_ms
        if self._connected():
            if self.connected_since_ms is None:
                self.connected_since_ms = now_ms
            if now_ms - self.connected_since_ms >= MOMENT_MS:
                self.connected_ms = now_ms
        else:
            if self.connected_since_ms is not None:
                self._last_connection = (self.connected_since_ms, now_ms)
            self.connected_since_ms = None
        if not self._is_connected_for_long():
            return
        if all(host.holds_addresses for host in self.hosts.values()):
            raise BrokenError("both nodes hold the virtual IP")
        if all(self._is_primary(host) for host in self.hosts.values()):
            raise BrokenError("both nodes are primary")

    def _connected(self) -> bool:
        if not self.networks.connect:
            return False
        return all(host.agent and not host.agent.is_paused for host in self.hosts.values())

    def _is_connected_for_long(self) -> bool:
        since_ms = self.connected_since_ms
        return since_ms is not None and self.world.now_ms - since_ms >= CONNECTED_MS

    def _were_connected_since(self, at_ms: int) -> bool:
        """Whether the nodes could have heard each other after that time."""
        return (
            self.connected_since_ms is not None
            and self.world.now_ms - max(self.connected_since_ms, at_ms) >= CONNECTED_MS
        ) or self._longest_connection_since(at_ms) >= CONNECTED_MS

    _last_connection: tuple[int, int] = (0, 0)

    def _longest_connection_since(self, at_ms: int) -> int:
        begin_ms, end_ms = self._last_connection
        return end_ms - max(begin_ms, at_ms)

    def _is_unmarked(self, host: str, peer: Host) -> bool:
        """The peer stands by with the very data that is now left behind, neither marked nor, when
        its disk does not take the mark, at least known to be so."""
        agent = peer.agent
        if agent is None or agent.state.goal is not Goal.STANDBY or peer.replicator is None:
            return False
        ours, theirs = self.hosts[host].disk.lineage, peer.disk.lineage
        is_left_behind = theirs.holds_data and theirs.generation == ours.peer_generation
        is_whole = theirs.data_state is DataState.UP_TO_DATE
        return is_left_behind and is_whole and not agent.state.outdate_refusal

    @staticmethod
    def _is_primary(host: Host) -> bool:
        return host.replicator is not None and host.replicator.role is ReplicatorRole.PRIMARY

    @staticmethod
    def _acknowledges_alone(host: Host) -> bool:
        return host.replicator is not None and host.replicator.commits is CommitState.ALONE
