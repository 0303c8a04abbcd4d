"""The handshake oracle: every SYN that a client sends is answered by exactly one host, once.

It listens on the client's wire with a filter in the kernel that lets SYN and SYN-ACK through, so it
sees what the hosts really sent, also what the client's kernel would ignore. It proves nothing
unless the kernel lost no frame meanwhile, which the report says.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

_ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER = 26
_SOL_PACKET = 263
_PACKET_OUTGOING = 4
_PACKET_STATISTICS = 6
_BUFFER_BYTES = 16 << 20
_FRAME_BYTES = 128
_IPV4 = b"\x08\x00"
_IPV6_SEGMENT = 14 + 40
_ACK = 0x10

# Classic BPF: (code, jump if true, jump if false, operand). TCP segments with SYN over IPv4, and
# over IPv6 without extension headers.
_SYN_FILTER: Sequence[tuple[int, int, int, int]] = (
    (0x28, 0, 0, 12),  # the Ethernet type
    (0x15, 0, 7, 0x0800),
    (0x30, 0, 0, 23),  # IPv4: the protocol
    (0x15, 0, 10, 6),
    (0x28, 0, 0, 20),  # the fragment's offset
    (0x45, 8, 0, 0x1FFF),
    (0xB1, 0, 0, 14),  # the length of the header
    (0x50, 0, 0, 14 + 13),  # the segment's flags
    (0x05, 0, 0, 4),
    (0x15, 0, 4, 0x86DD),
    (0x30, 0, 0, 20),  # IPv6: the next header
    (0x15, 0, 2, 6),
    (0x30, 0, 0, _IPV6_SEGMENT + 13),
    (0x45, 1, 0, 0x02),  # SYN
    (0x06, 0, 0, 0),
    (0x06, 0, 0, _FRAME_BYTES),
)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A SYN and its repetitions: a port may be used again, a sequence number with it hardly."""

    address: bytes
    port: int
    sequence: int


@dataclass(slots=True)
class _Handshake:
    """What was seen of one attempt to connect."""

    syns: int = 0
    answers: list[str] = field(default_factory=list)  # who sent each SYN-ACK: a MAC address


@dataclass(frozen=True, slots=True)
class HandshakeReport:
    """What was seen of all attempts; one is shown as the client's `address port`."""

    attempts: int
    unanswered: list[str]
    answered_twice: list[str]
    repeated_syns: int
    lost_frames: int

    @property
    def is_good(self) -> bool:
        """Whether every attempt was answered by one host, once for each SYN at most."""
        return not (self.unanswered or self.answered_twice or self.lost_frames)


class HandshakeLedger:
    """Judges frames; does no I/O."""

    def __init__(self) -> None:
        self._attempts: dict[_Attempt, _Handshake] = {}

    def note(self, frame: bytes, is_own: bool) -> None:
        """Takes a frame with SYN, sent by this host or not."""
        is_ipv4 = frame[12:14] == _IPV4
        segment = 14 + 4 * (frame[14] & 0x0F) if is_ipv4 else _IPV6_SEGMENT
        source_port, target_port, sequence, acknowledged = struct.unpack_from(
            "!HHII", frame, segment
        )
        source, target = (frame[26:30], frame[30:34]) if is_ipv4 else (frame[22:38], frame[38:54])
        if frame[segment + 13] & _ACK:
            attempt = _Attempt(target, target_port, (acknowledged - 1) % (1 << 32))
            self._handshake(attempt).answers.append(frame[6:12].hex(":"))
        elif is_own:  # a bridge floods what other hosts send to a host that is gone
            self._handshake(_Attempt(source, source_port, sequence)).syns += 1

    def report(self, lost_frames: int) -> HandshakeReport:
        """What became of the attempts of this host."""
        own = {attempt: one for attempt, one in self._attempts.items() if one.syns}
        return HandshakeReport(
            attempts=len(own),
            unanswered=[_shown(attempt) for attempt, one in own.items() if not one.answers],
            answered_twice=[
                f"{_shown(attempt)}: {one.syns} SYNs, answers of {', '.join(one.answers)}"
                for attempt, one in own.items()
                if len(set(one.answers)) > 1 or len(one.answers) > one.syns
            ],
            repeated_syns=sum(one.syns - 1 for one in own.values()),
            lost_frames=lost_frames,
        )

    def _handshake(self, attempt: _Attempt) -> _Handshake:
        return self._attempts.setdefault(attempt, _Handshake())


class Handshakes:
    """Listens from its making on."""

    def __init__(self, interface: str) -> None:
        self._ledger = HandshakeLedger()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        _attach(self._socket, _SYN_FILTER)
        self._socket.setblocking(False)
        self._socket.bind((interface, _ETH_P_ALL))

    def fileno(self) -> int:
        """Readable when `read` has something to do."""
        return self._socket.fileno()

    def read(self) -> None:
        """Takes what the wire has brought."""
        while True:
            try:
                frame, (_, _, kind, *_) = self._socket.recvfrom(_FRAME_BYTES)
            except BlockingIOError:
                return
            self._ledger.note(frame, kind == _PACKET_OUTGOING)

    def close(self) -> HandshakeReport:
        """Stops listening; what was seen."""
        self.read()
        counters = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        _, lost_frames = struct.unpack("=II", counters)
        self._socket.close()
        return self._ledger.report(lost_frames)


def _shown(attempt: _Attempt) -> str:
    family = socket.AF_INET if len(attempt.address) == 4 else socket.AF_INET6
    return f"{socket.inet_ntop(family, attempt.address)} {attempt.port}"


def _attach(listener: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    head = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
