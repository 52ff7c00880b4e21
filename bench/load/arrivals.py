"""What a sink has received in one round: stored as it came, counted, proven afterwards.

Messages lie in one block of memory that is faulted in before the clock starts, so
that receiving costs a copy by the kernel and nothing else.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence

import msgspec
import trio

from .fleet import EVENT_BYTES, Fleet, NotProven, Proof, count_events, numbers

_ENVELOPE_BYTES = len('{"notifications":[]}')
_MESSAGE_SLACK_BYTES = 4_096  # per thousand events: headers of small messages, and a little more
_AMONG_OTHERS_BYTES = EVENT_BYTES + 1
LONE_EVENT_BYTES = EVENT_BYTES + 64  # with its envelope and what the transport puts around that


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A message that came: where it lies, and when it was whole on ``time.perf_counter``."""

    start: int
    end: int
    at_s: float


class Arrivals:
    """The messages of one round after the other; ``begin`` starts each.

    The generator is paced by it: see ``wait_for_room``.
    """

    def __init__(self, events_max: int, event_bytes: int = _AMONG_OTHERS_BYTES) -> None:
        """``event_bytes`` is the room for each: ``LONE_EVENT_BYTES`` where messages hold one or few."""
        room = events_max * event_bytes + (events_max // 1_000 + 1) * _MESSAGE_SLACK_BYTES
        self.memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
        self.view = memoryview(self.memory)
        self.begin(0)

    def begin(self, events_expected: int) -> None:
        """Forget the round before."""
        self._messages: list[Stored] = []
        self.events = 0
        self._events_expected = events_expected
        self._moved = trio.Event()
        self.last_at_s = 0.0  # time.perf_counter() when the last event had come

    def add(self, start: int, end: int) -> None:
        """A message lies in ``memory[start:end]``.  Its events are counted by its size."""
        events, rest = divmod(end - start - _ENVELOPE_BYTES + 1, EVENT_BYTES + 1)
        if rest:
            events = count_events(self.view[start:end])
        self.note(start, end, time.perf_counter())
        self.count(events)

    def note(self, start: int, end: int, at_s: float) -> None:
        """A message lies in ``memory[start:end]``, and its events are counted elsewhere."""
        self._messages.append(Stored(start, end, at_s))

    def count(self, events: int) -> None:
        """So many events more have come."""
        self.events += events
        if self.events >= self._events_expected:
            self.last_at_s = self.last_at_s or time.perf_counter()

    def moved(self) -> None:
        """Wake those who wait for arrivals."""
        self._moved.set()
        self._moved = trio.Event()

    async def wait_until(self, events: int) -> None:
        """Return when so many events have arrived."""
        while self.events < events:
            await self._moved.wait()

    async def wait_complete(self) -> None:
        """Return when the round's events have arrived."""
        await self.wait_until(self._events_expected)

    def prove(self, fleet: Fleet, only_device: int | None = None) -> None:
        """Check everything that came in this round; raises ``NotProven``.

        With ``only_device``, that device's events must have come and no other's.
        """
        proof = Proof(fleet, only_device)
        for message in self._messages:
            proof.take(self.view[message.start : message.end])
        proof.finish()

    def latencies_s(self, fleet: Fleet, due_s: Sequence[float]) -> list[float]:
        """For each event, how long after its moment it came; event n was due at ``due_s[n]``."""
        return [
            message.at_s - due_s[number]
            for message in self._messages
            for number in numbers(fleet, self.view[message.start : message.end])
        ]

    def room(self, start: int, bytes_wanted: int) -> memoryview:
        """Memory for what comes next; raises ``NotProven`` when far too much has come."""
        if start >= len(self.memory):
            raise NotProven(f"more than was posted arrived: {self.events} events")
        return self.view[start : start + bytes_wanted]
