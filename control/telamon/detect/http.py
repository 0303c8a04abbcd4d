"""Whether a URL answers as it should: its status, and if asked a text in the body.

Invariants: redirections are not followed and proxies of the environment not used, since both would
look at something else; no more of a body is read than its limit; a name server that is silent
holds up this check alone. Every look is a connection of its own, as a new client's would be.
"""

import asyncio
import importlib
import socket
import ssl
from functools import partial
from ipaddress import ip_address
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from telamon.detect.aside import Aside, StillHangsError
from telamon.detect.outcome import GOOD, Outcome, bad, unseen
from telamon.module.check_target import HttpTarget

if TYPE_CHECKING:
    import httpx

BODY_LIMIT_BYTES = 1 << 20
AGENT = "telamon"


class HttpDetector:
    """Looks at one URL."""

    def __init__(self, target: HttpTarget) -> None:
        self._target = target
        self._url = urlsplit(target.url)
        self._aside: Aside[str] = Aside(f"looking up {self._url.hostname}")
        self._tools: tuple[ModuleType, ssl.SSLContext] | None = None

    async def __call__(self) -> Outcome:
        """One look; ends by its time limit if the server is silent."""
        if self._tools is None:
            # Slow to make, and not needed where no check is of this kind.
            self._tools = await asyncio.to_thread(self._prepare)
        httpx, tls = self._tools
        try:
            address = await self._resolve()
        except StillHangsError as error:
            return unseen(str(error))
        except (OSError, UnicodeError) as error:
            return bad(f"{self._url.hostname} has no address: {error}")
        try:
            async with (
                httpx.AsyncClient(verify=tls, trust_env=False, timeout=None) as client,
                client.stream("GET", **self._request(address)) as answer,
            ):
                return await self._judge(answer)
        except httpx.HTTPError as error:
            return bad(f"{self._target.url}: {error or type(error).__name__}")

    def _prepare(self) -> tuple[ModuleType, ssl.SSLContext]:
        context = ssl.create_default_context()
        if not self._target.verify_certificate:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return importlib.import_module("httpx"), context

    async def _resolve(self) -> str:
        """The address to connect to."""
        host = self._url.hostname or ""
        try:
            return str(ip_address(host))
        except ValueError:
            look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
            return await self._aside.run(lambda: str(look_up()[0][4][0]))

    def _request(self, address: str) -> dict[str, object]:
        """The request goes to the address, and names the host as the URL does."""
        url = self._url
        host = f"[{address}]" if ":" in address else address
        port = f":{url.port}" if url.port is not None else ""
        user, at, named = url.netloc.rpartition("@")
        place = SplitResult(url.scheme, f"{user}{at}{host}{port}", url.path or "/", url.query, "")
        return {
            "url": place.geturl(),
            "headers": {"host": named, "user-agent": AGENT},
            "extensions": {"sni_hostname": url.hostname},
        }

    async def _judge(self, answer: "httpx.Response") -> Outcome:
        wanted = self._target
        if answer.status_code != wanted.status:
            return bad(f"{wanted.url} answers {answer.status_code}, not {wanted.status}")
        if wanted.contains is None:
            return GOOD
        body = bytearray()
        async for part in answer.aiter_bytes(1 << 16):
            body += part[: BODY_LIMIT_BYTES - len(body)]
            if wanted.contains.encode() in body:
                return GOOD
            if len(body) >= BODY_LIMIT_BYTES:
                break
        return bad(f"{wanted.url} answers {answer.status_code} without {wanted.contains!r}")
