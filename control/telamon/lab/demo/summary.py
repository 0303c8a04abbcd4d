"""The end of a demo: a panel with what it proved, green or red, and the evidence where something is
wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.panel import Panel
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Summary:
    """What is shown. `evidence` is printed below the panel, as it is."""

    is_good: bool
    good_title: str
    bad_title: str
    rows: Sequence[tuple[str, str]]
    evidence: Sequence[str] = ()


def show(summary: Summary, console: Console) -> None:
    """Prints it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    for name, value in summary.rows:
        table.add_row(name, value)
    title, colour = (summary.good_title, "green") if summary.is_good else (summary.bad_title, "red")
    console.print()
    console.print(Panel(table, title=f"[bold]{title}[/]", border_style=colour, expand=False))
    for one in filter(None, summary.evidence):
        console.print(one, markup=False)


def none_wanted(count: int) -> str:
    """A count that must be 0."""
    return "[green]0[/]" if not count else f"[bold red]{count:,}[/]"
