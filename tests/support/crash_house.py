"""A data folder with three applications, their receivers and their gateways, for a daemon to die over.

    callback, websocket    one account's; both take everything at once.  The callback refuses some
                           requests, and then wants the same bytes again
    late                   another account's; a WebSocket that is away, mostly.  Its queue lies across
                           many small segments: there is always something to clean

Keys and channels are made through the library, before the first life.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import h11
import msgspec
import trio
from support.daemon import Key, User
from support.delivery_books import DeliveryBooks
from support.plain_websocket import open_websocket
from support.receiver import Answer, Receiver, Request, answer, open_receiver

import dispatcher
from dispatcher import limits
from dispatcher.model import Durability
from dispatcher.queue.disk import Disk, JournalSizes

SIZES = JournalSizes(segment_bytes=64 << 10, group_bytes_max=56 << 10, allowance_bytes=256 << 10)
TIER = dispatcher.TierSettings(retry_initial_s=0.02)
EVENTS_PER_POST_MAX = 60
REFUSED_SHARE = 0.03  # of the callback's requests
QUIET_S = 0.01
MESSAGE_S = 60.0
BEHIND_S = 0.01
_EVENTS = "/gateway/v1/events"


class Posted(msgspec.Struct):
    """One POST: its events, and whether it was answered 202."""

    events: list[tuple[str, int]]
    is_accepted: bool = False


class Poster:
    """Posts events of some devices, numbered from 1 for each, and remembers every request.

    ``books``: of the applications that get them.
    """

    def __init__(
        self, key: Key, devices: Sequence[str], books: Sequence[DeliveryBooks], dice: random.Random
    ) -> None:
        self.posted: list[Posted] = []
        self.books = books
        self._key = key
        self._devices = devices
        self._dice = dice
        self._numbers = {ep: itertools.count(1) for ep in devices}

    async def post_until_killed(self, port: int, durability: Durability) -> None:
        """One request after the other, until the daemon is gone."""
        with suppress(OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
            while True:
                await self.post(port, durability)

    async def post(self, port: int, durability: Durability) -> None:
        """One request.  Raises one of three errors when the daemon goes away; else it is accepted."""
        eps = self._dice.choices(self._devices, k=self._dice.randint(1, EVENTS_PER_POST_MAX))
        posted = Posted([(ep, next(self._numbers[ep])) for ep in eps])
        self.posted.append(posted)
        proofs = [books.proof() for books in self.books]
        events = [{"ep": ep, "path": f"/{number}"} for ep, number in posted.events]
        gateway = User(port, self._key)
        while (reply := await gateway.send("POST", _EVENTS, {"notifications": events})).status == 503:
            assert reply.content()["type"] == "journal_behind"  # its segments are small: nothing is stored
            await trio.sleep(BEHIND_S)
        assert reply.status == 202, reply.body
        said = reply.content()
        assert (said["accepted"], said["queued"]) == (len(events), len(self.books) * len(events))
        assert said["durability"] == durability.value
        posted.is_accepted = True
        for books, proof in zip(self.books, proofs, strict=True):
            books.prove(proof)

    def is_served(self) -> bool:
        """Whether all that was accepted has arrived everywhere, and what was not answered as a whole."""
        return all(map(self._is_whole, self.posted))

    def check(self) -> None:
        """What was accepted has arrived; of what was not answered, whole requests or nothing."""
        for posted in self.posted:
            assert self._is_whole(posted), posted
        for books in self.books:
            for ep in self._devices:
                assert books.numbers(ep) == sorted(books.numbers(ep)), f"{books.name}: {ep} is out of order"

    def _is_whole(self, posted: Posted) -> bool:
        there = {sum(books.has(*event) for event in posted.events) for books in self.books}
        return there == {len(posted.events)} or (there == {0} and not posted.is_accepted)


class House:
    """Made by ``open_house``."""

    def __init__(self, data: Path, seed: int) -> None:
        self.data = data
        self.callback = DeliveryBooks("callback", unconfirmed_max=1)
        self.websocket = DeliveryBooks("websocket", unconfirmed_max=limits.WINDOW_PINGS_MAX)
        self.late = DeliveryBooks("late", unconfirmed_max=limits.WINDOW_PINGS_MAX)
        self.posters: list[Poster] = []
        self.refused = 0  # requests
        self._refused_body: bytes | None = None
        self._dice = random.Random(seed)
        self._keys: dict[str, str] = {}

    def settings(self, durability: Durability = Durability.DISK) -> dispatcher.Settings:
        """For one life of the daemon."""
        return dispatcher.Settings(
            server=dispatcher.ServerSettings(listen="127.0.0.1:0"),
            storage=dispatcher.StorageSettings(data=str(self.data), durability=durability),
            callbacks=dispatcher.CallbackSettings(allow_private=True),
            tiers={"commercial": TIER},
        )

    async def furnish(self, receiver: Receiver) -> None:
        """Make accounts, keys, channels and subscriptions."""
        world = dispatcher.World(disk=Disk(SIZES))
        async with dispatcher.open_dispatcher(self.settings(), world=world) as hub:
            near, far = [await hub.ensure_account(name) for name in ("near", "far")]
            form = dispatcher.Serialization(include_uid=True)
            for name, account in (("callback", near), ("websocket", near), ("late", far)):
                application = await hub.ensure_application(account, name)
                made = await hub.create_key(dispatcher.Role.APPLICATION, application=application)
                self._keys[name] = made.key
                if name == "callback":
                    await hub.register_callback(application, receiver.url, serialization=form)
                else:
                    await hub.register_websocket(application, form)
                everything = (dispatcher.Presubscription(endpoint_name="*"),)
                await hub.parts.subscriptions.set_presubscriptions(application, everything)
            gateways = [await hub.create_key(dispatcher.Role.GATEWAY, account=each) for each in (near, far)]
        keys = [Key(id=g.id, key=g.key, role="gateway", account=None, application=None) for g in gateways]
        books = (self.callback, self.websocket)
        self.posters = [
            Poster(keys[0], ("a1", "a2", "a3"), books, self._dice),
            Poster(keys[0], ("b1", "b2"), books, self._dice),
            Poster(keys[1], ("c1", "c2"), (self.late,), self._dice),
        ]

    def answer_callback(self, request: Request) -> Answer:
        """Refuse, or enter the request into the books and take it."""
        if not request.is_whole:  # a kill cut it off, and nobody reads an answer
            return answer(500)
        assert self._refused_body in (None, request.body), "a refused batch came again with other bytes"
        self._refused_body = None
        if self._dice.random() < REFUSED_SHARE and self.posters:
            self.refused += 1
            self._refused_body = request.body
            return answer(500)
        self.callback.begin_delivery()
        self.callback.arrived(json.loads(request.body).get("notifications", ()))
        return answer(200)

    async def read_websocket(self, port: int, books: DeliveryBooks, *, answers_pings: bool = True) -> None:
        """Connect, and enter what comes, until the daemon is gone."""
        deliveries = -1
        with suppress(OSError, trio.BrokenResourceError):
            async with open_websocket(port, self._keys[books.name], answers_pings=answers_pings) as socket:
                while (found := await socket.next_message(MESSAGE_S)) is not None:
                    message, pings = found
                    if pings != deliveries:
                        books.begin_delivery()
                        deliveries = pings
                    books.arrived(message["notifications"])

    async def begin_life(self) -> None:
        """Forget what was under way, once all that the last process sent is in the books."""
        await trio.testing.wait_all_tasks_blocked(QUIET_S)
        self._refused_body = None
        for books in (self.callback, self.websocket, self.late):
            books.begin_life()


@asynccontextmanager
async def open_house(folder: Path, seed: int) -> AsyncIterator[House]:
    """A furnished house, whose callback receiver answers until the block ends."""
    house = House(folder / "data", seed)
    async with open_receiver(otherwise=house.answer_callback) as receiver:
        await house.furnish(receiver)
        yield house
