"""What a change of a table asks of nftables: the difference, and never a bucket of nobody's."""

import re
from random import Random

import pytest

from telamon.farm.hash import BUCKETS
from telamon.farm.layout import TableImage
from telamon.farm.nft_rules import GRACE_LISTED, interfaces_in, table_change

ME = 2
NOBODYS = TableImage(bytes(2 * BUCKETS), 0, 1)


def image(random: Random, graced_share: float = 0.0) -> TableImage:
    buckets = bytearray()
    for _ in range(BUCKETS):
        buckets += bytes([random.choice([1, 2, 3]), random.random() < graced_share])
    return TableImage(bytes(buckets), 1, 5)


class Sets:
    """The three sets of one table, as the commands leave them."""

    def __init__(self) -> None:
        self.held: dict[str, set[str]] = {}

    def obey(self, commands: str) -> None:
        for line in commands.splitlines():
            if line.startswith("flush"):
                self.held[line.split()[-1]] = set()
            elif match := re.match(r"(add|delete) element netdev \S+ (\S+) \{ (.*) \}", line):
                verb, name, listed = match.groups()
                elements, there = set(listed.split(", ")), self.held.setdefault(name, set())
                assert there.isdisjoint(elements) if verb == "add" else elements <= there
                self.held[name] = there | elements if verb == "add" else there - elements

    def holds(self, wanted: TableImage) -> bool:
        owner, previous = wanted.buckets[0::2], wanted.buckets[1::2]
        owned = {str(bucket) for bucket in range(BUCKETS) if owner[bucket] == ME}
        graced = {bucket for bucket in owned if previous[int(bucket)]}
        is_cautious = len(graced) > GRACE_LISTED
        return self.held == {
            "owned_0": owned,
            "graced_0": set() if is_cautious else graced,
            "cautious_0": {'"eth0"'} if is_cautious else set(),
        }


@pytest.mark.parametrize("seed", range(3))
def test_changes_lead_from_one_image_to_the_next(seed: int) -> None:
    random = Random(seed)
    sets, shown = Sets(), None
    for share in (0.0, 0.001, 0.5, 0.9, 0.002, 0.0):
        following = image(random, share)
        sets.obey(table_change("eth0", 0, shown, following, ME))
        assert sets.holds(following)
        assert table_change("eth0", 0, following, following, ME) == ""
        shown = following


@pytest.mark.parametrize("member", [0, ME])
def test_a_table_of_nobody_owns_nothing_whoever_asks(member: int) -> None:
    assert "element" not in table_change("eth0", 0, None, NOBODYS, member)


def test_interfaces_are_found_by_their_tables() -> None:
    listing = "table ip nat\ntable netdev telamon_farm_eth0.7\ntable inet telamon_farm_eth0.7\n"
    assert interfaces_in(listing) == ["eth0.7"]
