"""Options and arguments that many commands share, and what completes them."""

from pathlib import Path
from typing import Annotated

import typer

from telamon.cli.agent import Agent
from telamon.cli.exits import HELP
from telamon.errors import TelamonError
from telamon.paths import Paths

COMPLETION_LIMIT_S = 1.0


def group(name: str, purpose: str) -> typer.Typer:
    """A group of commands, `telamon NAME …`."""
    return typer.Typer(
        name=name, help=purpose, no_args_is_help=True, add_completion=False, epilog=HELP
    )


def paths_of(context: typer.Context) -> Paths:
    """The paths that the program was called with."""
    found = context.find_root().obj
    return found if isinstance(found, Paths) else Paths()


def agent_of(context: typer.Context) -> Agent:
    """The agent that the program was told to talk to."""
    return Agent(paths_of(context).agent_socket)


def complete_module(context: typer.Context) -> list[str]:
    """Names of modules, of the whole cluster if the agent answers, else of this node."""
    try:
        return sorted(agent_of(context).status(COMPLETION_LIMIT_S).modules)
    except TelamonError:
        return _directories(paths_of(context).modules)


def complete_node(context: typer.Context) -> list[str]:
    """Names of nodes."""
    try:
        return list(agent_of(context).cluster().nodes)
    except TelamonError:
        return []


def _directories(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    except OSError:
        return []


Json = Annotated[bool, typer.Option("--json", help="Answer in JSON (docs/json.md).")]
ModuleName = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_module)]
Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        metavar="NODE",
        help="Only this node; may be repeated.",
        autocompletion=complete_node,
    ),
]
