"""What the demo proved: numbers for a reader, and whether anything was lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from telamon.lab.oracles.commits import Gap
from telamon.lab.oracles.tree import Difference, describe


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings of the oracles, taken after the last step."""

    promised: int
    missing: Sequence[int]
    failover_gap: Gap
    swap_gap: Gap
    transactions: int
    resync_s: float
    differences: Sequence[Difference]
    corruptions: str

    @property
    def is_good(self) -> bool:
        """Nothing that was acknowledged is lost, both trees are the same, the database is sound."""
        return not self.missing and not self.differences and not self.corruptions


def show(verdict: Verdict, console: Console) -> None:
    """Prints the summary."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    for name, value in _rows(verdict):
        table.add_row(name, value)
    title, colour = (
        ("Nothing was lost", "green") if verdict.is_good else ("SOMETHING WAS LOST", "red")
    )
    console.print()
    console.print(Panel(table, title=f"[bold]{title}[/]", border_style=colour, expand=False))
    if verdict.differences:
        console.print(describe(verdict.differences), markup=False)
    if verdict.corruptions:
        console.print(verdict.corruptions, markup=False)


def _rows(verdict: Verdict) -> list[tuple[str, str]]:
    lost, different = len(verdict.missing), len(verdict.differences)
    return [
        ("acknowledged commits", f"{verdict.promised:,}"),
        ("of these missing", "[green]0[/]" if not lost else f"[bold red]{lost:,}[/]"),
        ("clients waited, power failure", f"{verdict.failover_gap.length_s:.2f} s"),
        ("clients waited, swap", f"{verdict.swap_gap.length_s:.2f} s"),
        ("pgbench transactions", f"{verdict.transactions:,}"),
        ("resynchronised under load in", f"{verdict.resync_s:.1f} s"),
        (
            "differences of both trees",
            "[green]0[/]" if not different else f"[bold red]{different}[/]",
        ),
        ("pg_amcheck", "[green]sound[/]" if not verdict.corruptions else "[bold red]damaged[/]"),
    ]
