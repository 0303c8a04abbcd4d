"""What the API shows of a farm module on this node."""

from ipaddress import ip_address
from typing import TYPE_CHECKING

from telamon.agent import models
from telamon.agent.farm_view import ViewChange
from telamon.errors import InvalidError, NotFoundError, RefusedError, TelamonError
from telamon.farm.hash import BUCKETS
from telamon.farm.table import NOBODY
from telamon.mirror.report import Readiness
from telamon.net.addresses import assigned_addresses

if TYPE_CHECKING:
    from telamon.agent.farm import FarmModule

_STATES = {"stopped": "STOP", "up": "UP"}
_DOING = {
    "starting": "starting the application",
    "restarting": "restarting the application",
    "stopping": "draining and stopping",
}


async def describe(module: "FarmModule") -> models.ModuleNodeStatus:
    """The module as it is at this moment."""
    traffic, plan = module.traffic, module.plan
    if traffic.is_running:
        try:
            await traffic.measure()
        except TelamonError as error:
            module.note(str(error))
    try:
        packets = await traffic.counters()
    except TelamonError as error:
        packets = {}
        module.note(str(error))
    is_open = any(view.state.active for view in traffic.views)
    state = _STATES.get(module.phase, "WAIT")
    ready = state == "UP" and (is_open or module.is_drained)
    readiness = Readiness.READY if ready else Readiness.TRANSIENT
    if module.phase in ("failed", "stopped"):
        readiness = Readiness.NOT_READY
    present = {address.ip for address in await assigned_addresses()}
    script = module.last_script
    return models.ModuleNodeStatus(
        reachable=True,
        reason=module.reason,
        state=state,
        ready=ready,
        readiness=readiness,
        intent="started" if module.intent_is_started else "stopped",
        running=_DOING.get(module.phase),
        virtual_ips=[
            models.VirtualIp(
                address=str(virtual.address),
                network=virtual.network,
                interface=virtual.interface,
                present=virtual.address.ip in present,
            )
            for virtual in plan.configured.virtual_ips
        ],
        last_script=str(script) if script else None,
        farm=models.FarmStatus(
            filters=traffic.kinds,
            filter_reasons=traffic.reasons,
            drained=module.is_drained,
            connections=traffic.connection_count if traffic.is_running else 0,
            shares=[_share(module, index, view) for index, view in enumerate(traffic.views)],
            packets={counter.name.lower(): count for counter, count in packets.items() if count},
        ),
    )


def _share(module: "FarmModule", index: int, view: ViewChange) -> models.FarmShare:
    state = view.state
    buckets = state.active.bit_count()
    table = state.table if state.view is not None else None
    numbers = sorted(state.view.numbers) if state.view is not None else []
    return models.FarmShare(
        services=module.plan.shares[index].title,
        weight=state.offer.weight,
        buckets=buckets,
        share_percent=round(100 * buckets / BUCKETS, 2),
        epoch=state.epoch,
        is_committed=state.is_committed,
        members={
            module.plan.node_of(number): table.owned(number).bit_count()
            for number in numbers
            if table is not None
        },
        holding=state.holding.bit_count(),
    )


def owner(
    module: "FarmModule", protocol: str, client: str, client_port: int, port: int | None
) -> models.FarmOwner:
    """Who gets a client, by the table that is in force on this node."""
    plan = module.plan
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
    if not module.traffic.is_running:
        raise RefusedError(
            f"module {plan.module} is not up on node {plan.node}: ask a node where it is"
        )
    view = module.traffic.views[share]
    bucket = plan.bucket(service, address, client_port)
    return _explained(module, view, share, service.affinity, bucket)


def _explained(
    module: "FarmModule", view: ViewChange, share: int, affinity: str, bucket: int
) -> models.FarmOwner:
    state, plan = view.state, module.plan
    number = state.table.owner[bucket] if state.view and state.table else NOBODY
    me, bit = state.settings.self_number, 1 << bucket
    holders = {**view.lingering, **state.holders}
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
