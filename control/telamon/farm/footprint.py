"""What the farm modules of this host have made of one interface, so that all of it can be undone.

Invariant: what is changed on the host is recorded before it is changed, in one file replaced
atomically under /run; so an agent that starts anew, or an operator without an agent, finds what is
to be put back. Kernel settings are saved once, by the first module, and restored with the last.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from telamon.errors import NetworkError
from telamon.farm.hash import Affinity
from telamon.farm.layout import Address, AddressRule, Mode, Other, Service
from telamon.net.solicited_node import asked_at

_SYSCTL = Path("/proc/sys")
# What the stack must not do with addresses on lo: answer for them, or ask in their name.
_WANTED = {"arp_ignore": 1, "arp_announce": 2}


@dataclass(frozen=True, slots=True)
class Claim:
    """What one module has on one interface. `tables` are the filter's, one for each share."""

    tables: tuple[int, ...]
    addresses: Mapping[Address, AddressRule]
    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class Footprint:
    """The record of one interface."""

    claims: Mapping[str, Claim] = field(default_factory=dict)
    saved: Mapping[str, int] = field(default_factory=dict)  # kernel setting -> its former value
    back_end: str = ""  # what filters, as module.yaml names it; empty: nothing yet
    reason: str = ""  # why it is this one

    def addresses(self) -> dict[Address, AddressRule]:
        """The virtual addresses of all modules."""
        return {at: rule for claim in self.claims.values() for at, rule in claim.addresses.items()}

    def services(self) -> list[Service]:
        """The services of all modules."""
        return [service for claim in self.claims.values() for service in claim.services]

    def free_tables(self, count: int, limit: int) -> tuple[int, ...]:
        """The lowest tables that no module has; fewer than asked for where none are left."""
        taken = {table for claim in self.claims.values() for table in claim.tables}
        return tuple([table for table in range(limit) if table not in taken][:count])

    def with_claim(self, module: str, claim: Claim) -> "Footprint":
        """The same with a module's claim."""
        return replace(self, claims={**self.claims, module: claim})

    def without(self, module: str) -> "Footprint":
        """The same without a module."""
        others = {name: claim for name, claim in self.claims.items() if name != module}
        return replace(self, claims=others)


def heard_macs(footprint: Footprint) -> set[str]:
    """The Ethernet addresses that the interface must hear for its claims: the virtual MACs in flood
    mode, and where IPv6 asks for the addresses.
    """
    rules = footprint.addresses()
    heard = {rule.virtual_mac.hex(":") for rule in rules.values() if rule.mode is Mode.FLOOD}
    return heard | {asked_at(address) for address in rules if address.version == 6}


def path_of(run: Path, interface: str) -> Path:
    """Where the record of an interface lies."""
    return run / "farm" / f"{interface}.json"


def interfaces(run: Path) -> list[str]:
    """The interfaces with a record."""
    return sorted(path.stem for path in (run / "farm").glob("*.json"))


def load(run: Path, interface: str) -> Footprint:
    """The record; an empty one where there is none."""
    path = path_of(run, interface)
    try:
        record = json.loads(path.read_text())
        return Footprint(
            {name: claim_of(claim) for name, claim in record["claims"].items()},
            record["saved"],
            record["back_end"],
            record["reason"],
        )
    except FileNotFoundError:
        return Footprint()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NetworkError(
            f"{path} is damaged ({error}): remove it, run `telamon farm detach --force`, take the"
            " virtual IPs from lo, and start the farm modules of this node again"
        ) from error


def save(run: Path, interface: str, footprint: Footprint) -> None:
    """Replaces the record; removes it when no module is left."""
    path = path_of(run, interface)
    if not footprint.claims:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "claims": {name: stored(claim) for name, claim in footprint.claims.items()},
        "saved": dict(footprint.saved),
        "back_end": footprint.back_end,
        "reason": footprint.reason,
    }
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(record))
    temporary.replace(path)


def settings_now(interface: str) -> dict[str, int]:
    """The kernel settings that a farm changes, as they are."""
    return {name: _read(interface, name) for name in _WANTED}


def silence(interface: str) -> None:
    """Makes the stack leave ARP for addresses on lo to the filter."""
    for name, wanted in _WANTED.items():
        if _read(interface, name) < wanted:
            _write(interface, name, wanted)


def restore(interface: str, saved: Mapping[str, int]) -> None:
    """Puts the kernel settings back, unless someone else has changed them meanwhile."""
    if not os.path.exists(_SYSCTL / "net/ipv4/conf" / interface):  # noqa: PTH110 - it may vanish
        return
    for name, former in saved.items():
        if _read(interface, name) == _WANTED[name]:
            _write(interface, name, former)


def _read(interface: str, name: str) -> int:
    try:
        return int((_SYSCTL / "net/ipv4/conf" / interface / name).read_text())
    except OSError as error:
        raise _refusal(interface, name, error) from error


def _write(interface: str, name: str, value: int) -> None:
    try:
        (_SYSCTL / "net/ipv4/conf" / interface / name).write_text(f"{value}\n")
    except OSError as error:
        raise _refusal(interface, name, error) from error


def _refusal(interface: str, name: str, error: OSError) -> NetworkError:
    return NetworkError(
        f"could not reach the kernel setting {name} of {interface}: {error.strerror}; check that"
        " the interface exists and that the agent is root"
    )


def stored(claim: Claim) -> dict[str, Any]:
    """A claim as JSON can carry it."""
    return {
        "tables": list(claim.tables),
        "addresses": {
            str(address): [rule.table, rule.mode, rule.other, rule.virtual_mac.hex()]
            for address, rule in claim.addresses.items()
        },
        "services": [
            [str(one.address), one.protocol, one.port, one.table, one.affinity.value, one.mode]
            for one in claim.services
        ],
    }


def claim_of(stored: dict[str, Any]) -> Claim:
    """The reverse of `stored`; KeyError, TypeError or ValueError for what is no claim."""
    return Claim(
        tables=tuple(map(_number, stored["tables"])),
        addresses={
            ip_address(address): AddressRule(
                _number(table), Mode(_number(mode)), Other(_number(other)), bytes.fromhex(str(mac))
            )
            for address, (table, mode, other, mac) in stored["addresses"].items()
        },
        services=tuple(map(_service, stored["services"])),
    )


def _service(stored: object) -> Service:
    if not isinstance(stored, list):
        raise TypeError("a service is a list")
    address, protocol, port, table, affinity, mode = stored
    return Service(
        ip_address(address),
        _number(protocol),
        _number(port),
        _number(table),
        Affinity(affinity),
        Mode(_number(mode)),
    )


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value
