"""The bytes before a response's body, and the answers to refused requests.  Pure.

We write these ourselves: every answer has a known length, so that two thirds of
what h11 does for a response is not needed (decision 0003).
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from http import HTTPStatus

from dispatcher.errors import DispatcherError, MethodNotAllowed
from dispatcher.http.message import EVENTS, JSON, Response, Upgrade
from dispatcher.wire.http_errors import encode

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "server",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nServer: dispatcher\r\n"
    for status in HTTPStatus
}
_WITHOUT_BODY = frozenset({204, 304})


def encode_head(response: Response, request_id: str, *, is_last: bool) -> bytes:
    """The head of a final response; ``is_last`` says that the connection ends with it.

    Raises ``ValueError`` for what must not be sent: a header that would break the
    head or repeat one of ours, an unknown status, a body where there can be none.
    """
    lines = f"{_first_lines(response.status, response.content_type)}X-Request-Id: {request_id}\r\n"
    if response.status not in _WITHOUT_BODY:
        lines += f"Content-Length: {len(response.body)}\r\n"
    elif response.body:
        raise ValueError(f"a {response.status} has no body")
    if response.headers:
        lines += _lines(response.headers)
    if response.status == 426:
        lines += "Upgrade: websocket\r\n"
        lines += "Connection: close, Upgrade\r\n" if is_last else "Connection: Upgrade\r\n"
    elif is_last:
        lines += "Connection: close\r\n"
    return (lines + "\r\n").encode("latin-1")


def encode_switch(upgrade: Upgrade, request_id: str) -> bytes:
    """The 101; raises ``ValueError`` as ``encode_head`` does."""
    lines = _STATUS_LINES[101] + f"X-Request-Id: {request_id}\r\nConnection: Upgrade\r\n"
    lines += _line("Upgrade", upgrade.protocol) + _lines(upgrade.headers)
    return (lines + "\r\n").encode("latin-1")


def encode_stream_head(request_id: str) -> bytes:
    """The head of an ``EventStream``: its body ends with the connection, in HTTP 1.0 and 1.1 alike."""
    fields = f"X-Request-Id: {request_id}\r\nContent-Type: {EVENTS}\r\nCache-Control: no-store\r\n"
    # Proxies that gather answers (nginx) would hold the events back.
    return (_STATUS_LINES[200] + fields + "X-Accel-Buffering: no\r\nConnection: close\r\n\r\n").encode()


def refusal(error: DispatcherError, request_id: str) -> Response:
    """The answer to a request that was refused with ``error``."""
    return Response(error.status, encode(error, request_id), JSON, _refusal_headers(error))


def _refusal_headers(error: DispatcherError) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    if isinstance(error, MethodNotAllowed):
        headers.append(("Allow", ", ".join(error.allow)))
    if error.status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    if error.status == 426:
        headers.append(("Sec-WebSocket-Version", "13"))
    if error.retry_after_s is not None:
        headers.append(("Retry-After", str(max(0, math.ceil(error.retry_after_s)))))
    return tuple(headers)


def _lines(headers: tuple[tuple[str, str], ...]) -> str:
    for name, _ in headers:
        if name.lower() in _OURS:
            raise ValueError(f"{name} is not for handlers to set")
    return "".join(_line(name, value) for name, value in headers)


@lru_cache(maxsize=64)
def _first_lines(status: int, content_type: str | None) -> str:
    """Those that many answers share; handlers have few."""
    lines = _STATUS_LINES.get(status, "")
    if not lines or status < 200:
        raise ValueError(f"{status} is not the status of a response")
    return lines if content_type is None else lines + _line("Content-Type", content_type)


def _line(name: str, value: str) -> str:
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError("a response header has characters that headers cannot have")
    return f"{name}: {value}\r\n"
