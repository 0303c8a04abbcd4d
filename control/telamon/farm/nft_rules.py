"""The farm filter as nftables rules: text only, made from the same values as the XDP filter's maps.

Two tables for each interface, one at its ingress, one in the host's prerouting:

    ingress     new TCP and datagrams: the owner's pass, others' drop, under the lease.
                other TCP: of an own settled bucket it passes; everything else is let through as
                `broadcast`, which means: only if a connection here knows it.
    prerouting  behind connection tracking: what belongs to a connection here passes; `broadcast`
                without one drops; a stranger's TCP to a settled owner is the stack's, as a RST.

Every node sees every frame because the frames carry a MAC that is no one's (flood mode); ingress
makes them the host's. Connection tracking keeps connections whose bucket has moved on. The lease is
a set element with a timeout, so it ends without the agent. ARP and neighbour solicitations for a
virtual address never reach the stack: `telamon.farm.responder` answers them.

Limits against XDP: no dispatch mode; a datagram in fragments reaches a new flow only under affinity
by client.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

import numpy as np
from numpy.typing import NDArray

from telamon.farm.hash import BUCKETS, Affinity
from telamon.farm.layout import Address, AddressRule, Counter, Mode, Other, Service, TableImage
from telamon.farm.table import NOBODY

# More buckets in grace than this are not listed: all of them are treated with care.
GRACE_LISTED = 4096
_SETS = ("owned", "graced", "cautious")
_TCP, _UDP = 6, 17
_PROTOCOLS = {_TCP: "tcp", _UDP: "udp"}
_NEW_TCP = "tcp flags & (syn | ack) == syn"
_AFTER_CONNECTION_TRACKING = -190
_TABLES = "{family} telamon_farm_{interface}"
_ICMP_ERRORS = {
    4: "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    6: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
}
_LATER_FRAGMENT = {4: "ip frag-off & 0x1fff != 0", 6: "frag frag-off != 0"}
COUNTERS = (
    Counter.PASS_NEW,
    Counter.PASS_SOCKET,
    Counter.PASS_SETTLED,
    Counter.PASS_DATAGRAM,
    Counter.PASS_FRAGMENT,
    Counter.PASS_OTHER,
    Counter.DROP_NOT_OWNER,
    Counter.DROP_NO_SOCKET,
    Counter.DROP_FRAGMENT,
    Counter.DROP_OTHER,
    Counter.DROP_ARP,
    Counter.DROP_ND,
    Counter.DROP_LEASE,
)


def ingress_table(interface: str) -> str:
    """The table with the sets and the decision."""
    return _TABLES.format(family="netdev", interface=interface)


def host_table(interface: str) -> str:
    """The table behind connection tracking."""
    return _TABLES.format(family="inet", interface=interface)


def interfaces_in(listing: str) -> list[str]:
    """The interfaces of whose tables `nft list tables` tells."""
    found = re.findall(r"^table (?:netdev|inet) telamon_farm_(\S+)$", listing, re.MULTILINE)
    return sorted(set(found))


def trial(interface: str) -> str:
    """Rules with everything that the filter needs, for a trial that changes nothing: hooks, named
    sets, the hash, connection tracking.
    """
    address = IPv4Address("192.0.2.1")
    rule = AddressRule(0, Mode.FLOOD, Other.OWNER, bytes(6))
    service = Service(address, _TCP, 80, 0, Affinity.CONNECTION, Mode.FLOOD)
    return ruleset(interface, {address: rule}, [service], {0: 1})


def removal(interface: str) -> str:
    """Remove everything; harmless when there is nothing."""
    tables = (ingress_table(interface), host_table(interface))
    return "".join(f"add table {table}\ndelete table {table}\n" for table in tables)


def ruleset(
    interface: str,
    rules: Mapping[Address, AddressRule],
    services: Iterable[Service],
    seeds: Mapping[int, int],
) -> str:
    """Replace the rules and keep the sets. `seeds` has the hash's seed of each known table."""
    ingress, host = ingress_table(interface), host_table(interface)
    chosen = list(services)
    lines = [f"add table {ingress}", f"add table {host}"]
    lines += [f"add set {ingress} lease {{ type iface_index; flags timeout; }}"]
    for table in sorted(seeds):
        lines += _sets(ingress, table)
    for counter in COUNTERS:
        lines += [f"add counter {each} {counter.name.lower()}" for each in (ingress, host)]
    lines += [
        f'add chain {ingress} ingress {{ type filter hook ingress device "{interface}"'
        " priority -10; policy accept; }",
        f"add chain {host} prerouting {{ type filter hook prerouting"
        f" priority {_AFTER_CONNECTION_TRACKING}; policy accept; }}",
        f"add chain {host} tracked",
        f"flush table {ingress}",
        f"flush table {host}",
    ]
    lines += _tracked(f"add rule {host} tracked")
    for address, rule in rules.items():
        here = [service for service in chosen if service.address == address]
        lines += _ingress(f"add rule {ingress} ingress", address, rule, here, seeds)
        lines.append(
            f'add rule {host} prerouting iifname "{interface}" {_to(address)} goto tracked'
        )
    return "\n".join(lines) + "\n"


