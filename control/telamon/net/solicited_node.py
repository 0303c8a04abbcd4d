"""Where IPv6 asks who has an address: its solicited-node group (RFC 4291 2.7.1). Pure."""

from ipaddress import IPv6Address

_PREFIX = IPv6Address("ff02::1:ff00:0").packed[:13]


def group_of(address: IPv6Address) -> IPv6Address:
    """The group that an address's questions go to."""
    return IPv6Address(_PREFIX + address.packed[-3:])


def asked_at(address: IPv6Address) -> str:
    """The group's Ethernet address (RFC 2464 7)."""
    return "33:33:" + group_of(address).packed[-4:].hex(":")
