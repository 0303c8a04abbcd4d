"""Draining: a node that is to stop waits until its connections have ended.

Invariant: the wait ends by `drain_timeout`, whatever clients do. Where load balancers share out, it
lasts for their notice at least: until they have seen the health endpoint's answer, they send new
clients.
"""

import asyncio
import time
from collections.abc import Callable

from telamon.agent.farm.traffic import FarmTraffic
from telamon.agent.models import Severity
from telamon.errors import TelamonError
from telamon.module.farm_config import FarmModule

POLL_S = 0.05
MEASURE_S = 1.0


async def drained(
    traffic: FarmTraffic,
    configured: FarmModule,
    *,
    is_given_up: Callable[[], bool],
    note: Callable[[str, Severity], None],
) -> None:
    """Returns when no connection is left here, the time is over, or it is given up."""
    limit_s = configured.drain_timeout.seconds
    began_s = time.monotonic()
    is_balanced_elsewhere = not configured.virtual_ips
    notice_s = 0.0
    if is_balanced_elsewhere and configured.health is not None:
        notice_s = configured.health.notice.seconds
    while not is_given_up():
        waited_s = time.monotonic() - began_s
        if traffic.is_drained and waited_s >= notice_s:
            return
        if waited_s >= limit_s:
            await _measure(traffic, note)
            note(
                f"{traffic.connection_count} connections did not end within {limit_s:g} s"
                " (drain_timeout) and are reset",
                Severity.WARNING,
            )
            return
        if is_balanced_elsewhere:
            # No view change asks for it.
            await asyncio.sleep(MEASURE_S)
            await _measure(traffic, note)
        else:
            await asyncio.sleep(POLL_S)


async def _measure(traffic: FarmTraffic, note: Callable[[str, Severity], None]) -> None:
    try:
        await traffic.measure()
    except TelamonError as error:
        note(str(error), Severity.WARNING)
