"""The farm filter on one interface by nftables, for nodes without XDP.

The face is `telamon.farm.face.RunningFilter`, the hash that of the XDP filter, so a farm may mix
them. The rules live without their agent: a restarted one adopts the sets, and the lease ends by
itself. What the rules do, and what they cannot: `telamon.farm.nft_rules`.

Acts in the network namespace of the calling thread.
"""

import json
import logging
import re
import socket
import time
from collections.abc import Iterable, Mapping

import numpy as np

from telamon.errors import NetworkError, RefusedError
from telamon.farm import nft_rules
from telamon.farm.hash import BUCKETS
from telamon.farm.layout import Address, AddressRule, Counter, Mode, Service, TableImage
from telamon.farm.nft_library import Nftables
from telamon.farm.table import NOBODY

_log = logging.getLogger(__name__)
_MILLISECOND = 1_000_000
_EXPIRES = re.compile(r"expires ([0-9dhms]+)")
_DURATION = re.compile(r"(\d+)(d|h|ms|m|s)")
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


class NftFilter:
    """The rules of one interface, open for configuration. Made by `attach` or `adopt`."""

    def __init__(self, interface: str, nftables: Nftables) -> None:
        self._interface = interface
        self._nftables = nftables
        self._member = NOBODY
        self._rules: dict[Address, AddressRule] = {}
        self._services: tuple[Service, ...] = ()
        self._images: dict[int, TableImage] = {}
        self._until_ns = 0

    def set_member(self, number: int, mac: bytes) -> None:
        """Say which member this node is. `mac` is the responder's business here."""
        self._member = number

    def set_addresses(self, rules: dict[Address, AddressRule]) -> None:
        """Make exactly these the virtual addresses."""
        for address, rule in rules.items():
            if rule.mode is not Mode.FLOOD:
                raise RefusedError(
                    f"the nft filter cannot serve {address} in dispatch mode; use an xdp filter on"
                    " every node, or flood mode"
                )
        self._rules = dict(rules)
        self._rebuild()

    def set_services(self, services: Iterable[Service]) -> None:
        """Make exactly these the services of the virtual addresses."""
        self._services = tuple(services)
        self._rebuild()

    def set_neighbour(self, number: int, mac: bytes) -> None:
        """Nothing: only dispatch mode sends to neighbours."""

    def switch_table(self, table: int, image: TableImage) -> None:
        """Show packets a new table, in the instant of one transaction."""
        self._stand_again_if_flushed()
        known = self._images.get(table)
        change = nft_rules.table_change(self._interface, table, known, image, self._member)
        if change:
            self._run(change, f"show table {table}")
        self._images[table] = image
        if known is None or known.seed != image.seed:
            self._rebuild()

    def table(self, table: int) -> TableImage:
        """The table that packets see: all of it, or after an adoption what this node owns."""
        if table in self._images:
            return self._images[table]
        pairs = np.zeros((BUCKETS, 2), np.uint8)
        pairs[self._listed(f"owned_{table}"), 0] = self._member
        return TableImage(pairs.tobytes(), epoch=0, seed=1)

    def renew_lease(self, until_ns: int) -> None:
        """Let this node own buckets until that time of CLOCK_BOOTTIME."""
        self._stand_again_if_flushed()
        self._until_ns = until_ns
        self._renew()

    def _renew(self) -> None:
        remaining_ms = self._until_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        remaining_ms //= _MILLISECOND
        self._run(nft_rules.lease(self._interface, remaining_ms), "renew the lease")

    def lease_until_ns(self) -> int:
        """The end of the lease as it stands; 0 when it has ended."""
        listing = self._run(
            f"list set {nft_rules.ingress_table(self._interface)} lease", "read the lease"
        )
        found = _EXPIRES.search(listing)
        if found is None:
            return 0
        parts = _DURATION.findall(found[1])
        remaining_ms = sum(int(number) * _UNITS_MS[unit] for number, unit in parts)
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + remaining_ms * _MILLISECOND

    def counters(self) -> dict[Counter, int]:
        """Packets since the attachment, by what became of them."""
        counted = dict.fromkeys(nft_rules.COUNTERS, 0)
        own = {nft_rules.ingress_table(self._interface), nft_rules.host_table(self._interface)}
        for family in ("netdev", "inet"):
            # Of all listings this one alone can leave out our sets: 5 ms instead of 100.
            for each in self._listed_objects(f"list ruleset {family}", "counter", is_terse=True):
                if f"{family} {each['table']}" in own:
                    counted[Counter[str(each["name"]).upper()]] += int(str(each["packets"]))
        return counted

    def close(self) -> None:
        """Let go of the rules; they go on."""
        self._nftables.close()

    def _stand_again_if_flushed(self) -> None:
        """A firewall that is loaded anew flushes everyone's rules. Until the next renewal finds
        out, this node takes nobody: without ingress rules the frames are not the host's.
        """
        if stands(self._nftables, self._interface):
            return
        _log.warning("the nft rules of %s were flushed and are made again", self._interface)
        self._run(nft_rules.ruleset(self._interface, {}, (), {}), "make the farm's rules again")
        for table, image in self._images.items():
            change = nft_rules.table_change(self._interface, table, None, image, self._member)
            self._run(change, f"show table {table}")
        self._rebuild()
        self._renew()

    def _rebuild(self) -> None:
        """Set the rules once all their tables are known: adopted rules stay untouched till then."""
        seeds = {table: image.seed for table, image in self._images.items()}
        needed = {rule.table for rule in self._rules.values()}
        needed |= {service.table for service in self._services}
        if not needed <= set(seeds):
            return
        rules = nft_rules.ruleset(self._interface, self._rules, self._services, seeds)
        self._run(rules, "set the farm's rules")

    def _listed(self, name: str) -> list[int]:
        command = f"list set {nft_rules.ingress_table(self._interface)} {name}"
        try:
            sets = self._listed_objects(command, "set")
        except NetworkError:
            return []
        elements = sets[0].get("elem", [])
        assert isinstance(elements, list), "a set's elements are a list"
        return [int(element) for element in elements]

    def _listed_objects(
        self, command: str, kind: str, *, is_terse: bool = False
    ) -> list[Mapping[str, object]]:
        listing = json.loads(
            self._run(command, "read the farm's rules", as_json=True, is_terse=is_terse)
        )
        return [each[kind] for each in listing["nftables"] if kind in each]

    def _run(
        self, commands: str, what: str, *, as_json: bool = False, is_terse: bool = False
    ) -> str:
        return self._nftables.run(
            commands, f"{what} on {self._interface}", as_json=as_json, is_terse=is_terse
        )


