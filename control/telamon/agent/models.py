"""What the API says and takes. The command line imports nothing else of the agent.

These shapes are what people script against (docs/json.md): a key is never renamed or removed within
a major version; new keys may come.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class ApiModel(BaseModel):
    """What all shapes have in common."""

    # Unknown keys of a newer version are no reason to understand nothing.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Severity(StrEnum):
    """How much an event wants to be read."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(ApiModel):
    """Something that happened on a node. `sequence` counts up per node and survives restarts."""

    sequence: int
    time: datetime
    node: str
    module: str | None
    severity: Severity
    text: str


class HeartbeatState(StrEnum):
    """What this node hears of a peer on one network."""

    ALIVE = "alive"
    LOST = "lost"
    UNKNOWN = "unknown"


class NetworkHeartbeat(ApiModel):
    """One network to one peer, as the node that reports it sees it."""

    state: HeartbeatState
    address: str
    silent_ms: int | None = Field(
        description="time since the last heartbeat; null before the first"
    )


class NodeStatus(ApiModel):
    """One node. `heartbeats` are what it hears itself: peer -> network -> state."""

    name: str
    reachable: bool
    reason: str = Field(description="why it is not reachable, and the cure")
    version: str | None = None
    uptime_s: float | None = None
    loop_late_ms: int | None = Field(
        default=None, description="largest delay of the agent's own loop in the last seconds"
    )
    heartbeats: dict[str, dict[str, NetworkHeartbeat]] = {}
    refused_datagrams: int = Field(default=0, description="heartbeats that were not authentic")


class VirtualIp(ApiModel):
    """One virtual IP of a module on one node."""

    address: str
    network: str
    interface: str | None
    present: bool


class Lag(ApiModel):
    """Written here and not yet acknowledged by the peer."""

    records: int
    bytes: int


class CommitLatency(ApiModel):
    """How long commits took lately, in microseconds."""

    last: int
    p50: int
    p99: int


class Resync(ApiModel):
    """A resynchronisation that runs now."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    rate_bytes_per_s: int
    remaining_s: float | None


class Kept(ApiModel):
    """What was kept last, when this node's side was given up."""

    directory: str
    files: int
    bytes: int


class Directory(ApiModel):
    """One replicated directory on one node."""

    path: str
    mounted: bool
    fenced: bool
    mode: str


class FarmShare(ApiModel):
    """Services of a farm that are shared out together, as one node sees them."""

    services: str
    weight: int = Field(description="what this node offers now; 0 serves no new clients")
    buckets: int = Field(description="served here")
    share_percent: float
    epoch: int = Field(description="of the view in force; equal on all nodes that agree")
    is_committed: bool = Field(description="this node serves all that the view gives it")
    members: dict[str, int] = Field(description="member of the view -> its buckets in the table")
    holding: int = Field(description="buckets of others in which connections may still be here")


class FarmStatus(ApiModel):
    """A farm module on one node."""

    filters: list[str]
    drained: bool
    connections: int
    shares: list[FarmShare]
    packets: dict[str, int] = Field(
        description="what became of packets, by reason; zeroes left out"
    )


class FarmOwner(ApiModel):
    """Who gets a client, and why."""

    services: str
    affinity: str
    bucket: int
    node: str | None = Field(description="null while the bucket is on its way")
    previous: str | None = Field(description="who may still hold connections of the bucket")
    reason: str


class ModuleNodeStatus(ApiModel):
    """One module on one node. Where the node is silent all but `reachable` and `reason` is null."""

    reachable: bool
    reason: str = Field(description="one sentence: why it is in this state, or why it is silent")
    state: str | None = Field(
        default=None, description="STOP, WAIT, ALONE, PRIM or SECOND; of a farm STOP, WAIT or UP"
    )
    ready: bool | None = None
    readiness: str | None = Field(default=None, description="ready, transient or not ready")
    intent: str | None = Field(default=None, description="started or stopped: what boot will do")
    running: str | None = Field(default=None, description="the operation that runs now")
    data_state: str | None = Field(
        default=None, description="UpToDate, Outdated or Inconsistent; null while not known"
    )
    generation: str | None = None
    peer_generation: str | None = None
    link: str | None = Field(default=None, description="down, connecting, resync or live")
    link_reason: str | None = None
    commits: str | None = Field(default=None, description="peer, waiting or alone")
    lag: Lag | None = None
    commit_latency_us: CommitLatency | None = None
    resync: Resync | None = None
    kept: Kept | None = Field(
        default=None, description="what differed here when this node's side was given up last"
    )
    virtual_ips: list[VirtualIp] = []
    directories: list[Directory] = []
    capture: str | None = Field(default=None, description="tp_btf, fexit or relay")
    capture_reason: str | None = None
    counters: dict[str, int] = {}
    replicator_pid: int | None = None
    last_script: str | None = Field(default=None, description="output file of the latest script")
    farm: FarmStatus | None = Field(default=None, description="of a farm module only")


class ModuleStatus(ApiModel):
    """One module of the cluster."""

    name: str
    kind: str
    nodes: dict[str, ModuleNodeStatus]


class Status(ApiModel):
    """Everything, as far as the answering node reaches."""

    cluster: str
    node: str = Field(description="the node that answered")
    nodes: dict[str, NodeStatus]
    modules: dict[str, ModuleStatus]


class ActionKind(StrEnum):
    """What an operator can order of a module."""

    START = "start"
    STOP = "stop"
    PRIM = "prim"
    SECOND = "second"
    SWAP = "swap"
    RESTART = "restart"
    DRAIN = "drain"
    UNDRAIN = "undrain"


class ActionRequest(ApiModel):
    """An order. Without `nodes`: every node of the module that the action concerns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: ActionKind
    nodes: list[str] | None = None
    force: bool = False


class NodeResult(ApiModel):
    """What became of a request on one node; `message` is empty when it was accepted."""

    accepted: bool
    message: str = ""
    code: str = ""


class Results(ApiModel):
    """What became of a request, node by node."""

    nodes: dict[str, NodeResult]


class NodeDescription(ApiModel):
    """A node as cluster.yaml has it: network -> address."""

    addresses: dict[str, str]


class ClusterDescription(ApiModel):
    """The cluster as cluster.yaml has it."""

    name: str
    node: str
    nodes: dict[str, NodeDescription]
    networks: list[str]
    configuration: str = Field(description="path of cluster.yaml on this node")


class Fault(ApiModel):
    """The body of every answer that is not 2xx; the sentence is shown to the user unchanged."""

    code: str
    message: str
    faults: list[str] = []
