"""Who there is: gateways, applications of every kind, and those who make trouble."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import trio
from soak.books import Books
from support.daemon import Daemon, User
from support.http_wire import WireClient, post, request
from support.plain_websocket import open_websocket
from support.receiver import Answer, Receiver, Request, Then, answer, open_receiver
from support.tenants import EVERYTHING, key_of, small

EVENTS = "/gateway/v1/events"
PULL = "/v2/notification/pull"
EVENTS_PER_LINE = 10
TICK_S = 0.1
NAMED_EVERY = 50  # the answer to a named request is kept for a day: that is meant to take memory
BUSY_S = 0.2
MESSAGE_S = 120.0
_PAYLOAD = base64.b64encode(b"twenty-one point five degrees, and falling").decode()


class Fleet:
    """Devices whose events are numbered, and the gateway that posts them at a steady rate."""

    def __init__(self, port: int, gateway: User, devices: int, rate: float, dice: random.Random) -> None:
        self.posted = {f"device-{number}": 0 for number in range(devices)}
        self.refusals = 0
        self._port = port
        self._key = key_of(gateway)
        self._rate = rate
        self._dice = dice
        self._requests = itertools.count(1)

    async def run(self) -> None:
        """Post until cancelled; what was refused is posted again, so that no number is left out."""
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            client = WireClient(stream)
            due = 0.0
            while True:
                due += self._rate * TICK_S
                lines = round(due / EVENTS_PER_LINE)
                due -= lines * EVENTS_PER_LINE
                if lines:
                    with trio.CancelScope(shield=True):  # a request is sent and answered whole
                        await self._post(client, [self._line() for _ in range(lines)])
                await trio.sleep(TICK_S)

    def _line(self) -> bytes:
        devices = self._dice.sample(list(self.posted), EVENTS_PER_LINE)
        events = []
        for device in devices:
            self.posted[device] += 1
            events.append(small(self.posted[device], device) | {"payload": _PAYLOAD})
        return json.dumps({"notifications": events}).encode()

    async def _post(self, client: WireClient, lines: Sequence[bytes]) -> None:
        fields = [f"Authorization: Bearer {self._key}", "Content-Type: application/x-ndjson"]
        number = next(self._requests)
        if number % NAMED_EVERY == 0:
            fields.append(f"Idempotency-Key: {number}")
        while True:  # each turn is an answer
            reply = await client.ask(post(b"\n".join(lines), EVENTS, *fields))
            if reply.status == 202:
                return
            assert reply.status in (429, 503), reply
            self.refusals += 1
            await trio.sleep(BUSY_S)


async def read_socket(
    port: int, application: User, books: Books, *, stays_s: Callable[[], float], confirms: Callable[[], bool]
) -> None:
    """A WebSocket that is there for a time, away for a tenth of it, and back.

    Where it does not confirm, all that it gets will come again.
    """
    while True:
        with suppress(OSError, trio.BrokenResourceError):
            async with open_websocket(port, key_of(application), answers_pings=confirms()) as socket:
                with trio.move_on_after(stays_s()):
                    while (found := await socket.next_message(MESSAGE_S)) is not None:
                        books.arrived(found[0])
        await trio.sleep(stays_s() / 10)


async def poll(port: int, application: User, books: Books) -> None:
    """A long poll after the other."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        client = WireClient(stream)
        while True:
            reply = await client.ask(request("GET", PULL, f"Authorization: Bearer {key_of(application)}"))
            assert reply.status in (200, 204), reply
            if reply.status == 200:
                books.arrived(json.loads(reply.body))


@asynccontextmanager
async def callback(books: Books, refusals: Callable[[], Answer | None]) -> AsyncIterator[Receiver]:
    """A callback that refuses what ``refusals`` says, and takes the rest."""

    def take(asked: Request) -> Answer:
        receiver.requests.clear()
        refusal = refusals()
        if refusal is None and asked.is_whole:
            books.arrived(json.loads(asked.body))
        return refusal or answer(200)

    async with open_receiver(otherwise=take) as receiver:
        yield receiver


def moody(dice: random.Random) -> Callable[[], Answer | None]:
    """One request in twenty fails, in one of three ways."""

    def refuse() -> Answer | None:
        if dice.random() > 0.05:
            return None
        return dice.choice((answer(503), answer(500, then=Then.CLOSE), answer(500, then=Then.RESET)))

    return refuse


async def change_minds(daemon: Daemon, application: User, url: str, dice: random.Random) -> None:
    """Register, subscribe, unsubscribe and delete: channels of all kinds come and go."""
    while True:
        kind = dice.choice(("callback", "websocket", "pull"))
        path = f"/v2/notification/{kind}"
        content = {"url": url} if kind == "callback" else None
        made = await application.send("PUT", path, content)
        if made.status == 429:  # it verifies callbacks more often than an application may
            await trio.sleep(BUSY_S)
            continue
        assert made.status in (201, 204), made
        for number in range(3):
            await application.send("PUT", f"/v2/subscriptions/device-{number}/3/0/1")
        await application.send("PUT", "/v2/subscriptions", EVERYTHING)
        await trio.sleep(dice.uniform(0.2, 1.0))
        await application.send("DELETE", "/v2/subscriptions")
        deleted = await application.send("DELETE", path)
        assert deleted.status in (200, 204), deleted
        await trio.sleep(dice.uniform(0.1, 0.5))


async def come_and_go(gateway: User, dice: random.Random) -> None:
    """Devices register, refresh and leave."""
    while True:
        device = {"ep": f"guest-{dice.randrange(50)}"}
        kind = dice.choice(("registrations", "reg-updates", "de-registrations"))
        about = device if kind == "de-registrations" else device | {"resources": [{"path": "/1"}], "lt": 60}
        await gateway.send("POST", EVENTS, {kind: [about]})
        await trio.sleep(0.2)


async def operate(operator: User, port: int) -> None:
    """Keys are made and revoked, channels are looked at, and the event stream is watched for a while."""
    while True:
        made = await operator.send("POST", "/admin/v1/keys", {"role": "admin"})
        assert made.status == 201, made.body
        assert (await operator.send("DELETE", f"/admin/v1/keys/{made.content()['id']}")).status == 204
        assert (await operator.send("GET", "/admin/v1/channels?order=age")).status == 200
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            fields = f"Authorization: Bearer {key_of(operator)}"
            await stream.send_all(request("GET", "/admin/v1/events", fields))
            with trio.move_on_after(3):
                while await stream.receive_some(65_536):
                    pass


async def be_rude(port: int, dice: random.Random) -> None:
    """Connections that say half a head, a wrong key, nonsense, or nothing, and vanish."""
    stranger = request("GET", PULL, "Authorization: Bearer ak_x")
    said = (b"", b"GET / HT", b"\x16\x03\x01nonsense\r\n\r\n", stranger)
    while True:
        with suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(dice.choice(said))
                await trio.sleep(dice.uniform(0, 0.5))
        await trio.sleep(dice.uniform(0, 0.3))
