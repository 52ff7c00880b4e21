"""One kept-alive HTTP/1.1 connection to a callback receiver, over h11.

A request's body is never in memory as a whole: it is read piece by piece into one
borrowed buffer, with a length that is known before.  Once the kernel does not take it
at once, the answer is read while the body is being sent, because a receiver that refuses
a body (413) may do so early and then read no more (decision 0036).

    sender   head + first piece | piece | piece | ... | last piece
    reader   ........ 1xx .... status .... rest of the answer, thrown away

The status is all that counts of an answer.  When it is known, an answer that is too
long, cut off or never ends costs the connection and nothing else.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import h11
import msgspec
import trio

from dispatcher import limits
from dispatcher.core.callback_rules import CallbackTarget
from dispatcher.deliver.callback_body import RequestBody
from dispatcher.deliver.callback_tls import tls_problem
from dispatcher.deliver.direct_io import pour, pour_now, receive, send_rest
from dispatcher.deliver.sink import DeliveryFailed, FailureClass
from dispatcher.errors import DispatcherError

_RECEIVE_BYTES = 16 * limits.KIB  # answers are a few hundred bytes


def _user_agent() -> str:
    try:
        return f"dispatcher/{metadata.version('dispatcher')}"
    except metadata.PackageNotFoundError:  # run from a source tree
        return "dispatcher"


_USER_AGENT = _user_agent()
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver said, as far as anyone needs it."""

    status: int
    retry_after: str | None = None
    date: str | None = None


class PieceBuffers:
    """Send buffers of ``limits.SEND_PIECE_BYTES``, reused so that their pages stay warm.

    At most ``limits.CALLBACK_PIECES_KEPT_MAX`` free ones are kept; how many are out
    is bounded by the number of requests in flight.
    """

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    @property
    def free_count(self) -> int:
        """How many are kept now."""
        return len(self._free)

    @contextmanager
    def borrow(self) -> Iterator[bytearray]:
        """A buffer for some time."""
        buffer = self.take()
        try:
            yield buffer
        finally:
            self.give_back(buffer)

    def take(self) -> bytearray:
        """A buffer, until it is given back.  Its contents are anything."""
        return self._free.pop() if self._free else bytearray(limits.SEND_PIECE_BYTES)

    def give_back(self, buffer: bytearray) -> None:
        """Keep it for the next, unless a large record has grown it or there are enough."""
        is_kept = len(self._free) < limits.CALLBACK_PIECES_KEPT_MAX
        if is_kept and len(buffer) == limits.SEND_PIECE_BYTES:
            self._free.append(buffer)


class ConnectionLost(DeliveryFailed):
    """The connection ended before the status came.

    ``is_untouched``: not one byte of an answer had come, so that on a connection that
    was kept alive the likely reason is that the receiver had closed it meanwhile.
    """

    def __init__(self, failure: FailureClass, *, is_untouched: bool, detail: str = "") -> None:
        super().__init__(failure, detail=detail)
        self.is_untouched = is_untouched


