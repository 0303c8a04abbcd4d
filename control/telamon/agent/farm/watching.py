"""What one farm module keeps looking at on this node: connections that are to end, and members that
fell silent. Each runs until cancelled.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from telamon.agent.farm.traffic import FarmTraffic
from telamon.errors import TelamonError

log = logging.getLogger(__name__)


async def measure_while(traffic: FarmTraffic, interval_s: float) -> None:
    """Measures when asked, and again and again while connections of others are here."""
    while True:
        traffic.is_measure_asked.clear()
        if traffic.is_running:
            try:
                await traffic.measure()
            except TelamonError as error:
                log.warning("%s", error)
        limit_s = interval_s if traffic.is_running and traffic.is_holding else None
        try:
            async with asyncio.timeout(limit_s):
                await traffic.is_measure_asked.wait()
        except TimeoutError:
            continue


async def bury_the_dead(
    traffic: FarmTraffic, host_answers: Callable[[int], Awaitable[bool]], interval_s: float
) -> None:
    """Buries silent members whose hosts are dead, so that their clients learn it."""
    while True:
        await asyncio.sleep(interval_s)
        for number in traffic.lingering():
            if not await host_answers(number):
                traffic.bury(number)
