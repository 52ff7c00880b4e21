"""The two applications of ``demo``: one on a callback, one on a WebSocket.

Both write each event into an ``Inbox`` before they let the dispatcher know that they
have it.  Both can be made to fail on purpose.
"""

from __future__ import annotations

from array import array
from functools import partial

import h11
import msgspec
import trio

from dispatcher import limits
from dispatcher.cli.application_socket import CLOSE_ABNORMAL, receive_messages
from dispatcher.cli.demo_ledger import Arrival, Ledger
from dispatcher.cli.demo_plan import device_number, read_payload
from dispatcher.cli.server_address import ServerAddress, open_stream
from dispatcher.errors import CloseCode, DemoFailed


class _Item(msgspec.Struct, gc=False):
    """What the books need of an event."""

    ep: str
    uid: str
    payload: str | None = None  # a registration has none


_decoder = msgspec.json.Decoder(dict[str, list[_Item]])


class Inbox:
    """What came on one channel."""

    def __init__(self, devices: int) -> None:
        self.ledger = Ledger(devices)
        self.batches = 0
        self.largest_batch = 0  # events
        self.latencies_us = array("q")  # from when a notification was due to its first arrival
        self.newest_s = 0.0  # when something came last, on Trio's clock

    @property
    def lag_s(self) -> float:
        """How late the newest event came."""
        return self.latencies_us[-1] / 1e6 if self.latencies_us else 0.0

    def take(self, body: bytes | str, now_s: float) -> None:
        """Enter a whole message.  The order of its arrays is the order of its events."""
        try:
            message = _decoder.decode(body)
        except msgspec.DecodeError as error:
            raise DemoFailed(f"a message came that no device can have caused: {error}") from error
        events = 0
        for kind, items in message.items():
            events += len(items)
            for item in items:
                self._enter(kind, item, now_s)
        if events:
            self.batches += 1
            self.largest_batch = max(self.largest_batch, events)
            self.newest_s = now_s

    def _enter(self, kind: str, item: _Item, now_s: float) -> None:
        device = device_number(item.ep)
        if kind == "registrations":
            self.ledger.take(device, 0, item.uid)
            return
        reading = read_payload(item.payload or "") if kind == "notifications" else None
        if reading is None:
            self.ledger.take(-1, 0, item.uid)
        elif self.ledger.take(device, reading.counter, item.uid) is Arrival.FIRST:
            self.latencies_us.append(int(now_s * 1e6) - reading.due_us)


class CallbackReceiver:
    """An HTTP server that takes callbacks.

    While ``is_failing`` it answers 503: the first time after it has taken the batch, as an
    application does that fails when its work is done, then without taking it.  Either way the
    batch has to come again.
    """

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.is_failing = False
        self.refused = 0
        self.url = ""

    async def serve(self, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        """Listen on a free port of this machine, until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/events"
        await trio.serve_listeners(self._serve_connection, listeners, task_status=task_status)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while (body := await _read_request(stream, connection)) is not None:
                status = self._take(body)
                await stream.send_all(_answer(connection, status))
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            self.inbox.ledger.restarted()  # the dispatcher may not have our answer
        finally:
            await trio.aclose_forcefully(stream)

    def _take(self, body: bytes) -> int:
        if not self.is_failing or self.refused == 0:
            self.inbox.take(body, trio.current_time())
        if not self.is_failing:
            return 204
        self.refused += 1
        self.inbox.ledger.restarted()
        return 503


class WebSocketReceiver:
    """A WebSocket client that connects again whenever its socket ends."""

    def __init__(self, inbox: Inbox, address: ServerAddress, key: str) -> None:
        self.inbox = inbox
        self.connections = 0
        self._address = address
        self._key = key
        self._line: _Line | None = None
        self._may_connect = trio.Event()
        self._may_connect.set()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Receive until cancelled; started when the first socket is open."""
        while True:
            await self._may_connect.wait()
            end = await receive_messages(
                self._address,
                self._key,
                self._take,
                opened=partial(self._opened, task_status),
                dial=self._dial,
            )
            if end.code not in (CLOSE_ABNORMAL, CloseCode.RESTART):
                raise DemoFailed(f"the dispatcher closed the WebSocket with {end.code} {end.reason}")

    async def go_away(self, bit_by_bit_s: float) -> None:
        """Lose the connection, until ``come_back``: what we say on it, what we hear, then all of it.

        What comes while only our words are lost is received and cannot be confirmed; what
        comes after that is sent and never received.  Both have to come again.
        """
        self._may_connect = trio.Event()
        line = self._line
        if line is not None:
            line.is_mute = True
            await trio.sleep(bit_by_bit_s)
            line.is_deaf = True
            await trio.sleep(bit_by_bit_s)
            await line.aclose()

    def come_back(self) -> None:
        """Connect again."""
        self._may_connect.set()

    async def _dial(self, address: ServerAddress) -> trio.abc.Stream:
        self._line = _Line(await open_stream(address))
        return self._line

    def _opened(self, task_status: trio.TaskStatus[None]) -> None:
        self.connections += 1
        if self.connections == 1:
            task_status.started()
        else:
            self.inbox.ledger.restarted()

    def _take(self, message: str) -> bool:
        self.inbox.take(message, trio.current_time())
        return True


class _Line(trio.abc.Stream):
    """A stream that can be made to lose what goes over it, as a broken network does."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.is_mute = False  # what is sent is lost
        self.is_deaf = False  # so is what comes
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_mute:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        while data := await self._stream.receive_some(max_bytes):
            if not self.is_deaf:
                break
        return data

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


async def _read_request(stream: trio.SocketStream, connection: h11.Connection) -> bytes | None:
    """The next request's body; None at the end of the connection."""
    body = bytearray()
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(limits.CLIENT_RECEIVE_BYTES)))
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.ConnectionClosed):
            return None
    return bytes(body)


def _answer(connection: h11.Connection, status: int) -> bytes:
    headers = [] if status == 204 else [("Content-Length", "0")]
    head = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    return head + (connection.send(h11.EndOfMessage()) or b"")
