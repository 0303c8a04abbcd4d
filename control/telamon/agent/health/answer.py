"""What the health endpoint answers: HTTP/1 in bytes, pure.

Invariants: any bytes are read as a request, a refusal, or as too few yet; nothing of a request but
method and path counts. HEAD has the head of GET (RFC 9110, 9.3.2). A connection is closed after its
answer.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

HEAD_LIMIT_BYTES = 8192
_REQUEST_LINE = re.compile(
    rb"([!#-'*+.0-9A-Z^-z|~-]{1,20}) (?:http://[^/?# ]*)?(/[!-~]*) HTTP/1\.[01]\r?"
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether this node serves the module, and in one sentence why."""

    is_ready: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked; `status` is not OK if nothing sensible was."""

    method: str = ""
    path: str = ""
    status: HTTPStatus = HTTPStatus.OK


def read(received: bytes) -> Request | None:
    """The request in what was received so far; None if its head is not whole yet."""
    line, ended, _ = received.partition(b"\n")
    if not ended:
        return _too_long(received)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return Request(status=HTTPStatus.BAD_REQUEST)
    if b"\n\r\n" not in received and b"\n\n" not in received:
        return _too_long(received)
    path = match[2].partition(b"?")[0]
    return Request(match[1].decode(), path.decode())


def _too_long(received: bytes) -> Request | None:
    if len(received) <= HEAD_LIMIT_BYTES:
        return None
    return Request(status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def answer(request: Request, path: str, judgement: Judgement) -> bytes:
    """The whole answer."""
    status, text = request.status, request.status.phrase
    if status is HTTPStatus.OK and request.path != path:
        status, text = HTTPStatus.NOT_FOUND, f"ask for {path}"
    elif status is HTTPStatus.OK and request.method not in ("GET", "HEAD"):
        status, text = HTTPStatus.METHOD_NOT_ALLOWED, "ask with GET or HEAD"
    elif status is HTTPStatus.OK:
        status = HTTPStatus.OK if judgement.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        text = judgement.reason
    body = f"{text}\n".encode(errors="replace")
    allow = "allow: GET, HEAD\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "content-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\n"
        "cache-control: no-store\r\n"
        f"{allow}"
        "connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if request.method == "HEAD" else body)
