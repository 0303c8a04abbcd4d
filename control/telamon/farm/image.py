"""From the view change's state to the filter's table, and back after a restart of the agent.

Contract of the bytes: ebpf/farm.h. `previous` leads along the holders of a bucket in rising order
of their numbers: the owner sees the lowest other holder, a holder the next higher one, the last one
itself. Whoever sees 0 need not look for connections.
"""

import numpy as np
from numpy.typing import NDArray

from telamon.farm.layout import TableImage
from telamon.farm.table import NOBODY
from telamon.farm.view_state import Resumed, State

_Bytes = NDArray[np.uint8]
_Chosen = NDArray[np.bool_]


def render(state: State, seed: int) -> TableImage:
    """Return what the filter must show in this state; `seed` is the client hash's."""
    me, count = state.settings.self_number, state.settings.buckets
    mine = _chosen(state.active, count)
    owner = np.zeros(count, np.uint8)
    dispatcher = NOBODY
    if state.view is not None and state.table is not None:
        owner |= np.frombuffer(state.table.owner, np.uint8)
        owner[(owner == me) & ~mine] = NOBODY
        dispatcher = state.view.dispatcher
    owner[mine] = me
    pairs = np.empty((count, 2), np.uint8)
    pairs[:, 0] = owner
    pairs[:, 1] = _previous(state, mine)
    return TableImage(pairs.tobytes(), state.epoch, seed, dispatcher)


def found(image: TableImage, self_number: int, lease_until: int) -> Resumed:
    """Return what a restarted agent finds in its filter."""
    owner = np.frombuffer(image.buckets, np.uint8)[0::2]
    packed = np.packbits(owner == self_number, bitorder="little").tobytes()
    return Resumed(image.epoch, int.from_bytes(packed, "little"), lease_until)


def _previous(state: State, mine: _Chosen) -> _Bytes:
    me, count = state.settings.self_number, state.settings.buckets
    held_here = _chosen(state.holding, count)
    previous = np.zeros(count, np.uint8)
    previous[held_here] = me
    if state.unreported:
        previous[mine] = min(state.unreported)
    # Falling numbers: the lowest is written last and stays.
    for number in sorted(state.holders, reverse=True):
        if held := state.holders[number]:
            theirs = _chosen(held, count)
            previous[mine & theirs] = number
            if number > me:
                previous[held_here & theirs] = number
    return previous


def _chosen(buckets: int, count: int) -> _Chosen:
    packed = np.frombuffer(buckets.to_bytes((count + 7) // 8, "little"), np.uint8)
    return np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)
