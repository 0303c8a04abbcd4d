"""How commands speak: JSON for programs, tables for people, errors for both."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from telamon.cli.exits import Exit, exit_of, exit_of_code
from telamon.errors import InvalidError, TelamonError

if TYPE_CHECKING:
    from rich.console import Console

    from telamon.agent.models import Results


def show(as_json: bool, value: object, draw: "Callable[[Console], None]") -> None:
    """Prints `value` (what json.dumps takes) as JSON, or draws it for a person."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        return
    draw(console())


def console() -> "Console":
    """Standard output for people."""
    from rich.console import Console  # noqa: PLC0415 - not needed for JSON, and slow to import

    return Console(highlight=False)


def complain(error: TelamonError, *, as_json: bool) -> int:
    """Says what is wrong and how to cure it; returns the exit status."""
    faults = list(error.faults) if isinstance(error, InvalidError) else []
    if as_json:
        body = {"code": error.code, "message": str(error), "faults": faults}
        sys.stdout.write(json.dumps(body, ensure_ascii=False, indent=2) + "\n")
    else:
        for line in (*faults, f"telamon: {error}"):
            sys.stderr.write(line + "\n")
    return exit_of(error)


def finish(results: "Results", done: str, *, as_json: bool) -> None:
    """Shows what became of a request on each node; ends the program if a node did not accept it."""

    def draw(out: "Console") -> None:
        for node, result in results.nodes.items():
            if result.accepted:
                out.print(f"{node}: {done}", markup=False)
            else:
                sys.stderr.write(f"telamon: {node}: {result.message}\n")

    show(as_json, results.model_dump(mode="json"), draw)
    refused = [result for result in results.nodes.values() if not result.accepted]
    if refused:
        raise typer.Exit(exit_of_code(refused[0].code) or Exit.FAILED)
