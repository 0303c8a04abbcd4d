"""The entry of `telamon`: its groups of commands, each imported when it is used, and the end of
every error.

Invariant: users see a sentence and an exit status, never a traceback, save for a defect with
--debug.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from telamon.cli.exits import HELP, Exit
from telamon.cli.output import complain
from telamon.errors import TelamonError
from telamon.paths import Paths

LAZY = {
    "status": "telamon.cli.status",
    "events": "telamon.cli.events",
    "module": "telamon.cli.module",
    "farm": "telamon.cli.farm",
    "cluster": "telamon.cli.cluster",
    "config": "telamon.cli.config",
    "lab": "telamon.lab.commands",
}
"""Command -> the module whose `app` it is."""


DEFAULT = Paths()


class LazyGroup(TyperGroup):
    """Imports a group of commands when it is asked for: one needs no other."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(LAZY)

    def get_command(self, ctx: typer.Context, cmd_name: str):  # type: ignore[no-untyped-def,override]
        if cmd_name not in LAZY:
            return None
        loaded = importlib.import_module(LAZY[cmd_name]).app
        command = typer.main.get_command(loaded)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="telamon",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="High availability for applications on Linux: replicated directories and virtual IPs"
    " that move to the surviving node.",
    epilog=HELP,
)


@app.callback()
def _options(
    context: typer.Context,
    run: Annotated[Path, typer.Option(help="Directory of the agent's socket.")] = DEFAULT.run,
    configuration: Annotated[
        Path, typer.Option(help="Directory of cluster.yaml, credentials and modules.")
    ] = DEFAULT.configuration,
) -> None:
    context.obj = Paths(configuration=configuration.absolute(), run=run.absolute())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(words)
    except TelamonError as error:
        sys.exit(complain(error, as_json="--json" in words))
    except BrokenPipeError:
        # Whoever read us has seen enough.
        sys.stderr.close()
        sys.exit(Exit.DONE)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
