"""`telamon farm`: who serves whom, and taking a node out of a farm without breaking anyone."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from telamon.agent.models import ActionKind, ModuleStatus
from telamon.cli.agent import Agent
from telamon.cli.farm_trace import trace
from telamon.cli.options import Json, agent_of, complete_module, complete_node, group, paths_of
from telamon.cli.order import TIMEOUT_S, Timeout, Wait, order
from telamon.cli.output import show
from telamon.errors import InvalidError, NotFoundError, RefusedError, UnreachableError

if TYPE_CHECKING:
    from rich.console import Console

app = group("farm", "Look at farms, find the node of a client, drain nodes.")

app.command()(trace)

Module = Annotated[
    str | None,
    typer.Option(
        "--module",
        help="Which farm; needed where there are several.",
        autocompletion=complete_module,
    ),
]
Node = Annotated[str, typer.Argument(metavar="NODE", autocompletion=complete_node)]


@app.command("show")
def show_farm(context: typer.Context, module: Module = None, as_json: Json = False) -> None:
    """Show shares, connections and packet counters of every node."""
    found = _farm(agent_of(context), module)
    show(as_json, found.model_dump(mode="json"), lambda out: _draw(out, found))


@app.command()
def owner(
    context: typer.Context,
    client: Annotated[str, typer.Argument(metavar="CLIENT_IP[:PORT]")],
    *,
    module: Module = None,
    service: Annotated[
        str | None, typer.Option(metavar="PROTOCOL:PORT", help="Else the first service.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which node gets a client, and why."""
    agent = agent_of(context)
    farm = _farm(agent, module)
    address, client_port = _client(client)
    protocol, _, port = (service or "").partition(":")
    if service is not None and (protocol not in ("tcp", "udp") or not port.isdecimal()):
        raise InvalidError(f"--service {service!r} is not of the form PROTOCOL:PORT, as tcp:80")
    found = agent.farm_owner(farm.name, address, client_port, protocol or "tcp", port)

    def draw(out: "Console") -> None:
        served_by = found.node or "nobody"
        out.print(f"{client} of {found.services}: {served_by}, {found.reason}", markup=False)
        if found.previous:
            out.print(f"connections from before may be on {found.previous}", markup=False)

    show(as_json, found.model_dump(mode="json"), draw)


@app.command("table")
def export_table(context: typer.Context, module: Module = None) -> None:
    """Write the tables in force on this node as JSON, for `telamon farm trace --table`."""
    agent = agent_of(context)
    found = agent.farm_table(_farm(agent, module).name)
    show(True, found.model_dump(mode="json"), lambda out: None)


@app.command()
def drain(
    context: typer.Context,
    node: Node,
    *,
    module: Module = None,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Give new clients of a NODE to the others; its connections stay until they end."""
    farm = _farm(agent_of(context), module).name
    order(context, farm, ActionKind.DRAIN, [node], wait=wait, timeout=timeout, as_json=as_json)


@app.command()
def undrain(
    context: typer.Context,
    node: Node,
    *,
    module: Module = None,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Let a NODE serve new clients again."""
    farm = _farm(agent_of(context), module).name
    order(context, farm, ActionKind.UNDRAIN, [node], wait=wait, timeout=timeout, as_json=as_json)


@app.command()
def detach(
    context: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Also while an agent runs farm modules here.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Free this host by hand of all that farms made: filters, addresses, kernel settings.

    For a host whose agent is gone for good; applications go on without their clients.
    """
    from telamon.farm.recovery import free_host  # noqa: PLC0415 - slow to import, used only here

    paths = paths_of(context)
    if not force:
        _refuse_under_an_agent(agent_of(context))
    freed = asyncio.run(free_host(paths.run))
    complaints = [complaint for one in freed for complaint in one.complaints]
    if complaints:
        raise RefusedError("; ".join(complaints))
    names = [one.interface for one in freed]
    shown = ", ".join(names) or "no interface had a farm's filter"
    show(as_json, {"interfaces": names}, lambda out: out.print(f"freed: {shown}", markup=False))


def _refuse_under_an_agent(agent: Agent) -> None:
    try:
        status = agent.status()
    except UnreachableError:
        return  # there is none, or it hangs, and then this is what cures its host
    running = [
        name
        for name, module in status.modules.items()
        if (here := module.nodes.get(status.node)) and here.farm and here.state != "STOP"
    ]
    if running:
        raise RefusedError(
            f"farm modules run on this node ({', '.join(running)}): stop them with `telamon module"
            f" stop {running[0]} --node {status.node}`, or say --force"
        )


def _farm(agent: Agent, name: str | None) -> ModuleStatus:
    farms = {one.name: one for one in agent.status().modules.values() if one.kind == "farm"}
    if name is not None and name in farms:
        return farms[name]
    if name is None and len(farms) == 1:
        return next(iter(farms.values()))
    known = ", ".join(farms) or "none; `telamon module install DIRECTORY` installs one"
    if name is None and farms:
        raise InvalidError(f"there are several farms ({known}): say which one with --module")
    raise NotFoundError(f"there is no farm {name or ''}here; farms: {known}")


def _client(text: str) -> tuple[str, int]:
    """An address with or without its port; IPv6 with a port stands in brackets."""
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    else:
        address, port = text, ""
    if port and not (port.isdecimal() and int(port) <= 65535):
        raise InvalidError(f"{text!r} is no client: write 10.0.0.7, 10.0.0.7:40000 or [fd00::7]:40")
    return address, int(port or 0)


def _draw(out: "Console", module: ModuleStatus) -> None:
    from rich import box  # noqa: PLC0415 - not needed for JSON, and slow to import
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (
        f"farm {module.name}",
        "state",
        "services",
        "weight",
        "share",
        "buckets",
        "connections",
        "filter",
    ):
        table.add_column(heading, overflow="fold")
    for node, here in module.nodes.items():
        if here.farm is None:
            table.add_row(node, here.reason)
            continue
        state = f"{here.state or ''}{' drained' if here.farm.drained else ''}"
        if not here.farm.shares:
            table.add_row(node, state)
        for share in here.farm.shares:
            table.add_row(
                node,
                state,
                share.services,
                str(share.weight),
                f"{share.share_percent:.1f} %",
                str(share.buckets),
                str(here.farm.connections),
                ", ".join(here.farm.filters),
            )
    out.print(table)
    for node, here in module.nodes.items():
        for interface, reason in (here.farm.filter_reasons if here.farm else {}).items():
            out.print(f"{node}: filter of {interface}: {reason}", markup=False)
        if here.farm is not None and here.farm.packets:
            counted = "  ".join(f"{name} {count}" for name, count in here.farm.packets.items())
            out.print(f"{node}: {counted}", markup=False)
