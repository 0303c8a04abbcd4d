"""The heartbeat datagram: sealed by its sender for one receiver, opened by nobody else.

    magic "TLMH" | version u8 | length of name u8 | boot id u64 | sequence u64 | name | sealed body

Integers are big-endian. The body is sealed with ChaCha20-Poly1305; everything before it is
authenticated with it. The key is derived from the cluster's secret for one sender, one life of its
agent (boot id) and one receiver, and the nonce is the sequence, so no nonce ever serves twice and a
datagram meant for another node, another cluster or an earlier life does not open.

Invariant: `open_heartbeat` gives a whole `Heartbeat` or one `Refusal`; no input makes it raise, and
nothing is believed before it is authenticated. Replays are for membership, which sees the order.

The version counts changes of the datagram and of the reports it carries: nodes of different
versions do not hear each other, and say why.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"TLMH"
VERSION = 2
MAXIMUM_DATAGRAM_BYTES = 60_000
MAXIMUM_SEQUENCE = (1 << 64) - 1

_HEAD = struct.Struct("!4sBBQQ")
_BODY = struct.Struct("!BQQB")
_PAYLOAD = struct.Struct("!BH")
_TAG_BYTES = 16
_SAYS_GOODBYE = 1
_HEARS_RECEIVER = 2


class Refusal(StrEnum):
    """Why a datagram was not taken."""

    LENGTH = "too short or too long for a heartbeat"
    FOREIGN = "not a heartbeat"
    VERSION = "a heartbeat of another version: bring the nodes to the same version of telamon"
    FORGED = "not sealed for this node with the cluster's secret"
    MALFORMED = "sealed correctly, but malformed: bring the nodes to the same version of telamon"


@dataclass(frozen=True, slots=True)
class Keys:
    """What sealing and opening needs: the cluster's id and its secret."""

    cluster_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Keys(cluster_id={self.cluster_id!r})"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What one node says to another on one network."""

    sender: str
    boot_id: int
    """Random, never 0, new at every start of the sender's agent."""
    sequence: int
    """Grows with every heartbeat to this receiver, on whatever network."""
    network: str
    knows_boot_id: int
    """The life of the receiver that the sender speaks to, 0 for none."""
    knows_sequence: int
    """The newest sequence that the sender received from that life."""
    hears_receiver: bool
    """The sender's membership counts the receiver as heard."""
    says_goodbye: bool
    """The sender's agent ends now."""
    payloads: tuple[tuple[str, bytes], ...]
    """Reports by the name of their module."""


def seal(keys: Keys, heartbeat: Heartbeat, receiver: str) -> bytes:
    """The datagram that says `heartbeat` to `receiver`. One sequence must not be sealed twice."""
    assert 0 < heartbeat.sequence <= MAXIMUM_SEQUENCE
    assert heartbeat.boot_id
    sender = heartbeat.sender.encode()
    head = _HEAD.pack(MAGIC, VERSION, len(sender), heartbeat.boot_id, heartbeat.sequence) + sender
    flags = _SAYS_GOODBYE * heartbeat.says_goodbye | _HEARS_RECEIVER * heartbeat.hears_receiver
    network = heartbeat.network.encode()
    known = heartbeat.knows_boot_id, heartbeat.knows_sequence
    parts = [_BODY.pack(flags, *known, len(network)), network]
    for name, content in heartbeat.payloads:
        encoded = name.encode()
        parts += [_PAYLOAD.pack(len(encoded), len(content)), encoded, content]
    key = _derived(keys, sender, heartbeat.boot_id, receiver)
    datagram = head + key.encrypt(_nonce(heartbeat.sequence), b"".join(parts), head)
    if len(datagram) > MAXIMUM_DATAGRAM_BYTES:
        raise ValueError(f"a heartbeat of {len(datagram)} bytes: fewer modules fit on one cluster")
    return datagram


def open_heartbeat(keys: Keys, datagram: bytes, receiver: str) -> Heartbeat | Refusal:
    """What a datagram says to `receiver`."""
    if not _HEAD.size + _BODY.size + _TAG_BYTES <= len(datagram) <= MAXIMUM_DATAGRAM_BYTES:
        return Refusal.LENGTH
    magic, version, name_bytes, boot_id, sequence = _HEAD.unpack_from(datagram)
    if magic != MAGIC:
        return Refusal.FOREIGN
    if version != VERSION:
        return Refusal.VERSION
    head, sealed = datagram[: _HEAD.size + name_bytes], datagram[_HEAD.size + name_bytes :]
    sender = head[_HEAD.size :]
    try:
        key = _derived(keys, sender, boot_id, receiver)
        body = key.decrypt(_nonce(sequence), sealed, head)
    except InvalidTag:
        return Refusal.FORGED
    try:
        return _read(sender, boot_id, sequence, body)
    except (struct.error, UnicodeDecodeError, _MalformedError):
        return Refusal.MALFORMED


class _MalformedError(Exception):
    """The body ends too early or too late."""


def _read(sender: bytes, boot_id: int, sequence: int, body: bytes) -> Heartbeat:
    flags, knows_boot_id, knows_sequence, network_bytes = _BODY.unpack_from(body)
    if flags & ~(_SAYS_GOODBYE | _HEARS_RECEIVER) or not boot_id or not sequence:
        raise _MalformedError
    network, offset = _take(body, _BODY.size, network_bytes)
    payloads = []
    while offset < len(body):
        name_bytes, content_bytes = _PAYLOAD.unpack_from(body, offset)
        name, offset = _take(body, offset + _PAYLOAD.size, name_bytes)
        content, offset = _take(body, offset, content_bytes)
        payloads.append((name.decode(), content))
    return Heartbeat(
        sender=sender.decode(),
        boot_id=boot_id,
        sequence=sequence,
        network=network.decode(),
        knows_boot_id=knows_boot_id,
        knows_sequence=knows_sequence,
        hears_receiver=bool(flags & _HEARS_RECEIVER),
        says_goodbye=bool(flags & _SAYS_GOODBYE),
        payloads=tuple(payloads),
    )


def _take(body: bytes, offset: int, length: int) -> tuple[bytes, int]:
    if offset + length > len(body):
        raise _MalformedError
    return body[offset : offset + length], offset + length


def _nonce(sequence: int) -> bytes:
    return sequence.to_bytes(12, "big")


@lru_cache(maxsize=2048)
def _derived(keys: Keys, sender: bytes, boot_id: int, receiver: str) -> ChaCha20Poly1305:
    """The key from one life of the sender to one receiver. Names cannot run into each other: the
    sender's is preceded by its length. A forged name costs one derivation, the cache is bounded."""
    info = b"telamon heartbeat 1" + struct.pack("!BQ", len(sender), boot_id)
    derivation = HKDF(
        algorithm=SHA256(),
        length=32,
        salt=keys.cluster_id.encode(),
        info=info + sender + receiver.encode(),
    )
    return ChaCha20Poly1305(derivation.derive(keys.secret))