class CallbackConnection:
    """One connection; one request at a time.

    Whoever made it closes it.  After any exception, cancellation included, it can
    only be closed: it may have a half-written request on it.
    """

    def __init__(self, stream: trio.abc.Stream, buffers: PieceBuffers) -> None:
        self._stream = stream
        self._buffers = buffers
        self._h11 = h11.Connection(
            h11.CLIENT, max_incomplete_event_size=limits.CALLBACK_RESPONSE_HEAD_BYTES_MAX
        )

    def __repr__(self) -> str:
        return f"<CallbackConnection {self._h11.our_state} {self._h11.their_state}>"

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent: everything before ended cleanly."""
        return self._h11.our_state is h11.IDLE and self._h11.their_state is h11.IDLE

    def has_news(self) -> bool:
        """Whether something came since the last answer: the end, or words no one asked for.

        Asked before a kept connection is used again; such a one must be closed.
        """
        transport = self._stream
        if isinstance(transport, trio.SSLStream):
            transport = transport.transport_stream
        if not isinstance(transport, trio.SocketStream):
            return False
        poll = select.poll()
        poll.register(transport.socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def put(self, target: CallbackTarget, body: RequestBody) -> Answer:
        """Send one request and return its answer; any final status is one, redirects too.

        ``body`` has at least 1 byte.  There is no time limit but for what follows a known
        status: the caller has one.

        Raises ``ConnectionLost``, or what ``body`` raises.  Memory: one piece.
        """
        exchange = _Exchange(self._stream, self._h11, self._buffers)
        answer = await exchange.run(_head(target, body), body)
        is_done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if is_done and self._h11.trailing_data == (b"", False):
            self._h11.start_next_cycle()
        return answer

    async def aclose(self) -> None:
        """Close without ceremony."""
        await trio.aclose_forcefully(self._stream)


def _head(target: CallbackTarget, body: RequestBody) -> h11.Request:
    """The request's head: ours first, the caller's headers as they were given."""
    given = {name.lower() for name, _ in target.headers}
    defaults = (("User-Agent", _USER_AGENT), ("Content-Type", "application/json"))
    headers = [
        ("Host", target.host_header),
        *((name, value) for name, value in defaults if name.lower() not in given),
        ("Content-Length", str(body.bytes_count)),
        *body.headers,
        *target.headers,
    ]
    return h11.Request(method=target.method, target=target.target, headers=headers)


class _Exchange:
    """One request and its answer: a sender and a reader, each of which can end the other.

    The reader has a task of its own once the kernel does not take what is sent.  Before that
    nothing waits, so that an answer is not missed by not looking.
    """

    def __init__(self, stream: trio.abc.Stream, connection: h11.Connection, buffers: PieceBuffers) -> None:
        self._stream = stream
        self._h11 = connection
        self._buffers = buffers
        self._buffer: bytearray | None = None  # while something is to be sent
        self._filled = 0  # of it
        self._sending = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._is_sent = False
        self._received_bytes = 0
        self._answer: Answer | None = None
        self._lost: ConnectionLost | None = None
        self._body_error: DispatcherError | None = None

    async def run(self, head: h11.Request, body: RequestBody) -> Answer:
        # Before anything is read: the reader must find h11 waiting for an answer.
        head_bytes = self._h11.send(head) or b""
        buffer = self._buffer = self._buffers.take()
        try:
            self._filled = len(head_bytes)
            buffer[: self._filled] = head_bytes
            rest = await self._send_at_once(buffer, body)
            if rest is None:
                await self._read()
            else:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    await self._send(buffer, rest, body)
        finally:
            self._give_buffer_back()
        if self._body_error is not None:
            raise self._body_error
        if self._answer is None:
            raise self._lost or self._loss("closed")
        if _is_success(self._answer.status) and not self._is_sent:
            raise self._loss("answered, then did not take the whole request")
        return self._answer

    async def _send_at_once(self, buffer: bytearray, body: RequestBody) -> tuple[int, int] | None:
        """Send as long as the kernel takes it; where in the buffer begins and ends what it did not take.

        None when all was sent, or nothing more can be: the reader sees the same end, and perhaps
        an answer before it.
        """
        try:
            while await self._fill(buffer, body):
                _, begin, end = pour_now(self._stream, body, buffer, self._filled)
                self._filled = 0
                if begin < end:
                    return begin, end
                if body.unread:
                    await trio.lowlevel.checkpoint()
        except _GONE:
            return None
        self._end_request(body)
        return None

    async def _send(self, buffer: bytearray, rest: tuple[int, int], body: RequestBody) -> None:
        with self._sending:
            try:
                await send_rest(self._stream, buffer, *rest)
                while await self._fill(buffer, body):
                    await pour(self._stream, body, buffer, self._filled)
                    self._filled = 0
            except _GONE:
                return  # as above
            except DispatcherError as error:  # the batch's records are gone
                self._body_error = error
                self._reading.cancel()
                return
            self._end_request(body)

    async def _fill(self, buffer: bytearray, body: RequestBody) -> int:
        """Read on, behind what lies in the buffer; how many bytes are to be sent, 0 when all were."""
        if body.unread:
            self._filled += await body.read_into(buffer, self._filled)
        return self._filled

    def _end_request(self, body: RequestBody) -> None:
        """h11 only counts: it refuses a body that is longer or shorter than was promised."""
        # Any object with a length will do (h11, "sendfile"), and this one holds no view.
        data = range(body.bytes_count - body.unread)
        self._h11.send_with_data_passthrough(h11.Data(data=data))  # type: ignore[arg-type]
        self._h11.send(h11.EndOfMessage())
        self._is_sent = True
        self._give_buffer_back()
        self._bound_the_rest()

    def _give_buffer_back(self) -> None:
        """As soon as nothing is sent from it, for an answer may take its time."""
        if self._buffer is not None:
            self._buffers.give_back(self._buffer)
            self._buffer = None

    async def _read(self) -> None:
        with self._reading:
            try:
                self._answer = await self._read_head()
                if not _is_success(self._answer.status):
                    self._sending.cancel()
                    if not self._is_sent:
                        return
                self._bound_the_rest()
                await self._read_rest()
            except ConnectionLost as lost:
                self._lost = lost
                self._sending.cancel()

    def _bound_the_rest(self) -> None:
        if self._is_sent and self._answer is not None:
            self._reading.deadline = trio.current_time() + limits.CALLBACK_RESPONSE_DRAIN_S

    async def _read_head(self) -> Answer:
        for _ in range(limits.CALLBACK_INFORMATIONAL_MAX + 1):
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return _answer(event)
            if not isinstance(event, h11.InformationalResponse):
                raise self._loss("closed")
        raise self._loss("too many informational answers")

    async def _read_rest(self) -> None:
        """Throw the rest of the answer away, up to its bound.

        While the request is still being sent the bound waits: a receiver that echoes
        what it reads would otherwise stop reading.
        """
        rest_bytes = 0
        while rest_bytes <= limits.CALLBACK_RESPONSE_BYTES_MAX or not self._is_sent:
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                return
            rest_bytes += len(event.data)

    async def _next_event(self) -> object:
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                data = await receive(self._stream, _RECEIVE_BYTES)
                self._received_bytes += len(data)
                self._h11.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise self._loss("closed or not HTTP") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if isinstance(error.__cause__, ssl.SSLError):
                detail = tls_problem(error, "it ended the connection")
                raise self._loss(detail, FailureClass.TLS) from error
            raise self._loss("reset") from error
        return event

    def _loss(self, detail: str, failure: FailureClass = FailureClass.CONNECTION) -> ConnectionLost:
        return ConnectionLost(failure, is_untouched=self._received_bytes == 0, detail=detail)


def _is_success(status: int) -> bool:
    return 200 <= status <= 299


def _answer(response: h11.Response) -> Answer:
    headers = {name: value.decode("latin-1") for name, value in reversed(list(response.headers))}
    return Answer(
        status=response.status_code,
        retry_after=headers.get(b"retry-after"),
        date=headers.get(b"date"),
    )
