"""Whether another module is ready, on this node or on another one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from telamon.detect.outcome import GOOD, Outcome, bad
from telamon.errors import TelamonError
from telamon.module.check_target import ModuleTarget


@dataclass(frozen=True, slots=True)
class Seen:
    """Another module as its node shows it."""

    state: str
    is_ready: bool
    reason: str = ""


StateOf = Callable[[str, str | None], Awaitable[Seen]]
"""The state of a module on a node (None: this one); NotFoundError where it is not installed,
UnreachableError where the node is silent."""


@dataclass(frozen=True, slots=True)
class ModuleDetector:
    """Looks at one module on one node."""

    target: ModuleTarget
    state_of: StateOf

    async def __call__(self) -> Outcome:
        """One look."""
        target = self.target
        try:
            seen = await self.state_of(target.name, target.node)
        except TelamonError as error:
            return bad(str(error))
        where = f" on {target.node}" if target.node is not None else ""
        shown = f"module {target.name}{where} is {seen.state}"
        if not seen.is_ready:
            return bad(f"{shown}, not ready" + (f": {seen.reason}" if seen.reason else ""))
        if target.states and seen.state not in target.states:
            return bad(f"{shown}, not {' or '.join(target.states)}")
        return GOOD
