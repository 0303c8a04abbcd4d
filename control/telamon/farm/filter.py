"""The farm filter on one network interface: attached, configured, read, detached.

Invariant: the filter lives without its agent. A restarted agent adopts it as it runs, tables, lease
and counters untouched; only `detach` ends it, and the pins are complete or nothing (SealedPins).

Contract of maps and rules: ebpf/farm.h. Which table to show and when, is decided elsewhere. Acts in
the network and mount namespace of the calling thread.
"""

import logging
import socket
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from telamon.bpf import bpffs
from telamon.bpf.link import Link, XdpMode, attach_xdp
from telamon.bpf.location import object_path
from telamon.bpf.map import Map
from telamon.bpf.object import BpfObject
from telamon.bpf.sealed import SealedPins
from telamon.errors import BpfError
from telamon.farm import layout
from telamon.farm.layout import AddressRule, Counter, Service, Settings, TableImage

_log = logging.getLogger(__name__)

# Not below bpffs.PINS, where every name is a mirror module.
PINS = bpffs.ROOT / "telamon-farm"

_OBJECT = "farm"
_PROGRAM = "farm"
_LINK = "link"
_ONLY = layout.number_key(0)
# Key and value sizes of farm.h, in bytes.
_LAYOUT = {
    "tables": (4, 131088),
    "live": (4, 4),
    "addresses": (16, 12),
    "services": (20, 4),
    "settings": (4, 40),
    "lease": (4, 8),
    "neighbours": (4, 8),
    "fragments": (40, 4),
    "counters": (4, 8),
}


class Attachment(StrEnum):
    """Where the filter runs: in the driver, or in the kernel's generic path."""

    NATIVE = "native"
    GENERIC = "generic"


_XDP_MODES = {Attachment.NATIVE: XdpMode.NATIVE, Attachment.GENERIC: XdpMode.GENERIC}


class Filter:
    """The filter of one interface, open for configuration. Made by `attach` or `adopt`."""

    def __init__(self, pins: SealedPins) -> None:
        self._pins = pins
        self._maps: dict[str, Map] = {name: pins.open_map(name) for name in _LAYOUT}

    @property
    def attachment(self) -> Attachment:
        """How the filter was attached."""
        return Attachment(self._pins.manner() or "")

    def set_member(self, number: int, mac: bytes) -> None:
        """Says which member this node is (0: none) and what its interface's own MAC is."""
        self._set(replace(self._settings(), member=number, mac=mac))

    def set_addresses(self, rules: dict[layout.Address, AddressRule]) -> None:
        """Makes exactly these the virtual addresses."""
        wanted = {layout.address_key(address): rule.packed() for address, rule in rules.items()}
        self._make_equal(self._maps["addresses"], wanted)
        self._set(replace(self._settings(), address_bits=layout.address_bits(rules)))

    def set_services(self, services: Iterable[Service]) -> None:
        """Makes exactly these the services of the virtual addresses."""
        wanted = {service.key(): service.packed() for service in services}
        self._make_equal(self._maps["services"], wanted)

    def set_neighbour(self, number: int, mac: bytes) -> None:
        """Says at which MAC another member is reached (dispatch mode)."""
        self._maps["neighbours"].update(layout.number_key(number), layout.neighbour(mac))

    def switch_table(self, table: int, image: TableImage) -> None:
        """Shows packets a new table. Each packet sees either the old one or the new one, whole."""
        unused = 1 - self._live(table)
        self._maps["tables"].update(layout.number_key(2 * table + unused), image.packed())
        self._maps["live"].update(layout.number_key(table), layout.number_key(unused))

    def table(self, table: int) -> TableImage:
        """The table that packets see."""
        value = self._maps["tables"].lookup(layout.number_key(2 * table + self._live(table)))
        assert value is not None, "an array has all its elements"
        return TableImage.unpacked(value)

    def renew_lease(self, until_ns: int) -> None:
        """Lets this node own buckets until that time of CLOCK_BOOTTIME."""
        self._maps["lease"].update(_ONLY, layout.lease(until_ns))

    def lease_until_ns(self) -> int:
        """The end of the lease as it stands."""
        value = self._maps["lease"].lookup(_ONLY)
        assert value is not None, "an array has all its elements"
        return layout.lease_until_ns(value)

    def counters(self) -> dict[Counter, int]:
        """Packets since the attachment, by what became of them."""
        found = {}
        for counter in Counter:
            values = self._maps["counters"].per_cpu(layout.number_key(counter)) or []
            found[counter] = sum(int.from_bytes(value, "little") for value in values)
        return found

    def close(self) -> None:
        """Lets go of the maps; the filter goes on."""
        for held in self._maps.values():
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _settings(self) -> Settings:
        value = self._maps["settings"].lookup(_ONLY)
        assert value is not None, "an array has all its elements"
        return Settings.unpacked(value)

    def _set(self, settings: Settings) -> None:
        self._maps["settings"].update(_ONLY, settings.packed())

    def _live(self, table: int) -> int:
        value = self._maps["live"].lookup(layout.number_key(table))
        assert value is not None, "an array has all its elements"
        return int.from_bytes(value, "little") & 1

    @staticmethod
    def _make_equal(found: Map, wanted: dict[bytes, bytes]) -> None:
        for key, value in wanted.items():
            if found.lookup(key) != value:
                found.update(key, value)
        for key in [key for key in found.keys() if key not in wanted]:  # noqa: SIM118
            found.delete(key)


