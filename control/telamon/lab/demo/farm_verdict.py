"""What the farm's demo proved: numbers for a reader, and whether any connection broke that had no
reason to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from telamon.lab.demo.summary import Summary, none_wanted
from telamon.lab.oracles.connections import Broken, Knock
from telamon.lab.oracles.handshakes import HandshakeReport

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class FarmVerdict:
    """The findings of the oracles, taken after the last step."""

    dead_node: str
    takeover_s: float
    broken: Sequence[Broken]
    """Every connection that broke, also those of the dead node."""
    knocks: Sequence[Knock]
    """Every client that came for the first time."""
    turned_away: Sequence[Knock]
    """Those of them that got nothing, or lost it without a reason."""
    misled: Sequence[str]
    """Clients that were not answered by the node that the table gives them."""
    handshakes: HandshakeReport
    connections: int
    exchanges: int

    @property
    def broken_on_survivors(self) -> list[Broken]:
        """What must not be."""
        return [one for one in self.broken if one.node != self.dead_node]

    @property
    def is_good(self) -> bool:
        """No connection broke but the dead node's, and each client had exactly one node."""
        return (
            not self.broken_on_survivors
            and not self.turned_away
            and not self.misled
            and self.handshakes.is_good
        )


def summary(verdict: FarmVerdict) -> Summary:
    """What is shown of it."""
    handshakes = verdict.handshakes
    died = len(verdict.broken) - len(verdict.broken_on_survivors)
    longest_s = max((knock.waited_s for knock in verdict.knocks), default=0.0)
    return Summary(
        is_good=verdict.is_good,
        good_title="No connection on a surviving node broke",
        bad_title="SOMETHING BROKE",
        rows=[
            ("connections kept open", f"{verdict.connections:,}"),
            ("requests answered on them", f"{verdict.exchanges:,}"),
            ("broken on surviving nodes", none_wanted(len(verdict.broken_on_survivors))),
            ("ended with the dead node", f"{died:,}"),
            ("its buckets were taken over in", f"{verdict.takeover_s:.2f} s"),
            ("new clients", f"{len(verdict.knocks):,}"),
            ("of these turned away", none_wanted(len(verdict.turned_away))),
            ("longest wait of a new client", f"{longest_s:.2f} s"),
            ("handshakes on the wire", f"{handshakes.attempts:,}"),
            ("answered twice", none_wanted(len(handshakes.answered_twice))),
            ("never answered", none_wanted(len(handshakes.unanswered))),
            ("answered by another than the table says", none_wanted(len(verdict.misled))),
        ],
        evidence=[
            *(str(one) for one in verdict.broken_on_survivors[:_SHOWN]),
            *(str(one) for one in verdict.turned_away[:_SHOWN]),
            *verdict.misled[:_SHOWN],
            *handshakes.answered_twice[:_SHOWN],
            *handshakes.unanswered[:_SHOWN],
            "the capture lost frames" if handshakes.lost_frames else "",
        ],
    )
