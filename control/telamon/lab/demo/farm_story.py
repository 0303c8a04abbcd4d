"""The farm's demo: nginx on three nodes behind one address, clients that stay; a power failure, the
return of the dead node, a drain.

Nothing in it is pretended: the lab's hosts lose power as hosts do, the connections are real, and
the verdict comes from the oracles that the tests use.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from telamon.agent.models import ActionKind
from telamon.lab.demo.farm_verdict import FarmVerdict, summary
from telamon.lab.demo.summary import show
from telamon.lab.demo.timeline import Timeline
from telamon.lab.farm import FarmInLab
from telamon.lab.lab import Lab
from telamon.lab.oracles.connections import (
    Broken,
    Connections,
    Knock,
    Service,
    Speech,
    by_node,
    takeover_s,
)
from telamon.lab.web import PORT, VIRTUAL_IP, Server, make_module

_NODES = ("n1", "n2", "n3")
_CLIENTS = 120
_ADDRESSES = 60
_KNOCK_INTERVAL_S = 0.01
_LAB = """\
networks:
  lan: {ipv4: 10.0.0.0/24}
hosts:
  n1: {kind: node, networks: [lan]}
  n2: {kind: node, networks: [lan]}
  n3: {kind: node, networks: [lan]}
  c1: {kind: client, networks: [lan]}
