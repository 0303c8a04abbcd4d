"""What an interface listens to beside its own address: other unicast MACs, and the groups at which
IPv6 asks for an address.

A NIC passes only what its MAC filter knows; the kernel makes one without such a filter promiscuous
by itself when a MAC is added. Switches that snoop MLD forward a question for an IPv6 address only
to who reported its solicited-node group, and the kernel reports only for addresses on the
interface itself: `Groups` reports for the others while it lives.
"""

import errno
import logging
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv6Address

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from telamon.errors import NetworkError
from telamon.net.solicited_node import group_of

_NOT_THERE = frozenset({errno.ENOENT, errno.ENODEV})
_GROUP_ON_INTERFACE = struct.Struct("=16si")  # struct ipv6_mreq

_log = logging.getLogger(__name__)


async def hear(interface: str, macs: Iterable[str]) -> None:
    """Let frames to these MACs in, until `stop_hearing`, also without this process."""
    await _change("add", interface, macs)


async def stop_hearing(interface: str, macs: Iterable[str]) -> None:
    """The reverse of `hear`; harmless for what is not there."""
    await _change("del", interface, macs)


class Groups:
    """Memberships of one interface in solicited-node groups."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._socket: socket.socket | None = None
        self._joined: set[bytes] = set()

    def report(self, addresses: Iterable[IPv6Address]) -> None:
        """Be member of exactly the groups of these addresses."""
        wanted = {group_of(address).packed for address in addresses}
        if self._socket is None:
            if not wanted:
                return
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        for group in self._joined - wanted:
            self._change(socket.IPV6_LEAVE_GROUP, group)
        for group in wanted - self._joined:
            self._change(socket.IPV6_JOIN_GROUP, group)
        self._joined = wanted

    def close(self) -> None:
        """Leave all groups."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._joined = set()

    def _change(self, option: int, group: bytes) -> None:
        assert self._socket is not None, "opened before it is used"
        try:
            index = socket.if_nametoindex(self._interface)
            membership = _GROUP_ON_INTERFACE.pack(group, index)
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, membership)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise NetworkError(
                    f"{self._interface} cannot report the group {IPv6Address(group)} to switches:"
                    f" {error.strerror}; check that IPv6 is enabled on it"
                ) from error


async def _change(command: str, interface: str, macs: Iterable[str]) -> None:
    try:
        index = socket.if_nametoindex(interface)
    except OSError:
        if command == "del":
            return
        raise NetworkError(
            f"{interface} does not exist on this host: name one that does in cluster.yaml"
        ) from None
    async with AsyncIPRoute() as netlink:
        for mac in sorted(set(macs)):
            try:
                await netlink.fdb(command, ifindex=index, lladdr=mac)
            except NetlinkError as error:
                if error.code == errno.EEXIST or (command == "del" and error.code in _NOT_THERE):
                    continue
                raise NetworkError(
                    f"{interface} could not be told to hear {mac}: {error.args[1]}; make it"
                    f" promiscuous with `ip link set {interface} promisc on`, and check its driver"
                ) from error
