"""An HTTP client over the simulated network, as gateways and applications are: h11, kept alive."""

from __future__ import annotations

from collections.abc import Mapping

import h11
import msgspec
import trio
from simulation.network import Host, Stream

SERVER = "dispatcher"
PORT = 80
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError, h11.RemoteProtocolError)


class NoAnswer(Exception):
    """The request may have been carried out, or not."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_s(self) -> float:
        """How long to wait before the next attempt."""
        return float(self.headers.get("retry-after", "1"))


class HttpClient:
    """One connection at a time, used again while the server lets us."""

    def __init__(self, host: Host, key: str) -> None:
        self._host = host
        self._key = key
        self._stream: Stream | None = None
        self._h11: h11.Connection | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        patience_s: float = 30.0,
        about: object = None,
    ) -> Answer:
        """Ask once.  ``about`` is left on the stream meanwhile.  Raises ``NoAnswer``."""
        try:
            with trio.fail_after(patience_s):
                return await self._exchange(method, path, body, headers or {}, about)
        except (trio.TooSlowError, *_GONE):
            self.drop()
            raise NoAnswer from None
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Let the connection go; what is unread is lost."""
        if self._stream is not None:
            self._stream.reset()
        self._stream = self._h11 = None

    async def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], about: object
    ) -> Answer:
        if self._stream is None or self._h11 is None:
            self._stream = await self._host.connect(SERVER, PORT)
            self._h11 = h11.Connection(h11.CLIENT)
        stream, connection = self._stream, self._h11
        stream.about = about
        head = h11.Request(
            method=method,
            target=path,
            headers=[
                ("Host", SERVER),
                ("Authorization", f"Bearer {self._key}"),
                ("Content-Length", str(len(body))),
                *headers.items(),
            ],
        )
        data = b"".join(
            filter(None, (connection.send(head), body and connection.send(h11.Data(data=body))))
        ) + (connection.send(h11.EndOfMessage()) or b"")
        await stream.send_all(data)
        answer = await _answer(stream, connection)
        stream.about = None
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
        else:
            self.drop()
        return answer


async def _answer(stream: Stream, connection: h11.Connection) -> Answer:
    status, headers, body = 0, {}, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, headers, body)
        elif isinstance(event, h11.ConnectionClosed):
            raise trio.BrokenResourceError("closed before the answer")
