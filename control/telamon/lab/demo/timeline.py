"""The story as it unfolds on the terminal: one line for each step, with the time it began and how
long it took.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console


@dataclass(slots=True)
class Step:
    """What is known of a step; the code that performs it may add a remark."""

    text: str
    remark: str = ""


class Timeline:
    """Prints steps; counts time from its own beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began_s = time.monotonic()

    def chapter(self, title: str) -> None:
        """A heading."""
        self._console.print(f"\n[bold]{title}[/]")

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """One step: shown as running, then as done, or as what it failed with."""
        step = Step(text)
        began_s = time.monotonic()
        try:
            with self._console.status(text):
                yield step
        except BaseException:
            self._line("[red]✘[/]", step, began_s)
            raise
        self._line("[green]✔[/]", step, began_s)

    def event(self, text: str) -> None:
        """Something that happens in one moment."""
        self._line("[yellow]⚡[/]", Step(f"[bold]{text}[/]"), None)

    def note(self, text: str) -> None:
        """A line that belongs to what stands above it."""
        self._console.print(f"{'':12}{text}")

    def _line(self, mark: str, step: Step, began_s: float | None) -> None:
        now_s = time.monotonic()
        at = f"{(began_s or now_s) - self._began_s:6.1f} s"
        took = "" if began_s is None else f"{now_s - began_s:5.1f} s"
        remark = f"  [dim]{step.remark}[/]" if step.remark else ""
        self._console.print(f" [cyan]{at}[/] {mark} {step.text}{remark}  [dim]{took}[/]")
