"""`telamon module`: install, order, and look at modules."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from telamon.agent.models import ActionKind, ModuleStatus
from telamon.cli.exits import Exit
from telamon.cli.options import Json, ModuleName, Nodes, agent_of, group
from telamon.cli.order import TIMEOUT_S, Force, Timeout, Wait, order
from telamon.cli.output import finish, show
from telamon.cli.verification import verify
from telamon.cli.waiting import RUNS_APPLICATION
from telamon.errors import NotFoundError

if TYPE_CHECKING:
    from rich.console import Console

app = group("module", "Install, start, stop and look at modules.")


@app.command()
def install(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    nodes: Nodes = None,
    as_json: Json = False,
) -> None:
    """Check a module's DIRECTORY and install it on all of its nodes."""
    from telamon.module.store import pack_module  # noqa: PLC0415 - slow to import, used only here

    results = agent_of(context).install(pack_module(directory), nodes or [])
    finish(results, "installed", as_json=as_json)


@app.command()
def remove(
    context: typer.Context, name: ModuleName, nodes: Nodes = None, as_json: Json = False
) -> None:
    """Remove a stopped module from all of its nodes. Its data stay, and are writable again."""
    finish(agent_of(context).remove(name, nodes or []), "removed", as_json=as_json)


@app.command()
def start(
    context: typer.Context,
    name: ModuleName,
    *,
    nodes: Nodes = None,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Start a module on both nodes: the one with the newer data becomes primary."""
    order(context, name, ActionKind.START, nodes, wait=wait, timeout=timeout, as_json=as_json)


@app.command()
def stop(
    context: typer.Context,
    name: ModuleName,
    *,
    nodes: Nodes = None,
    force: Force = False,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Stop a module on both nodes, the secondary first; on one node with --node."""
    order(
        context,
        name,
        ActionKind.STOP,
        nodes,
        force=force,
        wait=wait,
        timeout=timeout,
        as_json=as_json,
    )


@app.command()
def prim(
    context: typer.Context,
    name: ModuleName,
    *,
    nodes: Nodes = None,
    force: Force = False,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Make this node the primary: needed once, on the node with the good data."""
    order(
        context,
        name,
        ActionKind.PRIM,
        nodes,
        force=force,
        wait=wait,
        timeout=timeout,
        as_json=as_json,
    )


@app.command()
def second(
    context: typer.Context,
    name: ModuleName,
    *,
    nodes: Nodes = None,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Make this node follow the primary; changes that only it has are kept aside and given up."""
    order(context, name, ActionKind.SECOND, nodes, wait=wait, timeout=timeout, as_json=as_json)


@app.command()
def swap(
    context: typer.Context,
    name: ModuleName,
    *,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Exchange primary and secondary."""
    order(context, name, ActionKind.SWAP, wait=wait, timeout=timeout, as_json=as_json)


@app.command()
def restart(
    context: typer.Context,
    name: ModuleName,
    *,
    force: Force = False,
    wait: Wait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: Json = False,
) -> None:
    """Stop and start the application where it runs; no role changes."""
    order(
        context, name, ActionKind.RESTART, force=force, wait=wait, timeout=timeout, as_json=as_json
    )


@app.command()
def status(
    context: typer.Context,
    name: ModuleName,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 8 unless the application runs and is ready.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one module on all of its nodes."""
    found = agent_of(context).status().modules.get(name)
    if found is None:
        raise NotFoundError(
            f"module {name} is not installed: `telamon module list` shows those that are"
        )
    show(as_json, found.model_dump(mode="json"), lambda out: _draw_one(out, found))
    if check and not any(
        here.state in RUNS_APPLICATION and here.ready for here in found.nodes.values()
    ):
        raise typer.Exit(Exit.NOT_READY)


app.command()(verify)


@app.command("list")
def list_modules(context: typer.Context, as_json: Json = False) -> None:
    """List the modules of the cluster and the state of each on its nodes."""
    modules = agent_of(context).status().modules
    listed = {
        name: {
            "kind": module.kind,
            "nodes": {node: here.state for node, here in module.nodes.items()},
        }
        for name, module in modules.items()
    }

    def draw(out: "Console") -> None:
        if not modules:
            out.print("no module is installed: `telamon module install DIRECTORY` installs one")
        for name, module in modules.items():
            states = " ".join(f"{node}={here.state}" for node, here in module.nodes.items())
            out.print(f"{name:<24} {module.kind:<8} {states}", markup=False)

    show(as_json, listed, draw)


def _draw_one(out: "Console", module: ModuleStatus) -> None:
    for node, here in module.nodes.items():
        out.print(f"{module.name} on {node}", style="bold", markup=False)
        for key, value in here.model_dump(mode="json", exclude_none=True).items():
            for line in _lines(value):
                out.print(f"  {key:<18} {line}", markup=False, soft_wrap=True)


def _lines(value: object) -> list[str]:
    """A value of the status for a person: one line, or one for each item of a list."""
    if isinstance(value, list):
        return [line for item in value for line in _lines(item)]
    if isinstance(value, dict):
        pairs = [f"{key} {' '.join(_lines(item)) or '-'}" for key, item in value.items()]
        return [", ".join(pairs)] if pairs else []
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return [str(value)] if value != "" else []
