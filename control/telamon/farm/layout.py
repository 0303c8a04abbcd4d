"""The bytes of the farm filter's maps: keys, values and counters exactly as ebpf/farm.h says.

Pure. The tests hold the sizes to those of the compiled program, and the numbers to the header's.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from telamon.farm.hash import BUCKETS, Affinity

MEMBERS = 250
TABLES = 32
MAC_BYTES = 6

_TABLE_TAIL = struct.Struct("=QIB3x")
TABLE_BYTES = 2 * BUCKETS + _TABLE_TAIL.size
_ADDRESS_RULE = struct.Struct("=HBB6s2x")
_SERVICE_KEY = struct.Struct("=16s2sBx")
_SERVICE = struct.Struct("=HBB")
_SETTINGS = struct.Struct("=Bx6s4Q")
_NEIGHBOUR = struct.Struct("=6s2x")
_NUMBER = struct.Struct("=I")
_LEASE = struct.Struct("=Q")
_WORD_MASK = (1 << 64) - 1

Address = IPv4Address | IPv6Address


class Mode(IntEnum):
    """Who sees a client's frame: every node, or the dispatcher alone."""

    FLOOD = 0
    DISPATCH = 1


class Other(IntEnum):
    """What happens to a packet that no service covers."""

    DROP = 0
    OWNER = 1
    PASS = 2


class Counter(IntEnum):
    """Why a packet went where it went; farm.h explains each."""

    FOREIGN = 0
    PASS_NEW = 1
    PASS_SOCKET = 2
    PASS_COOKIE = 3
    PASS_SETTLED = 4
    PASS_DATAGRAM = 5
    PASS_ICMP_ERROR = 6
    PASS_FRAGMENT = 7
    PASS_OTHER = 8
    DROP_NOT_OWNER = 9
    DROP_NOBODY = 10
    DROP_NO_SOCKET = 11
    DROP_GRACE = 12
    DROP_ICMP_ERROR = 13
    DROP_FRAGMENT = 14
    DROP_OTHER = 15
    DROP_MALFORMED = 16
    DROP_ARP = 17
    DROP_ND = 18
    DROP_NEIGHBOUR = 19
    DROP_TTL = 20
    DROP_NO_TABLE = 21
    ANSWER_ARP = 22
    ANSWER_ND = 23
    REDIRECT_OWNER = 24
    REDIRECT_PREVIOUS = 25
    DROP_LEASE = 26


@dataclass(frozen=True, slots=True)
class TableImage:
    """One module's table as packets see it; `buckets` is {owner, previous} for each bucket."""

    buckets: bytes
    epoch: int
    seed: int
    dispatcher: int = 0

    def __post_init__(self) -> None:
        assert len(self.buckets) == 2 * BUCKETS, "one pair of bytes for each bucket"

    def packed(self) -> bytes:
        """Value of `tables`."""
        return self.buckets + _TABLE_TAIL.pack(self.epoch, self.seed, self.dispatcher)

    @classmethod
    def unpacked(cls, value: bytes) -> Self:
        """The image in a value of `tables`."""
        epoch, seed, dispatcher = _TABLE_TAIL.unpack_from(value, 2 * BUCKETS)
        return cls(value[: 2 * BUCKETS], epoch, seed, dispatcher)


@dataclass(frozen=True, slots=True)
class AddressRule:
    """How one virtual address is treated."""

    table: int
    mode: Mode
    other: Other
    virtual_mac: bytes

    def packed(self) -> bytes:
        """Value of `addresses`."""
        return _ADDRESS_RULE.pack(self.table, self.mode, self.other, _mac(self.virtual_mac))


@dataclass(frozen=True, slots=True)
class Service:
    """What is served at a virtual address: port 0 stands for every port of the protocol."""

    address: Address
    protocol: int
    port: int
    table: int
    affinity: Affinity
    mode: Mode

    def key(self) -> bytes:
        """Key of `services`."""
        port = self.port.to_bytes(2, "big")
        return _SERVICE_KEY.pack(address_key(self.address), port, self.protocol)

    def packed(self) -> bytes:
        """Value of `services`."""
        return _SERVICE.pack(self.table, self.affinity is Affinity.CONNECTION, self.mode)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the filter knows of its own node; member 0 is no member. `address_bits` has 256 bits."""

    member: int
    mac: bytes
    address_bits: int

    def packed(self) -> bytes:
        """The value of `settings`."""
        words = (self.address_bits >> shift & _WORD_MASK for shift in range(0, 256, 64))
        return _SETTINGS.pack(self.member, _mac(self.mac), *words)

    @classmethod
    def unpacked(cls, value: bytes) -> Self:
        """The settings in a value of `settings`."""
        member, mac, *words = _SETTINGS.unpack(value)
        return cls(member, mac, sum(word << 64 * index for index, word in enumerate(words)))


def address_key(address: Address | str) -> bytes:
    """Key of `addresses`: 16 bytes, an IPv4 address in its mapped form."""
    given = ip_address(address)
    if isinstance(given, IPv4Address):
        return bytes(10) + b"\xff\xff" + given.packed
    return given.packed


def number_key(number: int) -> bytes:
    """Key of an array."""
    return _NUMBER.pack(number)


def address_bits(addresses: Iterable[Address]) -> int:
    """The bits of these addresses: what has none of them is no virtual address."""
    bits = 0
    for address in addresses:
        a, b, c, d = address.packed[-4:]
        bits |= 1 << (a ^ b ^ c ^ d)
    return bits


def neighbour(mac: bytes) -> bytes:
    """Value of `neighbours`."""
    return _NEIGHBOUR.pack(_mac(mac))


def lease(until_ns: int) -> bytes:
    """The value of `lease`, in nanoseconds of CLOCK_BOOTTIME."""
    return _LEASE.pack(until_ns)


def lease_until_ns(value: bytes) -> int:
    """The reverse of `lease`."""
    (until_ns,) = _LEASE.unpack(value)
    return int(until_ns)


def _mac(mac: bytes) -> bytes:
    assert len(mac) == MAC_BYTES, "an Ethernet address"
    return mac
