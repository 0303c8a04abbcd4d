"""Whether a connection is accepted on a port. What the server says afterwards is not its business.

Invariant: the connection is closed at once, in order: a reset would fill the logs of servers.
"""

import asyncio
import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from telamon.detect.outcome import GOOD, Outcome, bad, unseen
from telamon.detect.sockets import destination


@dataclass(frozen=True, slots=True)
class TcpDetector:
    """Looks at one address and port."""

    address: IPv4Address | IPv6Address
    port: int

    async def __call__(self) -> Outcome:
        """One look."""
        family = socket.AF_INET6 if self.address.version == 6 else socket.AF_INET
        try:
            link = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            return unseen(f"no socket could be made: {error.strerror}")
        with link:
            try:
                await asyncio.get_running_loop().sock_connect(
                    link, destination(self.address, self.port)
                )
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                return bad(f"{self.address} port {self.port}: {why}")
        return GOOD
