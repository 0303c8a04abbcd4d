"""Virtual IPs on interfaces: find the interface, add the address, remove it.

Invariant: every operation is idempotent (adding what is there and removing what is gone succeed),
so that a retry after a crash needs no memory. An IPv6 address is added without duplicate address
detection, which would leave it unusable for a second, and as deprecated, so that this host's own
outgoing connections never start from an address that will move away.

Does not announce (announce.py) and does not touch connections (connections.py).
"""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
    ip_interface,
)
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from telamon.errors import NetworkError

Address = IPv4Interface | IPv6Interface

IFA_F_NODAD = 0x02
FOREVER_S = 0xFFFFFFFF
ARPHRD_ETHER = 1
IFF_LOWER_UP = 0x10000
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})


@dataclass(frozen=True, slots=True)
class Interface:
    """A link of this host. `mac` is None where the link has no Ethernet address, so that there is
    nobody to tell.
    """

    index: int
    name: str
    mac: str | None
    is_up: bool
    has_carrier: bool = True


async def interface_named(name: str) -> Interface:
    """The interface called `name`."""
    async with _netlink(f"look for interface {name}") as netlink:
        async for link in await netlink.get_links():
            if link.get("ifname") == name:
                return _interface(link)
    raise NetworkError(
        f"interface {name} does not exist on this host: correct the interface of the network in "
        "cluster.yaml"
    )


async def interface_with(address: IPv4Address | IPv6Address) -> Interface:
    """The interface that has `address`."""
    async with _netlink(f"look for the interface with {address}") as netlink:
        indices = [
            message["index"]
            async for message in await netlink.get_addr()
            if _assigned(message).ip == address
        ]
        if indices:
            async for link in await netlink.get_links():
                if link["index"] == indices[0]:
                    return _interface(link)
    raise NetworkError(
        f"no interface of this host has the address {address}: give it to the host, or correct "
        "the node's "
        "address in cluster.yaml"
    )


async def assigned_addresses() -> frozenset[Address]:
    """Every address this host has at this moment, with its prefix length."""
    async with _netlink("list the addresses of this host") as netlink:
        return frozenset([_assigned(message) async for message in await netlink.get_addr()])


async def add_address(interface: Interface, address: Address) -> None:
    """Gives `address` to `interface`; it is usable when this returns."""
    lifetime: dict[str, int] = {}
    if address.version == 6:
        lifetime = {"flags": IFA_F_NODAD, "preferred_lft": 0, "valid_lft": FOREVER_S}
    async with _netlink(
        f"add {address} to {interface.name}", done_already=frozenset({errno.EEXIST})
    ) as netlink:
        await netlink.addr(
            "add",
            index=interface.index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
            **lifetime,
        )


async def remove_address(interface: Interface, address: Address) -> None:
    """Takes `address` away from `interface`."""
    async with _netlink(f"remove {address} from {interface.name}", done_already=_ABSENT) as netlink:
        await netlink.addr(
            "del",
            index=interface.index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
        )


@asynccontextmanager
async def _netlink(
    attempt: str, *, done_already: frozenset[int] = frozenset()
) -> AsyncIterator[AsyncIPRoute]:
    # A socket for each operation costs 0.4 ms and can never be left in a broken state by a
    # cancelled task.
    try:
        async with AsyncIPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        if error.code not in done_already:
            raise NetworkError(
                f"could not {attempt}: {error.args[1]}; {_cure(error.code)}"
            ) from error
    except OSError as error:
        raise NetworkError(
            f"could not {attempt}: {error.strerror}; {_cure(error.errno)}"
        ) from error


def _cure(code: int | None) -> str:
    if code in (errno.EPERM, errno.EACCES):
        return "run the agent as root, or with CAP_NET_ADMIN"
    if code in (errno.EOPNOTSUPP, errno.EINVAL):
        return "check that the interface takes this kind of address (IPv6 may be disabled on it)"
    return "check the interface with `ip address`"


def _interface(link: Any) -> Interface:
    is_ethernet = link["ifi_type"] == ARPHRD_ETHER
    return Interface(
        index=link["index"],
        name=link.get("ifname"),
        mac=link.get("address") if is_ethernet else None,
        is_up=link.get("state") == "up",
        has_carrier=bool(link["flags"] & IFF_LOWER_UP),
    )


def _assigned(message: Any) -> Address:
    # On point-to-point links IFA_ADDRESS is the peer and IFA_LOCAL our own.
    local = message.get("local") or message.get("address")
    return ip_interface(f"{local}/{message['prefixlen']}")
