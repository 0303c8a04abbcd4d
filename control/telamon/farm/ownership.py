"""Whether this node owns a client, as the filters decide it; for what answers in user space."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from telamon.farm.hash import jhash
from telamon.farm.layout import Address, AddressRule, TableImage
from telamon.farm.table import NOBODY


@dataclass(slots=True)
class Ownership:
    """What the agent told last: the filter's values, kept where Python can ask."""

    member: int = NOBODY
    lease_until_ns: int = 0
    rules: Mapping[Address, AddressRule] = field(default_factory=dict)
    images: dict[int, TableImage] = field(default_factory=dict)

    def is_shown(self, table: int, key: bytes) -> bool:
        """Whether the table gives the client of this hash key to this node, lease or not."""
        image = self.images.get(table)
        if image is None or self.member == NOBODY:
            return False
        return image.buckets[2 * (jhash(key, image.seed) >> 16)] == self.member

    def has_lease(self, now_ns: int) -> bool:
        """Whether this node may own anything at that time of CLOCK_BOOTTIME."""
        return now_ns < self.lease_until_ns

    def virtual_mac(self, target: Address, requester: Address, now_ns: int) -> str | None:
        """The virtual MAC, if it is this node that tells the requester who has the target."""
        rule = self.rules.get(target)
        if rule is None or not self.has_lease(now_ns):
            return None
        if not self.is_shown(rule.table, requester.packed):
            return None
        return rule.virtual_mac.hex(":")
