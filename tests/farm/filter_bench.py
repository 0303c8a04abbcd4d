"""The filter attached to an interface of a private network, and packets put through it by hand."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from scapy.packet import Packet
from tests.farm.own_network import run

from telamon.bpf.program import Program
from telamon.farm import filter as farm_filter
from telamon.farm.filter import Attachment, Filter
from telamon.farm.hash import BUCKETS, Affinity
from telamon.farm.layout import AddressRule, Counter, Mode, Other, Service, TableImage

INTERFACE, WIRE = "eth0", "wire"
SELF, PEER, THIRD, STRANGER = 1, 2, 3, 4
OWN_MAC = "02:00:00:00:00:01"
PEER_MAC = "02:00:00:00:00:02"
THIRD_MAC = "02:00:00:00:00:03"
CLIENT_MAC = "02:00:00:00:0c:11"
VIRTUAL_MAC = "02:7e:1a:00:00:64"
VIP4, VIP6 = "10.9.9.100", "fd00:9:9::64"
OTHER_VIP4 = "10.9.9.101"
CLIENT4, CLIENT6 = "10.9.9.11", "fd00:9:9::11"
SEED = 0x5EED
TABLE, CONNECTION_TABLE, OTHER_TABLE, NO_TABLE = 0, 1, 2, 99
DROP, PASS, TRANSMIT = 1, 2, 3
TCP, UDP, SCTP = 6, 17, 132
FOREVER_NS = (1 << 64) - 1


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def uniform(owner: int, previous: int, dispatcher: int = 0, epoch: int = 1) -> TableImage:
    return TableImage(bytes([owner, previous]) * BUCKETS, epoch, SEED, dispatcher)


@dataclass(frozen=True, slots=True)
class World:
    """All that a packet's fate depends on besides the packet; the default owns every bucket."""

    owner: int = SELF
    previous: int = 0
    member: int = SELF
    lease_holds: bool = True
    mode: Mode = Mode.FLOOD
    dispatcher: int = 0
    other: Other = Other.DROP


def services(mode: Mode) -> list[Service]:
    def service(address: str, protocol: int, port: int, table: int = TABLE) -> Service:
        by_connection = table == CONNECTION_TABLE
        affinity = Affinity.CONNECTION if by_connection else Affinity.CLIENT
        return Service(ip_address(address), protocol, port, table, affinity, mode)

    return [
        service(VIP4, TCP, 80),
        service(VIP4, UDP, 53),
        service(VIP4, TCP, 81, CONNECTION_TABLE),
        service(VIP4, TCP, 82, NO_TABLE),
        service(VIP4, SCTP, 0),
        service(OTHER_VIP4, TCP, 0, OTHER_TABLE),
        service(VIP6, TCP, 80),
        service(VIP6, UDP, 53),
        service(VIP6, TCP, 81, CONNECTION_TABLE),
    ]


class FilterBench:
    """Arranges worlds and runs packets."""

    def __init__(self, attached: Filter, program: Program) -> None:
        self.filter = attached
        self._program = program
        self._world: World | None = None
        attached.set_neighbour(PEER, mac(PEER_MAC))
        attached.set_neighbour(THIRD, mac(THIRD_MAC))
        attached.switch_table(OTHER_TABLE, uniform(STRANGER, 0))

    def arrange(self, world: World) -> None:
        if world == self._world:
            return
        self._world = world
        rule = AddressRule(TABLE, world.mode, world.other, mac(VIRTUAL_MAC))
        self.filter.set_addresses(
            {
                ip_address(VIP4): rule,
                ip_address(VIP6): rule,
                ip_address(OTHER_VIP4): replace(rule, table=OTHER_TABLE),
            }
        )
        self.filter.set_services(services(world.mode))
        self.filter.set_member(world.member, mac(OWN_MAC))
        self.filter.renew_lease(FOREVER_NS if world.lease_holds else 0)
        image = uniform(world.owner, world.previous, world.dispatcher)
        self.filter.switch_table(TABLE, image)
        self.filter.switch_table(CONNECTION_TABLE, image)

    def show(self, table: int, image: TableImage) -> None:
        """Puts another table in place of the arranged one."""
        self._world = None
        self.filter.switch_table(table, image)

    def put(self, packet: Packet | bytes) -> tuple[int, bytes, Counter]:
        """Verdict, frame afterwards, and the one counter that counted."""
        before = self.filter.counters()
        ran = self._program.test_run(bytes(packet))
        after = self.filter.counters()
        moved = {counter: after[counter] - before[counter] for counter in Counter}
        counted = [counter for counter, packets in moved.items() if packets]
        assert [moved[counter] for counter in counted] == [1], f"counted once: {moved}"
        return ran.verdict, ran.data, counted[0]

    def run_ns(self, frame: bytes, repeat: int) -> int:
        """The mean cost of the packet over so many runs."""
        return self._program.test_run(frame, repeat).duration_ns


def make_interface() -> None:
    """One veth pair, down: no frame but the tests' own reaches the filter."""
    run("ip", "link", "add", INTERFACE, "address", OWN_MAC, "type", "veth", "peer", "name", WIRE,
        "address", CLIENT_MAC)  # fmt: skip
    run("ip", "link", "set", "lo", "up")


@contextmanager
def mounted_bpffs(at: Path) -> Iterator[Path]:
    """The place of the filters' pins, on a bpffs that nobody else uses."""
    subprocess.run(["mount", "-t", "bpf", "bpf", str(at)], check=True, timeout=30)
    try:
        yield at / "telamon-farm"
    finally:
        subprocess.run(["umount", str(at)], check=True, timeout=30)


@contextmanager
def attached_bench(pins: Path) -> Iterator[FilterBench]:
    attached = farm_filter.attach(INTERFACE, [Attachment.GENERIC], pins)
    try:
        with Program.open_pin(pins / INTERFACE / "prog") as program:
            yield FilterBench(attached, program)
    finally:
        attached.close()
        farm_filter.detach(INTERFACE, pins)
