"""The frames between two replicators, described with construct.

replicator/WIRE.md is the specification; this is its second implementation, for tests and for
reading a captured stream: `build` and `parse` handle one frame, checksum included. Nothing here
runs in the data path.
"""

from typing import Any

from construct import (
    Adapter,
    Byte,
    Bytes,
    Computed,
    Const,
    Construct,
    ConstructError,
    Container,
    Enum,
    GreedyBytes,
    If,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64sl,
    Int64ul,
    PascalString,
    Pass,
    Prefixed,
    PrefixedArray,
    Struct,
    Switch,
    Terminated,
    this,
)

PROTOCOL = 1
HEADER_BYTES = 20
CONTENT_BYTES = 1 << 20
PAYLOAD_BYTES = CONTENT_BYTES + (1 << 16)
CONTROL_BYTES = 8192


class WireError(ValueError):
    """Bytes that are not a frame."""


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of `data`."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


class _Flag(Adapter):  # type: ignore[misc]
    """A byte that is 0 or 1 and nothing else."""

    def _decode(self, obj: int, context: Container, path: str) -> bool:
        if obj > 1:
            raise ConstructError(f"{path}: {obj} is no flag")
        return bool(obj)

    def _encode(self, obj: bool, context: Container, path: str) -> int:
        return int(obj)


FLAG = _Flag(Byte)
TEXT = PascalString(Int16ul, "utf8")
SHORT = Prefixed(Byte, GreedyBytes)
LONG = Prefixed(Int32ul, GreedyBytes)
FILE = Struct("tree" / Int16ul, "inode" / Int64ul, "generation" / Int32ul)
TIME = Struct("seconds" / Int64sl, "nanoseconds" / Int32ul)
PLACE = Struct("parent" / FILE, "name" / SHORT, "parent_modified" / TIME)
ATTRIBUTES = Struct(
    "mode" / Int32ul, "uid" / Int32ul, "gid" / Int32ul, "accessed" / TIME, "modified" / TIME
)
EXTENDED = PrefixedArray(Int16ul, Struct("name" / SHORT, "value" / LONG))
KIND = Struct(
    "type" / Enum(Byte, file=0, directory=1, symlink=2, special=3),
    "value"
    / Switch(
        this.type,
        {"symlink": LONG, "special": Struct("format" / Int32ul, "device" / Int64ul)},
        default=Pass,
    ),
)
CHANGE = Struct(
    "present" / Byte,
    "mode" / If(this.present & 0x01, Int32ul),
    "uid" / If(this.present & 0x02, Int32ul),
    "gid" / If(this.present & 0x04, Int32ul),
    "accessed" / If(this.present & 0x08, TIME),
    "modified" / If(this.present & 0x10, TIME),
)
ENTRY = Struct(
    "name" / SHORT,
    "file" / FILE,
    "kind" / KIND,
    "attributes" / ATTRIBUTES,
    "size" / Int64ul,
    "links" / Int32ul,
    "extended" / EXTENDED,
)
ROLE = Enum(Byte, idle=0, secondary=1, primary=2)
LINEAGE = Struct(
    "generation" / Int64ul,
    "peer_generation" / Int64ul,
    "data_state" / Enum(Byte, UpToDate=0, Outdated=1, Inconsistent=2),
    "clean" / FLAG,
    "role_at_shutdown" / ROLE,
    "history" / PrefixedArray(Byte, Int64ul),
)
LISTING = Struct(
    "directory" / FILE,
    "has_itself" / FLAG,
    "itself" / If(this.has_itself, ENTRY),
    "entries" / PrefixedArray(Int32ul, ENTRY),
    "is_last" / FLAG,
)
REFUSAL = Enum(
    Byte,
    stranger=0,
    not_primary=1,
    split_brain=2,
    unrelated=3,
    primary_is_behind=4,
    full=5,
    failed=6,
    diverged=7,
    protocol=8,
)


def _range(*more: Construct) -> Construct:
    return Struct("file" / FILE, "offset" / Int64ul, "length" / Int64ul, *more)


