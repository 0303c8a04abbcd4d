"""The filter on a real interface: it outlives its agent, is adopted, refused, and removed."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from tests.farm.filter_bench import (
    CLIENT4,
    CLIENT_MAC,
    INTERFACE,
    OWN_MAC,
    PEER,
    SELF,
    VIP4,
    VIRTUAL_MAC,
    WIRE,
    mac,
    make_interface,
    mounted_bpffs,
    uniform,
)
from tests.farm.own_network import own_network, run

from telamon.bpf.map import Map
from telamon.errors import BpfError, RefusedError
from telamon.farm import filter as farm_filter
from telamon.farm.filter import Attachment
from telamon.farm.hash import Affinity
from telamon.farm.layout import AddressRule, Counter, Mode, Other, Service, address_key


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    bpffs = tmp_path / "bpffs"
    bpffs.mkdir()
    with own_network(), mounted_bpffs(bpffs) as place:
        make_interface()
        yield place


def datagram(content: bytes, destination: str = VIRTUAL_MAC) -> Packet:
    network = IP(src=CLIENT4, dst=VIP4) / UDP(sport=40000, dport=53)
    return Ether(src=CLIENT_MAC, dst=destination) / network / Raw(content)


def keys(pins: Path, name: str) -> set[bytes]:
    with Map.open_pin(pins / INTERFACE / name) as found:
        return set(found.keys())


def attachment_of(interface: str) -> str:
    """What the kernel says: xdp, xdpgeneric or nothing."""
    line = run("ip", "-o", "link", "show", interface)
    return next((word for word in line.split() if word.startswith("xdp")), "")


@pytest.mark.parametrize(
    ("attachment", "word"), [(Attachment.NATIVE, "xdp"), (Attachment.GENERIC, "xdpgeneric")]
)
def test_attach_and_detach(pins: Path, attachment: Attachment, word: str) -> None:
    attached = farm_filter.attach(INTERFACE, [attachment], pins)
    assert attached.attachment is attachment
    assert attachment_of(INTERFACE) == word
    attached.close()
    farm_filter.detach(INTERFACE, pins)
    assert attachment_of(INTERFACE) == ""
    assert list(pins.iterdir()) == []
    farm_filter.detach(INTERFACE, pins)


def test_an_unconfigured_filter_passes_everything(pins: Path) -> None:
    run("ip", "link", "set", INTERFACE, "up")
    run("ip", "link", "set", WIRE, "up")
    run("ip", "address", "add", f"{VIP4}/32", "dev", INTERFACE)
    run("ip", "route", "add", f"{CLIENT4}/32", "dev", INTERFACE)
    with (
        farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins) as attached,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire,
    ):
        server.bind((VIP4, 53))
        server.settimeout(20)
        wire.bind((WIRE, 0))
        wire.send(bytes(datagram(b"hello", OWN_MAC)))
        assert server.recv(100) == b"hello"
        counters = attached.counters()
    assert sum(counters.values()) == counters[Counter.FOREIGN] > 0
    farm_filter.detach(INTERFACE, pins)


def test_the_filter_outlives_its_agent_and_is_adopted_as_it_runs(pins: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from telamon.farm import filter as f;"
        "from telamon.farm.layout import TableImage;"
        "made = f.attach('eth0', [f.Attachment.GENERIC], Path(sys.argv[1]));"
        "made.switch_table(3, TableImage(bytes(range(128)) * 1024, 7, 8, 9));"
        "made.renew_lease(123456789)"
    )
    subprocess.run([sys.executable, "-c", script, str(pins)], check=True, timeout=60)
    assert attachment_of(INTERFACE) == "xdpgeneric"
    adopted = farm_filter.adopt(INTERFACE, pins)
    assert adopted is not None
    table = adopted.table(3)
    assert (table.epoch, table.seed, table.dispatcher) == (7, 8, 9)
    assert table.buckets == bytes(range(128)) * 1024
    assert adopted.lease_until_ns() == 123456789
    adopted.close()
    farm_filter.detach(INTERFACE, pins)
    assert farm_filter.adopt(INTERFACE, pins) is None


def test_configuration_is_made_equal_not_added(pins: Path) -> None:
    rule = AddressRule(0, Mode.FLOOD, Other.DROP, mac(VIRTUAL_MAC))
    first, second = ip_address(VIP4), ip_address("fd00::1")
    with farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins) as attached:
        attached.set_addresses({first: rule, second: rule})
        attached.set_addresses({second: rule})
        attached.set_services([Service(first, 6, 80, 0, Affinity.CLIENT, Mode.FLOOD)])
        attached.set_services([])
        assert keys(pins, "addresses") == {address_key(second)}
        assert keys(pins, "services") == set()
    farm_filter.detach(INTERFACE, pins)


def test_an_interface_that_is_missing_is_named(pins: Path) -> None:
    with pytest.raises(BpfError, match="no interface nowhere"):
        farm_filter.attach("nowhere", [Attachment.GENERIC], pins)
    assert not (pins / "nowhere").exists()


def test_a_hook_in_use_is_refused_with_its_cure(pins: Path) -> None:
    farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins).close()
    with pytest.raises(BpfError, match="free its XDP hook"):
        farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins.parent / "another")
    farm_filter.detach(INTERFACE, pins)


def test_the_next_way_is_tried_when_one_is_refused(pins: Path) -> None:
    """The loopback device has no native XDP."""
    attached = farm_filter.attach("lo", [Attachment.NATIVE, Attachment.GENERIC], pins)
    assert attached.attachment is Attachment.GENERIC
    attached.close()
    farm_filter.detach("lo", pins)


def test_pins_of_another_layout_are_refused(pins: Path) -> None:
    farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins).close()
    place = pins / INTERFACE
    (place / "lease").unlink()
    with Map.open_pin(place / "live") as other:
        other.pin(place / "lease")
    with pytest.raises(RefusedError, match="another version"):
        farm_filter.adopt(INTERFACE, pins)
    farm_filter.detach(INTERFACE, pins)


def test_a_torn_attachment_is_replaced(pins: Path) -> None:
    farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins).close()
    for seal in (pins / INTERFACE).glob("sealed_*"):
        seal.rmdir()
    farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins).close()
    assert attachment_of(INTERFACE) == "xdpgeneric"
    farm_filter.detach(INTERFACE, pins)


def test_an_interface_with_dots_has_its_place(pins: Path) -> None:
    run("ip", "link", "add", "eth0.7", "type", "veth", "peer", "name", "wire7")
    farm_filter.attach("eth0.7", [Attachment.GENERIC], pins).close()
    assert (pins / "eth0:7" / "link").exists()
    farm_filter.detach("eth0.7", pins)


def test_generic_xdp_takes_frames_for_the_virtual_mac(pins: Path) -> None:
    """On the wire, not by hand: the stack takes a datagram for a MAC that is nobody's."""
    run("ip", "link", "set", INTERFACE, "up", "promisc", "on")
    run("ip", "link", "set", WIRE, "up")
    run("ip", "address", "add", f"{VIP4}/32", "dev", "lo")
    run("ip", "route", "add", f"{CLIENT4}/32", "dev", INTERFACE)
    table = 0
    rule = AddressRule(table, Mode.FLOOD, Other.DROP, mac(VIRTUAL_MAC))
    with farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins) as attached:
        attached.set_addresses({ip_address(VIP4): rule})
        service = Service(ip_address(VIP4), 17, 53, table, Affinity.CLIENT, Mode.FLOOD)
        attached.set_services([service])
        attached.set_member(SELF, mac(OWN_MAC))
        attached.renew_lease((1 << 64) - 1)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire,
        ):
            server.bind((VIP4, 53))
            server.settimeout(20)
            wire.bind((WIRE, 0))
            attached.switch_table(table, uniform(PEER, 0))
            wire.send(bytes(datagram(b"another's")))
            attached.switch_table(table, uniform(SELF, 0))
            wire.send(bytes(datagram(b"ours")))
            assert server.recv(100) == b"ours"
        counters = attached.counters()
        assert counters[Counter.DROP_NOT_OWNER] == 1
        assert counters[Counter.PASS_DATAGRAM] == 1
    farm_filter.detach(INTERFACE, pins)
