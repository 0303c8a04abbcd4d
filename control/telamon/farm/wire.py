"""Messages of one farm as bytes, inside the authenticated heartbeats.

Invariant: `unpack` gives whole messages with every number in its range, or raises WireError; a node
of another version or configuration is told apart by `configuration` and never half understood.
Sets of buckets travel compressed: they are mostly empty.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from telamon.farm.hash import BUCKETS
from telamon.farm.message import Commit, Goodbye, Message, Offer, Proposal, Status, View
from telamon.farm.table import MEMBER_MAX, WEIGHT_MAX, Member

_BUCKETS_BYTES = BUCKETS // 8


class WireError(Exception):
    """The bytes are no messages of this version."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one datagram carries for one module: messages of one of its shares."""

    configuration: str  # digest of what all nodes must have in common
    share: int
    messages: tuple[Message, ...]
    macs: tuple[str, ...]  # of the sender's interfaces, by virtual IP


def _buckets_out(buckets: int) -> str:
    packed = buckets.to_bytes(_BUCKETS_BYTES, "little")
    return base64.b64encode(zlib.compress(packed, 1)).decode()


def _buckets_in(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("a set of buckets is text")  # noqa: TRY004 - pydantic wants ValueError
    try:
        stream = zlib.decompressobj()
        packed = stream.decompress(base64.b64decode(value, validate=True), _BUCKETS_BYTES)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"no set of buckets: {error}") from error
    if len(packed) != _BUCKETS_BYTES or not stream.eof:
        raise ValueError("a set of buckets of another size")
    return int.from_bytes(packed, "little")


_Number = Annotated[int, Field(ge=1, le=MEMBER_MAX)]
_NumberOrNobody = Annotated[int, Field(ge=0, le=MEMBER_MAX)]
_Count = Annotated[int, Field(ge=0, lt=1 << 64)]
_Buckets = Annotated[int, PlainValidator(_buckets_in), PlainSerializer(_buckets_out, str)]
_Weight = Annotated[int, Field(ge=0, le=WEIGHT_MAX)]
_Priority = Annotated[int, Field(ge=0, le=255)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _StatusForm(_Form):
    kind: Literal["status"] = "status"
    sender: _Number
    incarnation: _Count
    sequence: _Count
    weight: _Weight
    priority: _Priority
    hears: list[_Number]
    leader: _NumberOrNobody
    is_listening: bool
    epoch: _Count
    is_joined: bool
    is_committed: bool
    members: list[_Number]
    holding: _Buckets


class _ProposalForm(_Form):
    kind: Literal["proposal"] = "proposal"
    sender: _Number
    epoch: _Count
    members: list[tuple[_Number, _Weight, _Priority]]
    digest: str


class _CommitForm(_Form):
    kind: Literal["commit"] = "commit"
    sender: _Number
    epoch: _Count
    incarnation: _Count


class _GoodbyeForm(_Form):
    kind: Literal["goodbye"] = "goodbye"
    sender: _Number
    incarnation: _Count
    sequence: _Count


_AnyForm = Annotated[
    _StatusForm | _ProposalForm | _CommitForm | _GoodbyeForm, Field(discriminator="kind")
]


class _ParcelForm(_Form):
    configuration: str
    share: int = Field(ge=0)
    messages: list[_AnyForm]
    macs: list[Annotated[str, Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]]


_PARCEL: TypeAdapter[_ParcelForm] = TypeAdapter(_ParcelForm)


def pack(configuration: str, share: int, messages: Iterable[Message], macs: Iterable[str]) -> bytes:
    """The bytes of messages of one share."""
    forms = [_form(message) for message in messages]
    return _PARCEL.dump_json(
        _ParcelForm.model_construct(
            configuration=configuration, share=share, messages=forms, macs=list(macs)
        )
    )


def unpack(content: bytes) -> Parcel:
    """The messages in `content`."""
    try:
        parcel = _PARCEL.validate_json(content)
        messages = tuple(_message(form) for form in parcel.messages)
    except (ValidationError, ValueError) as error:
        raise WireError(str(error).splitlines()[0]) from error
    return Parcel(parcel.configuration, parcel.share, messages, tuple(parcel.macs))


def _form(message: Message) -> _StatusForm | _ProposalForm | _CommitForm | _GoodbyeForm:
    match message:
        case Status():
            return _StatusForm.model_construct(
                sender=message.sender,
                incarnation=message.incarnation,
                sequence=message.sequence,
                weight=message.offer.weight,
                priority=message.offer.priority,
                hears=sorted(message.hears),
                leader=message.leader,
                is_listening=message.is_listening,
                epoch=message.epoch,
                is_joined=message.is_joined,
                is_committed=message.is_committed,
                members=sorted(message.members),
                holding=message.holding,
            )
        case Proposal(sender, view):
            return _ProposalForm(
                sender=sender,
                epoch=view.epoch,
                members=[(one.number, one.weight, one.priority) for one in view.members],
                digest=view.digest.hex(),
            )
        case Commit(sender, epoch, incarnation):
            return _CommitForm(sender=sender, epoch=epoch, incarnation=incarnation)
        case Goodbye(sender, incarnation, sequence):
            return _GoodbyeForm(sender=sender, incarnation=incarnation, sequence=sequence)


def _message(form: _StatusForm | _ProposalForm | _CommitForm | _GoodbyeForm) -> Message:
    match form:
        case _StatusForm():
            return Status(
                sender=form.sender,
                incarnation=form.incarnation,
                sequence=form.sequence,
                offer=Offer(form.weight, form.priority),
                hears=frozenset(form.hears),
                leader=form.leader,
                is_listening=form.is_listening,
                epoch=form.epoch,
                is_joined=form.is_joined,
                is_committed=form.is_committed,
                members=frozenset(form.members),
                holding=form.holding,
            )
        case _ProposalForm():
            members = tuple(Member(*one) for one in form.members)
            numbers = [member.number for member in members]
            if not numbers or numbers != sorted(set(numbers)):
                raise ValueError("a view has each member once, by number")
            return Proposal(form.sender, View(form.epoch, members, bytes.fromhex(form.digest)))
        case _CommitForm():
            return Commit(form.sender, form.epoch, form.incarnation)
        case _GoodbyeForm():
            return Goodbye(form.sender, form.incarnation, form.sequence)