"""
_WEB = Service(VIRTUAL_IP, PORT, Speech.HTTP)
_BAR = 40  # characters
_BEFORE_S = 2 * _ADDRESSES * _KNOCK_INTERVAL_S


@dataclass(slots=True)
class _Story:
    """The farm, its clients, and what they went through so far."""

    lab: Lab
    farm: FarmInLab
    clients: Connections
    timeline: Timeline
    work_s: float
    sources: Sequence[str] = ()
    broken: set[Broken] = field(default_factory=set)
    knocks: list[Knock] = field(default_factory=list)
    turned_away: list[Knock] = field(default_factory=list)
    misled: list[str] = field(default_factory=list)
    opened: int = 0
    takeover_s: float = 0.0


def tell(name: str, work_s: float, console: Console) -> bool:
    """Runs the demo in a lab of that name, with so much work between two changes; True if no
    connection broke that had no reason to.
    """
    timeline = Timeline(console)
    timeline.chapter("Three nodes and a client")
    with timeline.step("nodes n1, n2 and n3, client c1, network lan"):
        lab = Lab.up(name, _LAB)
    with lab, tempfile.TemporaryDirectory(prefix="telamon-demo-") as directory:
        farm = FarmInLab(lab, Server.NGINX)
        with timeline.step(f"nginx on every node, one address: {VIRTUAL_IP}"):
            farm.install(make_module(Server.NGINX, Path(directory)))
            farm.begin()
        with Connections(lab.host("c1")) as clients:
            verdict = _live_through(_Story(lab, farm, clients, timeline, work_s))
    show(summary(verdict), console)
    return verdict.is_good


def _live_through(story: _Story) -> FarmVerdict:
    clients, timeline = story.clients, story.timeline
    story.sources = clients.add_addresses(4, _ADDRESSES)
    clients.listen()

    timeline.chapter(
        f"{_CLIENTS} clients stay, new ones come {1 / _KNOCK_INTERVAL_S:.0f} times a second"
    )
    _open(story, _NODES)
    _work(story, _NODES)
    _lose_power(story, "n2", ("n1", "n3"))
    _return(story, "n2")
    _drain(story, "n3", ("n1", "n2"))

    timeline.chapter("The verdict")
    with timeline.step("a request on every connection") as step:
        echoed = clients.echo()
        step.remark = _shares(echoed.works)
    return FarmVerdict(
        dead_node="n2",
        takeover_s=story.takeover_s,
        broken=[*story.broken, *echoed.broken],
        knocks=story.knocks,
        turned_away=story.turned_away,
        misled=story.misled,
        handshakes=clients.heard(),
        connections=story.opened,
        exchanges=echoed.exchanges,
    )


def _open(story: _Story, nodes: Sequence[str], count: int = _CLIENTS) -> None:
    """New clients that stay; each must have the node that `telamon farm owner` says."""
    sources = [story.sources[number % len(story.sources)] for number in range(count)]
    with story.timeline.step(f"{count} clients open a connection and keep it") as step:
        connected = story.clients.connect(sources, _WEB)
        story.opened += len(connected)
        due = _due(story, nodes)
        for one in connected:
            _compare(story, one.source, one.node or one.failure, due)
        step.remark = _shares(by_node(connected))


def _work(story: _Story, nodes: Sequence[str]) -> None:
    """Some time without a change, to see who answers."""
    with story.timeline.step(f"{story.work_s:g} s of work"), _knocking(story) as knocks:
        time.sleep(story.work_s)  # the load is the purpose; nothing is awaited
    due = _due(story, nodes)
    for knock in knocks:
        _compare(story, knock.source, knock.node or knock.failure, due)
    answered = Counter(knock.node or knock.failure for knock in knocks)
    for node, count in sorted(answered.items()):
        bar = "█" * round(_BAR * count / len(knocks))
        story.timeline.note(f"[green]{node}[/] {bar:{_BAR}} {count:,} new clients")


def _lose_power(story: _Story, victim: str, survivors: Sequence[str]) -> None:
    timeline = story.timeline
    timeline.chapter("A node loses its power")
    due = _due(story, _NODES)
    with _knocking(story, {source for source in due if due[source] == victim}) as knocks:
        time.sleep(_BEFORE_S)  # so that each client came once just before
        failed_s = time.monotonic()
        story.lab.off(victim)
        timeline.event(f"{victim} is off: no power, no network, no goodbye")
        with timeline.step(f"{' and '.join(survivors)} share its clients out") as step:
            story.farm.await_serving(*survivors)
            time.sleep(_BEFORE_S)
    story.takeover_s = takeover_s(knocks, victim, failed_s)
    late_s = [knock.waited_s for knock in knocks if knock.began_s >= failed_s]
    timeline.event(
        f"taken over after {story.takeover_s:.2f} s; new clients waited"
        f" {max(late_s, default=0.0):.2f} s at most"
    )
    with timeline.step("a request on every connection") as step:
        echoed = story.clients.echo()
        ended = [one for one in echoed.broken if one.node == victim]
        step.remark = (
            f"{_shares(echoed.works)}; {len(ended)} ended with {victim},"
            f" {len(echoed.broken_beside(victim))} others broke"
        )
    story.broken.update(echoed.broken)
    story.clients.drop(victim)
    _open(story, survivors, len(ended))
    _work(story, survivors)


def _return(story: _Story, node: str) -> None:
    timeline = story.timeline
    timeline.chapter("The dead node returns")
    with _knocking(story):
        story.lab.on(node)
        timeline.event(f"{node} is on")
        with timeline.step(f"{node} starts nginx and takes its share of new clients"):
            story.farm.await_serving(*_NODES)
    _work(story, _NODES)


def _drain(story: _Story, node: str, others: Sequence[str]) -> None:
    timeline = story.timeline
    timeline.chapter(f"{node} is drained for maintenance")
    before = story.clients.echo().works.get(node, 0)
    with _knocking(story), timeline.step(f"telamon farm drain {node}: new clients go elsewhere"):
        story.farm.order(ActionKind.DRAIN, node)
        story.farm.await_serving(*others)
    _work(story, others)
    echoed = story.clients.echo()
    story.broken.update(echoed.broken)
    working = echoed.works.get(node, 0)
    timeline.event(f"{working} of {before} connections on {node} go on: nobody is thrown out")
    with timeline.step(f"its clients finish, {node} stops, starts, and is drained no more"):
        story.clients.drop(node)
        story.farm.order(ActionKind.STOP, node)
        story.farm.await_status(lambda now: now[node].state == "STOP", f"stopped on {node}")
        story.farm.order(ActionKind.UNDRAIN, node)
        story.farm.order(ActionKind.START, node)
        story.farm.await_serving(*_NODES)
    _work(story, _NODES)


@contextmanager
def _knocking(story: _Story, doomed: Collection[str] = ()) -> Iterator[list[Knock]]:
    """New clients come all the time; the list is filled when the block is left. A failure is wrong
    but for the doomed: they may lose what they have, and still must get a connection in the end.
    """
    knocks: list[Knock] = []
    story.clients.knock(story.sources, _WEB, _KNOCK_INTERVAL_S)
    try:
        yield knocks
    finally:
        knocks += story.clients.knocked()
        story.knocks += knocks
        story.turned_away += [
            knock
            for knock in knocks
            if knock.failure and (knock.connected_s is None or knock.source not in doomed)
        ]


def _due(story: _Story, nodes: Sequence[str]) -> dict[str, str | None]:
    """Whom each client must have, as a node that serves answers `telamon farm owner`."""
    return {source: story.farm.owner(nodes[0], source).node for source in story.sources}


def _compare(story: _Story, source: str, found: str, due: Mapping[str, str | None]) -> None:
    if found != due[source]:
        story.misled.append(f"{source} was answered by {found}, not by {due[source]}")


def _shares(works: Mapping[str, int]) -> str:
    return ", ".join(f"{node} {count}" for node, count in sorted(works.items()))
