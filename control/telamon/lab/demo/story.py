"""The mirror's demo: two nodes and a client, PostgreSQL under load, a power failure, the return of
the dead node, and the way back.

Nothing in it is pretended: the lab's hosts lose power as hosts do, the client believes every
acknowledged commit, and the verdict comes from the oracles that the tests use.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from telamon.errors import TimedOutError
from telamon.lab import agent_api, database
from telamon.lab.database import DATA, EXCLUDES, MODULE, MODULE_NAME
from telamon.lab.demo.clients import Clients, fill_database, running
from telamon.lab.demo.summary import show
from telamon.lab.demo.timeline import Timeline
from telamon.lab.demo.verdict import Verdict, summary
from telamon.lab.lab import Lab
from telamon.lab.mirror import ALONE, PRIM, SECOND, MirrorInLab
from telamon.lab.oracles import commits
from telamon.lab.oracles.commits import Gap
from telamon.lab.spec import DEFAULT
from telamon.lab.takeover import takeover

_TIMEOUT_S = 120.0
_WORK_S = 15.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class _Endured:
    """What the clients went through."""

    failover_gap: Gap
    swap_gap: Gap
    resync_s: float


def tell(name: str, console: Console) -> bool:
    """Runs the demo in a lab of that name; True if nothing was lost."""
    timeline = Timeline(console)
    timeline.chapter("Two nodes and a client")
    with timeline.step("nodes n1 and n2, client c1, networks lan and repl"):
        lab = Lab.up(name, DEFAULT)
    with lab, tempfile.TemporaryDirectory(prefix="telamon-demo-") as logs:
        mirror = MirrorInLab(lab, MODULE_NAME, {DATA: EXCLUDES})
        _set_up(lab, mirror, timeline)
        with running(lab.host("c1"), Path(logs)) as clients:
            endured = _live_through(lab, mirror, clients, timeline)
        verdict = _judge(lab, mirror, clients, timeline, endured)
    show(summary(verdict), console)
    return verdict.is_good


def _set_up(lab: Lab, mirror: MirrorInLab, timeline: Timeline) -> None:
    for node in lab.spec.nodes:
        database.prepare(lab.host(node.name))
    with timeline.step(f"module {MODULE_NAME} installed, n1 is primary, n2 follows"):
        mirror.install(MODULE)
        mirror.begin("n1", _TIMEOUT_S)
    with timeline.step(f"PostgreSQL answers at {database.VIRTUAL_IP}, pgbench fills its tables"):
        database.admit_clients(lab.host("n1"))
        fill_database(lab.host("c1"))


def _live_through(lab: Lab, mirror: MirrorInLab, clients: Clients, timeline: Timeline) -> _Endured:
    timeline.chapter("Work: pgbench with 4 clients, and a client that logs acknowledged commits")
    _work(clients, timeline)

    timeline.chapter("The primary loses its power")
    failed_ns = time.monotonic_ns()
    lab.off("n1")
    timeline.event("n1 is off: no power, no network, nothing was flushed for the occasion")
    with timeline.step("n2 takes over the address, the data, PostgreSQL") as step:
        mirror.await_states(_TIMEOUT_S, n2=ALONE)
        failover_gap = _gap_since(failed_ns, clients)
        step.remark = str(takeover(failover_gap, agent_api.events(lab.host("n2"))))
    with timeline.step("n2 is asked for every commit that was acknowledged") as step:
        promised, missing = _missing(lab, clients, "n2")
        step.remark = f"{promised:,} promised, {len(missing)} missing"
    _work(clients, timeline)

    timeline.chapter("The dead node returns")
    lab.on("n1")
    timeline.event("n1 is on, with what its disk had at the failure")
    returned_s = time.monotonic()
    with timeline.step("n1 is brought up to date while pgbench runs"):
        mirror.await_states(_TIMEOUT_S, n1=SECOND, n2=PRIM)
    resync_s = time.monotonic() - returned_s
    _work(clients, timeline)

    timeline.chapter("The way back")
    swapped_ns = time.monotonic_ns()
    with timeline.step("swap: n1 is primary, n2 follows") as step:
        mirror.order("swap", "n1")
        mirror.await_states(_TIMEOUT_S, n1=PRIM, n2=SECOND)
        swap_gap = _gap_since(swapped_ns, clients)
        step.remark = f"clients waited {swap_gap.length_s:.2f} s"
    _work(clients, timeline)
    return _Endured(failover_gap, swap_gap, resync_s)


def _judge(
    lab: Lab, mirror: MirrorInLab, clients: Clients, timeline: Timeline, endured: _Endured
) -> Verdict:
    timeline.chapter("The verdict")
    with timeline.step("n1 is asked for every commit that was acknowledged") as step:
        promised, missing = _missing(lab, clients, "n1")
        step.remark = f"{promised:,} promised, {len(missing)} missing"
    with timeline.step("pg_amcheck reads every table and index"):
        corruptions = database.corruptions(lab.host("n1"))
    with timeline.step("both trees are compared, PostgreSQL held still meanwhile") as step:
        with database.held_still(lab.host("n1")):
            mirror.await_in_step(_TIMEOUT_S)
            differences = mirror.differences()
        step.remark = f"{len(differences)} differences"
    return Verdict(
        promised=promised,
        missing=missing,
        failover_gap=endured.failover_gap,
        swap_gap=endured.swap_gap,
        transactions=clients.transactions(),
        resync_s=endured.resync_s,
        differences=differences,
        corruptions=corruptions,
    )


def _work(clients: Clients, timeline: Timeline) -> None:
    with timeline.step(f"{_WORK_S:.0f} s of work") as step:
        before = len(clients.acknowledged())
        time.sleep(_WORK_S)  # the load is the purpose; nothing is awaited
        step.remark = f"{len(clients.acknowledged()) - before:,} commits logged"


def _gap_since(moment_ns: int, clients: Clients) -> Gap:
    """The longest time without an acknowledgement since a moment, once there is one again."""
    now_ns = time.monotonic_ns()
    deadline_ns = now_ns + int(_TIMEOUT_S * 1e9)
    while not (known := clients.acknowledged()) or known[-1].at_ns < now_ns:
        if time.monotonic_ns() > deadline_ns:
            raise TimedOutError(f"no commit was acknowledged for {_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)
    return commits.longest_gap(known, moment_ns)


def _missing(lab: Lab, clients: Clients, node: str) -> tuple[int, list[int]]:
    """How many commits were acknowledged until now, and which of them the server has not."""
    promised = clients.acknowledged()
    present = set(map(int, database.query(lab.host(node), commits.PRESENT).split()))
    return len(promised), commits.missing(promised, present)
