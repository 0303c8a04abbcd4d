"""Nodes whose agent fell silent while their kernel may still hold connections.

The view change counts a silent node as gone and gives its buckets away at once. But an agent that
only restarts leaves its connections in its kernel, and its filter keeps them. Until it is known
that the host itself is dead, the heirs treat its buckets with grace, as they do with every former
holder's; a host that is dead is buried, and its clients soon get their RST.

A node that is heard again speaks for itself, but only of the view that it knows: what it had ready
to send when it was stopped says nothing of the buckets that were taken from it since.

Pure. Whether a host still answers is found out elsewhere.
"""

from collections.abc import Collection, Mapping

from telamon.farm.view_state import State


def joined(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """Return what nodes hold by either account."""
    return {n: one.get(n, 0) | other.get(n, 0) for n in one.keys() | other.keys()}


def lingering(
    known: Mapping[int, int], before: State, after: State, departed: Collection[int]
) -> dict[int, int]:
    """Return the buckets in which silent nodes may hold connections, by node; `departed` said
    goodbye and hold nothing.
    """
    kept = {
        number: held
        for number, held in known.items()
        if number not in departed and not _speaks_for_itself(number, after)
    }
    counted = set(before.peers) | (before.view.numbers if before.view else frozenset())
    counts = set(after.peers) | (after.view.numbers if after.view else frozenset())
    gone = counted - counts - set(departed) - {after.settings.self_number}
    for number in gone:
        held = before.holders.get(number, 0)
        if before.table is not None and before.view is not None and number in before.view.numbers:
            held |= before.table.owned(number)
        elif number in before.peers and before.peers[number].status.is_joined:
            # It served in a view that this node was not in, with a table that is not known here.
            held = before.every_bucket
        if held:
            kept[number] = kept.get(number, 0) | held
    return kept


def _speaks_for_itself(number: int, state: State) -> bool:
    peer = state.peers.get(number)
    return peer is not None and peer.status.epoch >= state.epoch
