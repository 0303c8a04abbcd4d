"""The API on its sockets: a Unix socket for operators, TLS on every network for other nodes.

Invariants: the Unix socket admits root and the group `telamon`, no one else; no byte that comes
over the network reaches the API before the handshake has proved that a node of this cluster calls.
A handshake that fails is logged with its reason.
"""

import asyncio
import contextlib
import grp
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from telamon.errors import NetworkError

GROUP = "telamon"
SOCKET_MODE = 0o660
BACKLOG = 128
IP_FREEBIND = 15
IPV6_FREEBIND = 78
SHUTDOWN_LIMIT_S = 2

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are the agent's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def handshake_of(nodes: frozenset[str]) -> type[ssl.SSLObject]:
    """A handshake that ends well only with one of the named nodes, and else leaves a line in the
    log. The authority's signature is not enough: a node may have left the cluster since.
    """

    class Handshake(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
                _require_node(self.getpeercert(), nodes)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                log.warning("refused a connection to the agents' port: %s", error)
                raise

    return Handshake


def _require_node(certificate: Mapping[str, Any] | None, nodes: frozenset[str]) -> None:
    subject = (certificate or {}).get("subject", ())
    caller = next((value for ((key, value),) in subject if key == "commonName"), None)
    if caller not in nodes:
        raise ssl.SSLError(f"{caller!r} is no node of cluster.yaml")


@contextlib.asynccontextmanager
async def serving(
    own_api: FastAPI,
    nodes_api: FastAPI,
    *,
    unix_socket: Path,
    addresses: list[IPv4Address | IPv6Address],
    port: int,
    tls: ssl.SSLContext,
    nodes: frozenset[str],
) -> AsyncIterator[None]:
    """Serves both applications until the caller is done; `nodes` may call from outside."""
    tls.sslobject_class = handshake_of(nodes)
    servers = [
        (_Server(_config(own_api)), [_unix_socket(unix_socket)]),
        (_Server(_config(nodes_api, tls)), [_tcp_socket(address, port) for address in addresses]),
    ]
    async with asyncio.TaskGroup() as group:
        for server, sockets in servers:
            group.create_task(server.serve(sockets=sockets))
        try:
            yield
        finally:
            for server, _ in servers:
                server.should_exit = True


def _config(api: FastAPI, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        api,
        ssl_context_factory=(lambda *_: tls) if tls else None,
        log_config=None,
        access_log=False,
        lifespan="off",
        http="h11",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
    )


def _unix_socket(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    before = os.umask(0o777)
    try:
        listening.bind(str(temporary))
    finally:
        os.umask(before)
    with contextlib.suppress(KeyError):
        os.chown(temporary, 0, grp.getgrnam(GROUP).gr_gid)
    temporary.chmod(SOCKET_MODE)
    listening.listen(BACKLOG)
    # Renamed when it answers: nobody ever finds a socket that refuses.
    temporary.replace(path)
    return listening


def _tcp_socket(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    is_v6 = address.version == 6
    listening = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # At boot the agent may be up before its addresses are.
        if is_v6:
            listening.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        else:
            listening.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        listening.bind((str(address), port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise NetworkError(
            f"could not listen for other agents on {address} port {port}: {error.strerror}; stop "
            "what uses the port, or "
            "change ports.api in cluster.yaml on every node"
        ) from error
    return listening
