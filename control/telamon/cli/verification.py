"""`telamon module verify`: orders a verification, waits for its end, and shows what differs."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from telamon.agent.models import ActionKind, ActionRequest, Verification
from telamon.cli.exits import Exit, exit_of_code
from telamon.cli.options import Json, ModuleName, agent_of
from telamon.cli.output import show
from telamon.errors import TelamonError

if TYPE_CHECKING:
    from rich.console import Console

    from telamon.cli.agent import Agent

LOOK_S = 0.5


def verify(
    context: typer.Context,
    name: ModuleName,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make equal what differs, by a resynchronisation.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the secondary's data with the primary's while both work. Exit 1 if it differs."""
    agent = agent_of(context)
    action = ActionKind.REPAIR if repair else ActionKind.VERIFY
    results = agent.act(name, ActionRequest(action=action))
    for node, result in results.nodes.items():
        if not result.accepted:
            sys.stderr.write(f"telamon: {node}: {result.message}\n")
            raise typer.Exit(exit_of_code(result.code) or Exit.FAILED)
    found = {node: _await_end(agent, name, node) for node in results.nodes}
    show(
        as_json,
        {node: one.model_dump(mode="json") for node, one in found.items()},
        lambda out: _draw(out, found),
    )
    if any(one.fault or (one.differing and not one.repairs) for one in found.values()):
        raise typer.Exit(Exit.FAILED)


def _await_end(agent: "Agent", module: str, node: str) -> Verification:
    while True:
        shown = agent.status().modules.get(module)
        here = shown.nodes.get(node) if shown is not None else None
        if here is None or not here.reachable or here.verification is None:
            reason = here.reason if here is not None else "it is not installed there any more"
            raise TelamonError(
                f"the verification of module {module} on {node} is not seen any more ({reason}): "
                "look at `telamon events` there, and begin it again"
            )
        if not here.verification.running:
            return here.verification
        time.sleep(LOOK_S)


def _draw(out: "Console", found: dict[str, Verification]) -> None:
    for node, one in found.items():
        if one.fault:
            out.print(f"{node}: {one.fault}", markup=False)
            continue
        differs = f"{one.differing} objects differ" if one.differing else "nothing differs"
        if one.repairs:
            differs += ", they are made equal now: see `telamon status`"
        out.print(f"{node}: {one.files} files, {one.bytes} bytes: {differs}", markup=False)
        for path in one.paths:
            out.print(f"  {path.aspect:<10} {path.path}", markup=False, soft_wrap=True)
        if one.differing > len(one.paths):
            out.print(f"  ... and {one.differing - len(one.paths)} more", markup=False)
        if one.changing:
            out.print(f"  {one.changing} objects were written to at every look", markup=False)