def table_change(
    interface: str, table: int, shown: TableImage | None, image: TableImage, member: int
) -> str:
    """Bring one module's sets from what they show to this image, in the instant of one
    transaction; nothing where both are the same. `shown` None: whatever is there.
    """
    ingress = ingress_table(interface)
    lines = [] if shown else _sets(ingress, table)
    lines += [] if shown else [f"flush set {ingress} {name}_{table}" for name in _SETS]
    wanted = _contents(image, member)
    there = _contents(shown, member) if shown else _Contents.empty()
    for name, now, before in (
        ("owned", wanted.owned, there.owned),
        ("graced", wanted.graced, there.graced),
    ):
        lines += _buckets("delete", ingress, f"{name}_{table}", before & ~now)
        lines += _buckets("add", ingress, f"{name}_{table}", now & ~before)
    if wanted.is_cautious != there.is_cautious:
        verb = "add" if wanted.is_cautious else "delete"
        lines.append(f'{verb} element {ingress} cautious_{table} {{ "{interface}" }}')
    return "\n".join([*lines, ""]) if lines else ""


@dataclass(frozen=True, slots=True)
class _Contents:
    """What the sets of one table hold, by bucket."""

    owned: NDArray[np.bool_]
    graced: NDArray[np.bool_]
    is_cautious: bool

    @classmethod
    def empty(cls) -> Self:
        return cls(np.zeros(BUCKETS, np.bool_), np.zeros(BUCKETS, np.bool_), is_cautious=False)


def _contents(image: TableImage, member: int) -> _Contents:
    pairs = np.frombuffer(image.buckets, np.uint8).reshape(BUCKETS, 2)
    owned = (pairs[:, 0] == member) & (member != NOBODY)
    graced = owned & (pairs[:, 1] != 0)
    is_cautious = int(np.count_nonzero(graced)) > GRACE_LISTED
    return _Contents(owned, graced & (not is_cautious), is_cautious)


def lease(interface: str, remaining_ms: int) -> str:
    """Let the lease end after so long, whatever it was."""
    ingress, element = ingress_table(interface), f'lease {{ "{interface}" }}'
    lines = [f"add element {ingress} {element}", f"delete element {ingress} {element}"]
    if remaining_ms > 0:
        lines.append(f'add element {ingress} lease {{ "{interface}" timeout {remaining_ms}ms }}')
    return "\n".join(lines) + "\n"


def resolution(add: str, address: Address, verdict: str) -> list[str]:
    """Who has the address is said by `telamon.farm.responder` alone; nobody else may claim it."""
    if isinstance(address, IPv4Address):
        return [f"{add} arp {side} ip {address} {verdict}" for side in ("daddr", "saddr")]
    target = f"@th,64,128 {int(address):#034x}"
    kinds = ("nd-neighbor-solicit", "nd-neighbor-advert")
    return [f"{add} icmpv6 type {kind} {target} {verdict}" for kind in kinds]


def _sets(ingress: str, table: int) -> list[str]:
    # The type of a hash's result cannot be named; `typeof jhash` makes nft 1.0.6 crash on listing.
    bucket = f"{{ typeof numgen inc mod {BUCKETS}; size {BUCKETS}; }}"
    return [
        f"add set {ingress} owned_{table} {bucket}",
        f"add set {ingress} graced_{table} {bucket}",
        f"add set {ingress} cautious_{table} {{ type iface_index; }}",
    ]


def _buckets(verb: str, ingress: str, name: str, chosen: NDArray[np.bool_]) -> list[str]:
    numbers = np.flatnonzero(chosen).tolist()
    if not numbers:
        return []
    return [f"{verb} element {ingress} {name} {{ {', '.join(map(str, numbers))} }}"]


