"""What travels over the control socket, as values checked at the border (replicator/CONTROL.md).

Answers and events may carry keys that this version does not know (a newer replicator during an
upgrade): those are ignored. A missing or malformed key is a protocol error of that frame.
"""

import base64
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter

from telamon.mirror.lineage import DataState, ReplicatorRole
from telamon.mirror.report import CommitState, LinkState

PROTOCOL = 1


def _text_in(value: object) -> str:
    if isinstance(value, dict) and isinstance(value.get("bytes"), str):
        return os.fsdecode(base64.b64decode(value["bytes"], validate=True))
    if isinstance(value, str):
        return value
    raise ValueError('a path is a string or {"bytes": "<base64>"}')


def _text_out(text: str) -> str | dict[str, str]:
    raw = os.fsencode(text)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"bytes": base64.b64encode(raw).decode()}


def _path_in(value: object) -> Path:
    return value if isinstance(value, Path) else Path(_text_in(value))


def _path_out(path: Path) -> str | dict[str, str]:
    return _text_out(os.fspath(path))


WirePath = Annotated[Path, PlainValidator(_path_in), PlainSerializer(_path_out, when_used="json")]
WirePattern = Annotated[str, PlainValidator(_text_in), PlainSerializer(_text_out, when_used="json")]
Count = Annotated[int, Field(ge=0)]
Generation = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class CaptureBackEnd(StrEnum):
    """How written ranges are seen."""

    TP_BTF = "tp_btf"
    FEXIT = "fexit"
    RELAY = "relay"


class DirectoryMode(StrEnum):
    """Whether reads and writes of open files bypass the replicator."""

    PASSTHROUGH = "passthrough"
    RELAY = "relay"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Hello(_Message):
    """Who answered on the control socket."""

    protocol: int
    version: str
    pid: int = Field(gt=0)


class LineageRecord(_Message):
    """The durable lineage record of one node."""

    generation: Generation
    peer_generation: Generation
    history: tuple[Generation, ...]
    data_state: DataState
    clean: bool
    role_at_shutdown: ReplicatorRole


class DirectoryStatus(_Message):
    """One replicated directory on this node."""

    path: WirePath
    mounted: bool
    fenced: bool
    mode: DirectoryMode


class Lag(_Message):
    """What this node has written and the peer has not acknowledged yet."""

    records: Count = 0
    size_bytes: Count = Field(default=0, validation_alias="bytes", serialization_alias="bytes")


class CommitLatency(_Message):
    """How long commits took, in microseconds."""

    last: Count = 0
    p50: Count = 0
    p99: Count = 0


class ResyncProgress(_Message):
    """How far a resynchronisation has come."""

    files_done: Count = 0
    files_total: Count = 0
    bytes_done: Count = 0
    bytes_total: Count = 0
    rate_bytes_per_s: Count = 0
    remaining_s: float | None = None


class Kept(_Message):
    """What differed when this node's side was given up, kept before it was overwritten."""

    directory: WirePath
    files: Count = 0
    size_bytes: Count = Field(default=0, validation_alias="bytes", serialization_alias="bytes")


class DifferingPath(_Message):
    """An object that is not the primary's, and what differs first."""

    path: WirePath
    aspect: str


class Verification(_Message):
    """What a verification found, or has compared so far."""

    running: bool = False
    files: Count = 0
    size_bytes: Count = Field(default=0, validation_alias="bytes", serialization_alias="bytes")
    differing: Count = 0
    changing: Count = 0
    paths: tuple[DifferingPath, ...] = ()
    repairs: bool = False
    fault: str = ""


class Counters(_Message):
    """Totals since the replicator started."""

    commits: Count = 0
    bytes_shipped: Count = 0
    bytes_applied: Count = 0
    capture_drops: Count = 0
    uncovered_syncs: Count = 0


class ReplicatorStatus(_Message):
    """Everything the replicator says of itself."""

    role: ReplicatorRole
    link: LinkState
    link_reason: str
    commits: CommitState
    frozen_since_ms: Count = 0
    lineage: LineageRecord
    peer_lineage: LineageRecord | None = None
    capture: CaptureBackEnd
    capture_reason: str = ""
    directories: tuple[DirectoryStatus, ...] = ()
    lag: Lag = Lag()
    commit_latency_us: CommitLatency = CommitLatency()
    resync: ResyncProgress = ResyncProgress()
    kept: Kept | None = None
    verification: Verification | None = None
    counters: Counters = Counters()


class TlsFiles(_Message):
    """Where the node's credentials lie."""

    ca: WirePath
    certificate: WirePath
    key: WirePath


class ReplicatedDirectory(_Message):
    """One directory the replicator serves, with the patterns it leaves out or relays."""

    path: WirePath
    exclude: tuple[WirePattern, ...] = ()
    mapped: tuple[WirePattern, ...] = ()


class Configuration(_Message):
    """The arguments of `configure`."""

    cluster: str
    module: str
    node: str
    peer: str
    listen: tuple[str, ...]
    dial: tuple[str, ...]
    tls: TlsFiles
    state_directory: WirePath
    directories: tuple[ReplicatedDirectory, ...]
    sync: Literal["fsync", "always", "async"]
    acknowledge: Literal["disk", "memory"]
    capture: WirePath | None
    peer_timeout_ms: int
    queue_bytes: int
    resync_bandwidth: int
    async_lag_bytes: int


class RoleEvent(_Message):
    """The replicator's role changed."""

    event: Literal["role"]
    role: ReplicatorRole


class PeerEvent(_Message):
    """The session came up, went into resynchronisation, became live, or was lost."""

    event: Literal["peer"]
    link: LinkState
    reason: str = ""


class WaitingEvent(_Message):
    """Commits wait since now: the peer must return, or the agent grant."""

    event: Literal["waiting"]
    reason: str


class LineageEvent(LineageRecord):
    """The lineage record changed on disk."""

    event: Literal["lineage"]


class ProgressEvent(ResyncProgress):
    """A resynchronisation advanced or ended."""

    event: Literal["progress"]


class KeptEvent(Kept):
    """What a discard gives up is kept; from here on it may be overwritten."""

    event: Literal["kept"]


class VerifiedEvent(Verification):
    """A verification ended."""

    event: Literal["verified"]


class DegradedEvent(_Message):
    """The replicator works on with less."""

    event: Literal["degraded"]
    reason: str


class FaultEvent(_Message):
    """The local store failed, or another error that ends the role if `fatal`."""

    event: Literal["fault"]
    reason: str
    fatal: bool


ReplicatorEvent = (
    RoleEvent
    | PeerEvent
    | WaitingEvent
    | LineageEvent
    | ProgressEvent
    | KeptEvent
    | VerifiedEvent
    | DegradedEvent
    | FaultEvent
)
EVENT: TypeAdapter[ReplicatorEvent] = TypeAdapter(
    Annotated[ReplicatorEvent, Field(discriminator="event")]
)


class Refusal(_Message):
    """Why a command was refused; the message is shown to the user unchanged."""

    code: str
    message: str


class Answer(_Message):
    """The replicator's answer to the request of the same `id`."""

    id: int
    ok: bool
    result: dict[str, object] = Field(default_factory=dict)
    refusal: Refusal | None = None
