"""What the mirror's role machine asks of the rim: operations, which take time, and other actions.

Invariant: every `Perform` is answered by `StepDone` or `StepFailed` with its serial, or cancelled.
The rim keeps no order of its own: what the machine asks for while something runs may run beside it.
"""

from dataclasses import dataclass

from telamon.mirror.report import ModuleState, Readiness


@dataclass(frozen=True, slots=True)
class StartReplicator:
    """Start the process and `configure` it; done when its status is known."""


@dataclass(frozen=True, slots=True)
class StopReplicator:
    """`stop`, and wait for the process to end; with `force` kill it and remove its mounts."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """Follow the peer. `discard`: own changes may be overwritten although the lineages split."""

    discard: bool = False


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Leave the role secondary."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Become primary: lift the fence and mount. No commit is acknowledged by this alone."""

    force: bool = False
    handover: bool = False


@dataclass(frozen=True, slots=True)
class Demote:
    """Leave the role primary; with `force` holders of the mount are killed."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Let the replicator acknowledge commits alone, under a new generation."""


@dataclass(frozen=True, slots=True)
class Outdate:
    """Durably mark own data Outdated: the peer goes on alone from this generation."""

    by_generation: str


@dataclass(frozen=True, slots=True)
class AddAddresses:
    """Take the module's virtual IPs and announce them."""


@dataclass(frozen=True, slots=True)
class RemoveAddresses:
    """Give up the virtual IPs, resetting their connections."""


@dataclass(frozen=True, slots=True)
class StartApplication:
    """Run the start script."""


@dataclass(frozen=True, slots=True)
class StopApplication:
    """Run the stop script, with the argument `force` if `force`; then kill what is left of it."""

    force: bool = False


Operation = (
    StartReplicator
    | StopReplicator
    | Connect
    | Disconnect
    | Promote
    | Demote
    | Grant
    | Outdate
    | AddAddresses
    | RemoveAddresses
    | StartApplication
    | StopApplication
)


@dataclass(frozen=True, slots=True)
class View:
    """What users see of the module on this node."""

    state: ModuleState = ModuleState.STOP
    readiness: Readiness = Readiness.NOT_READY
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Perform:
    """Begin an operation, end it within `timeout_ms`, and answer with its serial. The machine
    itself cancels what was not answered a moment after that."""

    serial: int
    operation: Operation
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give the operation up and end what runs for it; its answer is not awaited any more."""

    serial: int


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """Something changed that the peer should know at once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a command: `refusal` is empty when it was accepted."""

    number: int
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Announce:
    """What users see has changed."""

    view: View


@dataclass(frozen=True, slots=True)
class Remember:
    """Store this durably; it comes back with the next `AgentStarted`."""

    intent_is_started: bool
    failures_ms: tuple[int, ...]


Action = Perform | Cancel | SendHeartbeat | Answer | Announce | Remember
