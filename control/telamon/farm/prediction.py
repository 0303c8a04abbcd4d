"""Who must answer a client, from a farm's exported tables alone. Pure."""

import base64
import binascii
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from telamon.errors import InvalidError
from telamon.farm.hash import BUCKETS, Affinity, bucket
from telamon.farm.layout import Address
from telamon.farm.table import NOBODY


@dataclass(frozen=True, slots=True)
class Covered:
    """Ports that are shared out by one table."""

    protocol: str
    ports: tuple[tuple[int, int], ...]  # first and last of each range
    affinity: Affinity
    owner: bytes  # of each bucket

    def covers(self, protocol: str, port: int) -> bool:
        """Whether a port is one of them."""
        return protocol == self.protocol and any(a <= port <= b for a, b in self.ports)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A farm's tables at one moment, and how its nodes are known on the wire."""

    seed: int
    services: Sequence[Covered]
    names: Mapping[int, str]
    nodes_by_mac: Mapping[str, str]

    def owner(self, protocol: str, port: int, client: Address, client_port: int) -> str | None:
        """The node that must answer; None where nobody must."""
        for service in self.services:
            if service.covers(protocol, port):
                by_port = service.affinity is Affinity.CONNECTION
                place = bucket(client, client_port if by_port else None, self.seed)
                number = service.owner[place]
                return None if number == NOBODY else self.names.get(number)
        return None


def owners_of(packed: Iterable[str]) -> list[bytes]:
    """Tables as the API exports them: zlib and base64 of a byte for each bucket."""
    tables = []
    for text in packed:
        try:
            stream = zlib.decompressobj()
            table = stream.decompress(base64.b64decode(text, validate=True), BUCKETS)
        except (zlib.error, binascii.Error) as error:
            raise InvalidError(
                f"a table cannot be read ({error}): export it again with `telamon farm table`"
            ) from error
        if len(table) != BUCKETS or not stream.eof:
            raise InvalidError(
                f"a table has not {BUCKETS} buckets: export it again with `telamon farm table`"
            )
        tables.append(table)
    return tables
