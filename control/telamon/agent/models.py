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


class DifferingPath(ApiModel):
    """An object of the secondary that is not the primary's, and what differs first."""

    path: str
    aspect: str


class Verification(ApiModel):
    """The verification that runs, or the last one."""

    running: bool
    files: int
    bytes: int
    differing: int = Field(description="objects that stayed different through several looks")
    changing: int = Field(description="objects that were written to at every look")
    paths: list[DifferingPath] = Field(description="the first of those that differ")
    repairs: bool = Field(description="what differed is made equal by a resynchronisation")
    fault: str = Field(description="why it did not come to its end, or empty")


class Directory(ApiModel):
    """One replicated directory on one node."""

    path: str
    mounted: bool
    fenced: bool
    mode: str


class CheckStatus(ApiModel):
    """One check of a module on one node."""

    name: str
    detector: str
    action: str = Field(description="what its failure asks for")
    state: str = Field(
        description="idle (does not look now), starting (was not good yet), up or down"
    )
    since: datetime
    failures: int = Field(description="bad looks in a row that count")
    last_error: str | None = Field(description="what the last look said that was not good")
    last_error_at: datetime | None


class HealthStatus(ApiModel):
    """What the health endpoint of a module tells load balancers on one node."""

    ready: bool
    reason: str
    listens_on: list[str] = Field(description="empty while it cannot listen")
    fault: str = Field(description="why it cannot listen, and the cure")


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

    filters: list[str] = Field(description="back end and interface: `xdp-generic on eth0`")
    filter_reasons: dict[str, str] = Field(
        description="interface -> why it has this back end and no better one"
    )
    drained: bool
    connections: int
    shares: list[FarmShare]
    packets: dict[str, int] = Field(
        description="what became of packets, by reason; zeroes left out"
    )


class FarmTableService(ApiModel):
    """Traffic that is shared out, and by which of the tables."""

    protocol: str
    ports: list[list[int]] = Field(description="first and last port of each range")
    affinity: str
    share: int = Field(description="index into `owners`")


class FarmTableNode(ApiModel):
    """How a node is named in the tables and on the wire."""

    number: int
    macs: list[str]


class FarmTable(ApiModel):
    """Who gets which client, in full: for predictions where no agent is (telamon farm trace)."""

    module: str
    seed: int = Field(description="of the client's hash")
    owners: list[str] = Field(
        description="for each share the node numbers of all buckets, one byte each, zlib, base64"
    )
    services: list[FarmTableService]
    nodes: dict[str, FarmTableNode]


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
    verification: Verification | None = None
    virtual_ips: list[VirtualIp] = []
    directories: list[Directory] = []
    capture: str | None = Field(default=None, description="tp_btf, fexit or relay")
    capture_reason: str | None = None
    counters: dict[str, int] = {}
    replication_port: int | None = Field(default=None, description="TCP, on both nodes")
    replicator_pid: int | None = None
    last_script: str | None = Field(default=None, description="output file of the latest script")
    checks: list[CheckStatus] = []
    health: HealthStatus | None = Field(default=None, description="null without `health:`")
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
    VERIFY = "verify"
    REPAIR = "repair"


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
