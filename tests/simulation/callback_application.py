"""An application that receives over HTTP."""

from __future__ import annotations

import math
from typing import Any

import h11
import msgspec
import trio
from simulation.application import GONE, Application
from simulation.network import Stream

CALLBACK_PORT = 8080
MODES = ("error", "too-large", "hang", "cut", "reset", "away", "lying")
_TOO_LARGE_BYTES = 80_000
_ON_ITS_WAY_S = 2.0  # an answer, at most


class _Refused(msgspec.Struct, frozen=True):
    """A request that was not confirmed, and what must be so for it to come again as it was."""

    body: bytes
    first: object  # the place of its first record
    lost_count: int
    life: int  # of the dispatcher
    known_s: float  # when the dispatcher surely knew


class CallbackApplication(Application):
    """Listens, and answers as its mode says.

    healthy, lying   2xx
    error            4xx and 5xx, some with ``Retry-After``
    too-large        413 to what is larger than it likes
    hang             nothing for longer than anyone waits
    cut, reset       the connection breaks inside the request, or behind it
    away             nobody listens
    """

    channel = "callback"
    _refused: _Refused | None = None

    def registration(self) -> dict[str, object]:
        """With its URL."""
        url = f"http://{self.name}.example:{CALLBACK_PORT}/events"
        return {"url": url, "headers": {"X-Token": "t"}, **super().registration()}

    def register_again(self) -> None:
        """A batch that failed may then come in another form."""
        self._refused = None
        super().register_again()

    async def receive(self) -> None:
        """Listen, whenever it is there."""
        while True:
            await self._until(is_away=False)
            listener = self.host.listen(CALLBACK_PORT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve, [listener])
                await self._until(is_away=True)
                nursery.cancel_scope.cancel()

    async def _until(self, *, is_away: bool) -> None:
        while (self.mode == "away") is not is_away:  # noqa: ASYNC110  the clock is a mock
            await trio.sleep(0.5)

    async def _serve(self, stream: Stream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        try:
            while await self._serve_request(stream, connection):
                connection.start_next_cycle()
        except (*GONE, h11.RemoteProtocolError):  # the request was cut off
            pass
        finally:
            stream.reset()

    async def _serve_request(self, stream: Stream, connection: h11.Connection) -> bool:
        """One request; False when the connection ends with it."""
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Data):
                body += event.data
                if self.mode == "cut":
                    return False
            elif isinstance(event, h11.EndOfMessage):
                return await self._answer(stream, connection, bytes(body))
            elif isinstance(event, h11.ConnectionClosed):
                return False

    async def _answer(self, stream: Stream, connection: h11.Connection, body: bytes) -> bool:
        mode, dice = self.mode, self.dice
        events, places = self.take(body, f"in a request ({mode})")
        self._check_retry(body, places)
        self._refused = None
        if mode == "too-large" and len(body) > _TOO_LARGE_BYTES:
            return await self._say(stream, connection, 413)
        if mode in ("hang", "reset", "error") and places:
            model, key, _ = places[0]
            known_s = math.inf if mode == "hang" else trio.current_time() + _ON_ITS_WAY_S
            self._refused = _Refused(body, (model, key), model.lost_count, self.promises.lives, known_s)
        if mode == "hang":
            await trio.sleep(dice.uniform(5.0, 60.0))
        if mode in ("hang", "reset"):
            return False
        await trio.sleep(dice.uniform(0.0, 0.05))
        if mode == "error":
            headers = [("Retry-After", str(dice.randint(0, 5)))] if dice.random() < 0.3 else []
            return await self._say(stream, connection, dice.choice((400, 404, 429, 500, 503)), headers)
        self.promises.confirmed(places)
        return await self._say(stream, connection, dice.choice((200, 204)) if events else 200)

    def _check_retry(self, body: bytes, places: list[Any]) -> None:
        """What failed comes again byte for byte, as long as all of it is there."""
        before = self._refused
        if before is None or not places or self.mixed_kinds is False:
            return
        model, key, _ = places[0]
        is_known = before.life == self.promises.lives or self.promises.is_remembered(
            before.life, before.known_s
        )
        is_whole = before.lost_count == model.lost_count
        if is_known and is_whole and before.first == (model, key) and before.body != body:
            self.promises.fail(f"INV-4: {self.name}: the batch at {key} was tried again with other bytes")

    async def _say(
        self,
        stream: Stream,
        connection: h11.Connection,
        status: int,
        headers: list[tuple[str, str]] | None = None,
    ) -> bool:
        length = [] if status == 204 else [("Content-Length", "0")]
        head = h11.Response(status_code=status, headers=[*(headers or []), *length])
        await stream.send_all(b"".join((connection.send(head), connection.send(h11.EndOfMessage()))))
        return connection.our_state is h11.DONE
