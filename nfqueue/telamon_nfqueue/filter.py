"""The farm filter on one interface by a packet queue; its face: `telamon.farm.face.RunningFilter`.

New connections wait for a verdict of the interface's daemon (daemon.py); established ones are the
kernel's (rules.py). Rules and daemon live without the agent: a restarted one adopts them. A daemon
that is found dead is started again with all it knew; until then nobody new is taken.

Acts in the network namespace of the calling thread. Not for two threads at a time.
"""

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from telamon.errors import NetworkError, RefusedError
from telamon.farm import footprint, nft, nft_rules
from telamon.farm.footprint import Claim
from telamon.farm.hash import BUCKETS
from telamon.farm.layout import Address, AddressRule, Counter, Mode, Service, TableImage
from telamon.farm.nft_library import Nftables
from telamon_nfqueue import control
from telamon_nfqueue import rules as nfqueue_rules
from telamon_nfqueue.process import QueueProcess

_log = logging.getLogger(__name__)
_IPTABLES = {4: "iptables", 6: "ip6tables"}
_COMMAND_S = 10.0


class NfqueueFilter:
    """The rules and the daemon of one interface. Made by `attach` or `adopt`."""

    def __init__(self, interface: str, process: QueueProcess) -> None:
        self._interface = interface
        self._process = process
        self._nftables = Nftables()
        self._member = 0
        self._rules: dict[Address, AddressRule] = {}
        self._services: tuple[Service, ...] = ()
        self._images: dict[int, TableImage] = {}
        self._until_ns = 0

    def set_member(self, number: int, mac: bytes) -> None:
        """Say which member this node is. `mac` is the responder's business here."""
        self._member = number
        self._tell_of_addresses()

    def set_addresses(self, rules: Mapping[Address, AddressRule]) -> None:
        """Make exactly these the virtual addresses."""
        for address, rule in rules.items():
            if rule.mode is not Mode.FLOOD:
                raise RefusedError(
                    f"the nfqueue filter cannot serve {address} in dispatch mode; use an xdp"
                    " filter on every node, or flood mode"
                )
        self._rules = dict(rules)
        self._tell_of_addresses()
        self._make_rules()

    def _make_rules(self) -> None:
        for version, iptables in _IPTABLES.items():
            first = not _stands(iptables, self._interface)
            chain = nfqueue_rules.tracked(
                self._interface, self._rules, self._process.queue, version, first
            )
            _run([f"{iptables}-restore", "--noflush", "--wait"], chain)
        ingress = nfqueue_rules.ingress(self._interface, self._rules)
        self._nftables.run(ingress, f"filter on {self._interface}")

    def set_services(self, services: Iterable[Service]) -> None:
        """Make exactly these the services of the virtual addresses."""
        self._services = tuple(services)
        self._tell_of_addresses()

    def set_neighbour(self, number: int, mac: bytes) -> None:
        """Nothing: only dispatch mode sends to neighbours."""

    def switch_table(self, table: int, image: TableImage) -> None:
        """Decide by a new table from now on."""
        self._images[table] = image
        self._tell(lambda: self._switch(table))

    def table(self, table: int) -> TableImage:
        """The table in force; nobody's before the first."""
        shown = self._tell(lambda: self._process.ask("table", table=table))
        if shown is None:
            return TableImage(bytes(2 * BUCKETS), epoch=0, seed=1)
        return control.image_in(shown)

    def renew_lease(self, until_ns: int) -> None:
        """Let this node own buckets until that time of CLOCK_BOOTTIME."""
        self._until_ns = until_ns
        if not nft.stands(self._nftables, self._interface):
            # A firewall that is loaded anew flushes everyone's rules.
            _log.warning("the rules of %s were flushed and are made again", self._interface)
            self._make_rules()
        self._tell(self._renew)

    def lease_until_ns(self) -> int:
        """The end of the lease as it stands."""
        return int(self._tell(lambda: self._process.ask("lease")))

    def counters(self) -> dict[Counter, int]:
        """Packets decided since the daemon's start; the kernel's own drops are not seen."""
        counted = self._tell(lambda: self._process.ask("counters"))
        return {Counter[name]: packets for name, packets in counted.items()}

    def close(self) -> None:
        """Let go; rules and daemon go on."""
        self._process.close()
        self._nftables.close()

    def recall(self) -> None:
        """Take over what the daemon was told by an earlier agent."""
        known = self._process.ask("configuration")
        if known is not None:
            claim = footprint.claim_of(known["claim"])
            self._member = known["member"]
            self._rules, self._services = dict(claim.addresses), claim.services

    def _tell_of_addresses(self) -> None:
        # Without an address there is nothing to decide, and a daemon that was told so would let
        # packets for addresses pass that it is told of next.
        if self._rules:
            self._tell(self._configure)

    def _configure(self) -> None:
        claim = footprint.stored(Claim((), self._rules, self._services))
        self._process.ask("configure", member=self._member, claim=claim)

    def _switch(self, table: int) -> None:
        self._process.ask("switch", table=table, image=control.image_out(self._images[table]))

    def _renew(self) -> None:
        self._process.ask("renew", until_ns=self._until_ns)

    def _tell(self, order: Callable[[], Any]) -> Any:
        """Carry an order to the daemon, to a new one if the old one is gone."""
        try:
            return order()
        except OSError as error:
            _log.warning("the nfqueue daemon of %s is started again: %s", self._interface, error)
        self._process.kill()
        self._process.start()
        if not all(_stands(iptables, self._interface) for iptables in _IPTABLES.values()):
            self._make_rules()
        try:
            self._tell_anew()
            return order()
        except OSError as error:
            raise NetworkError(
                f"the nfqueue daemon of {self._interface} does not answer: {error}; see the"
                " nfqueue log in /run/telamon/farm"
            ) from error

    def _tell_anew(self) -> None:
        if self._rules:
            self._configure()
        for table in self._images:
            self._switch(table)
        self._renew()


