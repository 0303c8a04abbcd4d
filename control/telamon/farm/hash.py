"""The client hash of the farm: which bucket a client falls into.

Invariant: bit for bit the value that ebpf/farm.bpf.c and nftables (`jhash ... mod 65536 seed SEED`)
compute, so that nodes with different filters can share one farm. The contract is ebpf/farm.h, the
shared vectors are tests/vectors/farm_hash.json. It spreads, it keeps no secret: the seed only makes
it harder for a client to choose its node.

Source of the algorithm: Bob Jenkins' lookup3 as in Linux include/linux/jhash.h, words loaded
little-endian.
"""

import hashlib
import hmac
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

BUCKETS = 65536

_MASK = 0xFFFF_FFFF
_JHASH_INITVAL = 0xDEAD_BEEF
_JHASH_BLOCK_BYTES = 12


class Affinity(Enum):
    """What ties a client to a node: its address, or each connection by itself."""

    CLIENT = "client"
    CONNECTION = "connection"


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c & _MASK) ^ _rotate(c, 4)
    c = c + b & _MASK
    b = (b - a & _MASK) ^ _rotate(a, 6)
    a = a + c & _MASK
    c = (c - b & _MASK) ^ _rotate(b, 8)
    b = b + a & _MASK
    a = (a - c & _MASK) ^ _rotate(c, 16)
    c = c + b & _MASK
    b = (b - a & _MASK) ^ _rotate(a, 19)
    a = a + c & _MASK
    c = (c - b & _MASK) ^ _rotate(b, 4)
    b = b + a & _MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = (c ^ b) - _rotate(b, 14) & _MASK
    a = (a ^ c) - _rotate(c, 11) & _MASK
    b = (b ^ a) - _rotate(a, 25) & _MASK
    c = (c ^ b) - _rotate(b, 16) & _MASK
    a = (a ^ c) - _rotate(c, 4) & _MASK
    b = (b ^ a) - _rotate(a, 14) & _MASK
    return (c ^ b) - _rotate(b, 24) & _MASK


def jhash(key: bytes, seed: int) -> int:
    """Return the kernel's jhash of `key`, 32 bits."""
    a = b = c = _JHASH_INITVAL + len(key) + seed & _MASK
    while len(key) > _JHASH_BLOCK_BYTES:
        a = a + int.from_bytes(key[0:4], "little") & _MASK
        b = b + int.from_bytes(key[4:8], "little") & _MASK
        c = c + int.from_bytes(key[8:12], "little") & _MASK
        a, b, c = _mix(a, b, c)
        key = key[_JHASH_BLOCK_BYTES:]
    if not key:
        return c
    a = a + int.from_bytes(key[0:4], "little") & _MASK
    b = b + int.from_bytes(key[4:8], "little") & _MASK
    c = c + int.from_bytes(key[8:12], "little") & _MASK
    return _final(a, b, c)


def client_key(client: str | IPv4Address | IPv6Address, port: int | None) -> bytes:
    """Return the bytes that are hashed; `port` None means affinity by address."""
    address = ip_address(client).packed
    return address if port is None else address + port.to_bytes(2, "big") + b"\0\0"


def bucket(client: str | IPv4Address | IPv6Address, port: int | None, seed: int) -> int:
    """Return the bucket of a client, 0..BUCKETS-1; `port` None means affinity by address."""
    return jhash(client_key(client, port), seed) * BUCKETS >> 32


def module_seed(secret: bytes, module: str) -> int:
    """Return the hash seed of one farm module, never 0 (nftables takes 0 as 'choose one')."""
    digest = hmac.digest(secret, b"telamon farm hash\0" + module.encode(), hashlib.sha256)
    return int.from_bytes(digest[:4], "big") or 1
