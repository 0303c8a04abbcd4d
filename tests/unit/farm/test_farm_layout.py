"""The layouts agree with ebpf/farm.h: enumerations by name and number, values by their bytes."""

import re
from enum import IntEnum
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.farm import layout
from telamon.farm.hash import BUCKETS, Affinity
from telamon.farm.layout import AddressRule, Counter, Mode, Other, Service, Settings, TableImage

HEADER = (Path(__file__).parents[3] / "ebpf" / "farm.h").read_text()
MAC = bytes.fromhex("027e1a000064")


def enumeration(name: str) -> dict[str, int]:
    body = re.search(rf"enum {name} \{{(.*?)\}};", HEADER, re.DOTALL)
    assert body is not None
    return {word: int(number) for word, number in re.findall(r"(\w+) = (\d+)", body[1])}


@pytest.mark.parametrize(
    ("name", "prefix", "ours"),
    [
        ("farm_mode", "FARM_", Mode),
        ("farm_other", "FARM_OTHER_", Other),
        ("farm_counter", "FARM_", Counter),
    ],
)
def test_enumerations_are_the_headers(name: str, prefix: str, ours: type[IntEnum]) -> None:
    theirs = enumeration(name)
    theirs.pop("FARM_COUNTERS", None)
    assert {f"{prefix}{member.name}": member.value for member in ours} == theirs


def test_limits_are_the_headers() -> None:
    for name, ours in {
        "FARM_BUCKETS": BUCKETS,
        "FARM_MEMBERS": layout.MEMBERS,
        "FARM_TABLES": layout.TABLES,
    }.items():
        found = re.search(rf"#define {name}\s+(\d+)", HEADER)
        assert found is not None
        assert int(found[1]) == ours


def test_values_byte_by_byte() -> None:
    address = ip_address("10.9.9.100")
    key = bytes(10) + b"\xff\xff" + bytes([10, 9, 9, 100])
    assert layout.address_key(address) == key
    assert layout.address_key("fd00::64") == ip_address("fd00::64").packed
    rule = AddressRule(0x0102, Mode.DISPATCH, Other.PASS, MAC)
    assert rule.packed() == b"\x02\x01\x01\x02" + MAC + b"\0\0"
    service = Service(address, 6, 80, 3, Affinity.CONNECTION, Mode.DISPATCH)
    assert service.key() == key + b"\x00\x50\x06\x00"
    assert service.packed() == b"\x03\x00\x01\x01"
    assert layout.neighbour(MAC) == MAC + b"\0\0"
    assert Settings(5, MAC, 1 << 64).packed() == b"\x05\0" + MAC + bytes(8) + b"\1" + bytes(23)


def test_a_table_image_keeps_its_bytes() -> None:
    image = TableImage(bytes(range(256)) * 512, epoch=1 << 40, seed=0xFFFFFFFF, dispatcher=250)
    packed = image.packed()
    assert len(packed) == 2 * BUCKETS + 16
    assert TableImage.unpacked(packed) == image


@given(st.lists(st.ip_addresses(), max_size=5), st.integers(0, 250))
def test_settings_survive_their_bytes(addresses: list[layout.Address], member: int) -> None:
    settings = Settings(member, MAC, layout.address_bits(addresses))
    assert Settings.unpacked(settings.packed()) == settings


@given(st.ip_addresses())
def test_every_address_has_one_bit(address: layout.Address) -> None:
    assert layout.address_bits([address]).bit_count() == 1
