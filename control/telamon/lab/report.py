"""What a person or a script sees of labs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from telamon.lab import record
from telamon.lab.host import RunningHost
from telamon.lab.lab import Lab
from telamon.lab.process import Daemon
from telamon.lab.spec import Host, HostKind


@dataclass(frozen=True, slots=True)
class HostReport:
    """One host. A daemon is `running`, `paused` or `absent`; null where none belongs or can run."""

    name: str
    kind: str
    power: str
    addresses: Mapping[str, Sequence[str]]
    cuts: Sequence[str]
    agent: str | None
    replicator: str | None
    log: str


@dataclass(frozen=True, slots=True)
class LabReport:
    """One lab."""

    name: str
    hosts: Sequence[HostReport]


def show(labs: Iterable[Lab], as_json: bool) -> None:
    """Prints the state of labs."""
    reports = [report(lab) for lab in labs]
    console = Console()
    if as_json:
        console.out(json.dumps({"labs": [asdict(one) for one in reports]}, indent=2))
    elif reports:
        for one in reports:
            console.print(_table(one))
    else:
        console.print("No lab is up; `telamon lab up` makes one.")


def report(lab: Lab) -> LabReport:
    """The state of one lab at this moment."""
    now = lab.record
    hosts = []
    for host in lab.spec.hosts:
        init = now.hosts[host.name]
        running = None if init is None else RunningHost(host.name, init)
        hosts.append(
            HostReport(
                name=host.name,
                kind=host.kind,
                power="off" if running is None else "on",
                addresses={
                    name: [str(one) for one in addresses] for name, addresses in host.links.items()
                },
                cuts=[
                    f"{network} {way}"
                    for owner, network, way in sorted(now.cuts)
                    if owner == host.name
                ],
                agent=_daemon(host, running, Daemon.AGENT),
                replicator=_daemon(host, running, Daemon.REPLICATOR),
                log=str(record.directory(lab.name) / f"{host.name}.log"),
            )
        )
    return LabReport(lab.name, hosts)


def _daemon(host: Host, running: RunningHost | None, daemon: Daemon) -> str | None:
    if running is None or host.kind is not HostKind.NODE:
        return None
    found = running.daemons(daemon)
    if not found:
        return "absent"
    return "paused" if any(one.is_paused for one in found) else "running"


def _table(lab: LabReport) -> Table:
    table = Table(title=f"lab {lab.name}", title_justify="left")
    for heading in ("host", "kind", "power", "addresses", "agent", "replicator", "cut"):
        table.add_column(heading)
    for host in lab.hosts:
        table.add_row(
            host.name,
            host.kind,
            host.power if host.power == "on" else "[red]off[/]",
            "\n".join(f"{name} {', '.join(some)}" for name, some in host.addresses.items()),
            host.agent or "",
            host.replicator or "",
            f"[yellow]{', '.join(host.cuts)}[/]" if host.cuts else "",
        )
    return table
