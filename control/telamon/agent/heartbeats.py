"""Heartbeats on the wire: one UDP socket on every network of this node, one judgement of every
peer.

Invariants: nothing that arrives is believed before it is authenticated and understood as a whole:
what is not understood is silence. A refused datagram is counted and told, never answered. Sending
to a network that is down is not an error: silence there is what the peers judge. What a peer's
silence means for a module is the role machine's business.
"""

import asyncio
import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol

from telamon.agent import models
from telamon.agent.clock import boottime_ms
from telamon.cluster import membership
from telamon.cluster.config import Cluster
from telamon.cluster.heartbeat import Heartbeat, Keys, Refusal, open_heartbeat, seal
from telamon.cluster.membership import Fresh, Heard, Ignored, Introduced, Lost, Standing
from telamon.errors import NetworkError

IP_FREEBIND = 15
IPV6_FREEBIND = 78
LOG_PAUSE_S = 10.0
RECEIVE_BUFFER_BYTES = 1 << 20
DSCP_CS6 = 0xC0

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who acts on what heartbeats say. Called on the loop; must not block."""

    def payloads(self, receiver: str) -> tuple[tuple[str, bytes], ...]: ...

    def peer_heard(self, node: str) -> None: ...

    def peer_lost(self, node: str, said_goodbye: bool) -> None: ...

    def peer_reported(self, heartbeat: Heartbeat) -> None: ...

    def misunderstood(self, heartbeat: Heartbeat) -> str:
        """Why the payloads make no sense here; empty if they do."""
        ...

    def heartbeat_refused(self, network: str, source: str, reason: str) -> None:
        """A heartbeat was refused."""
        ...


@dataclass(slots=True)
class _Refusals:
    """Counts and tells every refusal, logs one of a kind in ten seconds."""

    tell: Callable[[str, str, str], None]
    total: int = 0
    _since: Counter[str] = field(default_factory=Counter)
    _logged_s: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, network: str, source: str) -> None:
        self.total += 1
        self.tell(network, source, kind)
        key = f"{network}: {kind}"
        self._since[key] += 1
        now_s = time.monotonic()
        if now_s - self._logged_s.get(key, -LOG_PAUSE_S) >= LOG_PAUSE_S:
            log.warning(
                "refused %d heartbeats on network %s, the last from %s: %s",
                self._since.pop(key),
                network,
                source,
                kind,
            )
            self._logged_s[key] = now_s


class Heartbeats:
    """Speaks to and listens to every other node of the cluster."""

    def __init__(
        self, cluster: Cluster, node: str, keys: Keys, boot_id: int, listener: Listener
    ) -> None:
        own = cluster.node(node)
        assert own is not None, "the caller has found this node in cluster.yaml"
        self._node = node
        self._keys = keys
        self._boot_id = boot_id
        self._listener = listener
        self._port = cluster.ports.heartbeat
        self._interval_s = cluster.heartbeat.interval.seconds
        self._own = own.addresses
        # peer -> network -> address, of the networks that both have.
        self._peers = {
            peer.name: {name: at for name, at in peer.addresses.items() if name in own.addresses}
            for peer in cluster.nodes
            if peer.name != node
        }
        self._membership = membership.listen(
            boot_id,
            self._peers,
            membership.Times(
                cluster.heartbeat.interval.milliseconds, cluster.heartbeat.lost_after.milliseconds
            ),
            boottime_ms(),
        )
        self._transports: dict[str, asyncio.DatagramTransport] = {}
        self._soon: asyncio.Handle | None = None
        self._refusals = _Refusals(listener.heartbeat_refused)

    @property
    def refused_count(self) -> int:
        """Datagrams that were not authentic heartbeats of this cluster, since the start."""
        return self._refusals.total

    async def open(self) -> None:
        """Opens a socket on every network of this node."""
        loop = asyncio.get_running_loop()
        for network, address in self._own.items():
            bound = _bound_socket(network, address, self._port)
            transport, _ = await loop.create_datagram_endpoint(
                partial(_Receiver, self, network), sock=bound
            )
            self._transports[network] = transport

    def close(self) -> None:
        """Closes every socket."""
        for transport in self._transports.values():
            transport.close()

    async def run(self) -> None:
        """Sends every interval, judges then and when somebody's time is up, until cancelled."""
        due_s = time.monotonic()
        while True:
            self._tick()
            if (now_s := time.monotonic()) >= due_s:
                self._send_all()
                due_s = max(due_s + self._interval_s, now_s)
            await asyncio.sleep(min(due_s - time.monotonic(), self._loss_s()))

    def _loss_s(self) -> float:
        """Seconds until the first peer is lost if nothing arrives."""
        loss_ms = membership.next_loss_ms(self._membership)
        return math.inf if loss_ms is None else max(loss_ms - boottime_ms(), 0) / 1000

    def send_soon(self) -> None:
        """Sends to everybody as soon as the present callback ends, once however often asked."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._send_all)

    def tell(self, node: str, payload: tuple[str, bytes]) -> None:
        """Sends one payload to one node at once; lost as any datagram may be."""
        if node in self._peers:
            self._send_to(node, (payload,))

    def say_goodbye(self) -> None:
        """Tells every peer that this agent ends and runs nothing any more."""
        self._send_all(says_goodbye=True)

    def describe(self) -> dict[str, dict[str, models.NetworkHeartbeat]]:
        """What the API shows: peer -> network -> state."""
        now_ms = boottime_ms()
        return {
            peer: {network: self._describe(peer, network, now_ms) for network in networks}
            for peer, networks in self._peers.items()
        }

    def standing(self, node: str) -> Standing:
        """Whether a peer is heard at all."""
        return self._membership.peers[node].standing

    def receive(self, network: str, datagram: bytes, source: str) -> None:
        """Takes one datagram that arrived on `network`."""
        opened = open_heartbeat(self._keys, datagram, self._node)
        if isinstance(opened, Refusal):
            self._refusals.add(opened, network, source)
            return
        if opened.network != network:
            self._refusals.add("sealed for another network", network, source)
            return
        if misunderstood := self._listener.misunderstood(opened):
            self._refusals.add(misunderstood, network, source)
            return
        self._membership, changes = membership.hear(self._membership, opened, boottime_ms())
        self._act_on(changes)

    def _tick(self) -> None:
        self._membership, changes = membership.tick(self._membership, boottime_ms())
        self._act_on(changes)

    def _act_on(self, changes: tuple[membership.Change, ...]) -> None:
        for change in changes:
            match change:
                case Heard(node):
                    self._listener.peer_heard(node)
                case Lost(node, said_goodbye):
                    self._listener.peer_lost(node, said_goodbye)
                case Fresh(heartbeat):
                    self._listener.peer_reported(heartbeat)
                case Introduced(node, boot_id):
                    self._send_to(node, self._listener.payloads(node), life=boot_id)
                case Ignored(reason):
                    log.debug("a heartbeat does not count: %s", reason)

    def _send_all(self, *, says_goodbye: bool = False) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        for node in self._peers:
            self._send_to(node, self._listener.payloads(node), says_goodbye=says_goodbye)

    def _send_to(
        self,
        node: str,
        payloads: tuple[tuple[str, bytes], ...],
        *,
        says_goodbye: bool = False,
        life: int = 0,
    ) -> None:
        for network, address in self._peers[node].items():
            self._membership, heading = membership.head(self._membership, node, life)
            heartbeat = Heartbeat(
                sender=self._node,
                boot_id=self._boot_id,
                sequence=heading.sequence,
                network=network,
                knows_boot_id=heading.knows_boot_id,
                knows_sequence=heading.knows_sequence,
                hears_receiver=heading.hears_receiver,
                says_goodbye=says_goodbye,
                payloads=payloads,
            )
            datagram = seal(self._keys, heartbeat, node)
            self._transports[network].sendto(datagram, (str(address), self._port))

    def _describe(self, peer: str, network: str, now_ms: int) -> models.NetworkHeartbeat:
        heard_ms = self._membership.peers[peer].heard_on(network)
        if heard_ms is None and self.standing(peer) is Standing.UNKNOWN:
            state = models.HeartbeatState.UNKNOWN
        elif self._membership.silent_networks(peer, [network]):
            state = models.HeartbeatState.LOST
        else:
            state = models.HeartbeatState.ALIVE
        return models.NetworkHeartbeat(
            state=state,
            address=str(self._peers[peer][network]),
            silent_ms=None if heard_ms is None else max(now_ms - heard_ms, 0),
        )


class _Receiver(asyncio.DatagramProtocol):
    """Hands datagrams of one network on."""

    def __init__(self, heartbeats: Heartbeats, network: str) -> None:
        self._heartbeats = heartbeats
        self._network = network

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._heartbeats.receive(self._network, data, str(addr[0]))

    def error_received(self, exc: Exception) -> None:
        # The network is down, or the peer's port is closed: silence that the peer's judge counts.
        log.debug("network %s: %s", self._network, exc)


def _bound_socket(network: str, address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    is_v6 = address.version == 6
    bound = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # At boot the agent may be up before its addresses are.
        if is_v6:
            bound.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_CS6)
        else:
            bound.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            bound.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_CS6)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        bound.setblocking(False)
        bound.bind((str(address), port))
    except OSError as error:
        bound.close()
        raise NetworkError(
            f"could not listen for heartbeats on {address} port {port} (network {network}): "
            f"{error.strerror}; stop what uses "
            "the port, or change ports.heartbeat in cluster.yaml on every node"
        ) from error
    return bound
