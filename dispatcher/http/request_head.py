"""From the bytes of a head to what a connection must know of it.  Pure; h11 has the grammar.

h11 reads the head and, where the body is chunked, its chunks.  What is stricter
here than in h11: line ends are CRLF, a message has one framing, targets are paths.
"""

from __future__ import annotations

import re

import h11
import msgspec
from msgspec.structs import replace

from dispatcher import limits
from dispatcher.errors import (
    BadRequest,
    DispatcherError,
    HeaderTooLarge,
    NotImplementedHere,
    VersionNotSupported,
)
from dispatcher.http.message import Headers

_ABSOLUTE_FORM = re.compile(r"https?://[^/?#]+", re.IGNORECASE)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A request's head.

    A body is framed by ``content_length``, or chunked when that is None; ``parser``
    then reads the chunks, and is None otherwise.
    """

    method: str
    path: str
    query: str
    http_version: str
    headers: Headers
    content_length: int | None
    expects_continue: bool  # the client waits for 100 before it sends the body
    is_last: bool  # the client takes no further answer on this connection
    parser: h11.Connection | None


def parse_head(data: bytes) -> Head:
    """Read a head, its empty line included.

    Raises ``BadRequest``, ``HeaderTooLarge`` (too many fields), ``NotImplementedHere``
    or ``VersionNotSupported``.  None of them repeats what the client sent.
    """
    lines = data.count(b"\n")
    if lines != data.count(b"\r\n"):
        raise BadRequest("a line of the head does not end with CR LF")
    if lines - 2 > limits.REQUEST_HEADERS_MAX:
        raise HeaderTooLarge(f"the request has more than {limits.REQUEST_HEADERS_MAX} header fields")
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.REQUEST_HEAD_BYTES_MAX)
    parser.receive_data(data)
    try:
        event = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise _refusal(error) from None  # h11's words quote the line; a key may stand in it
    if not isinstance(event, h11.Request):
        raise BadRequest("the request line or a header field is malformed")
    return _head(event, parser)


def with_value(head: Head, name: str, value: str) -> Head:
    """The same head with another value of a field that is there once: ``Content-Length``, or one that
    means nothing here.  ``name`` in lower case.
    """
    headers = head.headers.with_value(name, value)
    length = int(value) if name == "content-length" else head.content_length
    return replace(head, headers=headers, content_length=length)


def _head(event: h11.Request, parser: h11.Connection) -> Head:
    version = event.http_version.decode("ascii")
    if version not in ("1.0", "1.1"):
        raise VersionNotSupported("this server speaks HTTP/1.1 and HTTP/1.0")
    method = event.method.decode("ascii")
    if method == "CONNECT" or len(method) > limits.REQUEST_METHOD_CHARS_MAX:
        raise NotImplementedHere("this server does not implement the method")
    headers = Headers(event.headers.raw_items())
    path, query = split_target(event.target.decode("ascii"))
    content_length = _content_length(headers, version)
    return Head(
        method=method,
        path=path,
        query=query,
        http_version=version,
        headers=headers,
        content_length=content_length,
        expects_continue=version == "1.1" and "100-continue" in headers.tokens("expect"),
        is_last=version == "1.0" or "close" in headers.tokens("connection"),
        parser=parser if content_length is None else None,
    )


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target, both still encoded; ``*`` stays as it is."""
    if not target.startswith("/") and target != "*":
        absolute = _ABSOLUTE_FORM.match(target)
        if absolute is None:
            raise BadRequest("the request target is not a path")
        target = target[absolute.end() :]
        if not target.startswith("/"):
            target = "/" + target
    path, _, query = target.partition("?")
    return path, query


def _content_length(headers: Headers, version: str) -> int | None:
    """The body's length, or None when it is chunked.  h11 has checked each field by itself."""
    length = headers.get("content-length")
    if "transfer-encoding" not in headers:
        return int(length or 0)
    # Two framings, or one an HTTP/1.0 peer cannot have meant: the ways to smuggle a
    # request past a proxy that reads the other (RFC 9112, section 6.1).
    if length is not None or version == "1.0":
        raise BadRequest("the request has Transfer-Encoding where it must not")
    return None


def _refusal(error: h11.RemoteProtocolError) -> DispatcherError:
    if error.error_status_hint == 501:
        return NotImplementedHere("this server takes no transfer coding but chunked")
    return BadRequest("the request line or a header field is malformed")
