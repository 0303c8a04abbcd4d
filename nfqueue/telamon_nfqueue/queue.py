"""One packet queue of the kernel (nfnetlink_queue): take packets, give verdicts.

linux/netfilter/nfnetlink_queue.h is the specification. Packets that come faster than verdicts fill
the queue, then the kernel drops them; without a listener it drops them all.
"""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Self

from telamon.errors import NetworkError

ACCEPT, DROP = 1, 0
QUEUE_LENGTH = 4096  # packets

_NETLINK_NETFILTER = 12
_SUBSYSTEM_QUEUE = 3
_PACKET, _VERDICT, _CONFIG = (_SUBSYSTEM_QUEUE << 8 | number for number in (0, 1, 2))
_NLMSG_ERROR = 2
_REQUEST, _ACKNOWLEDGE = 0x1, 0x4
_CFG_COMMAND, _CFG_PARAMETERS, _CFG_LENGTH = 1, 2, 3
_PACKET_HEADER, _VERDICT_HEADER, _PAYLOAD = 1, 2, 10
_BIND = 1
_COPY_PACKET = 2
_TYPE_MASK = 0x3FFF
_NO_ENOBUFS = 5  # NETLINK_NO_ENOBUFS
_SOL_NETLINK = 270

_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_FAMILY = struct.Struct(">BBH")  # family, version, queue
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_RECEIVE_BYTES = 1 << 20
_BUFFER_BYTES = 4 << 20


class Queue:
    """A bound queue. Use it in `with`."""

    def __init__(self, number: int, copied_bytes: int = 128, length: int = QUEUE_LENGTH) -> None:
        self._number = number
        attempt = f"take packets from queue {number}"
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            self._socket.bind((0, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            self._socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
            self._configure(_CFG_COMMAND, struct.pack(">BxH", _BIND, 0))
            self._configure(_CFG_PARAMETERS, struct.pack(">IB", copied_bytes, _COPY_PACKET))
            self._configure(_CFG_LENGTH, struct.pack(">I", length))
        except OSError as error:
            raise NetworkError(
                f"could not {attempt}: {error.strerror}; run as root, on a kernel with"
                " nfnetlink_queue, and see that nobody else took this queue"
            ) from error

    def fileno(self) -> int:
        """Readable when packets wait."""
        return self._socket.fileno()

    def packets(self) -> Iterator[tuple[int, bytes]]:
        """Return packets that wait, without waiting for any: identifier, bytes from the IP header
        on.
        """
        try:
            received = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        offset = 0
        while offset + _MESSAGE.size <= len(received):
            length, kind, *_ = _MESSAGE.unpack_from(received, offset)
            if length < _MESSAGE.size:
                return
            if kind == _PACKET:
                body = received[offset + _MESSAGE.size + _FAMILY.size : offset + length]
                attributes = dict(_attributes(body))
                (identifier,) = struct.unpack_from(">I", attributes[_PACKET_HEADER])
                yield identifier, attributes.get(_PAYLOAD, b"")
            offset += _aligned(length)

    def decide(self, identifier: int, verdict: int) -> None:
        """Let a packet go on, or drop it."""
        body = _attribute(_VERDICT_HEADER, struct.pack(">II", verdict, identifier))
        self._send(_VERDICT, _REQUEST, body)

    def _configure(self, kind: int, value: bytes) -> None:
        self._send(_CONFIG, _REQUEST | _ACKNOWLEDGE, _attribute(kind, value))
        answer = self._socket.recv(_RECEIVE_BYTES)
        _, answered, *_ = _MESSAGE.unpack_from(answer)
        (code,) = struct.unpack_from("=i", answer, _MESSAGE.size)
        if answered == _NLMSG_ERROR and code:
            raise OSError(-code, os.strerror(-code))

    def _send(self, kind: int, flags: int, attributes: bytes) -> None:
        length = _MESSAGE.size + _FAMILY.size + len(attributes)
        header = _MESSAGE.pack(length, kind, flags, 0, 0)
        family = _FAMILY.pack(socket.AF_UNSPEC, 0, self._number)
        self._socket.send(header + family + attributes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _aligned(length: int) -> int:
    return length + 3 & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    head = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind)
    return head + value + bytes(_aligned(len(value)) - len(value))


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, body[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
