"""Resetting the TCP connections of an address that is about to leave this host.

A client whose connection is reset reconnects at once and finds the new owner; one that is not waits
for its own time-out. So the reset comes before the address goes: without the address the kernel
could not send it any more. Needs SOCK_DESTROY in the kernel (CONFIG_INET_DIAG_DESTROY); `ss --kill`
silently skips what it cannot close, hence the second look.
"""

import asyncio
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from telamon.errors import NetworkError

SS_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ResetOutcome:
    """How many connections were reset and how many the kernel would not close."""

    reset_count: int
    left_count: int


async def reset_connections(address: IPv4Address | IPv6Address) -> ResetOutcome:
    """Resets every TCP connection whose local end is `address`."""
    before = await _connections(address, "--kill")
    left = await _connections(address) if before else 0
    return ResetOutcome(reset_count=max(before - left, 0), left_count=left)


async def _connections(address: IPv4Address | IPv6Address, *options: str) -> int:
    source = f"[{address}]" if address.version == 6 else str(address)
    command = ("ss", "--no-header", "--tcp", "--numeric", *options, "src", source)
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise NetworkError(
            f"could not reset the connections of {address}: the program ss is missing; install "
            "iproute2"
        ) from error
    try:
        async with asyncio.timeout(SS_TIMEOUT_S):
            output, complaint = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise NetworkError(
            f"could not reset the connections of {address}: ss did not end within "
            f"{SS_TIMEOUT_S:.0f} s; "
            "run it by hand to see why"
        ) from error
    if process.returncode != 0:
        raise NetworkError(
            f"could not reset the connections of {address}: ss said "
            f"{complaint.decode(errors='replace').strip()!r}; "
            "run it by hand to see why"
        )
    return len(output.splitlines())
