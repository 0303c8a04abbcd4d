"""One measured figure, its native reference, and the goal it is held to."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table


class GoalKind(StrEnum):
    """What a goal compares: `ours` with the reference and a fixed cost, or their ratio."""

    AT_MOST_MORE = "at most reference +"
    RATIO_AT_LEAST = "ratio at least"
    RATIO_AT_MOST = "ratio at most"


@dataclass(frozen=True, slots=True)
class Goal:
    """What is promised. A figure without a goal is shown for comparison only."""

    kind: GoalKind
    value: float

    def is_met(self, ours: float, reference: float) -> bool:
        """Whether a pair of figures keeps the promise."""
        match self.kind:
            case GoalKind.AT_MOST_MORE:
                return ours <= reference + self.value
            case GoalKind.RATIO_AT_LEAST:
                return ours / reference >= self.value
            case GoalKind.RATIO_AT_MOST:
                return ours / reference <= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """A pair of figures from one run."""

    name: str
    unit: str
    ours: float
    reference: float
    goal: Goal | None = None

    @property
    def ratio(self) -> float:
        """Ours in units of the reference."""
        return self.ours / self.reference

    @property
    def is_met(self) -> bool | None:
        """None without a goal."""
        return self.goal.is_met(self.ours, self.reference) if self.goal else None

    def as_json(self) -> dict[str, object]:
        """The shape of an element of bench/latest.json."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": round(self.ours, 3),
            "reference": round(self.reference, 3),
            "ratio": round(self.ratio, 3),
            "goal": f"{self.goal.kind} {self.goal.value:g}" if self.goal else None,
            "met": self.is_met,
        }


def table(figures: Sequence[Figure]) -> Table:
    """The figures for a reader."""
    shown = Table(title="Telamon against native, in one run", title_justify="left")
    for heading in ("benchmark", "unit"):
        shown.add_column(heading)
    for heading in ("ours", "native", "ratio"):
        shown.add_column(heading, justify="right")
    for heading in ("goal", "met"):
        shown.add_column(heading)
    words = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}
    for figure in figures:
        goal = figure.goal
        shown.add_row(
            figure.name,
            figure.unit,
            f"{figure.ours:,.1f}",
            f"{figure.reference:,.1f}",
            f"{figure.ratio:.2f}",
            f"{goal.kind} {goal.value:g}" if goal else "",
            words[figure.is_met],
        )
    return shown
