"""Gateways: they post over real HTTP, try again until they are answered, and sometimes give up.

A device belongs to one lane of one gateway, and a lane has one post under way at a time, so
a device's events are posted in order.
"""

from __future__ import annotations

from random import Random

import msgspec
import trio
from simulation.chronicle import Chronicle
from simulation.events import LIFE_CYCLE, Event, grouped, render
from simulation.http_client import HttpClient, NoAnswer
from simulation.promises import Post, Promises

from dispatcher.model import Kind

_RETRIED = (408, 429, 503, 507)


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How a lane posts."""

    pause_s: float  # between posts, on average
    events_max: int  # in a post
    filling_max: int  # bytes added to a payload
    life_cycle: float  # share of events that are no notifications
    keyed: float  # share of posts with an Idempotency-Key
    gives_up: float  # chance at each failure


class Marks:
    """Gives each event of a run its number."""

    def __init__(self) -> None:
        self.count = 0

    def take(self) -> int:
        """The next."""
        self.count += 1
        return self.count


class Lane:
    """One source of posts of a gateway, with devices of its own."""

    def __init__(
        self,
        name: str,
        account: str,
        client: HttpClient,
        habits: Habits,
        dice: Random,
        marks: Marks,
        promises: Promises,
        chronicle: Chronicle,
    ) -> None:
        self.name = name
        self.is_stopping = False
        self._account = account
        self._client = client
        self._habits = habits
        self._dice = dice
        self._marks = marks
        self._promises = promises
        self._chronicle = chronicle
        self._devices = [f"{name}-{number}" for number in range(dice.randint(1, 4))]
        self._posts = 0

    async def run(self) -> None:
        """Post until told to stop, and see the last post through."""
        while not self.is_stopping:
            await trio.sleep(self._dice.expovariate(1 / self._habits.pause_s))
            await self._see_through(*self._make())
        self._client.drop()

    def _make(self) -> tuple[Post, bytes, str]:
        """A post, its body and its media type."""
        self._posts += 1
        is_lines = self._dice.random() < 0.5
        lines = [self._line() for _ in range(self._dice.randint(1, 3) if is_lines else 1)]
        numbers = tuple(event.number for line in lines for event in line)
        key = ""
        if self._dice.random() < self._habits.keyed:
            key = f"{self.name}-{self._posts}"
            self._promises.keyed.update(numbers)
        post = Post(self._account, numbers, trio.current_time(), key)
        body = b"\n".join(render(line) for line in lines)
        return post, body, "application/x-ndjson" if is_lines else "application/json"

    def _line(self) -> list[Event]:
        """One message, its events numbered in the order in which it gives them."""
        kinds = grouped([self._kind() for _ in range(self._dice.randint(1, self._habits.events_max))])
        line = [self._event(kind) for kind in kinds]
        for event in line:
            self._promises.events[event.number] = event
            self._promises.accounts[event.number] = self._account
        return line

    def _kind(self) -> Kind:
        is_life_cycle = self._dice.random() < self._habits.life_cycle
        return self._dice.choice(LIFE_CYCLE) if is_life_cycle else Kind.NOTIFICATION

    def _event(self, kind: Kind) -> Event:
        filling = int(self._dice.random() ** 3 * self._habits.filling_max)
        return Event(self._marks.take(), self._dice.choice(self._devices), kind, filling)

    async def _see_through(self, post: Post, body: bytes, media_type: str) -> None:
        headers = {"Content-Type": media_type}
        if post.idempotency_key:
            headers["Idempotency-Key"] = post.idempotency_key
        while True:
            pause_s = self._dice.uniform(0.1, 3.0)
            try:
                answer = await self._client.request(
                    "POST", "/gateway/v1/events", body, headers=headers, about=post
                )
            except NoAnswer:
                self._chronicle.note(f"{self.name}: no answer to {post.numbers[0]}")
            else:
                self._chronicle.note(f"{self.name}: {answer.status} to {post.numbers[0]}")
                if answer.status == 202:
                    return
                if answer.status not in _RETRIED:
                    self._promises.fail(f"a post was answered {answer.status}: {answer.body!r}")
                    return
                pause_s += answer.retry_after_s
            if self._dice.random() < self._habits.gives_up:
                return
            await trio.sleep(pause_s)
