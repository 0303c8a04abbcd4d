"""`telamon status`: the whole cluster on one screen."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from telamon.agent.models import HeartbeatState, ModuleNodeStatus, NodeStatus, Status
from telamon.cli.options import Json, agent_of
from telamon.cli.output import show
from telamon.cli.waiting import RUNS_APPLICATION

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False)

_STATE_STYLE = {
    "PRIM": "bold green",
    "ALONE": "bold yellow",
    "UP": "bold green",
    "SECOND": "cyan",
    "WAIT": "magenta",
    "STOP": "dim",
}
_AT_REST = ("STOP", "WAIT")
_KIB = 1024


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """Show nodes, modules, roles and replication of the whole cluster."""
    found = agent_of(context).status()
    show(as_json, found.model_dump(mode="json"), lambda out: draw(out, found))


def draw(out: "Console", found: Status) -> None:
    """The status for a person."""
    from rich import box  # noqa: PLC0415 - not needed for JSON, and slow to import
    from rich.table import Table  # noqa: PLC0415

    nodes = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in (f"cluster {found.cluster}", "agent", "heartbeats"):
        nodes.add_column(heading, overflow="fold")
    for node in found.nodes.values():
        nodes.add_row(node.name, _agent(node), _heartbeats(node))
    out.print(nodes)
    if not found.modules:
        out.print("no module is installed: `telamon module install DIRECTORY` installs one")
        return
    modules = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (
        "module",
        "node",
        "state",
        "data",
        "link",
        "lag",
        "commit",
        "virtual IPs",
    ):
        modules.add_column(heading, overflow="fold", no_wrap=heading != "virtual IPs")
    for module in found.modules.values():
        name = module.name
        for node_name, here in module.nodes.items():
            modules.add_row(name, node_name, *_cells(here))
            name = ""
    out.print(modules)
    for subject, reason in _reasons(found):
        out.print(f"{subject}: {reason}", markup=False)


def _reasons(found: Status) -> Iterator[tuple[str, str]]:
    """Who has something to say, a silent node once and not for each of its modules."""
    for node in found.nodes.values():
        if node.reason:
            yield node.name, node.reason
    for module in found.modules.values():
        for node_name, here in module.nodes.items():
            said = "; ".join(filter(None, (here.reason, _progress(here))))
            if here.reachable and said:
                yield f"{module.name} on {node_name}", said
            for check in here.checks:
                error = check.last_error or ""
                if check.state == "down" and error not in here.reason:
                    yield f"{module.name} on {node_name}", f"check {check.name}: {error}"
            if here.health is not None and here.health.fault:
                yield f"{module.name} on {node_name}", here.health.fault


def _cells(here: ModuleNodeStatus) -> list[str]:
    return [
        _state(here),
        here.data_state or _shares(here),
        _link(here),
        _lag(here),
        _commit(here),
        " ".join(ip.address.partition("/")[0] for ip in here.virtual_ips if ip.present),
    ]


def _shares(here: ModuleNodeStatus) -> str:
    """What part of its clients a farm's node serves."""
    if here.farm is None:
        return ""
    shares = " / ".join(f"{share.share_percent:.1f} %" for share in here.farm.shares)
    return f"{shares} drained" if here.farm.drained else shares


def _agent(node: NodeStatus) -> str:
    if not node.reachable:
        return "[bold red]unreachable[/]"
    return f"[green]up[/] {_span(node.uptime_s or 0)}"


def _heartbeats(node: NodeStatus) -> str:
    shown = []
    for peer, networks in node.heartbeats.items():
        for network, heard in networks.items():
            style = {HeartbeatState.ALIVE: "green", HeartbeatState.LOST: "bold red"}.get(
                heard.state, "dim"
            )
            shown.append(f"[{style}]{peer} on {network} {heard.state}[/]")
    return ", ".join(shown)


def _state(here: ModuleNodeStatus) -> str:
    if here.state is None:
        return "[red]unknown[/]"
    style = _STATE_STYLE.get(here.state, "")
    is_plain = here.ready or (here.state in _AT_REST and here.readiness == "not ready")
    readiness = "" if is_plain else f" {here.readiness}"
    return f"[{style}]{here.state}[/]{readiness}"


def _link(here: ModuleNodeStatus) -> str:
    if here.resync is not None and here.resync.bytes_total:
        return f"resync {100 * here.resync.bytes_done // here.resync.bytes_total}%"
    is_relayed = here.capture == "relay" and here.state in RUNS_APPLICATION
    capture = " (relay)" if is_relayed else ""
    return f"{here.link or ''}{capture}"


def _progress(here: ModuleNodeStatus) -> str:
    """What a resynchronisation has done and has still to do."""
    resync = here.resync
    if resync is None or not resync.bytes_total:
        return ""
    left = "" if resync.remaining_s is None else f", {_span(resync.remaining_s)} left"
    done, total = _bytes(resync.bytes_done), _bytes(resync.bytes_total)
    return f"{done} of {total}, {_bytes(resync.rate_bytes_per_s)}/s{left}"


def _lag(here: ModuleNodeStatus) -> str:
    return "" if here.lag is None else _bytes(here.lag.bytes)


def _commit(here: ModuleNodeStatus) -> str:
    latency = here.commit_latency_us
    if latency is None or here.state not in RUNS_APPLICATION:
        return ""
    if here.commits == "waiting":
        return "[bold red]waiting[/]"
    if not latency.last:
        return ""
    return f"{latency.last} µs"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} TiB"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
