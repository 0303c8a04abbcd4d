"""What the health endpoint reads and answers, for any bytes."""

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telamon.agent.health.answer import HEAD_LIMIT_BYTES, Judgement, Request, answer, read

READY = Judgement(True, "PRIM")
NOT_READY = Judgement(False, "SECOND: n1 is primary")


@pytest.mark.parametrize(
    ("received", "request_"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", Request("GET", "/")),
        (b"HEAD /health?a=b HTTP/1.1\r\nhost: x\r\n\r\n", Request("HEAD", "/health")),
        (b"GET http://n1:9010/health HTTP/1.1\r\nhost: n1\r\n\r\n", Request("GET", "/health")),
        (b"GET /a HTTP/1.1\nhost: x\n\n", Request("GET", "/a")),
        (b"GET / HTTP/1.1\r\n\r\nand a body", Request("GET", "/")),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", None),
        (b"GE", None),
        (b"", None),
        (b"GET / HTTP/2.0\r\n\r\n", Request(status=HTTPStatus.BAD_REQUEST)),
        (b"GET  / HTTP/1.1\r\n\r\n", Request(status=HTTPStatus.BAD_REQUEST)),
        (b"\x16\x03\x01\x02\x00\x01\n", Request(status=HTTPStatus.BAD_REQUEST)),
        (b"\r\n", Request(status=HTTPStatus.BAD_REQUEST)),
        (
            b"x" * (HEAD_LIMIT_BYTES + 1),
            Request(status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        ),
        (
            b"GET / HTTP/1.1\r\na: " + b"x" * HEAD_LIMIT_BYTES,
            Request(status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        ),
    ],
)
def test_reads(received: bytes, request_: Request | None) -> None:
    assert read(received) == request_


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode), st.booleans())
def test_any_bytes_are_answered_or_awaited(received: bytes, is_ready: bool) -> None:
    request = read(received)
    if request is not None:
        content = answer(request, "/health", Judgement(is_ready, "because"))
        assert content.startswith(b"HTTP/1.1 ")
        if content.startswith(b"HTTP/1.1 200"):
            assert is_ready
            assert request.path == "/health"


@given(st.integers(0, 60))
def test_what_is_read_does_not_depend_on_how_it_comes(cut: int) -> None:
    whole = b"GET /health HTTP/1.1\r\nhost: balancer\r\naccept: */*\r\n\r\n"
    assert read(whole[:cut]) in (None, read(whole))


@pytest.mark.parametrize(
    ("request_", "judgement", "status"),
    [
        (Request("GET", "/health"), READY, 200),
        (Request("GET", "/health"), NOT_READY, 503),
        (Request("HEAD", "/health"), READY, 200),
        (Request("HEAD", "/health"), NOT_READY, 503),
        (Request("GET", "/"), READY, 404),
        (Request("POST", "/health"), READY, 405),
        (Request(status=HTTPStatus.BAD_REQUEST), READY, 400),
    ],
)
def test_answers(request_: Request, judgement: Judgement, status: int) -> None:
    head, _, body = answer(request_, "/health", judgement).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} ")
    same = answer(Request("GET", request_.path, request_.status), "/health", judgement)
    expected = same.partition(b"\r\n\r\n")[2]
    assert body == (b"" if request_.method == "HEAD" else body)
    if status in (200, 503):
        assert expected == f"{judgement.reason}\n".encode()
        assert f"content-length: {len(expected)}" in lines
    assert "connection: close" in lines
    assert ("allow: GET, HEAD" in lines) is (status == 405)
