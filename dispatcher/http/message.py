"""What a handler gets and gives: ``Request``, ``Response``, ``Upgrade``.

No I/O here.  A request's body is read through the ``BodySource`` behind it, so that
a handler can be tested with ``ReadyBody`` and without a connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import msgspec
import trio

from dispatcher.deliver.tcp_receipt import TcpReceipt
from dispatcher.errors import BadRequest, BodyTooLarge, FieldError
from dispatcher.http.percent import percent_decode

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain; charset=utf-8"


class Headers:
    """A request's header fields; names in any case.

    ``key_digest`` is that of the key in ``Authorization``, for who has computed it: a client sends
    the same fields many times.
    """

    __slots__ = ("_values", "key_digest")

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.key_digest: bytes | None = None
        self._values: dict[str, list[str]] = {}
        for raw_name, raw_value in pairs:
            name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1")
            if name in self._values:
                self._values[name].append(value)
            else:
                self._values[name] = [value]

    def with_value(self, name: str, value: str) -> Headers:
        """The same fields, with another value of one that is no ``Authorization``; ``name`` in lower case."""
        other = Headers()
        other._values = {**self._values, name: [value]}
        other.key_digest = self.key_digest
        return other

    def get(self, name: str) -> str | None:
        """The field's value.

        A repeated field is one list, joined by commas (RFC 9110, section 5.3): a
        second ``Authorization`` cannot hide behind the first, it spoils it.
        """
        values = self._values.get(name.lower())
        return None if values is None else ", ".join(values)

    def getlist(self, name: str) -> list[str]:
        """Every value of a field, in order."""
        return list(self._values.get(name.lower(), ()))

    def tokens(self, name: str) -> list[str]:
        """The members of a comma-separated field such as ``Connection``, in lower case."""
        values = self._values.get(name.lower())
        if values is None:
            return []
        return [token for token in map(str.strip, ",".join(values).lower().split(",")) if token]

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self._values)}>"  # never the values: keys are among them


class BodySource(Protocol):
    """Where a request's body comes from."""

    @property
    def has_body(self) -> bool: ...

    async def read(self, bytes_max: int) -> bytes: ...

    async def read_in_place(self, bytes_max: int) -> bytes | memoryview: ...


