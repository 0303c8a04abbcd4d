"""The back ends of the farm filter: which of them an interface gets, and how each is attached,
found again and removed.

The best one that works is taken: XDP in the driver where there is hardware, generic XDP, nftables,
a packet queue. What was tried in vain is part of the answer, so that nobody has to guess why a node
filters as it does; one that is named in module.yaml is taken or refused, never replaced.
"""

import logging
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from telamon.errors import BpfError, NetworkError, RefusedError, TelamonError
from telamon.farm import filter as xdp
from telamon.farm import nft, nft_rules
from telamon.farm.face import RunningFilter
from telamon.farm.filter import Attachment
from telamon.farm.nft_library import Nftables
from telamon.module.farm_config import FilterBackEnd
from telamon_nfqueue import filter as nfqueue

_log = logging.getLogger(__name__)
_ATTACHMENTS = {
    FilterBackEnd.XDP_NATIVE: Attachment.NATIVE,
    FilterBackEnd.XDP_GENERIC: Attachment.GENERIC,
}
_BEST_FIRST = (
    FilterBackEnd.XDP_NATIVE,
    FilterBackEnd.XDP_GENERIC,
    FilterBackEnd.NFT,
    FilterBackEnd.NFQUEUE,
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What filters from now on, and why it and no other does."""

    kind: FilterBackEnd
    reason: str
    filter: RunningFilter


def is_quick(kind: FilterBackEnd) -> bool:
    """Whether every call costs microseconds and may be made on the agent's loop."""
    return kind in _ATTACHMENTS


def answers_by_itself(kind: FilterBackEnd) -> bool:
    """Whether the filter answers ARP and neighbour solicitations; else the agent has to."""
    return kind in _ATTACHMENTS


def can_dispatch(kind: FilterBackEnd) -> bool:
    """Whether the filter can redirect to other nodes."""
    return kind in _ATTACHMENTS


def attach(
    interface: str, wanted: FilterBackEnd, run: Path, *, must_dispatch: bool = False
) -> Chosen:
    """Attach the wanted back end, or with `auto` the best that works here."""
    if wanted is not FilterBackEnd.AUTO:
        return Chosen(wanted, "named in module.yaml", _attach(interface, wanted, run))
    tried: list[str] = []
    for kind in _BEST_FIRST:
        if must_dispatch and not can_dispatch(kind):
            continue
        try:
            attached = _attach(interface, kind, run)
        except (BpfError, NetworkError, RefusedError) as error:
            _log.info("no %s filter on %s: %s", kind, interface, error)
            tried.append(f"{kind}: {str(error).splitlines()[0]}")
        else:
            because = f" ({'; '.join(tried)})" if tried else ""
            return Chosen(kind, f"the best that works on {interface}{because}", attached)
    raise RefusedError(
        f"no farm filter works on {interface} ({'; '.join(tried)}): cure one of these, or put the"
        " virtual IPs on another interface"
    )


def adopt(interface: str, kind: FilterBackEnd, run: Path) -> RunningFilter | None:
    """The filter of this kind that runs on the interface, if it does."""
    if kind in _ATTACHMENTS:
        return xdp.adopt(interface)
    if kind is FilterBackEnd.NFT:
        return nft.adopt(interface)
    return nfqueue.adopt(interface, run)


def detach(interface: str, kind: FilterBackEnd, run: Path) -> None:
    """Remove the filter of this kind; harmless when there is none."""
    if kind in _ATTACHMENTS:
        xdp.detach(interface)
    elif kind is FilterBackEnd.NFT:
        nft.detach(interface)
    else:
        nfqueue.detach(interface, run)


def detach_all(interface: str, run: Path) -> dict[FilterBackEnd, str]:
    """Remove whatever filters the interface; returns what could not be done, by its kind."""
    complaints = {}
    for kind in _BEST_FIRST:
        try:
            detach(interface, kind, run)
        except TelamonError as error:
            complaints[kind] = str(error)
    return complaints


def filtered_interfaces() -> Iterable[str]:
    """The interfaces on which filters are found, whoever made them."""
    yield from (path.name.replace(":", ".") for path in xdp.PINS.glob("*"))
    try:
        with closing(Nftables()) as nftables:
            listing = nftables.run("list tables", "look for the farm's tables")
    except NetworkError as error:
        _log.info("nftables was not looked at: %s", error)
        return
    yield from nft_rules.interfaces_in(listing)


def _attach(interface: str, kind: FilterBackEnd, run: Path) -> RunningFilter:
    if kind is FilterBackEnd.NFT:
        return nft.attach(interface)
    if kind is FilterBackEnd.NFQUEUE:
        return nfqueue.attach(interface, run)
    if kind is FilterBackEnd.XDP_NATIVE:
        _refuse_without_driver(interface)
    return xdp.attach(interface, [_ATTACHMENTS[kind]])


def _refuse_without_driver(interface: str) -> None:
    """Virtual interfaces take a native program too, but lose what it sends or passes on: its frames
    for another MAC stay OTHERHOST, and the peer of a veth takes none without a program of its own.
    """
    if not Path("/sys/class/net", interface, "device").exists():
        raise RefusedError(
            f"{interface} is a virtual interface, on which native XDP loses frames: use"
            " `filter: xdp-generic` for this node"
        )
