"""Calling the agents of other nodes: TLS 1.3 both ways, over whichever network answers.

Invariants: a node is only believed to be who its certificate says; a call ends within its limit,
whatever the other side does. An answer that refuses comes back as the same error, with the same
sentence, as if it had been refused here.
"""

import ssl
from pathlib import Path

import httpx

from telamon.agent.faults import error_of
from telamon.agent.models import Fault
from telamon.cluster.config import Cluster
from telamon.cluster.credentials import AUTHORITY, CERTIFICATE, KEY
from telamon.errors import UnreachableError

CONNECT_LIMIT_S = 1.0
CALL_LIMIT_S = 15.0


def client_context(credentials: Path) -> ssl.SSLContext:
    """TLS as a node that calls another."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _prepare(context, credentials)
    return context


def server_context(credentials: Path) -> ssl.SSLContext:
    """TLS as a node that is called: only nodes of the cluster get through the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, credentials)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Peers:
    """The agents of all other nodes."""

    def __init__(self, cluster: Cluster, node: str, credentials: Path) -> None:
        own = cluster.node(node)
        assert own is not None, "the caller has found this node in cluster.yaml"
        self._port = cluster.ports.api
        self._addresses = {
            peer.name: [at for network, at in peer.addresses.items() if network in own.addresses]
            for peer in cluster.nodes
            if peer.name != node
        }
        self._client = httpx.AsyncClient(
            verify=client_context(credentials),
            trust_env=False,
            # A connection that is kept would hide for long that the node has died.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Closes idle connections."""
        await self._client.aclose()

    async def call(
        self,
        node: str,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        content_type: str = "application/json",
        limit_s: float = CALL_LIMIT_S,
    ) -> bytes:
        """The body of the answer of `node`."""
        headers = {} if content is None else {"content-type": content_type}
        reasons = []
        for address in self._addresses[node]:
            host = f"[{address}]" if address.version == 6 else str(address)
            request = self._client.build_request(
                method,
                f"https://{host}:{self._port}{path}",
                content=content,
                headers=headers,
                timeout=httpx.Timeout(limit_s, connect=CONNECT_LIMIT_S),
                # Whatever the address: the certificate must be this node's.
                extensions={"sni_hostname": node},
            )
            try:
                return _content(node, await self._client.send(request))
            except httpx.ConnectError as error:
                reasons.append(f"{address}: {error or 'no connection'}")
            except httpx.ConnectTimeout:
                reasons.append(f"{address}: no answer within {CONNECT_LIMIT_S:g} s")
            except httpx.HTTPError as error:
                raise UnreachableError(
                    f"node {node} broke off the answer to {method} {path} "
                    f"({error or type(error).__name__}); what it did is not known: see `telamon "
                    "status`"
                ) from error
        raise UnreachableError(
            f"node {node} does not answer ({'; '.join(reasons) or 'no common network'}); "
            "check that the host is up and telamond runs on it"
        )


def _content(node: str, answer: httpx.Response) -> bytes:
    if answer.is_success:
        return answer.content
    try:
        fault = Fault.model_validate_json(answer.content)
    except ValueError as error:
        raise UnreachableError(
            f"node {node} answered {answer.request.url.path} with {answer.status_code} and no "
            "reason; "
            "bring both nodes to the same version of telamon"
        ) from error
    raise error_of(fault)


def _prepare(context: ssl.SSLContext, credentials: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(credentials / CERTIFICATE, credentials / KEY)
    context.load_verify_locations(credentials / AUTHORITY)
