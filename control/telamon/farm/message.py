"""What the members of one farm module tell each other, as values.

Sets of buckets are bit sets in an int: bit b stands for bucket b. Sets of nodes are frozen sets of
member numbers. Every message may be lost, delayed, repeated or overtaken; `telamon.farm.view` says
what each of them means.
"""

from dataclasses import dataclass

from telamon.farm.table import Member

NO_EPOCH = 0
_INCARNATION_BITS = 24
_PROPOSER_BITS = 8


def next_epoch(highest: int, proposer: int, incarnation: int) -> int:
    """Return an epoch above `highest` that no one else makes: count, proposer, its incarnation."""
    assert 0 <= incarnation < 1 << _INCARNATION_BITS, f"incarnation {incarnation}"
    count = (highest >> _INCARNATION_BITS + _PROPOSER_BITS) + 1
    return (count << _PROPOSER_BITS | proposer) << _INCARNATION_BITS | incarnation


@dataclass(frozen=True, slots=True)
class View:
    """Who the farm is from one epoch on. Views are totally ordered by their epoch."""

    epoch: int
    members: tuple[Member, ...]  # by number
    digest: bytes  # of the table that these members make

    @property
    def numbers(self) -> frozenset[int]:
        """The members' numbers."""
        return frozenset(member.number for member in self.members)

    @property
    def dispatcher(self) -> int:
        """The member that redirects in dispatch mode: the lowest that serves, else the lowest."""
        able = [member.number for member in self.members if member.weight]
        return min(able or [member.number for member in self.members])


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node offers the farm: weight 0 while its application is not ready, or drains."""

    weight: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """Heartbeat and acknowledgement: where the sender stands."""

    sender: int
    incarnation: int  # rises with each start of the agent; with `sequence` it orders messages
    sequence: int
    offer: Offer
    hears: frozenset[int]
    leader: int  # whom the sender follows; NOBODY while it hears no one to follow
    is_listening: bool  # too young to judge who is absent
    epoch: int  # the highest view ever accepted
    is_joined: bool  # that view is in force here; else the sender needs a new one
    is_committed: bool  # and the sender serves all its buckets of it
    members: frozenset[int]  # of that view, or empty
    holding: int  # buckets of others in which the sender may still have connections


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new view. Accepting it means: give up at once what it takes away."""

    sender: int
    view: View


@dataclass(frozen=True, slots=True)
class Commit:
    """Every member accepted the view: take what it gives.

    `incarnation` is the receiver's own, as its acceptance showed it, so that a commit from before a
    restart is told from a fresh one.
    """

    sender: int
    epoch: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender has given up all its buckets and leaves."""

    sender: int
    incarnation: int
    sequence: int


Message = Status | Proposal | Commit | Goodbye
