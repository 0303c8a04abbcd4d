"""One datagram and every answer to it. It is never repeated: who answers twice, and who not at all,
is what matters.
"""

import asyncio
import socket
from dataclasses import dataclass

_ANSWER_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Asked:
    """The port from which was asked, and what came back to it."""

    port: int
    answers: list[bytes]


async def ask(source: str, address: str, port: int, content: bytes, limit_s: float) -> Asked:
    """Sends it and waits as long as the limit, whatever comes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    loop = asyncio.get_running_loop()
    answers = []
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.bind((source, 0))
        asking.connect((address, port))
        own_port = asking.getsockname()[1]
        await loop.sock_sendall(asking, content)
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    answers.append(await loop.sock_recv(asking, _ANSWER_BYTES))
        except TimeoutError:
            return Asked(own_port, answers)
