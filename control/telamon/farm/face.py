"""The one face of the farm filter, whatever filters: XDP, nftables or a packet queue.

Every call acts at once and may block for what its back end costs (XDP: microseconds; nft and
nfqueue: up to tenths of a second). A filter is not for two threads at a time.
"""

from collections.abc import Iterable
from typing import Protocol

from telamon.farm.layout import Address, AddressRule, Counter, Service, TableImage


class RunningFilter(Protocol):
    """A filter that stands on one interface and goes on without its agent."""

    def set_member(self, number: int, mac: bytes) -> None:
        """Say which member this node is (0: none) and what its interface's own MAC is."""

    def set_addresses(self, rules: dict[Address, AddressRule]) -> None:
        """Make exactly these the virtual addresses."""

    def set_services(self, services: Iterable[Service]) -> None:
        """Make exactly these the services of the virtual addresses."""

    def set_neighbour(self, number: int, mac: bytes) -> None:
        """Say at which MAC another member is reached (dispatch mode)."""

    def switch_table(self, table: int, image: TableImage) -> None:
        """Show packets a new table. Each packet sees either the old one or the new one, whole."""

    def table(self, table: int) -> TableImage:
        """The table that packets see, at least what of it this node owns."""

    def renew_lease(self, until_ns: int) -> None:
        """Let this node own buckets until that time of CLOCK_BOOTTIME."""

    def lease_until_ns(self) -> int:
        """The end of the lease as it stands; 0 or past: it has ended."""

    def counters(self) -> dict[Counter, int]:
        """Packets since the attachment, by what became of them."""

    def close(self) -> None:
        """Let go; the filter goes on."""
