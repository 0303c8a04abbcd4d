"""What the mirror's demo proved: numbers for a reader, and whether anything was lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from telamon.lab.demo.summary import Summary, none_wanted
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


def summary(verdict: Verdict) -> Summary:
    """What is shown of it."""
    return Summary(
        is_good=verdict.is_good,
        good_title="Nothing was lost",
        bad_title="SOMETHING WAS LOST",
        rows=[
            ("acknowledged commits", f"{verdict.promised:,}"),
            ("of these missing", none_wanted(len(verdict.missing))),
            ("clients waited, power failure", f"{verdict.failover_gap.length_s:.2f} s"),
            ("clients waited, swap", f"{verdict.swap_gap.length_s:.2f} s"),
            ("pgbench transactions", f"{verdict.transactions:,}"),
            ("resynchronised under load in", f"{verdict.resync_s:.1f} s"),
            ("differences of both trees", none_wanted(len(verdict.differences))),
            ("pg_amcheck", "[bold red]damaged[/]" if verdict.corruptions else "[green]sound[/]"),
        ],
        evidence=[
            describe(verdict.differences) if verdict.differences else "",
            verdict.corruptions,
        ],
    )
