"""`telamon events`: what happened on this node, and what happens."""

from typing import Annotated

import typer

from telamon.agent.models import Event, Severity
from telamon.cli.options import Json, agent_of, complete_module
from telamon.cli.output import console

app = typer.Typer(add_completion=False)

_STYLE = {Severity.INFO: "", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}


@app.command()
def events(
    context: typer.Context,
    module: Annotated[
        str | None, typer.Option(help="Only of this module.", autocompletion=complete_module)
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, max=2000, help="So many of the past.")
    ] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they happen.")] = False,
    as_json: Json = False,
) -> None:
    """Show what happened on this node. With --json: one object a line."""
    out = console()
    for event in agent_of(context).events(module=module, limit=limit, follow=follow):
        if as_json:
            out.file.write(event.model_dump_json() + "\n")
            out.file.flush()
        else:
            out.print(_line(event), style=_STYLE[event.severity], markup=False, soft_wrap=True)


def _line(event: Event) -> str:
    when = event.time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    where = f"{event.node}/{event.module}" if event.module else event.node
    return f"{when}  {where:<16}  {event.text}"
