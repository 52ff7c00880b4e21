"""A small HTTP/1.1 client for the dispatcher's own API, over h11.

One connection, kept alive, one request at a time.  ``publish``, ``tail`` and
``demo`` talk through it, and so does ``bench/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import h11
import msgspec
import trio

from dispatcher import limits
from dispatcher.cli.server_address import ServerAddress, open_stream
from dispatcher.errors import FieldError, RequestRefused, ServerUnreachable
from dispatcher.model import Role
from dispatcher.wire.http_errors import ErrorResponse

_JOIN_BYTES_MAX = 64 * limits.KIB  # a body up to this goes out in one piece with its head


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer.  Header names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)


class ApiClient:
    """Asks one dispatcher, as the holder of one key.

    Used in ``async with``, or closed by ``aclose``.  ``role`` is the key's, for the words
    of errors alone.  The key is sent, and nothing else is ever done with it.
    """

    def __init__(self, address: ServerAddress, key: str | None = None, *, role: Role | None = None) -> None:
        self.address = address
        self._authorization = None if key is None else f"Bearer {key}"
        self._role = role
        self._stream: trio.abc.Stream | None = None
        self._h11 = h11.Connection(h11.CLIENT)

    def __repr__(self) -> str:
        return f"<ApiClient {self.address} {'open' if self._stream else 'closed'}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, if there is one; the next request opens another."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """One request and its answer, whatever its status, within ``limits.CLIENT_REQUEST_S``.

        Raises ``ServerUnreachable`` when there is no whole answer; whether the server
        acted on the request is then unknown.  Cancellation closes the connection.
        """
        try:
            with trio.fail_after(limits.CLIENT_REQUEST_S):
                await self._connect()
                await self._send(self._head(method, path, len(body), content_type, headers), body)
                answer = await self._receive()
        except trio.TooSlowError:
            await self.aclose()
            raise ServerUnreachable(
                f"the dispatcher at {self.address} gave no answer within {limits.CLIENT_REQUEST_S:g} s"
            ) from None
        except BaseException:
            await self.aclose()
            raise
        await self._finish()
        return answer

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        expect: Sequence[int],
        content_type: str = "application/json",
    ) -> Answer:
        """The same, for one of the statuses expected; another raises ``RequestRefused``."""
        answer = await self.request(method, path, body, content_type=content_type)
        if answer.status not in expect:
            raise self.refusal(method, path, answer)
        return answer

    def refusal(self, method: str, path: str, answer: Answer) -> RequestRefused:
        """An answer with an error status, in words: what happened, and what to do."""
        try:
            error = msgspec.json.decode(answer.body, type=ErrorResponse)
        except msgspec.DecodeError:  # a proxy in between, or no dispatcher at all
            return refusal(method, path, answer.status, "is a dispatcher there?", self._role)
        fields = () if error.fields is msgspec.UNSET else error.fields
        return refusal(method, path, answer.status, error.message, self._role, fields)

    def _head(
        self,
        method: str,
        path: str,
        body_bytes: int,
        content_type: str,
        headers: Sequence[tuple[str, str]],
    ) -> h11.Request:
        given = [("Host", self.address.host_header), ("User-Agent", "dispatcher-client")]
        if self._authorization is not None:
            given.append(("Authorization", self._authorization))
        if body_bytes:
            given.append(("Content-Type", content_type))
        if body_bytes or method != "GET":
            given.append(("Content-Length", str(body_bytes)))
        return h11.Request(method=method, target=self.address.prefix + path, headers=[*given, *headers])

    async def _connect(self) -> None:
        if self._stream is not None and _has_news(self._stream):
            await self.aclose()  # the server has closed it meanwhile
        if self._stream is None:
            self._stream = await open_stream(self.address)
            self._h11 = h11.Connection(h11.CLIENT)

    async def _send(self, request: h11.Request, body: bytes) -> None:
        assert self._stream is not None
        head = self._h11.send(request) or b""
        self._h11.send(h11.Data(data=body))
        self._h11.send(h11.EndOfMessage())
        try:
            if len(body) <= _JOIN_BYTES_MAX:
                await self._stream.send_all(head + body)
            else:
                await self._stream.send_all(head)
                await self._stream.send_all(body)
        except trio.BrokenResourceError:
            pass  # a server that refuses a body may close before it has read it; its answer counts

    async def _receive(self) -> Answer:
        response: h11.Response | None = None
        body = bytearray()
        while not isinstance(event := await self._next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > limits.CLIENT_ANSWER_BYTES_MAX:
                    raise self._lost(f"its answer is over {limits.CLIENT_ANSWER_BYTES_MAX} bytes")
            elif not isinstance(event, h11.InformationalResponse):
                raise self._lost("the connection was closed")
        assert response is not None  # h11 gives no end without a beginning
        return Answer(
            status=response.status_code,
            headers=tuple(
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers
            ),
            body=bytes(body),
        )

    async def _next_event(self) -> object:
        assert self._stream is not None
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                data = await self._stream.receive_some(limits.CLIENT_RECEIVE_BYTES)
                self._h11.receive_data(bytes(data))
        except h11.RemoteProtocolError as error:
            raise self._lost("the connection was closed, or what came is not HTTP") from error
        except trio.BrokenResourceError as error:
            raise self._lost("the connection was reset") from error
        return event

    async def _finish(self) -> None:
        """Keep the connection when both sides ended cleanly, else close it."""
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        else:
            await self.aclose()

    def _lost(self, reason: str) -> ServerUnreachable:
        return ServerUnreachable(f"the dispatcher at {self.address} did not answer: {reason}")


def refusal(
    method: str, path: str, status: int, said: str, role: Role | None, fields: tuple[FieldError, ...] = ()
) -> RequestRefused:
    """An error status in words; ``role`` is that of the key the path wants."""
    message = f"{method} {path} was answered {status}: {said.rstrip('.')}"
    if status in (401, 403) and role is not None:
        message += (
            f"; give a valid {role} key with --key or DISPATCHER_KEY"
            f" ('dispatcher keys create --role {role} --data DIR' makes one)"
        )
    return RequestRefused(message, status=status, fields=fields)


def _has_news(stream: trio.abc.Stream) -> bool:
    """Whether something came on an idle connection: its end, or words no one asked for."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return isinstance(stream, trio.SocketStream) and stream.socket.is_readable()
