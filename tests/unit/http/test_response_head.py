from __future__ import annotations

import pytest

from dispatcher.errors import (
    Conflict,
    DispatcherError,
    InvalidAuth,
    MethodNotAllowed,
    Unavailable,
    UpgradeRequired,
)
from dispatcher.http.message import Response, Upgrade
from dispatcher.http.response_head import encode_head, encode_switch, refusal


def test_head_of_a_response_is_complete() -> None:
    response = Response(200, b"{}", "application/json", (("ETag", '"1"'),))
    assert encode_head(response, "ab12cd", is_last=False) == (
        b"HTTP/1.1 200 OK\r\nServer: dispatcher\r\nContent-Type: application/json\r\n"
        b'X-Request-Id: ab12cd\r\nContent-Length: 2\r\nETag: "1"\r\n\r\n'
    )


def test_last_response_says_close() -> None:
    assert b"Connection: close\r\n" in encode_head(Response(200), "ab", is_last=True)
    assert b"Connection" not in encode_head(Response(200), "ab", is_last=False)


@pytest.mark.parametrize("status", [204, 304])
def test_response_without_body_has_no_length(status: int) -> None:
    assert b"Content-Length" not in encode_head(Response(status), "ab", is_last=False)
    with pytest.raises(ValueError, match="no body"):
        encode_head(Response(status, b"x"), "ab", is_last=False)


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 299, 600])
def test_unknown_status_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="status"):
        encode_head(Response(status), "ab", is_last=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nSet-Cookie: b"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "a\x00b"),
        ("X", "\u2028"),
        ("X\r\nY", "a"),
        ("X Y", "a"),
        ("X:", "a"),
        ("", "a"),
        ("é", "a"),
    ],
)
def test_header_cannot_be_injected(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        encode_head(Response(200, headers=((name, value),)), "ab", is_last=False)
    with pytest.raises(ValueError, match="header"):
        encode_switch(Upgrade(_never, ((name, value),)), "ab")


def test_content_type_cannot_inject_either() -> None:
    with pytest.raises(ValueError, match="header"):
        encode_head(Response(200, content_type="a\r\nb: c"), "ab", is_last=False)


@pytest.mark.parametrize(
    "name", ["content-length", "Transfer-Encoding", "CONNECTION", "X-Request-Id", "Server"]
)
def test_headers_that_we_set_are_not_for_handlers(name: str) -> None:
    with pytest.raises(ValueError, match="not for handlers"):
        encode_head(Response(200, headers=((name, "1"),)), "ab", is_last=False)


def test_switch_names_the_protocol() -> None:
    upgrade = Upgrade(_never, (("Sec-WebSocket-Accept", "x="),))
    assert encode_switch(upgrade, "ab12cd") == (
        b"HTTP/1.1 101 Switching Protocols\r\nServer: dispatcher\r\nX-Request-Id: ab12cd\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x=\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InvalidAuth("no"), b"HTTP/1.1 401 Unauthorized\r\n"),
        (InvalidAuth("no"), b"WWW-Authenticate: Bearer\r\n"),
        (MethodNotAllowed("no", allow=("GET", "HEAD")), b"Allow: GET, HEAD\r\n"),
        (Unavailable("no", retry_after_s=1.2), b"Retry-After: 2\r\n"),
        (Unavailable("no", retry_after_s=0.0), b"Retry-After: 0\r\n"),
        (Unavailable("no", retry_after_s=-3.0), b"Retry-After: 0\r\n"),
        (UpgradeRequired("no"), b"Sec-WebSocket-Version: 13\r\n"),
        (UpgradeRequired("no"), b"Upgrade: websocket\r\n"),
        (UpgradeRequired("no"), b"Connection: Upgrade\r\n"),
    ],
)
def test_refusal_carries_what_its_status_calls_for(error: DispatcherError, line: bytes) -> None:
    response = refusal(error, "ab")
    assert response.content_type == "application/json"
    assert line in encode_head(response, "ab", is_last=False)


def test_refusal_carries_nothing_else() -> None:
    assert refusal(Conflict("no"), "ab").headers == ()


async def _never(stream: object, leftover: bytes) -> None:
    raise AssertionError
