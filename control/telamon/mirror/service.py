"""What this node does for the module at this moment: a function of the role machine's state.

It is asked by what lives beside the machine: checks, which look only while there is something to
look at, and the health endpoint.
"""

from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.role_event import Presence
from telamon.mirror.role_state import Goal, RoleState


def is_started(state: RoleState) -> bool:
    """The module is to run on this node, in whichever role."""
    return state.goal is not Goal.STOP


def runs_application(state: RoleState) -> bool:
    """The application runs here and is to stay: nothing stops, starts or takes it away."""
    return (
        state.goal is Goal.PRIMARY
        and state.role is ReplicatorRole.PRIMARY
        and state.addresses is Presence.ON
        and state.application is Presence.ON
        and not state.restarts
    )