def attach(interface: str, attachments: Iterable[Attachment], pins: Path = PINS) -> Filter:
    """Adopts the interface's filter, else attaches one in the first of these ways that works. It
    starts as no member with no addresses, so everything passes until it is configured.
    """
    adopted = adopt(interface, pins)
    if adopted is not None:
        return adopted
    place = _place(interface, pins)
    place.remove()
    bpffs.ensure_mounted(pins.parent)
    refusals: list[BpfError] = []
    for attachment in attachments:
        try:
            _load(place, interface, attachment)
        except BpfError as error:
            place.remove()
            refusals.append(error)
            _log.info("no %s filter on %s: %s", attachment, interface, error)
        else:
            return Filter(place)
    reasons = " / ".join(str(refusal).splitlines()[0] for refusal in refusals)
    raise BpfError(
        f"no farm filter could be attached to {interface} ({reasons}): free its XDP hook, or "
        "choose the nft or nfqueue filter for this node",
        refusals[-1].errno if refusals else 0,
    )


def adopt(interface: str, pins: Path = PINS) -> Filter | None:
    """The filter that already runs on the interface, if there is one. Raises RefusedError if it is
    another version's.
    """
    place = _place(interface, pins)
    if place.manner() is None:
        return None
    for name, (key_bytes, value_bytes) in _LAYOUT.items():
        place.check_map(name, key_bytes, value_bytes)
    return Filter(place)


def detach(interface: str, pins: Path = PINS) -> None:
    """Ends the interface's filter and removes its pins; harmless when there is none. When this
    returns, no packet meets the filter any more.
    """
    place = _place(interface, pins)
    # A link whose last name goes is detached a moment later, by a worker of the kernel.
    if (place.path / _LINK).exists():
        with Link.open_pin(place.path / _LINK) as link:
            link.detach()
    place.remove()


def _place(interface: str, pins: Path) -> SealedPins:
    # bpffs admits no dots (eth0.100), interface names no colons.
    return SealedPins(pins / interface.replace(".", ":"))


def _load(place: SealedPins, interface: str, attachment: Attachment) -> None:
    try:
        index = socket.if_nametoindex(interface)
    except OSError as error:
        raise BpfError(
            f"the farm filter cannot be attached: this host has no interface {interface}; name "
            "one that exists in cluster.yaml",
            error.errno or 0,
        ) from error
    place.path.mkdir(mode=0o700, parents=True)
    compiled_at = object_path(_OBJECT)
    with BpfObject(compiled_at) as compiled:
        compiled.load()
        for name in _LAYOUT:
            with compiled.map(name) as found:
                found.pin(place.path / name)
        with (
            compiled.program(_PROGRAM) as program,
            attach_xdp(program, index, _XDP_MODES[attachment]) as link,
        ):
            program.pin(place.path / "prog")
            link.pin(place.path / _LINK)
    place.seal(attachment, compiled_at)
    _log.info("farm filter on %s: %s XDP, pinned at %s", interface, attachment, place.path)
