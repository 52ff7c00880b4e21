"""A callback receiver on a real socket that answers by script and keeps what it was sent.

    async with open_receiver(answer(500), answer(200)) as receiver:
        ...                                   # send something to receiver.url
        assert receiver.requests[0].body == b"{}"

The first request gets the first answer of the script, and so on over all connections;
after the script each gets ``otherwise``.  It knows just enough HTTP to find the end of
a request with a Content-Length, and uses no library for it, so that a test sees the
bytes and not somebody's reading of them.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum

import msgspec
import trio

REQUEST_BYTES_MAX = 64 * 1024 * 1024
HEAD_BYTES_MAX = 64 * 1024


class When(Enum):
    """How much of the request is read before the answer goes out."""

    AFTER_REQUEST = "request"
    AFTER_HEAD = "head"


class Then(Enum):
    """What happens to the connection after the answer."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"  # say and read nothing more


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one request gets: these bytes, then the connection's fate."""

    raw: bytes
    when: When = When.AFTER_REQUEST
    then: Then = Then.KEEP
    after_s: float = 0.0  # how long the receiver works before it answers


def answer(
    status: int = 200,
    body: bytes = b"",
    *,
    headers: tuple[tuple[str, str], ...] = (),
    when: When = When.AFTER_REQUEST,
    then: Then = Then.KEEP,
    after_s: float = 0.0,
) -> Answer:
    """A well-formed answer with a Content-Length (none for a 204)."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join(lines) + "\r\n\r\n"
    return Answer(raw=head.encode() + body, when=when, then=then, after_s=after_s)


def raw(data: bytes, *, when: When = When.AFTER_REQUEST, then: Then = Then.CLOSE) -> Answer:
    """Exactly these bytes."""
    return Answer(raw=data, when=when, then=then)


SILENCE = Answer(raw=b"", then=Then.HANG)
RESET = Answer(raw=b"", then=Then.RESET)
CLOSE = Answer(raw=b"", then=Then.CLOSE)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as it came."""

    connection: int  # from 0, in the order of accepting
    head: bytes  # with the empty line at its end
    body: bytes
    client_name: str | None = None  # the common name of the client certificate that was shown

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def is_whole(self) -> bool:
        """Whether all of the announced body came."""
        return len(self.body) == _content_length(self.head)

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Names and values as they were written, in order."""
        fields = self.head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
        return tuple((name, value.strip()) for name, _, value in (f.partition(b":") for f in fields))

    def values(self, name: str) -> list[bytes]:
        """The values of one header, in any case of its name."""
        wanted = name.lower().encode()
        return [value for key, value in self.headers if key.lower() == wanted]


class Receiver:
    """What came so far.  A request is in ``requests`` once as much of it was read as its answer wants."""

    def __init__(
        self,
        port: int,
        scheme: str,
        script: tuple[Answer, ...],
        otherwise: Callable[[Request], Answer],
    ) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}/"
        self.connections = 0  # accepted, TLS or not
        self.requests: list[Request] = []
        self._script = list(script)
        self._otherwise = otherwise
        self._changed = trio.Event()

    async def wait_requests(self, count: int) -> list[Request]:
        """Wait until so many requests have come, at most 5 s."""
        with trio.fail_after(5):
            while len(self.requests) < count:
                await self._changed.wait()
        return self.requests

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer the requests of one connection."""
        number, self.connections = self.connections, self.connections + 1
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._converse(stream, number)
        await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.abc.Stream, number: int) -> None:
        received = bytearray()
        while True:  # ends with the connection
            head = await _read_head(stream, received)
            if head is None:
                return
            reply = self._script.pop(0) if self._script else None
            body = b""
            if reply is None or reply.when is When.AFTER_REQUEST:
                body = await _read_exactly(stream, received, _content_length(head))
            request = Request(connection=number, head=head, body=body, client_name=_client_name(stream))
            self.requests.append(request)
            reply = reply or self._otherwise(request)
            self._changed.set()
            self._changed = trio.Event()
            await trio.sleep(reply.after_s)
            await stream.send_all(reply.raw)
            if reply.then is Then.HANG:
                await trio.sleep_forever()
            if reply.then is Then.RESET:
                _make_close_a_reset(stream)
            if reply.then is not Then.KEEP:
                return


@asynccontextmanager
async def open_receiver(
    *script: Answer,
    otherwise: Answer | Callable[[Request], Answer] | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Receiver]:
    """Listen on a free port until the block ends; ``tls`` makes it https.

    ``otherwise`` answers whole requests that the script does not, with 200 when it is None.
    """
    fixed = otherwise or answer(200)
    decide = (lambda _: fixed) if isinstance(fixed, Answer) else fixed
    (listener,) = await trio.open_tcp_listeners(0, host=host)
    port = listener.socket.getsockname()[1]
    receiver = Receiver(port, "https" if tls else "http", script, decide)
    listeners: list[trio.abc.Listener[trio.abc.Stream]] = [
        trio.SSLListener(listener, tls, https_compatible=True) if tls else listener
    ]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, receiver.serve, listeners)
        yield receiver
        nursery.cancel_scope.cancel()


async def _read_head(stream: trio.abc.Stream, received: bytearray) -> bytes | None:
    """The next head; None when the connection ends."""
    while (end := received.find(b"\r\n\r\n")) < 0:
        data = await stream.receive_some(65_536)
        if not data or len(received) > HEAD_BYTES_MAX:
            return None
        received += data
    head = bytes(received[: end + 4])
    del received[: end + 4]
    return head


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return min(int(value), REQUEST_BYTES_MAX)
    return 0


async def _read_exactly(stream: trio.abc.Stream, received: bytearray, count: int) -> bytes:
    """The body; as much of it as came when the connection ends early."""
    while len(received) < count:
        data = await stream.receive_some(262_144)
        if not data:
            break
        received += data
    body = bytes(received[:count])
    del received[:count]
    return body


def _client_name(stream: trio.abc.Stream) -> str | None:
    """Of a certificate that the context has verified; None without one."""
    certificate = stream.getpeercert() if isinstance(stream, trio.SSLStream) else None
    names = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
    return names.get("commonName")


def _make_close_a_reset(stream: trio.abc.Stream) -> None:
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    assert isinstance(transport, trio.SocketStream)
    transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
