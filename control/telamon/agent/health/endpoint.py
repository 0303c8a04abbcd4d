"""The health endpoint of one module: load balancers ask it whether this node serves the module.

Invariants: an answer is computed from the state of this very moment. Whatever comes in changes
nothing: a request has little room and little time, there is one in a connection, and when there are
too many connections the oldest goes, so that slow clients never keep a probe out. Connections
are accepted no faster than the agent can bear. A port that is taken is tried again, and said so.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from telamon.agent import models
from telamon.agent.events import EventLog
from telamon.agent.health.answer import Judgement, Request, answer, read
from telamon.agent.models import Severity
from telamon.module.model import Module

CONNECTIONS_LIMIT = 64
REQUEST_LIMIT_S = 3.0
READ_BYTES = 2048
BACKLOG = 128
BURST = 64
BURST_S = 0.1
RETRY_S = 5.0
IP_FREEBIND = 15
IPV6_FREEBIND = 78
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})

Address = IPv4Address | IPv6Address

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where it listens and what it is asked for. No addresses: on all of this host."""

    module: str
    port: int
    path: str
    addresses: tuple[Address, ...]


def endpoint_of(module: Module, own_addresses: Mapping[str, Address]) -> Endpoint | None:
    """The configured endpoint on this node; None if there is none."""
    health = module.health
    if health is None:
        return None
    addresses: tuple[Address, ...] = ()
    if health.address is not None:
        addresses = (health.address,)
    elif health.network is not None:
        addresses = (own_addresses[health.network],)
    return Endpoint(module.module, health.port, health.path, addresses)


class HealthServer:
    """Serves until cancelled."""

    def __init__(
        self, endpoint: Endpoint, judge: Callable[[], Judgement], events: EventLog
    ) -> None:
        self._endpoint = endpoint
        self._judge = judge
        self._events = events
        self._connections: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._listens_on: list[str] = []
        self._fault = ""

    def describe(self) -> models.HealthStatus:
        """What the API shows."""
        judgement = self._judge()
        return models.HealthStatus(
            ready=judgement.is_ready,
            reason=judgement.reason,
            listens_on=self._listens_on,
            fault=self._fault,
        )

    async def run(self) -> None:
        """Listens, and answers."""
        listening = await self._listen_at_last()
        try:
            async with asyncio.TaskGroup() as group:
                for link in listening:
                    group.create_task(self._accept(link))
        finally:
            self._listens_on = []
            for link in listening:
                link.close()
            for task in self._connections:
                task.cancel()

    async def _listen_at_last(self) -> list[socket.socket]:
        while True:
            try:
                listening = _listen(self._endpoint)
            except OSError as error:
                self._tell_fault(error)
                await asyncio.sleep(RETRY_S)
                continue
            self._fault = ""
            self._listens_on = [_shown(link) for link in listening]
            return listening

    def _tell_fault(self, error: OSError) -> None:
        fault = (
            f"the health endpoint cannot listen on port {self._endpoint.port}: {error.strerror};"
            " stop what uses the port, or change health.port in module.yaml"
        )
        if fault != self._fault:
            self._fault = fault
            self._events.append(fault, module=self._endpoint.module, severity=Severity.ERROR)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        burst_began_s, accepted = loop.time(), 0
        while True:
            try:
                link, _ = await loop.sock_accept(listening)
            except OSError as error:
                # A client that went away again, or no descriptors left: either passes.
                log.info("module %s: health endpoint: %s", self._endpoint.module, error)
                await asyncio.sleep(BURST_S)
                continue
            self._begin(link)
            accepted += 1
            if accepted >= BURST:
                await asyncio.sleep(max(burst_began_s + BURST_S - loop.time(), 0))
                burst_began_s, accepted = loop.time(), 0

    def _begin(self, link: socket.socket) -> None:
        link.setblocking(False)
        if len(self._connections) >= CONNECTIONS_LIMIT:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._serve(link))
        self._connections[task] = None
        task.add_done_callback(partial(self._ended, link))

    def _ended(self, link: socket.socket, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        link.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a defect in the health endpoint: please report it", exc_info=error)

    async def _serve(self, link: socket.socket) -> None:
        """One request and its answer; who is slow, rude or gone gets none."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(REQUEST_LIMIT_S):
                request = await _receive(link)
                if request is not None:
                    content = answer(request, self._endpoint.path, self._judge())
                    await asyncio.get_running_loop().sock_sendall(link, content)
                    link.shutdown(socket.SHUT_WR)


async def _receive(link: socket.socket) -> Request | None:
    """The request; None if the client has gone."""
    loop = asyncio.get_running_loop()
    received = b""
    while True:
        part = await loop.sock_recv(link, READ_BYTES)
        if not part:
            return None
        received += part
        request = read(received)
        if request is not None:
            return request


def _listen(endpoint: Endpoint) -> list[socket.socket]:
    addresses: Iterable[Address] = endpoint.addresses
    if endpoint.addresses:
        return _listen_on(addresses, endpoint.port)
    try:
        return _listen_on([IPv4Address(0), IPv6Address(0)], endpoint.port)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
        return _listen_on([IPv4Address(0)], endpoint.port)


def _listen_on(addresses: Iterable[Address], port: int) -> list[socket.socket]:
    """A socket for each address, or none at all."""
    made: list[socket.socket] = []
    try:
        for address in addresses:
            made.append(_socket(address))
            made[-1].bind((str(address), port))
            made[-1].listen(BACKLOG)
    except OSError:
        for link in made:
            link.close()
        raise
    return made


def _socket(address: Address) -> socket.socket:
    is_v6 = address.version == 6
    link = socket.socket(
        socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    )
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The address may come later than the agent.
    if is_v6:
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        link.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        link.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    return link


def _shown(link: socket.socket) -> str:
    host, port, *_ = link.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
