"""Whether one of some addresses answers an ICMP echo request (RFC 792, RFC 4443).

Invariants: an answer counts only if it carries the random bytes of this very look. Unprivileged
sockets are used where the host allows them, else raw ones; both see only what the kernel shows this
network namespace. Any answer is enough, so one dead address of several harms nobody.
"""

import asyncio
import errno
import os
import secrets
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from telamon.detect.outcome import GOOD, Outcome, Sight, bad, unseen
from telamon.detect.sockets import destination

Address = IPv4Address | IPv6Address

ECHO_REQUEST_V4, ECHO_REPLY_V4 = 8, 0
ECHO_REQUEST_V6, ECHO_REPLY_V6 = 128, 129
NONCE_BYTES = 16
ANSWER_LIMIT_BYTES = 2048
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence


@dataclass(frozen=True, slots=True)
class PingDetector:
    """Looks at all addresses at once."""

    addresses: tuple[Address, ...]

    async def __call__(self) -> Outcome:
        """One look; ends with the first answer, else by its time limit."""
        looks = [asyncio.create_task(_ping(address)) for address in self.addresses]
        try:
            found = []
            for ended in asyncio.as_completed(looks):
                outcome = await ended
                if outcome.sight is Sight.GOOD:
                    return GOOD
                found.append(outcome)
        finally:
            for look in looks:
                look.cancel()
        reasons = "; ".join(outcome.reason for outcome in found)
        return bad(reasons) if all(one.sight is Sight.BAD for one in found) else unseen(reasons)


async def _ping(address: Address) -> Outcome:
    try:
        link = _open(address)
    except OSError as error:
        return unseen(f"no ICMP socket could be made: {error.strerror}; run the agent as root")
    nonce = secrets.token_bytes(NONCE_BYTES)
    loop = asyncio.get_running_loop()
    with link:
        try:
            await loop.sock_sendto(link, request(address.version, nonce), destination(address, 0))
            while True:
                packet, sender = await loop.sock_recvfrom(link, ANSWER_LIMIT_BYTES)
                if is_answer(packet, address.version, nonce) and _is_from(sender, address):
                    return GOOD
        except OSError as error:
            return bad(f"{address}: {error.strerror or error}")


def _open(address: Address) -> socket.socket:
    """An unprivileged ICMP socket where net.ipv4.ping_group_range allows it, else a raw one."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if address.version == 6 else socket.IPPROTO_ICMP
    try:
        return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT):
            raise
    return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)


def request(version: int, nonce: bytes) -> bytes:
    """An echo request. The kernel puts in ICMPv6's checksum, and an unprivileged socket's
    identifier.
    """
    kind = ECHO_REQUEST_V6 if version == 6 else ECHO_REQUEST_V4
    identifier = os.getpid() & 0xFFFF
    blank = _HEADER.pack(kind, 0, 0, identifier, 1) + nonce
    if version == 6:
        return blank
    return _HEADER.pack(kind, 0, _checksum(blank), identifier, 1) + nonce


def is_answer(packet: bytes, version: int, nonce: bytes) -> bool:
    """Whether a received packet answers the request with this nonce. Raw IPv4 sockets show the IP
    header too.
    """
    if version == 4 and packet and packet[0] >> 4 == 4:
        packet = packet[(packet[0] & 0xF) * 4 :]
    if len(packet) < _HEADER.size + len(nonce):
        return False
    kind = packet[0]
    expected = ECHO_REPLY_V6 if version == 6 else ECHO_REPLY_V4
    return kind == expected and packet[_HEADER.size :] == nonce


def _is_from(sender: tuple[str, ...], address: Address) -> bool:
    return str(sender[0]).partition("%")[0] == str(address).partition("%")[0]


def _checksum(packet: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