def attach(interface: str, run: Path) -> NfqueueFilter:
    """Adopt the interface's filter, else make it. It starts with no address, so everything passes
    until it is configured.
    """
    adopted = adopt(interface, run)
    if adopted is not None:
        return adopted
    detach(interface, run)
    process = QueueProcess(interface, run)
    process.start()
    made = NfqueueFilter(interface, process)
    try:
        made.set_addresses({})
    except NetworkError:
        detach(interface, run)
        raise
    return made


def adopt(interface: str, run: Path) -> NfqueueFilter | None:
    """The daemon and the rules of the interface as they run, if they do."""
    process = QueueProcess(interface, run)
    try:
        if process.is_running() and all(_stands(one, interface) for one in _IPTABLES.values()):
            adopted = NfqueueFilter(interface, process)
            adopted.recall()
            return adopted
    except OSError as error:
        _log.warning("the nfqueue daemon of %s is not adopted: %s", interface, error)
    process.close()
    return None


def detach(interface: str, run: Path) -> None:
    """Remove the interface's rules and end its daemon; harmless when there are none."""
    for iptables in _IPTABLES.values():
        if _stands(iptables, interface):
            removal = nfqueue_rules.removal(interface)
            _run([f"{iptables}-restore", "--noflush", "--wait"], removal)
    with Nftables() as nftables:
        nftables.run(nft_rules.removal(interface), f"remove the farm's rules from {interface}")
    QueueProcess(interface, run).kill()


def _stands(iptables: str, interface: str) -> bool:
    if shutil.which(f"{iptables}-save") is None:
        return False  # whoever sets rules with it is told how to get it
    return f":{nfqueue_rules.chain(interface)} " in _run([f"{iptables}-save", "-t", "mangle"], "")


def _run(command: list[str], text: str) -> str:
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=_COMMAND_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError(
            f"{command[0]} could not be run: {error}; install the package iptables"
        ) from error
    if done.returncode:
        raise NetworkError(
            f"{command[0]} refused the farm's rules: {done.stderr.strip()}; the kernel needs the"
            " iptables modules mangle, conntrack and NFQUEUE"
        )
    return done.stdout
