"""One node's step under way: what it gives up, takes and says.

The primitives of `telamon.farm.view`, which states the rules and decides when which of them is due.
"""

from dataclasses import replace

from telamon.farm.message import Goodbye, Status, View
from telamon.farm.table import NOBODY, Member, Table, serving
from telamon.farm.view_state import (
    Action,
    Broadcast,
    Measure,
    Note,
    Renew,
    Send,
    State,
    Switch,
)


class Turn:
    """The state so far and the actions it causes."""

    def __init__(self, state: State, now: int) -> None:
        self.before = state
        self.state = state
        self.now = now
        self.me = state.settings.self_number
        self.notes: list[Action] = []
        self.sends: list[Action] = []
        self.must_tell_all = False
        self.must_tell: set[int] = set()
        self.heard: set[int] = set()  # whose status came in this step

    def give_up_everything(self, reason: str) -> None:
        """Serve nothing until a new view comes."""
        if self.state.active or self.state.view:
            self.notes.append(Note(f"gives up all buckets: {reason}"))
            self.must_tell_all = True
        self.hold(active=0)
        self.state = replace(self.state, view=None, is_committed=False)

    def leave(self, reason: str) -> None:
        """Give up everything and say goodbye; nothing follows."""
        self.give_up_everything(reason)
        self.state = replace(self.state, has_left=True, sequence=self.state.sequence + 1)
        state = self.state
        self.sends.append(Broadcast(Goodbye(self.me, state.incarnation, state.sequence)))

    def hold(self, active: int) -> int:
        """Serve exactly these buckets; return what was given up."""
        state = self.state
        released = state.active & ~active
        self.state = replace(state, active=active)
        if released:
            self.state = replace(
                self.state, unmeasured=state.unmeasured | released, released_at=self.now
            )
            self.notes.append(Measure())
        return released

    def accept(self, view: View, table: Table) -> None:
        """Rule 1, first half, and rule 2."""
        state = self.state
        own = table.owned(self.me)
        kept = state.active & own
        self.hold(active=kept | own & self._bequeathed(view))
        self.state = replace(
            self.state,
            epoch=view.epoch,
            view=view,
            table=table,
            is_committed=False,
            holders=self._presumed_holders(table),
        )
        self.drop_holders()
        self.must_tell_all = True

    def _bequeathed(self, view: View) -> int:
        """Rule 2: the buckets of members that this view only removes."""
        state = self.state
        if state.view is None or state.table is None or not state.is_committed:
            return 0
        if not set(view.members) <= set(state.view.members):
            return 0
        return state.every_bucket & ~state.table.owned(*view.numbers)

    def _presumed_holders(self, table: Table) -> dict[int, int]:
        """Add to what members hold what they give up now, the likeliest until they report."""
        state = self.state
        holders = dict(state.holders)
        if state.view is not None and state.table is not None:
            for number, lost in state.table.losses(table).items():
                if number != self.me:
                    holders[number] = holders.get(number, 0) | lost
        return holders

    def table_of(self, members: tuple[Member, ...]) -> Table:
        settings, known = self.state.settings, self.state.table
        if known is None:
            return Table.build(settings.secret, members, settings.buckets)
        return known.changed(members)

    def take(self) -> None:
        """Rule 1, second half."""
        state = self.state
        assert state.view is not None and state.table is not None, "only an accepted view commits"
        own = state.table.owned(self.me)
        assert not state.active & ~own, "acceptance gave up everything else"
        self.hold(active=own)
        self.state = replace(self.state, is_committed=True)
        self.notes.append(
            Note(
                f"view {state.view.epoch}: {len(serving(state.view.members))} of "
                f"{len(state.view.members)} members serve, "
                f"{own.bit_count()} of {state.settings.buckets} buckets here"
            )
        )

    def forget(self, gone: set[int]) -> None:
        state = self.state
        peers = {number: peer for number, peer in state.peers.items() if number not in gone}
        self.state = replace(state, peers=peers)
        self.drop_holders()

    def drop_holders(self) -> None:
        """Keep what is known of the holdings of members, even unheard, and of whom we hear."""
        state = self.state
        alive = set(state.peers) | (state.view.numbers if state.view else frozenset())
        holders = {number: held for number, held in state.holders.items() if number in alive}
        self.state = replace(state, holders=holders)

    def speak(self) -> None:
        """Send the heartbeat when it is due or the news cannot wait."""
        leader = self.state.leader(self.now)
        self.must_tell_all = self.must_tell_all or leader != self.before.announced_leader
        if self.must_tell_all or self.now >= self.state.next_status_at:
            self.state = replace(
                self.state,
                next_status_at=self.now + self.state.settings.interval,
                lease_until=self.now + self.state.settings.lease,
                announced_leader=leader,
            )
            self.sends.append(Broadcast(self.status(leader)))
            return
        for number in sorted(self.must_tell - {self.me, NOBODY}):
            self.sends.append(Send(number, self.status(leader)))

    def status(self, leader: int) -> Status:
        self.state = replace(self.state, sequence=self.state.sequence + 1)
        state, view = self.state, self.state.view
        return Status(
            sender=self.me,
            incarnation=state.incarnation,
            sequence=state.sequence,
            offer=state.offer,
            hears=frozenset(state.peers),
            leader=leader,
            is_listening=state.is_listening(self.now),
            epoch=state.epoch,
            is_joined=view is not None,
            is_committed=state.is_committed,
            members=view.numbers if view else frozenset(),
            holding=state.holding,
        )

    def end(self) -> tuple[State, tuple[Action, ...]]:
        """Order the actions: the filter gives up before others hear of it, and the lease grows only
        by a heartbeat that went out."""
        before, state = self.before, self.state
        switch: list[Action] = []
        if state.active != before.active or (state.table and _shown(state) != _shown(before)):
            switch.append(Switch())
        renew: list[Action] = []
        if state.lease_until != before.lease_until:
            renew.append(Renew(state.lease_until))
        return state, (*self.notes, *switch, *self.sends, *renew)


def _shown(state: State) -> tuple[object, ...]:
    """Return what the filter shows beside the buckets served."""
    return state.epoch, state.holding, state.holders, state.unreported
