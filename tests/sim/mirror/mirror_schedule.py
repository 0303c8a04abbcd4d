"""One schedule: two nodes in service, a client, a seeded series of troubles, healing, and the end.

The troubles are drawn from the seed alone. After the last one everything is healed, and the pair
must come back to PRIM and SECOND; an operator then helps only as the reasons shown tell him to.
"""

from collections.abc import Callable
from dataclasses import dataclass

from host_model import Host, Watcher
from mirror_oracle import BrokenError, Oracle
from mirror_world import HOSTS, NETWORKS, Networks, World, other

from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.report import ModuleState, Readiness
from telamon.mirror.role_action import Connect, Demote, Grant, Operation, Outdate, Promote
from telamon.mirror.role_event import CheckAction, CheckFailed, CheckRecovered, CommandKind
from telamon.mirror.role_state import Isolation, Settings

TROUBLED_MS = 25_000
HEALING_MS = 90_000
SETTLED_MS = 1_000
CLIENT_MS = 80
OPERATOR_MS = 10_000


@dataclass
class Outcome:
    """What one schedule came to."""

    commits: int
    promotions: int
    grants: int
    helped: bool


class Schedule:
    """Builds the world of a seed and lets it happen."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.chance = self.world.chance
        self.networks = Networks(self.world)
        self.oracle = Oracle(self.world, self.networks)
        isolation = Isolation.WAIT if self.chance.random() < 0.15 else Isolation.TAKEOVER
        on_disk = self.chance.random() < 0.8
        preferred = self.chance.choice(HOSTS)
        watcher = Watcher(self._begun, self.oracle.promoted, self.oracle.granted)
        self.hosts = {
            name: Host(
                name,
                self.world,
                self.networks,
                Settings(
                    module="m",
                    node=name,
                    peer=other(name),
                    preferred=preferred,
                    isolation=isolation,
                    acknowledges_on_disk=on_disk,
                    start_timeout_ms=3_000,
                    stop_timeout_ms=2_000,
                    command_timeout_ms=3_000,
                    failure_limit=6,
                ),
                watcher,
                lambda name: self.hosts[name],
            )
            for name in HOSTS
        }
        self.oracle.hosts = self.hosts
        self.world.note("all", f"seed {seed} {isolation} on_disk={on_disk} preferred={preferred}")
        self._next_commit = 1
        self._is_troubled = False
        self._helped = False

    def run(self) -> Outcome:
        """The whole history; raises what does not hold."""
        for host in self.hosts.values():
            host.start_agent()
            self._agent(host.name).order(CommandKind.START)
        self.world.after(CLIENT_MS, self._client)
        first = self.chance.choice(HOSTS)
        self.world.after(500, lambda: self._agent(first).order(CommandKind.PRIM))
        self._until(self._is_settled, 30_000)
        self._is_troubled = True
        end_ms = self.world.now_ms + TROUBLED_MS
        self._trouble(end_ms)
        self._advance(end_ms)
        self._heal()
        self._operate()
        self._until(self._is_settled, HEALING_MS)
        self._judge_end()
        return Outcome(
            len(self.oracle.acknowledged),
            self.oracle.promotions,
            self.oracle.grants,
            self._helped,
        )

    def _agent(self, host: str):  # type: ignore[no-untyped-def]
        agent = self.hosts[host].agent
        assert agent is not None
        return agent

    # --- time ---

    def _advance(self, end_ms: int) -> None:
        self.world.run_until(end_ms, self.oracle.look)

    def _until(self, reached: Callable[[], bool], limit_ms: int) -> None:
        """Go on until it holds for a while; liveness means that it comes in time."""
        limit_at_ms = self.world.now_ms + limit_ms
        held_ms = 0
        while held_ms < SETTLED_MS:
            self._advance(self.world.now_ms + 100)
            held_ms = held_ms + 100 if reached() else 0
            if self.world.now_ms > limit_at_ms and held_ms == 0:
                states = ", ".join(self._shown(host) for host in HOSTS)
                raise BrokenError(f"not PRIM and SECOND after {limit_ms / 1000:g} s: {states}")

    def _shown(self, name: str) -> str:
        agent = self.hosts[name].agent
        return f"{name} {agent.state.view}" if agent else f"{name} has no agent"

    def _is_settled(self) -> bool:
        views = [host.agent.state.view for host in self.hosts.values() if host.agent]
        states = {view.state for view in views if view.readiness is Readiness.READY}
        return states == {ModuleState.PRIM, ModuleState.SECOND}

    # --- the client ---

    def _client(self) -> None:
        self.world.after(CLIENT_MS, self._client)
        for host in self.hosts.values():
            replicator = host.replicator
            if host.serves and replicator is not None and len(replicator.pending) < 3:
                number = self._next_commit
                self._next_commit += 1
                if not replicator.is_paused:
                    replicator.commit(number, self._acknowledged(host.name, number))

    def _acknowledged(self, host: str, number: int) -> Callable[[bool], None]:
        return lambda alone: self.oracle.acknowledge(host, number, alone)

    # --- troubles ---

    def _trouble(self, end_ms: int) -> None:
        """One trouble after the other, until healing time."""
        if self.world.now_ms >= end_ms or not self._is_troubled:
            return
        self._any_trouble()
        gap_ms = int(self.chance.expovariate(1 / self.chance.choice((300, 1_500, 4_000))))
        self.world.after(gap_ms, lambda: self._trouble(end_ms))

    def _any_trouble(self) -> None:
        if not self._is_troubled:
            return
        self.chance.choice(
            (
                self._cut_network,
                self._cut_network,
                self._cut_all,
                self._cut_one_way,
                self._block_sessions,
                self._block_sessions,
                self._worsen_network,
                self._power_off,
                self._power_off,
                self._kill_agent,
                self._kill_replicator,
                self._pause,
                self._local_trouble,
                self._fill_disk,
                self._storage_error,
                self._goodbye,
                self._check,
                self._order,
                self._order,
            )
        )()

    def _begun(self, host: str, operation: Operation) -> None:
        """The worst moment for a trouble is in the middle of something."""
        self.oracle.begun(host, operation)
        is_grave = isinstance(operation, Promote | Demote | Grant | Outdate | Connect)
        if self._is_troubled and self.chance.random() < (0.15 if is_grave else 0.03):
            hit = self.chance.choice((self._power_off, self._cut_all, self._any_trouble))
            self.world.after(self.chance.randint(0, 60), hit)

    def _later(self, call: Callable[[], None], longest_ms: int = 8_000) -> None:
        """Undo a trouble after a while, unless everything was healed before."""
        self.world.after(
            self.chance.randint(50, longest_ms), lambda: call() if self._is_troubled else None
        )

    def _host(self) -> Host:
        return self.hosts[self.chance.choice(HOSTS)]

    def _cut(self, cuts: list[tuple[str, str]]) -> None:
        if not self._is_troubled:
            return
        self.world.note("net", f"cut {cuts}")
        for network, sender in cuts:
            self.networks.cut(network, sender)
        for host in self.hosts.values():
            if host.replicator is not None:
                host.replicator.watch_networks()

        def heal() -> None:
            self.world.note("net", f"heal {cuts}")
            for network, sender in cuts:
                self.networks.heal(network, sender)

        self._later(heal)

    def _cut_network(self) -> None:
        network = self.chance.choice(NETWORKS)
        self._cut([(network, host) for host in HOSTS])

    def _cut_all(self) -> None:
        self._cut([(network, host) for network in NETWORKS for host in HOSTS])

    def _block_sessions(self) -> None:
        self.world.note("net", "sessions blocked")
        self.networks.sessions_blocked = True
        for host in self.hosts.values():
            if host.replicator is not None:
                host.replicator.watch_networks()

        def unblock() -> None:
            self.networks.sessions_blocked = False

        self._later(unblock)

    def _cut_one_way(self) -> None:
        sender = self.chance.choice(HOSTS)
        networks = self.chance.choice([NETWORKS, NETWORKS[:1], NETWORKS[1:]])
        self._cut([(network, sender) for network in networks])

    def _worsen_network(self) -> None:
        self.networks.loss = self.chance.choice((0.0, 0.1, 0.4))
        self.networks.duplicates = self.chance.choice((0.0, 0.2))
        self.networks.longest_delay_ms = self.chance.choice((3, 50, 700))
        self.world.note("net", f"loss {self.networks.loss}, {self.networks.longest_delay_ms} ms")

    def _power_off(self) -> None:
        host = self._host()
        if host.is_on and self._is_troubled:
            host.power_off()
            self._later(lambda: host.is_on or host.power_on(), 12_000)

    def _kill_agent(self) -> None:
        self._host().kill_agent()

    def _kill_replicator(self) -> None:
        self._host().kill_replicator()

    def _goodbye(self) -> None:
        """The agent is restarted cleanly, as for an upgrade."""
        host = self._host()
        if host.agent is not None and not host.agent.is_paused:
            host.agent.say_goodbye()
            host.kill_agent()

    def _pause(self) -> None:
        """Stop the agent, the replicator, or both with the whole host."""
        host = self._host()
        agent, replicator = host.agent, host.replicator
        what = self.chance.choice(("agent", "replicator", "host"))
        self.world.note(host.name, f"pause {what}")
        if what != "replicator" and agent is not None:
            agent.pause()
            self._later(agent.resume)
        if what != "agent" and replicator is not None:
            replicator.pause()
            self._later(replicator.resume)

    def _local_trouble(self) -> None:
        host = self._host()
        troubles = host.troubles
        kind = self.chance.choice(
            (
                "start_fails",
                "stop_hangs",
                "promote_refused",
                "address_fails",
                "demote_refused",
                "grant_refused",
                "mark_refused",
                "mark_hangs",
                "replicator_fails",
            )
        )
        setattr(troubles, kind, self.chance.choice((0.0, 0.5, 1.0)))
        self.world.note(host.name, troubles)
        self._later(lambda: setattr(troubles, kind, 0.0))

    def _fill_disk(self) -> None:
        host = self._host()
        self.world.note(host.name, "disk full")
        host.disk.is_full = True

        def free() -> None:
            host.disk.is_full = False

        self._later(free)

    def _storage_error(self) -> None:
        host = self._host()
        if host.replicator is not None and self.chance.random() < 0.3:
            self.world.note(host.name, "storage error")
            host.replicator.fault("input/output error", True)

    def _check(self) -> None:
        host = self._host()
        agent = host.agent
        if agent is None:
            return
        action = self.chance.choice(list(CheckAction))
        agent.take(CheckFailed("tcp", action, "nothing listens"))
        if action is CheckAction.WAIT:
            self._later(lambda: host.agent and host.agent.take(CheckRecovered("tcp")))

    def _order(self) -> None:
        """The operator's ordinary commands; he forces nothing while things are broken."""
        agent = self._host().agent
        if agent is not None and not agent.is_paused:
            kinds = (
                CommandKind.START,
                CommandKind.START,
                CommandKind.STOP,
                CommandKind.SWAP,
                CommandKind.SWAP,
                CommandKind.RESTART,
                CommandKind.SECOND,
                CommandKind.PRIM,
            )
            kind = self.chance.choice(kinds)
            number = agent.order(kind)
            if kind is CommandKind.SECOND and not agent.answers[number]:
                self._give_up_commits(agent.host.name)

    # --- healing ---

    def _heal(self) -> None:
        self.world.note("all", "HEALED")
        self._is_troubled = False
        self.networks.heal_all()
        for host in self.hosts.values():
            host.disk.is_full = False
            host.troubles = type(host.troubles)()
            if not host.is_on:
                host.power_on()
            if host.replicator is not None:
                host.replicator.resume()
            if host.agent is not None:
                host.agent.resume()
                host.agent.take(CheckRecovered("tcp"))
            elif host.is_on:
                host.start_agent()

    def _operate(self) -> None:
        """What an operator does who reads the reasons: start what stopped, decide where asked."""
        self.world.after(OPERATOR_MS, self._operate)
        agents = {name: host.agent for name, host in self.hosts.items()}
        for agent in agents.values():
            if agent is not None and agent.state.view.state is ModuleState.STOP:
                agent.order(CommandKind.START)
                return
        waiting = {
            name: agent.state.view.reason
            for name, agent in agents.items()
            if agent is not None and agent.state.view.state is ModuleState.WAIT
        }
        for name, reason in waiting.items():
            agent = agents[name]
            if agent is None or agent.state.view.readiness is Readiness.TRANSIENT:
                continue
            if "telamon module second" in reason:
                self._help(name, CommandKind.SECOND)
            elif "telamon module prim" in reason and len(waiting) == 2:
                self._help(name, CommandKind.PRIM)
                return

    def _help(self, name: str, kind: CommandKind) -> None:
        self._helped = True
        self.world.note(name, f"operator: {kind}")
        agent = self._agent(name)
        force = "--force" in agent.state.view.reason
        if kind is CommandKind.SECOND:
            self._give_up_commits(name)
        agent.order(kind, force=force)

    def _give_up_commits(self, name: str) -> None:
        """`second` on the losing side of a split: what only it acknowledged is given up."""
        winner = self.hosts[other(name)].disk.content
        self.oracle.given_up |= {
            number
            for number, commit in self.oracle.acknowledged.items()
            if commit.host == name and number not in winner
        }

    def _judge_end(self) -> None:
        """Every acknowledged commit is on both nodes, save those that somebody decided about."""
        for host in self.hosts.values():
            missing = self.oracle.acknowledged.keys() - host.disk.content - self.oracle.given_up
            if missing:
                raise BrokenError(f"{host.name} lacks acknowledged commits {sorted(missing)[:5]}")
        primaries = [
            host.name
            for host in self.hosts.values()
            if host.replicator is not None and host.replicator.role is ReplicatorRole.PRIMARY
        ]
        if len(primaries) != 1 or not self.hosts[primaries[0]].serves:
            raise BrokenError(f"primaries at the end: {primaries}")