class ReadyBody:
    """A body that is there already."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes = b"") -> None:
        self._data = data

    @property
    def has_body(self) -> bool:
        """Whether there is a byte."""
        return bool(self._data)

    async def read(self, bytes_max: int) -> bytes:
        """The body; raises ``BodyTooLarge``."""
        await trio.lowlevel.checkpoint()
        if len(self._data) > bytes_max:
            raise body_too_large(bytes_max)
        return self._data

    async def read_in_place(self, bytes_max: int) -> bytes:
        """The same."""
        return await self.read(bytes_max)


class Request:
    """One request, while its handler runs.

    ``path`` is raw: percent-encoded, without query.  ``params`` is filled in by
    whoever matched the route.  ``peer`` is ``address:port``, or empty.
    """

    __slots__ = (
        "_body",
        "_wait_disconnected",
        "headers",
        "http_version",
        "method",
        "params",
        "path",
        "peer",
        "query",
        "request_id",
        "scheme",
    )

    def __init__(
        self,
        *,
        method: str,
        path: str,
        query: str = "",
        headers: Headers | None = None,
        http_version: str = "1.1",
        peer: str = "",
        scheme: str = "http",
        request_id: str = "",
        body: BodySource | None = None,
        wait_disconnected: Callable[[], Awaitable[None]] = trio.sleep_forever,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = Headers() if headers is None else headers
        self.http_version = http_version
        self.peer = peer
        self.scheme = scheme
        self.request_id = request_id
        self.params: dict[str, str] = {}
        self._body = ReadyBody() if body is None else body
        self._wait_disconnected = wait_disconnected

    def __repr__(self) -> str:
        return f"<Request {self.request_id} {self.method} {self.path}>"

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body that is not empty."""
        return self._body.has_body

    def wants_upgrade(self, protocol: str = "websocket") -> bool:
        """Whether the client offers to go on in ``protocol`` (a lower-case name)."""
        return (
            self.http_version == "1.1"
            and "upgrade" in self.headers.tokens("connection")
            and protocol in self.headers.tokens("upgrade")
        )

    async def body(self, bytes_max: int) -> bytes:
        """The whole body, at most ``bytes_max`` bytes of it; empty when there is none.

        A client that waits for ``100 Continue`` gets it now.  A second call gives
        the same bytes.  Raises ``BodyTooLarge`` (before reading, where the length is
        announced), ``RequestTimeout`` (silence, or too long in all), ``BadRequest``
        (the peer broke off, or its framing is broken), ``Unavailable`` (all bodies
        together take too much memory).  After any of them the connection ends with
        the answer.
        """
        return await self._body.read(bytes_max)

    async def body_in_place(self, bytes_max: int) -> bytes | memoryview:
        """The same where it was received, without a copy: its memory is another body's after the answer."""
        return await self._body.read_in_place(bytes_max)

    def query_params(self) -> dict[str, str]:
        """The query's parameters, decoded; raises ``BadRequest`` for one given twice or unreadable."""
        params: dict[str, str] = {}
        for piece in self.query.split("&"):
            if not piece:
                continue
            raw_name, _, raw_value = piece.replace("+", " ").partition("=")
            name = percent_decode(raw_name)
            if not name:
                raise BadRequest("the query has a parameter without a name")
            if name in params:
                twice = FieldError(name=name, message="given twice")
                raise BadRequest("the query gives a parameter twice", fields=(twice,))
            params[name] = percent_decode(raw_value)
        return params

    async def wait_disconnected(self) -> None:
        """Return when the client has gone; to be cancelled otherwise.

        For handlers that wait long, after they have the body.  What a client sends
        ahead meanwhile is kept.  Behind 64 KiB of it the end is not seen any more.
        """
        await self._wait_disconnected()


class Response(msgspec.Struct, frozen=True):
    """An answer.  Length, connection, server and request id are added when it is sent.

    Headers with line breaks, or with a name that is added anyway, are refused then:
    the client gets a 500 and never the header.
    """

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    receipt: TcpReceipt | None = None  # learns whether the peer's TCP has all of it


class Upgrade(msgspec.Struct, frozen=True):
    """Answer with 101, then hand the connection over.

    ``run`` gets the stream and the bytes that came behind the request.  The
    connection ends when it returns.  ``headers`` go with the 101, besides
    ``Connection`` and ``Upgrade``.
    """

    run: Callable[[trio.abc.Stream, bytes], Awaitable[None]]
    headers: tuple[tuple[str, str], ...] = ()
    protocol: str = "websocket"


class EventStream(msgspec.Struct, frozen=True):
    """Answer with 200 and a body that has no end of its own: ``text/event-stream``.

    ``run`` sends pieces as they come; the connection ends when it returns.  A piece that
    the client does not take within ``limits.RESPONSE_STALL_S`` ends it, too, so that a
    stalled client holds one piece and nothing else.
    """

    run: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]


Reply = Response | Upgrade | EventStream
"""What a handler returns."""

Handle = Callable[[Request], Awaitable[Reply]]
"""What answers requests; it raises ``DispatcherError`` to refuse one."""

_json = msgspec.json.Encoder()


def json_response(value: object, status: int = 200) -> Response:
    """An answer with anything msgspec can write as JSON."""
    return Response(status, _json.encode(value), JSON)


def text_response(text: str, status: int = 200) -> Response:
    """An answer in plain text."""
    return Response(status, text.encode(), TEXT)


def no_content() -> Response:
    """204."""
    return Response(204)


def body_too_large(bytes_max: int) -> BodyTooLarge:
    """The refusal of a body over a bound."""
    return BodyTooLarge(f"the body is larger than {bytes_max} bytes")
