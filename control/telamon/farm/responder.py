"""Answers ARP and neighbour solicitations for virtual addresses where no XDP filter does it.

It listens before the interface's ingress rules, which keep these questions from the stack. It dies
with the agent, and so does the node's lease: another owner answers then.
"""

import asyncio
import contextlib
import ctypes
import importlib
import logging
import socket
import struct
from collections.abc import Callable
from types import ModuleType

from telamon.errors import NetworkError
from telamon.farm.layout import Address

# The virtual address and who asks for it -> the virtual MAC, if this node is to answer.
Claim = Callable[[Address, Address], str | None]

_log = logging.getLogger(__name__)
_ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER = 26
_FRAME_BYTES = 2048
_BATCH = 64

# Classic BPF: ARP, or IPv6 with ICMPv6 (58) type 135 straight behind the header.
_QUESTIONS = (
    (0x28, 0, 0, 12),  # ldh [12]
    (0x15, 6, 0, 0x0806),  # ARP: take
    (0x15, 0, 4, 0x86DD),  # not IPv6: leave
    (0x30, 0, 0, 20),  # ldb [20] next header
    (0x15, 0, 2, 58),
    (0x30, 0, 0, 54),  # ldb [54] ICMPv6 type
    (0x15, 1, 0, 135),
    (0x06, 0, 0, 0),  # leave
    (0x06, 0, 0, 0xFFFF),  # take
)


class Responder:
    """Answers on one interface while it runs. `claim` decides, see `telamon.farm.resolution`."""

    def __init__(self, interface: str, own_mac: str, claim: Claim) -> None:
        self._interface = interface
        self._own_mac = own_mac
        self._claim = claim
        self._resolution: ModuleType | None = None

    async def run(self) -> None:
        """Answer until cancelled."""
        self._resolution = await asyncio.to_thread(
            importlib.import_module, "telamon.farm.resolution"
        )
        loop = asyncio.get_running_loop()
        with self._open() as link:
            loop.add_reader(link, self._answer_waiting, link)
            try:
                await asyncio.Event().wait()
            finally:
                loop.remove_reader(link)

    def _open(self) -> socket.socket:
        try:
            link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            link.setblocking(False)
            program = b"".join(struct.pack("=HBBI", *each) for each in _QUESTIONS)
            kept = ctypes.create_string_buffer(program)
            head = struct.pack("@HP", len(_QUESTIONS), ctypes.addressof(kept))
            link.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
            link.bind((self._interface, _ETH_P_ALL))
        except OSError as error:
            raise NetworkError(
                f"could not listen for ARP on {self._interface}: {error.strerror}; check that the"
                " interface is up and that the agent has CAP_NET_RAW"
            ) from error
        return link

    def _answer_waiting(self, link: socket.socket) -> None:
        assert self._resolution is not None, "loaded before the reader is added"
        for _ in range(_BATCH):
            try:
                frame, (_, _, kind, _, _) = link.recvfrom(_FRAME_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("listening on %s: %s", self._interface, error)
                return
            if kind == socket.PACKET_OUTGOING:
                continue
            if reply := self._resolution.answer(frame, self._own_mac, self._claim):
                with contextlib.suppress(BlockingIOError):
                    link.send(reply)
