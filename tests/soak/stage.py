"""One soak: a real daemon under mixed load for so long, looked at all the while."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import msgspec
import trio
from soak import cast
from soak.books import Books
from soak.gauges import Sample, look, open_files, troubles
from support.daemon import Daemon, User, open_daemon
from support.metrics import GONE, scraped
from support.tenants import EVERYTHING

from dispatcher import limits

CONFIG = """
[callbacks]
allow_private = true
[limits]
startup_grace_s = 0
[tiers.commercial]
applications_max = 0
retry_initial_s = 0.1
retry_max_s = 2
long_poll_hold_s = 2
"""
DEVICES = 200
APPLICATIONS = ("callback", "moody", "socket", "visitor", "silent", "poll")
CHANGING = 6  # applications whose channels come and go
CALLBACKS = CHANGING + 2
ARRIVE_S = 60.0  # until everything has arrived everywhere
CALM_S = limits.CALLBACK_IDLE_S * 1.5  # until connections that are kept alive are closed


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a soak came to."""

    posted: int
    refusals: int  # answers 429 and 503; those requests were posted again
    arrived: dict[str, int]  # events, by application
    again: dict[str, int]  # of these, those that came once more
    samples: Sequence[Sample]
    files_left: int  # descriptors that the daemon has more than before the load
    troubles: Sequence[str]


async def soak(
    folder: Path,
    *,
    seconds: float,
    rate: float,
    samples: int,
    tell: Callable[[Sample], None],
    calm_s: float = CALM_S,
    seed: int = 1,
) -> Report:
    """Let it run; ``tell`` hears of each sample.  Raises ``AssertionError`` when an event is missing."""
    with open_daemon(folder, config=CONFIG) as daemon:
        async with AsyncExitStack() as stack:
            play = Play(daemon, random.Random(seed))
            await play.rehearse(stack, rate)
            return await play.run(seconds, samples, calm_s, tell)


class Play:
    """The cast and their books."""

    def __init__(self, daemon: Daemon, dice: random.Random) -> None:
        self._daemon = daemon
        self._dice = dice
        self._books = {name: Books(name) for name in APPLICATIONS}
        self._users: dict[str, User] = {}
        self._others: list[Callable[[], object]] = []

    async def rehearse(self, stack: AsyncExitStack, rate: float) -> None:
        """Make accounts, keys and channels; nothing flows yet."""
        daemon, dice = self._daemon, self._dice
        gateway = await daemon.user("gateway", account="steady")
        self._fleet = cast.Fleet(daemon.port, gateway, DEVICES, rate, dice)
        self._operator = await daemon.user("admin")
        urls = {}
        for name, refusals in (("callback", lambda: None), ("moody", cast.moody(dice))):
            receiver = await stack.enter_async_context(cast.callback(self._books[name], refusals))
            urls[name] = receiver.url
        for name in self._books:
            self._users[name] = user = await daemon.user("application", account="steady", application=name)
            kind = {"callback": "callback", "moody": "callback", "poll": "pull"}.get(name, "websocket")
            content = {"url": urls[name]} if kind == "callback" else None
            done = await user.send("PUT", f"/v2/notification/{kind}", content)
            assert done.status in (201, 204), done.body
            assert (await user.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
        guests = await daemon.user("gateway", account="guests")
        self._others.append(partial(cast.come_and_go, guests, dice))
        for number in range(CHANGING):
            user = await daemon.user("application", account="guests", application=f"guest-{number}")
            self._others.append(partial(cast.change_minds, daemon, user, urls["callback"], dice))
        self._others += [
            partial(cast.operate, self._operator, daemon.port),
            partial(cast.be_rude, daemon.port, dice),
        ]

    async def run(
        self, seconds: float, samples: int, calm_s: float, tell: Callable[[Sample], None]
    ) -> Report:
        """Load, looks, and calm afterwards."""
        calm_files = open_files(self._daemon.pid)
        seen: list[Sample] = []
        async with trio.open_nursery() as readers:
            self._start_readers(readers)
            async with trio.open_nursery() as load:
                load.start_soon(self._fleet.run)
                for role in self._others:
                    load.start_soon(role)
                began_s = trio.current_time()
                for number in range(samples):
                    await trio.sleep_until(began_s + seconds * (number + 1) / samples)
                    seen.append(await self._look(trio.current_time() - began_s))
                    tell(seen[-1])
                load.cancel_scope.cancel()
            await self._until_all_arrived()
            readers.cancel_scope.cancel()
        left = await self._until_calm(calm_files, calm_s)
        return Report(
            posted=sum(self._fleet.posted.values()),
            refusals=self._fleet.refusals,
            arrived={name: books.events for name, books in self._books.items()},
            again={name: books.again for name, books in self._books.items()},
            samples=seen,
            files_left=left - calm_files,
            troubles=troubles(seen),
        )

    def _start_readers(self, nursery: trio.Nursery) -> None:
        port, dice = self._daemon.port, self._dice
        habits: dict[str, tuple[Callable[[], float], Callable[[], bool]]] = {
            "socket": (lambda: math.inf, lambda: True),
            "visitor": (lambda: dice.uniform(0.5, 4), lambda: True),
            "silent": (lambda: dice.uniform(0.5, 4), lambda: dice.random() < 0.5),
        }
        for name, (stays_s, confirms) in habits.items():
            user, books = self._users[name], self._books[name]
            read = partial(cast.read_socket, port, user, books, stays_s=stays_s, confirms=confirms)
            nursery.start_soon(read)
        nursery.start_soon(cast.poll, port, self._users["poll"], self._books["poll"])

    async def _look(self, at_s: float) -> Sample:
        metrics = await scraped(self._daemon)
        came = metrics["dispatcher_records_queued_total"] + metrics["dispatcher_records_recovered_total"]
        gone = sum(metrics[f"dispatcher_records_{name}_total"] for name in GONE)
        balance = int(came - gone - metrics["dispatcher_queue_records"])
        queue_bytes = int(metrics["dispatcher_queue_memory_bytes"])
        return await trio.to_thread.run_sync(
            look, self._daemon.pid, self._daemon.data, at_s, balance, queue_bytes
        )

    async def _until_all_arrived(self) -> None:
        """Everything that was posted has come to everyone; fails when it does not."""
        with trio.move_on_after(ARRIVE_S):
            while self._missing():  # noqa: ASYNC110  another process delivers
                await trio.sleep(0.05)
        assert not self._missing(), f"never came: {self._missing()}"

    def _missing(self) -> dict[str, int]:
        """How many events have yet to come, by application; nothing where none."""
        missing = {
            name: sum(number - books.last(device) for device, number in self._fleet.posted.items())
            for name, books in self._books.items()
        }
        return {name: count for name, count in missing.items() if count}

    async def _until_calm(self, calm_files: int, calm_s: float) -> int:
        """Descriptors once the daemon has closed what was left, or after some time."""
        with trio.move_on_after(calm_s):
            while open_files(self._daemon.pid) > calm_files:  # noqa: ASYNC110  another process closes
                await trio.sleep(0.2)
        return open_files(self._daemon.pid)
