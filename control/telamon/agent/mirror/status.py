"""What the API shows of a mirror module on this node."""

from collections.abc import Sequence

from telamon.agent import models
from telamon.agent.mirror.operations import MirrorParts
from telamon.bpf.capture import Capture
from telamon.mirror.lineage import ReplicatorRole
from telamon.mirror.report import LinkState, Readiness
from telamon.mirror.role_action import (
    AddAddresses,
    Connect,
    Demote,
    Disconnect,
    Grant,
    Operation,
    Outdate,
    Promote,
    RemoveAddresses,
    StartApplication,
    StartReplicator,
    StopApplication,
    StopReplicator,
    View,
)
from telamon.mirror.role_state import RoleState
from telamon.module.path import escaped
from telamon.replication.messages import ReplicatorStatus, Verification

_WORDS: dict[type[Operation], str] = {
    StartReplicator: "starting the replicator",
    StopReplicator: "stopping the replicator",
    Connect: "connecting to the peer",
    Disconnect: "disconnecting from the peer",
    Promote: "mounting the directories",
    Demote: "unmounting the directories",
    Grant: "recording that it goes on alone",
    Outdate: "recording that the peer goes on alone",
    AddAddresses: "taking the virtual IPs",
    RemoveAddresses: "giving up the virtual IPs",
    StartApplication: "starting the application",
    StopApplication: "stopping the application",
}


async def describe(
    parts: MirrorParts,
    state: RoleState,
    view: View,
    capture: Capture | None,
    operations: Sequence[Operation],
) -> models.ModuleNodeStatus:
    """The module as it is at this moment."""
    status = parts.watch.status
    lineage = state.lineage
    latest = parts.scripts.latest_output
    shown = models.ModuleNodeStatus(
        reachable=True,
        reason=view.reason,
        state=view.state,
        ready=view.readiness is Readiness.READY,
        readiness=view.readiness,
        intent="started" if state.intent_is_started else "stopped",
        running=", ".join(_WORDS[type(operation)] for operation in operations) or None,
        data_state=lineage.data_state if lineage else None,
        generation=lineage.generation if lineage else None,
        peer_generation=lineage.peer_generation if lineage else None,
        virtual_ips=await parts.virtual_ips.describe(),
        replication_port=parts.replication_port,
        replicator_pid=parts.watch.process.running_pid(),
        last_script=str(latest) if latest else None,
    )
    if status is None:
        return shown
    return shown.model_copy(update=_replication(status, capture))


def _replication(status: ReplicatorStatus, capture: Capture | None) -> dict[str, object]:
    # Before it serves, a replicator does not look at the capture that it is going to use.
    back_end, reason = str(status.capture), status.capture_reason
    if capture is not None and status.role is not ReplicatorRole.PRIMARY:
        back_end, reason = str(capture.back_end), capture.reason
    elif capture is not None:
        reason = reason or capture.reason
    return {
        "link": status.link,
        "link_reason": status.link_reason,
        "commits": status.commits,
        "lag": models.Lag(records=status.lag.records, bytes=status.lag.size_bytes),
        "commit_latency_us": models.CommitLatency(**status.commit_latency_us.model_dump()),
        "resync": models.Resync(**status.resync.model_dump())
        if status.link is LinkState.RESYNC
        else None,
        "kept": models.Kept(
            directory=escaped(str(status.kept.directory)),
            files=status.kept.files,
            bytes=status.kept.size_bytes,
        )
        if status.kept is not None
        else None,
        "verification": _verification(status.verification),
        "directories": [
            models.Directory(
                path=escaped(str(directory.path)),
                mounted=directory.mounted,
                fenced=directory.fenced,
                mode=directory.mode,
            )
            for directory in status.directories
        ],
        "capture": back_end,
        "capture_reason": reason,
        "counters": status.counters.model_dump(),
    }


def _verification(found: Verification | None) -> models.Verification | None:
    if found is None:
        return None
    return models.Verification(
        running=found.running,
        files=found.files,
        bytes=found.size_bytes,
        differing=found.differing,
        changing=found.changing,
        paths=[
            models.DifferingPath(path=escaped(str(one.path)), aspect=one.aspect)
            for one in found.paths
        ],
        repairs=found.repairs,
        fault=found.fault,
    )
