"""Telling the neighbours that an address lives here now: at once, a few times more, then
periodically.

Frames can be lost and switches learn late, so one announcement is not enough; a host that slept
through all of the first ones is set right by a periodic one. Sending never blocks: a frame the
link's queue refuses is repeated soon anyway.
"""

import asyncio
import importlib
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from telamon.errors import NetworkError
from telamon.net.addresses import Interface

REPEATS_S = (0.05, 0.15, 0.3, 0.5, 1.0, 2.0, 4.0)
PERIOD_S = 30.0
ETHERTYPE_NONE = 0


async def prepare_announcing() -> None:
    """Loads scapy off the loop, so that the first takeover does not wait for it."""
    await asyncio.to_thread(importlib.import_module, "telamon.net.frames")


def announce_once(interface: Interface, addresses: Iterable[IPv4Address | IPv6Address]) -> int:
    """Sends every announcement of `addresses` on `interface` now; returns the number of frames
    sent.
    """
    if interface.mac is None:
        return 0
    frames = importlib.import_module("telamon.net.frames")
    sent = 0
    try:
        # Protocol 0: the socket receives nothing, so its buffer never fills.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ETHERTYPE_NONE) as raw:
            raw.setblocking(False)
            raw.bind((interface.name, ETHERTYPE_NONE))
            for address in addresses:
                for frame in frames.announcements(address, interface.mac):
                    try:
                        raw.send(frame)
                        sent += 1
                    except BlockingIOError:
                        continue
    except OSError as error:
        raise NetworkError(
            f"could not announce addresses on {interface.name}: {error.strerror}; check that the "
            "interface is up and "
            "that the agent has CAP_NET_RAW"
        ) from error
    return sent


async def keep_announcing(
    interface: Interface, addresses: Iterable[IPv4Address | IPv6Address]
) -> None:
    """Announces now, a few times within seconds, then every 30 s until cancelled."""
    kept = tuple(addresses)
    announce_once(interface, kept)
    for pause_s in REPEATS_S:
        await asyncio.sleep(pause_s)
        announce_once(interface, kept)
    while True:
        await asyncio.sleep(PERIOD_S)
        announce_once(interface, kept)