CONTROL: dict[str, tuple[int, Construct]] = {
    "HELLO": (
        0x01,
        Struct(
            "cluster" / TEXT,
            "module" / TEXT,
            "node" / TEXT,
            "role" / ROLE,
            "trees" / Int16ul,
            "wants_durable" / FLAG,
            "intent" / Enum(Byte, follow=0, discard=1, survey=2),
            "log" / Int64ul,
            "applied" / Int64ul,
            "lineage" / LINEAGE,
        ),
    ),
    "START": (
        0x02,
        Struct(
            "mode" / Enum(Byte, resume=0, bind=1, resync=2, survey=3),
            "log" / Int64ul,
            "first" / Int64ul,
            "bindings" / Int64ul,
            "roots" / PrefixedArray(Byte, FILE),
        ),
    ),
    "ACK": (0x03, Struct("applied" / Int64ul, "durable" / Int64ul)),
    "KEEPALIVE": (0x04, Struct()),
    "LINEAGE": (0x05, LINEAGE),
    "ERROR": (0x06, Struct("code" / REFUSAL, "message" / TEXT)),
    "CLOSE": (0x07, Struct()),
    "CLOSED": (0x08, Struct("applied" / Int64ul)),
    "BIND": (
        0x09,
        Struct("pairs" / PrefixedArray(Int32ul, Struct("theirs" / FILE, "ours" / FILE))),
    ),
    "WANT_LISTING": (0x10, Struct("directory" / FILE)),
    "WANT_FILE": (0x11, Struct("file" / FILE)),
    "HASHES": (
        0x12,
        Struct(
            "file" / FILE,
            "first_block" / Int64ul,
            "is_last" / FLAG,
            "hashes" / PrefixedArray(Int32ul, Bytes(32)),
        ),
    ),
    "CAUGHT_UP": (0x13, Struct()),
    "SERVED": (0x14, Struct("requests" / Int64ul)),
    "NAMES": (0x15, LISTING),
    "WANT_HASHES": (0x16, Struct("file" / FILE, "first_block" / Int64ul)),
    "VANISHED": (0x17, Struct("file" / FILE)),
    "WANT_POSITION": (0x18, Struct()),
    "POSITION": (0x19, Struct("log" / Int64ul, "last" / Int64ul)),
}
LOGGED: dict[str, tuple[int, Construct]] = {
    "CREATE": (
        0x40,
        Struct(
            "place" / PLACE,
            "file" / FILE,
            "kind" / KIND,
            "attributes" / ATTRIBUTES,
            "extended" / EXTENDED,
        ),
    ),
    "CREATE_UNNAMED": (0x41, Struct("file" / FILE, "attributes" / ATTRIBUTES)),
    "LINK": (0x42, Struct("place" / PLACE, "file" / FILE)),
    "UNLINK": (0x43, Struct("place" / PLACE)),
    "RMDIR": (0x44, Struct("place" / PLACE)),
    "RENAME": (
        0x45,
        Struct(
            "from" / PLACE,
            "to" / PLACE,
            "flags" / Int32ul,
            "file" / FILE,
            "has_exchanged" / FLAG,
            "exchanged" / If(this.has_exchanged, FILE),
        ),
    ),
    "DATA": (0x46, Struct("file" / FILE, "offset" / Int64ul, "content" / LONG)),
    "ZERO": (0x47, _range("keep_size" / FLAG)),
    "PUNCH": (0x48, _range()),
    "ALLOCATE": (0x49, _range("keep_size" / FLAG)),
    "TRUNCATE": (0x4A, Struct("file" / FILE, "size" / Int64ul)),
    "SETATTR": (0x4B, Struct("file" / FILE, "change" / CHANGE)),
    "SETXATTR": (0x4C, Struct("file" / FILE, "name" / SHORT, "value" / LONG)),
    "REMOVEXATTR": (0x4D, Struct("file" / FILE, "name" / SHORT)),
    "SYNC": (
        0x4E,
        Struct(
            "file" / FILE,
            "data_only" / FLAG,
            "has_modified" / FLAG,
            "modified" / If(this.has_modified, TIME),
        ),
    ),
    "FORGET": (0x4F, Struct("file" / FILE)),
    "LISTING": (0x60, LISTING),
    "GONE": (0x61, Struct("directory" / FILE)),
    "DESCRIBE": (0x62, ENTRY),
    "RESYNC_END": (0x63, Struct()),
}
_PAYLOAD = dict((CONTROL | LOGGED).values())
_NUMBER = {name: number for name, (number, _) in (CONTROL | LOGGED).items()}
_NAME = {number: name for name, number in _NUMBER.items()}

HEADER = Struct(
    "version" / Const(PROTOCOL, Int8ul),
    "type" / Byte,
    "reserved" / Const(0, Int16ul),
    "length" / Int32ul,
    "lsn" / Int64ul,
    "checksum" / Int32ul,
    "is_logged" / Computed(this.type >= 0x40),
)


def build(name: str, fields: dict[str, Any], lsn: int = 0) -> bytes:
    """Make one frame."""
    payload = _PAYLOAD[_NUMBER[name]].build(fields)
    head = bytes([PROTOCOL, _NUMBER[name], 0, 0])
    head += Int32ul.build(len(payload)) + Int64ul.build(lsn)
    frame: bytes = head + Int32ul.build(crc32c(head + payload)) + payload
    return frame


def parse(frame: bytes) -> tuple[str, int, Container]:
    """Take one frame apart: (name, lsn, fields)."""
    try:
        header = HEADER.parse(frame)
        payload = frame[HEADER_BYTES:]
        if header.type not in _PAYLOAD:
            raise WireError(f"type {header.type:#04x} does not exist")
        if header.length != len(payload) or header.length > PAYLOAD_BYTES:
            raise WireError(f"{header.length} bytes announced, {len(payload)} there")
        if crc32c(frame[:16] + payload) != header.checksum:
            raise WireError("the checksum does not fit")
        if header.is_logged != (header.lsn != 0):
            raise WireError("a position belongs to entries of the log, and to nothing else")
        whole = Struct("fields" / _PAYLOAD[header.type], Terminated)
        return _NAME[header.type], header.lsn, whole.parse(payload).fields
    except ConstructError as error:
        raise WireError(str(error)) from error


__all__ = ["HEADER_BYTES", "PAYLOAD_BYTES", "PROTOCOL", "WireError", "build", "crc32c", "parse"]
