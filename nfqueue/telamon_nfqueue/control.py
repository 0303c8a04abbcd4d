"""What the agent and the queue's daemon say to each other: JSON behind its length, on a Unix socket
in a directory of root's.

One order, one answer: `{"answer": ...}`, or `{"refusal": "one sentence"}`. Orders:

    hello                        -> the daemon's version of this contract
    configure {member, claim}    a member's number, virtual addresses and services
    configuration                -> the last order to configure, null before the first
    switch {table, image}        decide by a new table from now on
    table {table}                -> the image in force, null before the first
    renew {until_ns}             let this node own buckets until that time of CLOCK_BOOTTIME
    lease                        -> until when it may
    counters                     -> packets by what became of them
"""

import base64
import json
import socket
import struct
from typing import Any

from telamon.farm.layout import TABLE_BYTES, TableImage

VERSION = 1
LIMIT_BYTES = 16 << 20

_LENGTH = struct.Struct("!I")


def send(link: socket.socket, message: dict[str, Any]) -> None:
    """Send one message whole."""
    content = json.dumps(message).encode()
    link.sendall(_LENGTH.pack(len(content)) + content)


def receive(link: socket.socket) -> dict[str, Any] | None:
    """Return the next message; None at the end. Raises ValueError for what is none."""
    head = _read(link, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > LIMIT_BYTES:
        raise ValueError(f"a message of {length} bytes; at most {LIMIT_BYTES} are taken")
    content = _read(link, length)
    message = None if content is None else json.loads(content)
    if message is not None and not isinstance(message, dict):
        raise ValueError("a message is an object")
    return message


def image_out(image: TableImage) -> str:
    """A table as text."""
    return base64.b64encode(image.packed()).decode()


def image_in(text: str) -> TableImage:
    """The reverse of `image_out`; ValueError for what is no table."""
    packed = base64.b64decode(text, validate=True)
    if len(packed) != TABLE_BYTES:
        raise ValueError(f"a table has {TABLE_BYTES} bytes, not {len(packed)}")
    return TableImage.unpacked(packed)


def _read(link: socket.socket, length: int) -> bytes | None:
    content = bytearray()
    while len(content) < length:
        part = link.recv(length - len(content))
        if not part:
            return None
        content += part
    return bytes(content)