def _to(address: Address) -> str:
    return f"{_ip(address)} daddr {address}"


def _ip(address: Address) -> str:
    return "ip" if isinstance(address, IPv4Address) else "ip6"


def _count(counter: Counter) -> str:
    return f"counter name {counter.name.lower()}"


def _hash(address: Address, affinity: Affinity, seed: int) -> str:
    key = f"{_ip(address)} saddr"
    if affinity is Affinity.CONNECTION:
        key += " . th sport"
    return f"jhash {key} mod {BUCKETS} seed {seed:#x}"


def _ingress(
    add: str,
    address: Address,
    rule: AddressRule,
    services: list[Service],
    seeds: Mapping[int, int],
) -> list[str]:
    to, version = f"{add} {_to(address)}", address.version
    only_if_known = "meta pkttype set broadcast accept"
    question = Counter.DROP_ARP if version == 4 else Counter.DROP_ND
    lines = resolution(add, address, f"{_count(question)} drop")
    lines.append(f"{to} {_ICMP_ERRORS[version]} {only_if_known}")
    if all(service.affinity is Affinity.CLIENT for service in services):
        lines += _datagram(
            f"{to} {_LATER_FRAGMENT[version]}",
            _hash(address, Affinity.CLIENT, seeds.get(rule.table, 1)),
            rule.table,
            (Counter.PASS_FRAGMENT, Counter.DROP_FRAGMENT),
        )
    else:
        lines.append(f"{to} {_LATER_FRAGMENT[version]} {only_if_known}")
    for service in sorted(services, key=lambda service: (service.port == 0, service.port)):
        if service.table not in seeds:
            continue
        bucket = _hash(address, service.affinity, seeds[service.table])
        where = f"{to} {_match(service)}"
        if service.protocol == _TCP:
            lines += _tcp(where, bucket, service.table)
        else:
            verdicts = (Counter.PASS_DATAGRAM, Counter.DROP_NOT_OWNER)
            lines += _datagram(where, bucket, service.table, verdicts)
    return lines + _other(to, address, rule, seeds)


def _match(service: Service) -> str:
    name = _PROTOCOLS.get(service.protocol)
    if name is None or service.port == 0:
        return f"meta l4proto {name or service.protocol}"
    return f"{name} dport {service.port}"


def _tcp(where: str, bucket: str, table: int) -> list[str]:
    new, known = f"{where} {_NEW_TCP}", where
    settled = f"iif @lease iif != @cautious_{table} {bucket} != @graced_{table}"
    return [
        f"{new} {bucket} != @owned_{table} {_count(Counter.DROP_NOT_OWNER)} drop",
        f"{new} iif != @lease {_count(Counter.DROP_LEASE)} drop",
        f"{new} {_count(Counter.PASS_NEW)} meta pkttype set host accept",
        f"{known} {settled} {bucket} @owned_{table} meta pkttype set host accept",
        f"{known} meta pkttype set broadcast accept",
    ]


def _datagram(where: str, bucket: str, table: int, verdicts: tuple[Counter, Counter]) -> list[str]:
    passed, dropped = verdicts
    return [
        f"{where} {bucket} != @owned_{table} {_count(dropped)} drop",
        f"{where} iif != @lease {_count(Counter.DROP_LEASE)} drop",
        f"{where} {_count(passed)} meta pkttype set host accept",
    ]


def _other(to: str, address: Address, rule: AddressRule, seeds: Mapping[int, int]) -> list[str]:
    if rule.other is Other.PASS:
        return [f"{to} {_count(Counter.PASS_OTHER)} meta pkttype set host accept"]
    if rule.other is Other.OWNER and rule.table in seeds:
        bucket = _hash(address, Affinity.CLIENT, seeds[rule.table])
        return _datagram(to, bucket, rule.table, (Counter.PASS_OTHER, Counter.DROP_OTHER))
    return [f"{to} {_count(Counter.DROP_OTHER)} drop"]


def _tracked(add: str) -> list[str]:
    return [
        f"{add} ct state established,related {_count(Counter.PASS_SOCKET)}"
        " meta pkttype set host accept",
        f"{add} meta pkttype broadcast {_count(Counter.DROP_NO_SOCKET)} drop",
        f"{add} {_NEW_TCP} accept",
        # The stack has the last word: it may have the connection although tracking lost it.
        f"{add} meta l4proto tcp {_count(Counter.PASS_SETTLED)} accept",
    ]