def attach(interface: str) -> NftFilter:
    """Adopt the interface's rules, else make them. They start with no address, so everything
    passes until they are configured.
    """
    adopted = adopt(interface)
    if adopted is not None:
        return adopted
    try:
        socket.if_nametoindex(interface)
    except OSError as error:
        raise NetworkError(
            f"the farm filter cannot be attached: this host has no interface {interface}; name one"
            " that exists in cluster.yaml"
        ) from error
    nftables = Nftables()
    try:
        nftables.run(nft_rules.trial(interface), f"filter on {interface}", is_trial=True)
        nftables.run(nft_rules.ruleset(interface, {}, (), {}), f"filter on {interface}")
    except NetworkError:
        nftables.close()
        raise
    _log.info("farm filter on %s: nft", interface)
    return NftFilter(interface, nftables)


def adopt(interface: str) -> NftFilter | None:
    """The rules that already stand on the interface, if they do."""
    nftables = Nftables()
    if stands(nftables, interface):
        return NftFilter(interface, nftables)
    nftables.close()
    return None


def stands(nftables: Nftables, interface: str) -> bool:
    """Whether ingress rules of a farm stand on the interface. By the list of chains: to list one,
    or a counter, nft reads all of our sets (50 ms).
    """
    chains = nftables.run("list chains netdev", f"find rules on {interface}")
    return f"table {nft_rules.ingress_table(interface)} {{" in chains


def detach(interface: str) -> None:
    """Remove the interface's rules; harmless when there are none."""
    with Nftables() as nftables:
        nftables.run(nft_rules.removal(interface), f"remove the farm's rules from {interface}")
