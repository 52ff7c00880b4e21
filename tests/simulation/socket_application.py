"""An application that receives over a WebSocket, on wsproto."""

from __future__ import annotations

import trio
from simulation.application import GONE, Application
from simulation.http_client import PORT, SERVER
from simulation.network import Stream
from simulation.promises import Place
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

MODES = ("deaf", "mute", "dying", "leaving", "doubling")
_PATH = "/v2/notification/websocket-connect"
_CONNECT_S = 20.0
_SILENCE_S = 40.0  # without any byte, pings included: the server is gone


class SocketApplication(Application):
    """Is connected whenever the server lets it, and behaves as its mode says.

    deaf       reads nothing
    mute       sends no pong
    dying      drops the connection now and then, some with messages it has read
    leaving    closes now and then, and comes back
    doubling   opens a second socket beside the first
    """

    channel = "websocket"
    _sockets = 0

    async def receive(self) -> None:
        """Be connected."""
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._be_connected)
                await self._until_another_is_wanted()

    async def _until_another_is_wanted(self) -> None:
        while True:
            await trio.sleep(self.dice.uniform(1.0, 8.0))
            if self.mode == "doubling" and self._sockets < 2:
                return

    async def _be_connected(self) -> None:
        """Be connected, again and again; a second one of these is there for one socket."""
        self._sockets += 1
        is_second = self._sockets > 1
        try:
            while True:
                await self._connect_once()
                if is_second:
                    return
                await trio.sleep(self.dice.uniform(0.1, 3.0))
        finally:
            self._sockets -= 1

    async def _connect_once(self) -> None:
        stream: Stream | None = None
        try:
            with trio.move_on_after(_CONNECT_S):
                stream = await self.host.connect(SERVER, PORT)
            if stream is not None:
                await _Socket(self, stream).run()
        except (*GONE, LocalProtocolError):  # it ended under us
            pass
        except RemoteProtocolError as error:
            self.promises.fail(f"{self.name}: not a WebSocket's bytes: {error}")
        finally:
            if stream is not None:
                stream.reset()


class _Socket:
    """One connection."""

    def __init__(self, owner: SocketApplication, stream: Stream) -> None:
        self._owner = owner
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._text: list[str] = []
        self._batch: list[Place] = []  # shown since the last ping
        self._unconfirmed: list[Place] = []  # shown before it
        self._newest = (0, 0)  # of the batches before this one
        self._newest_of: dict[str, tuple[int, int]] = {}  # by device

    async def run(self) -> None:
        """Until one of the two sides has had enough."""
        key = f"Bearer {self._owner.key}".encode()
        request = Request(host=SERVER, target=_PATH, extra_headers=[(b"Authorization", key)])
        await self._stream.send_all(self._ws.send(request))
        while True:
            mode = self._owner.mode
            if mode == "deaf":
                await trio.sleep(1.0)
                continue
            data: bytes | None = None
            with trio.move_on_after(_SILENCE_S):
                data = await self._stream.receive_some(4096)
            if data is None:
                return
            self._ws.receive_data(data or None)
            if not await self._take_events(mode):
                return

    async def _take_events(self, mode: str) -> bool:
        """False when the connection is to end."""
        dice = self._owner.dice
        ping: Ping | None = None
        for event in self._ws.events():
            if isinstance(event, Ping):
                if ping is not None and dice.random() < 0.5:  # else the newest pong speaks for both
                    await self._confirm(ping)
                self._end_batch()
                ping = event
            elif not await self._take(event):
                return False
            if isinstance(event, TextMessage) and mode == "dying" and dice.random() < 0.3:
                return False
        if ping is None or mode == "mute":
            return True
        if mode == "dying" and dice.random() < 0.1:
            return False
        await self._confirm(ping)
        if mode == "leaving" and dice.random() < 0.1:
            await self._stream.send_all(self._ws.send(CloseConnection(code=1000)))
            return False
        return True

    async def _take(self, event: Event) -> bool:
        owner = self._owner
        match event:
            case TextMessage():
                self._text.append(event.data)
                if event.message_finished:
                    self._show("".join(self._text).encode())
                    self._text.clear()
            case CloseConnection():
                owner.chronicle.note(f"{owner.name}: closed with {event.code} {event.reason}")
                if self._ws.state is ConnectionState.REMOTE_CLOSING:
                    await self._stream.send_all(self._ws.send(event.response()))
                return False
            case RejectConnection():
                owner.chronicle.note(f"{owner.name}: not connected, {event.status_code}")
                return False
            case AcceptConnection():
                owner.chronicle.note(f"{owner.name}: connected")
        return True

    def _show(self, message: bytes) -> None:
        promises = self._owner.promises
        events, places = self._owner.take(message, "on a socket")
        for (model, key, _), event in zip(places, events, strict=False):
            if key <= self._newest:
                promises.fail(f"INV-4: {model.name}: {key} came again on the same socket")
            if key <= self._newest_of.get(event.ep, (0, 0)):
                promises.fail(f"INV-4: {model.name}: {event.ep}: {key} came after its successor")
            self._newest_of[event.ep] = key
        self._batch += places

    def _end_batch(self) -> None:
        self._newest = max((key for _, key, _ in self._batch), default=self._newest)
        self._unconfirmed += self._batch
        self._batch = []

    async def _confirm(self, ping: Ping) -> None:
        """Answer a ping, and with it everything before."""
        self._owner.promises.confirmed(self._unconfirmed)
        self._unconfirmed = []
        await self._stream.send_all(self._ws.send(Pong(payload=ping.payload)))
