"""Whose packet is it? The decision of the user-space filter, pure.

Only new TCP, datagrams and what no service covers come here; established TCP never leaves the
kernel. The rules are those of ebpf/farm.h, the hash is `telamon.farm.hash`.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from telamon.farm.hash import Affinity
from telamon.farm.layout import Counter, Other, Service
from telamon.farm.ownership import Ownership

_TCP, _UDP = 6, 17
_PORTS = struct.Struct(">HH")
_HOP_BY_HOP, _ROUTING, _DESTINATION = 0, 43, 60
_EXTENSIONS_MAX = 4
_IPV4_HEADER, _IPV6_HEADER = 20, 40


@dataclass(frozen=True, slots=True)
class Packet:
    """What of a packet decides: `source` and `destination` are packed addresses."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: bytes  # as in the packet; empty without ports
    destination_port: int


def parsed(data: bytes) -> Packet | None:
    """Read a packet from its IP header on; None if it is cut short."""
    try:
        if data[0] >> 4 == 4:
            source, destination, protocol = data[12:16], data[16:20], data[9]
            offset = (data[0] & 0x0F) * 4
            length = _IPV4_HEADER
        else:
            source, destination, protocol = data[8:24], data[24:40], data[6]
            offset = length = _IPV6_HEADER
            for _ in range(_EXTENSIONS_MAX):
                if protocol not in (_HOP_BY_HOP, _ROUTING, _DESTINATION):
                    break
                protocol, words = data[offset], data[offset + 1]
                offset += 8 + 8 * words
        if len(data) < length:
            return None
        if protocol not in (_TCP, _UDP):
            return Packet(source, destination, protocol, b"", 0)
        _, port = _PORTS.unpack_from(data, offset)
        return Packet(source, destination, protocol, data[offset : offset + 2], port)
    except (IndexError, struct.error):
        return None


class Judge:
    """Decides by the services and the ownership that it was told last."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._services: dict[tuple[bytes, int, int], Service] = {}

    def set_services(self, services: Iterable[Service]) -> None:
        """Make exactly these the services."""
        self._services = {
            (service.address.packed, service.protocol, service.port): service
            for service in services
        }

    def verdict(self, data: bytes, now_ns: int) -> Counter:
        """Return what becomes of a packet; `passes` says whether it goes on."""
        packet = parsed(data)
        if packet is None:
            return Counter.DROP_MALFORMED
        kind = (packet.destination, packet.protocol)
        service = self._services.get((*kind, packet.destination_port))
        service = service or self._services.get((*kind, 0))
        if service is None:
            return self._other(packet, now_ns)
        passing = Counter.PASS_NEW if packet.protocol == _TCP else Counter.PASS_DATAGRAM
        key = packet.source
        if service.affinity is Affinity.CONNECTION:
            key += packet.source_port + b"\0\0"
        return self._owned(service.table, key, now_ns, (passing, Counter.DROP_NOT_OWNER))

    def _other(self, packet: Packet, now_ns: int) -> Counter:
        rule = self._ownership.rules.get(ip_address(packet.destination))
        if rule is None:
            return Counter.FOREIGN
        if rule.other is Other.PASS:
            return Counter.PASS_OTHER
        if rule.other is Other.DROP:
            return Counter.DROP_OTHER
        verdicts = (Counter.PASS_OTHER, Counter.DROP_OTHER)
        return self._owned(rule.table, packet.source, now_ns, verdicts)

    def _owned(
        self, table: int, key: bytes, now_ns: int, verdicts: tuple[Counter, Counter]
    ) -> Counter:
        passed, dropped = verdicts
        if not self._ownership.is_shown(table, key):
            return dropped
        return passed if self._ownership.has_lease(now_ns) else Counter.DROP_LEASE


def passes(counter: Counter) -> bool:
    """Whether a packet so counted goes on."""
    return counter is Counter.FOREIGN or counter.name.startswith("PASS_")
