"""The farm filter on one interface by a packet queue; the face is `telamon.farm.filter.Filter`'s.

New connections wait for a verdict of this process; established ones are the kernel's. What dies
with the process is the lease: a restarted agent finds the rules, owns nothing, and joins again.

Acts in the network namespace of the calling thread.
"""

import subprocess
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterable

import numpy as np

from telamon.errors import NetworkError, RefusedError
from telamon.farm import nft_rules
from telamon.farm.hash import BUCKETS
from telamon.farm.layout import Address, AddressRule, Counter, Mode, Service, TableImage
from telamon.farm.nft_library import Nftables
from telamon.farm.ownership import Ownership
from telamon_nfqueue import rules as nfqueue_rules
from telamon_nfqueue.queue import ACCEPT, DROP, Queue
from telamon_nfqueue.verdict import Judge, passes

_FIRST_QUEUE = 7420
_IPTABLES = {4: "iptables", 6: "ip6tables"}
_COMMAND_S = 10.0


class NfqueueFilter:
    """The queue of one interface, its thread running. Made by `attach`."""

    attachment = "nfqueue"

    def __init__(self, interface: str, index: int) -> None:
        self._interface = interface
        self._number = _FIRST_QUEUE + index
        self._ownership = Ownership()
        self._judge = Judge(self._ownership)
        self._counted: Tally[Counter] = Tally()
        self._queue = Queue(self._number)
        self._is_closing = False
        self._thread = threading.Thread(
            target=self._decide, name=f"nfqueue {interface}", daemon=True
        )
        self._thread.start()

    def set_member(self, number: int, mac: bytes) -> None:
        """Say which member this node is. `mac` is the responder's business here."""
        self._ownership.member = number

    def set_addresses(self, rules: dict[Address, AddressRule]) -> None:
        """Make exactly these the virtual addresses."""
        for address, rule in rules.items():
            if rule.mode is not Mode.FLOOD:
                raise RefusedError(
                    f"the nfqueue filter cannot serve {address} in dispatch mode; use an xdp"
                    " filter on every node, or flood mode"
                )
        self._ownership.rules = dict(rules)
        for version, iptables in _IPTABLES.items():
            first = not _stands(iptables, self._interface)
            chain = nfqueue_rules.tracked(self._interface, rules, self._number, version, first)
            _run([f"{iptables}-restore", "--noflush", "--wait"], chain)
        with Nftables() as nftables:
            nftables.run(
                nfqueue_rules.ingress(self._interface, rules), f"filter on {self._interface}"
            )

    def set_services(self, services: Iterable[Service]) -> None:
        """Make exactly these the services of the virtual addresses."""
        self._judge.set_services(services)

    def set_neighbour(self, number: int, mac: bytes) -> None:
        """Nothing: only dispatch mode sends to neighbours."""

    def switch_table(self, table: int, image: TableImage) -> None:
        """Decide by a new table from now on."""
        self._ownership.images = {**self._ownership.images, table: image}

    def table(self, table: int) -> TableImage:
        """The table in force; nobody's after a restart."""
        empty = TableImage(np.zeros(2 * BUCKETS, np.uint8).tobytes(), epoch=0, seed=1)
        return self._ownership.images.get(table, empty)

    def renew_lease(self, until_ns: int) -> None:
        """Let this node own buckets until that time of CLOCK_BOOTTIME."""
        self._ownership.lease_until_ns = until_ns

    def lease_until_ns(self) -> int:
        """The end of the lease as it stands."""
        return self._ownership.lease_until_ns

    def counters(self) -> dict[Counter, int]:
        """Packets decided here since the attachment; the kernel's own drops are not seen."""
        return dict(self._counted)

    def close(self) -> None:
        """Decide no more: new connections drop until someone takes the queue again."""
        self._is_closing = True
        self._queue.wake()
        self._thread.join()

    def _decide(self) -> None:
        with self._queue:
            while not self._is_closing:
                for identifier, data in self._queue.packets():
                    counter = self._judge.verdict(data, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
                    self._counted[counter] += 1
                    self._queue.decide(identifier, ACCEPT if passes(counter) else DROP)


def detach(interface: str) -> None:
    """Remove the interface's rules; harmless when there are none."""
    for iptables in _IPTABLES.values():
        if _stands(iptables, interface):
            removal = nfqueue_rules.removal(interface)
            _run([f"{iptables}-restore", "--noflush", "--wait"], removal)
    with Nftables() as nftables:
        nftables.run(nft_rules.removal(interface), f"remove the farm's rules from {interface}")


def _stands(iptables: str, interface: str) -> bool:
    return f":{nfqueue_rules.chain(interface)} " in _run([f"{iptables}-save"], "")


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
