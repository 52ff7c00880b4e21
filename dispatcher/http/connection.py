"""One connection: requests in, answers out, in order; then perhaps another protocol.

h11 parses, ``RequestBody`` reads, the handler answers, and here is the loop around
them: what may follow an answer, and how long each step may take.

    wait -> head -> handler (reads the body when it wants it) -> answer -> wait ...
      |       |                      |                             |
     end    refuse               upgrade                     end, or linger

Whatever we have not read when a socket closes makes the kernel send a reset, and a
reset destroys an answer the client has not read.  So where *we* end a connection we
linger: no more is sent, and what still comes is thrown away for a moment.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from enum import Enum

import trio

from dispatcher import limits
from dispatcher.deliver.direct_io import send_now
from dispatcher.deliver.tcp_progress import transport_socket
from dispatcher.deliver.tcp_receipt import TcpReceipt
from dispatcher.errors import BadRequest, DispatcherError, RequestTimeout, UpgradeRequired
from dispatcher.http.head_memory import HeadMemory
from dispatcher.http.inbox import Inbox
from dispatcher.http.message import EventStream, Reply, Request, Response, Upgrade
from dispatcher.http.patience import Patience
from dispatcher.http.request_body import RequestBody
from dispatcher.http.request_head import Head, parse_head
from dispatcher.http.response_head import CONTINUE, encode_head, encode_stream_head, encode_switch, refusal
from dispatcher.http.service import Service
from dispatcher.observe.log import LogEvent, log, log_failure

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class _Then(Enum):
    """What follows an answer."""

    NEXT = "wait for the next request"
    END = "close: the client asked for it, and nothing is unread"
    LINGER = "close, once the client had time to read the answer"


class _PeerLost(Exception):
    """The peer does not take our bytes: it broke the connection, or stopped reading."""


async def serve_connection(stream: trio.abc.Stream, service: Service) -> None:
    """Answer the requests that come over ``stream``, until it or the server ends.

    The stream is closed at the end, however that comes.  Whatever a client does ends
    here without an exception; what an upgrade's ``run`` raises comes out.

    Cancellation: the request in progress is cut off.
    """
    connection = _Connection(stream, service)
    try:
        last = await connection.serve_requests()
        if isinstance(last, Upgrade):
            run, last = last.run, None  # its headers are sent, and an upgrade may last for days
            await connection.run_upgraded(run)
        elif last is not None:
            await connection.run_stream(last)
        await connection.close()
    except _PeerLost:
        pass
    finally:
        connection.end_receipt()
        with trio.CancelScope(shield=True):  # does not wait; a cancellation here would hide an exception
            await trio.aclose_forcefully(stream)


class _Connection:
    """State of one connection.  Holds one request and its answer at a time."""

    __slots__ = (
        "_heads",
        "_idle_s",
        "_inbox",
        "_patience",
        "_peer",
        "_receipt",
        "_scheme",
        "_service",
        "_stream",
    )

    def __init__(self, stream: trio.abc.Stream, service: Service) -> None:
        self._stream = stream
        self._service = service
        self._inbox = Inbox(stream)
        self._scheme = "https" if isinstance(stream, trio.SSLStream) else "http"
        self._peer = _peer_of(stream)
        self._receipt: TcpReceipt | None = None  # of the answer sent last
        self._heads = HeadMemory()
        # Around everything but an upgrade: it ends the connection when a request is waited
        # for too long, or a piece to go out.
        self._patience = Patience(service.timekeeper)
        self._idle_s = limits.FIRST_REQUEST_S

    async def serve_requests(self) -> Upgrade | EventStream | None:
        """Answer requests until the connection goes to an upgrade or a stream, or shall be closed."""
        then: Upgrade | EventStream | _Then = _Then.END
        with self._patience:
            while await self._wait_for_request():
                then = await self._serve_request()
                if then is not _Then.NEXT:
                    break
        if self._patience.is_lost:
            return None
        if not isinstance(then, _Then):
            return then
        if then is _Then.LINGER:
            await self._linger()
        return None

    async def run_upgraded(self, run: Callable[[trio.abc.Stream, bytes], Awaitable[None]]) -> None:
        """Let another protocol have the stream.  A peer that breaks it is nothing unusual."""
        leftover = self._inbox.take(len(self._inbox.buffer))
        del self._heads, self._patience  # an upgrade may last for days, and there are many
        self._service.traffic.upgrades_open += 1
        try:
            with contextlib.suppress(*_GONE):
                await run(self._stream, leftover)
        finally:
            self._service.traffic.upgrades_open -= 1

    async def run_stream(self, answer: EventStream) -> None:
        """Send an answer that has no end of its own.  A client that goes, or takes nothing, ends it."""

        async def send(piece: bytes) -> None:
            with trio.fail_after(limits.RESPONSE_STALL_S):
                await self._stream.send_all(piece)

        self._service.traffic.streams_open += 1
        try:
            with contextlib.suppress(*_GONE, trio.TooSlowError):
                await answer.run(send)
        finally:
            self._service.traffic.streams_open -= 1

    async def close(self) -> None:
        """Close politely: over TLS this says that nothing was cut off."""
        self.end_receipt()
        with trio.move_on_after(limits.TLS_CLOSE_TIMEOUT_S), contextlib.suppress(*_GONE):
            await self._stream.aclose()

    def end_receipt(self) -> None:
        """Give the answer sent last its final outcome."""
        if self._receipt is not None:
            self._receipt.end(is_reset=self._inbox.is_reset)
            self._receipt = None

    async def _wait_for_request(self) -> bool:
        """Return true with a request's first bytes; false when none will come, or none is wanted."""
        if not self._inbox.has_request():
            self._patience.wait_idly(self._idle_s)
            self._idle_s = limits.KEEP_ALIVE_IDLE_S
            try:
                while not self._inbox.has_request():
                    if not await self._inbox.fill():
                        return False
            finally:
                self._patience.rest()
        else:
            await trio.lowlevel.checkpoint()  # who sends many requests at once gets no more turns for it
        # Bytes may come in the very moment the wait is cancelled.  That request must
        # not begin, for its handler would be cut off at its first wait.
        return not self._patience.is_lost

    async def _serve_request(self) -> Upgrade | EventStream | _Then:
        request_id = self._service.new_request_id()
        try:
            head = await self._read_head()
        except DispatcherError as error:
            self._service.traffic.requests_refused += 1
            await self._send_response(refusal(error, request_id), request_id, is_last=True)
            return _Then.LINGER
        body = RequestBody(
            self._inbox,
            head,
            budget=self._service.bodies,
            buffers=self._service.body_buffers,
            send_continue=lambda: self._send(CONTINUE),
        )
        try:
            answer = await self._ask(self._request(head, body, request_id))
            if isinstance(answer, Upgrade):
                await self._send(encode_switch(answer, request_id))
                return answer
            if isinstance(answer, EventStream):
                await self._send(encode_stream_head(request_id))
                return _Then.LINGER if head.method == "HEAD" else answer
            return await self._respond(answer, head, body, request_id)
        finally:
            body.release()

    async def _read_head(self) -> Head:
        data = self._inbox.take_head()
        if data is None:
            data = await self._wait_for_head()
        head = self._heads.find(data)
        if head is None:
            head = parse_head(data)
            self._heads.keep(data, head)
        return head

    async def _wait_for_head(self) -> bytes:
        with trio.move_on_after(limits.REQUEST_HEAD_TIMEOUT_S):
            while await self._inbox.fill():
                data = self._inbox.take_head()
                if data is not None:
                    return data
            raise BadRequest("the connection ended inside the request's head")
        raise RequestTimeout("the request's head came too slowly")

    def _request(self, head: Head, body: RequestBody, request_id: str) -> Request:
        return Request(
            method=head.method,
            path=head.path,
            query=head.query,
            headers=head.headers,
            http_version=head.http_version,
            peer=self._peer,
            scheme=self._scheme,
            request_id=request_id,
            body=body,
            wait_disconnected=self._inbox.wait_end,
        )

    async def _ask(self, request: Request) -> Reply:
        """The handler's answer, or its error as one."""
        traffic = self._service.traffic
        traffic.requests += 1
        traffic.requests_running += 1
        try:
            answer = await self._service.handle(request)
            if isinstance(answer, Upgrade):
                _check_upgrade(answer, request)
            return answer
        except DispatcherError as error:
            if error.status >= 500 and not error.can_retry:
                log(logging.ERROR, LogEvent.REQUEST_FAILED, request=request.request_id, reason=error.message)
            return refusal(error, request.request_id)
        except Exception as error:
            return self._failed(error, request.request_id)
        finally:
            traffic.requests_running -= 1

    def _failed(self, error: Exception, request_id: str) -> Response:
        """The answer to a request that met a bug of ours, which is logged and counted."""
        self._service.traffic.requests_failed += 1
        log_failure(LogEvent.REQUEST_FAILED, error, request=request_id)
        return refusal(DispatcherError("the server failed to answer this request"), request_id)

    async def _respond(self, response: Response, head: Head, body: RequestBody, request_id: str) -> _Then:
        can_go_on = body.is_read or body.can_skip
        is_last = head.is_last or not can_go_on or self._service.timekeeper.is_draining
        await self._send_response(response, request_id, is_last=is_last, is_bare=head.method == "HEAD")
        if not is_last:
            return _Then.NEXT if body.is_read or await body.skip() else _Then.LINGER
        is_clean = head.is_last and body.is_read and response.receipt is None
        return _Then.END if is_clean else _Then.LINGER

    async def _send_response(
        self, response: Response, request_id: str, *, is_last: bool, is_bare: bool = False
    ) -> None:
        """Send an answer; ``is_bare`` leaves its body out.  Raises ``_PeerLost``."""
        self.end_receipt()
        self._receipt = response.receipt
        try:
            head = encode_head(response, request_id, is_last=is_last)
        except ValueError as error:
            response = self._failed(error, request_id)
            head = encode_head(response, request_id, is_last=is_last)
        body = b"" if is_bare else response.body
        if len(head) + len(body) <= limits.RESPONSE_PIECE_BYTES:
            await self._send(head + body)
        else:
            await self._send(head)
            await self._send_pieces(body)
        if response.receipt is not None:
            response.receipt.sent(self._stream)

    async def _send_pieces(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), limits.RESPONSE_PIECE_BYTES):
            await self._send(view[start : start + limits.RESPONSE_PIECE_BYTES])

    async def _send(self, data: bytes | memoryview) -> None:
        """Send at most one piece; raises ``_PeerLost``.  The connection ends when it takes too long."""
        try:
            sent = send_now(self._stream, data)
            if sent == len(data):
                if sent > limits.SEND_NOW_BYTES_MAX:
                    await trio.lowlevel.checkpoint()
                return
            self._patience.wait(limits.RESPONSE_STALL_S)
            with memoryview(data)[sent:] as rest:
                await self._stream.send_all(rest)
        except _GONE:
            raise _PeerLost from None
        self._patience.rest()

    async def _linger(self) -> None:
        """Throw away what comes until the peer ends, or for a moment."""
        with trio.move_on_after(limits.LINGER_S), contextlib.suppress(*_GONE):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            remaining = limits.LINGER_BYTES_MAX
            while remaining > 0:
                data = await self._inbox.receive(limits.REQUEST_HEAD_RECEIVE_BYTES)
                if not data:
                    return
                remaining -= len(data)


def _check_upgrade(upgrade: Upgrade, request: Request) -> None:
    """Refuse an upgrade the client did not ask for, or asked for with a body nobody would read.

    Raises ``ValueError`` for headers that must not be sent.
    """
    if not request.wants_upgrade(upgrade.protocol):
        raise UpgradeRequired(f"this path speaks {upgrade.protocol} only")
    if request.has_body:
        raise BadRequest("a request for an upgrade has no body")
    encode_switch(upgrade, request.request_id)


def _peer_of(stream: trio.abc.Stream) -> str:
    sock = transport_socket(stream)
    if sock is None:
        return ""
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError):  # it has gone already, or has no address (a Unix socket)
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
