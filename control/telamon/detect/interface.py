"""Whether the link of a network interface is up: switched on here, and with carrier."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from telamon.detect.outcome import GOOD, Outcome, bad, unseen
from telamon.errors import NetworkError
from telamon.net.addresses import Interface, interface_named, interface_with


@dataclass(frozen=True, slots=True)
class InterfaceDetector:
    """Looks at the named interface, else at the one that has an address of this node's own."""

    name: str | None
    own_address: IPv4Address | IPv6Address | None

    async def __call__(self) -> Outcome:
        """One look."""
        try:
            interface = await self._find()
        except NetworkError as error:
            # The kernel's refusal to tell is another thing than its answer that there is none.
            return unseen(str(error)) if error.__cause__ else bad(str(error))
        if not interface.is_up:
            return bad(f"{interface.name} is switched off: `ip link set {interface.name} up`")
        if not interface.has_carrier:
            return bad(f"{interface.name} has no carrier: look at its cable or its other end")
        return GOOD

    async def _find(self) -> Interface:
        if self.name is not None:
            return await interface_named(self.name)
        assert self.own_address is not None, "the configuration check asks for one of the two"
        return await interface_with(self.own_address)
