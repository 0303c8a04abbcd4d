"""Resetting the TCP connections of an address that is about to leave this host.

A client whose connection is reset reconnects at once and finds the new owner; one that is not waits
for its own time-out. So the reset comes before the address goes: without the address the kernel
could not send it any more. Needs SOCK_DESTROY in the kernel (CONFIG_INET_DIAG_DESTROY); `ss --kill`
silently skips what it cannot close, hence the second look.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from telamon.net.ss import ask_ss

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
    attempt = f"reset the connections of {address}"
    listed = await ask_ss(*options, "src", source, attempt=attempt, limit_s=SS_TIMEOUT_S)
    return len(listed.splitlines())
