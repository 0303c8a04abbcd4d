"""What the API shows of a farm module on this node."""

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from telamon.agent import models
from telamon.agent.farm.building import Plan
from telamon.agent.farm.traffic import FarmTraffic
from telamon.agent.farm.view import ViewChange
from telamon.errors import InvalidError, NotFoundError, RefusedError, TelamonError
from telamon.farm.hash import BUCKETS
from telamon.farm.linger import joined
from telamon.farm.table import NOBODY
from telamon.mirror.report import Readiness
from telamon.net.addresses import assigned_addresses

_STATES = {"stopped": "STOP", "up": "UP"}
_DOING = {
    "starting": "starting the application",
    "restarting": "restarting the application",
    "stopping": "draining and stopping",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the module stands on this node."""

    phase: str
    reason: str
    intent_is_started: bool
    is_drained: bool
    last_script: Path | None
    is_open: bool
    """Nothing keeps a module that is up from serving new clients."""


async def describe(
    plan: Plan, traffic: FarmTraffic, here: Standing, note: Callable[[str], None]
) -> models.ModuleNodeStatus:
    """The module as it is at this moment."""
    if traffic.is_running:
        try:
            await traffic.measure()
        except TelamonError as error:
            note(str(error))
    try:
        packets = await traffic.counters()
    except TelamonError as error:
        packets = {}
        note(str(error))
    serves = plan.is_balanced_elsewhere or any(view.state.active for view in traffic.views)
    state = _STATES.get(here.phase, "WAIT")
    ready = state == "UP" and (here.is_drained or (here.is_open and serves))
    readiness = Readiness.READY if ready else Readiness.TRANSIENT
    if here.phase in ("failed", "stopped"):
        readiness = Readiness.NOT_READY
    present = {address.ip for address in await assigned_addresses()}
    return models.ModuleNodeStatus(
        reachable=True,
        reason=here.reason,
        state=state,
        ready=ready,
        readiness=readiness,
        intent="started" if here.intent_is_started else "stopped",
        running=_DOING.get(here.phase),
        virtual_ips=[
            models.VirtualIp(
                address=str(virtual.address),
                network=virtual.network,
                interface=virtual.interface,
                present=virtual.address.ip in present,
            )
            for virtual in plan.configured.virtual_ips
        ],
        last_script=str(here.last_script) if here.last_script else None,
        farm=models.FarmStatus(
            filters=traffic.kinds,
            filter_reasons=traffic.reasons,
            drained=here.is_drained,
            connections=traffic.connection_count if traffic.is_running else 0,
            shares=[_share(plan, traffic, index, view) for index, view in enumerate(traffic.views)],
            packets={counter.name.lower(): count for counter, count in packets.items() if count},
        ),
    )


def _share(plan: Plan, traffic: FarmTraffic, index: int, view: ViewChange) -> models.FarmShare:
    state = view.state
    buckets = state.active.bit_count()
    table = state.table if state.view is not None else None
    numbers = sorted(state.view.numbers) if state.view is not None else []
    return models.FarmShare(
        services=plan.shares[index].title,
        weight=state.offer.weight,
        buckets=buckets,
        share_percent=round(100 * buckets / BUCKETS, 2),
        epoch=state.epoch,
        is_committed=state.is_committed,
        members={
            plan.node_of(number): table.owned(number).bit_count()
            for number in numbers
            if table is not None
        },
        holding=state.holding.bit_count(),
    )


def owner(
    plan: Plan,
    traffic: FarmTraffic,
    protocol: str,
    client: str,
    *,
    client_port: int,
    port: int | None,
) -> models.FarmOwner:
    """Who gets a client, by the table that is in force on this node."""
    try:
        address = ip_address(client)
    except ValueError:
        raise InvalidError(
            f"{client!r} is no client's address: write for example 10.0.0.7"
        ) from None
    first = plan.configured.services[0]
    protocol, port = (protocol, port) if port else (first.protocol, first.ports[0][0])
    place = plan.place(protocol, port)
    if place is None:
        raise NotFoundError(
            f"module {plan.module} has no service on {protocol} port {port}: name one of"
            f" {', '.join(share.title for share in plan.shares)}"
        )
    share, service = place
    _refuse_unless_running(plan, traffic)
    view = traffic.views[share]
    bucket = plan.bucket(service, address, client_port)
    return _explained(plan, view, share, service.affinity, bucket)


def table(plan: Plan, traffic: FarmTraffic) -> models.FarmTable:
    """All that predicts who answers a client, by the tables in force on this node."""
    _refuse_unless_running(plan, traffic)
    owners = []
    for view in traffic.views:
        in_force = view.state.table if view.state.view is not None else None
        owned = in_force.owner if in_force is not None else bytes(BUCKETS)
        owners.append(base64.b64encode(zlib.compress(owned)).decode())
    return models.FarmTable(
        module=plan.module,
        seed=plan.seed,
        owners=owners,
        services=[
            models.FarmTableService(
                protocol=service.protocol,
                ports=[[ports[0], ports[-1]] for ports in service.ports],
                affinity=service.affinity,
                share=share,
            )
            for share, one in enumerate(plan.shares)
            for service in one.services
        ],
        nodes={
            node: models.FarmTableNode(number=number, macs=traffic.macs_of(number))
            for node, number in plan.numbers.items()
        },
    )


def _refuse_unless_running(plan: Plan, traffic: FarmTraffic) -> None:
    if not traffic.is_running:
        raise RefusedError(
            f"module {plan.module} is not up on node {plan.node}: ask a node where it is"
        )


def _explained(
    plan: Plan, view: ViewChange, share: int, affinity: str, bucket: int
) -> models.FarmOwner:
    state = view.state
    number = state.table.owner[bucket] if state.view and state.table else NOBODY
    me, bit = state.settings.self_number, 1 << bucket
    holders = joined(view.lingering, state.holders)
    previous = min((n for n, held in holders.items() if held & bit), default=NOBODY)
    if number == NOBODY:
        reason = "no member of the view serves"
    elif number == me and not state.active & bit:
        number, reason = NOBODY, "the bucket is on its way to this node"
    else:
        reason = (
            f"of {len(state.view.members) if state.view else 0} members it draws the lowest for"
            f" bucket {bucket}, weights considered (view {state.epoch})"
        )
    return models.FarmOwner(
        services=plan.shares[share].title,
        affinity=affinity,
        bucket=bucket,
        node=plan.node_of(number) if number != NOBODY else None,
        previous=plan.node_of(previous) if previous not in (NOBODY, number) else None,
        reason=reason,
    )
