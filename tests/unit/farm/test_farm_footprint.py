"""The record of what farms made of an interface survives the agent."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from telamon.errors import NetworkError
from telamon.farm import footprint
from telamon.farm.footprint import Claim, Footprint
from telamon.farm.hash import Affinity
from telamon.farm.layout import AddressRule, Mode, Other, Service

ADDRESS = ip_address("10.0.0.100")
SIXTH = ip_address("fd00::100")


def claim(table: int) -> Claim:
    rule = AddressRule(table, Mode.FLOOD, Other.DROP, b"\x02\0\0\0\0\1")
    services = tuple(
        Service(address, 6, 80, table, Affinity.CONNECTION, Mode.FLOOD)
        for address in (ADDRESS, SIXTH)
    )
    return Claim((table,), {ADDRESS: rule, SIXTH: rule}, services)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    made = Footprint({"web": claim(0), "dns": claim(3)}, {"arp_ignore": 0, "arp_announce": 1})
    footprint.save(tmp_path, "eth0.100", made)
    assert footprint.load(tmp_path, "eth0.100") == made
    assert footprint.interfaces(tmp_path) == ["eth0.100"]


def test_the_record_goes_with_the_last_module(tmp_path: Path) -> None:
    footprint.save(tmp_path, "eth0", Footprint({"web": claim(0)}))
    footprint.save(tmp_path, "eth0", footprint.load(tmp_path, "eth0").without("web"))
    assert footprint.interfaces(tmp_path) == []
    assert footprint.load(tmp_path, "eth0") == Footprint()


def test_tables_are_given_once() -> None:
    made = Footprint({"web": claim(0), "dns": claim(2)})
    assert made.free_tables(2, 32) == (1, 3)
    assert made.free_tables(2, 4) == (1, 3)
    assert made.free_tables(3, 4) == (1, 3)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"claims": {}}', '{"claims": {"web": {"tables": ["x"]}}, "saved": {}}']
)
def test_a_damaged_record_is_said_with_its_cure(tmp_path: Path, text: str) -> None:
    path = footprint.path_of(tmp_path, "eth0")
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(NetworkError, match="telamon farm detach --force"):
        footprint.load(tmp_path, "eth0")
