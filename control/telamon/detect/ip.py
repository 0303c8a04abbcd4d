"""Whether addresses are present on this node."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from telamon.detect.outcome import GOOD, Outcome, bad, unseen
from telamon.errors import NetworkError
from telamon.net.addresses import assigned_addresses


@dataclass(frozen=True, slots=True)
class IpDetector:
    """Looks for all of the addresses."""

    addresses: tuple[IPv4Address | IPv6Address, ...]

    async def __call__(self) -> Outcome:
        """One look."""
        try:
            present = {address.ip for address in await assigned_addresses()}
        except NetworkError as error:
            return unseen(str(error))
        missing = [str(address) for address in self.addresses if address not in present]
        if missing:
            return bad(f"this node does not have {', '.join(missing)}")
        return GOOD
