"""Events that their receivers refuse, set aside until an operator says what to do.

An event is written to the registry first and leaves its queue then, so a crash in between
leaves it in both: it is refused and parked again, which changes nothing.  What is given
back is appended to the same channel as a new record, and forgotten when that is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import trio

from dispatcher import limits
from dispatcher.core.batching import WHOLE
from dispatcher.errors import DispatcherError, NotFound
from dispatcher.model import ParkedCount, ParkedEvent, Position, SliceLimits
from dispatcher.queue.interface import ChannelQueue
from dispatcher.registry.interface import Registry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.observer import Observer
from dispatcher.wire.ingest import Parsed, encode_event

_ONE = SliceLimits(events_max=1, bytes_max=1)


class Stored(Protocol):
    """An event that was given back is in its queue."""

    async def durable(self) -> None: ...


class Parking:
    """What is parked of all channels; the events themselves are in the registry."""

    def __init__(
        self,
        *,
        registry: Registry,
        queue: ChannelQueue,
        counts: Mapping[int, ParkedCount],
        observer: Observer,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._queue = queue
        self._counts = dict(counts)
        self._observer = observer
        self._now_unix_ms = now_unix_ms
        self._one_at_a_time = trio.Lock()  # or two operators would give the same event back twice

    def count(self, channel_id: int) -> ParkedCount:
        """How much of a channel is parked."""
        return self._counts.get(channel_id, ParkedCount())

    def forget(self, channel: ActiveChannel) -> None:
        """A channel was deleted, and what was parked of it with it."""
        self._counts.pop(channel.row.id, None)

    async def park(self, channel: ActiveChannel, position: Position, status: int) -> bool:
        """Set the oldest event of a channel aside, which was refused with this status.

        False: it stays, because so much is parked already, the registry cannot keep it, or it is
        not there any more; it is told which of the first two.  Is not cancelled half way.
        Raises ``ChannelGone``.
        """
        with trio.CancelScope(shield=True):  # bounded: the registry gives up after REGISTRY_BUSY_S
            is_parked = await self._park(channel, position, status)
        if is_parked:
            self._observer.parked(channel.row, position, status)
        return is_parked

    async def events(self, channel: ActiveChannel, after_id: int, count_max: int) -> tuple[ParkedEvent, ...]:
        """Parked events of a channel behind an id, in the order in which they were parked."""
        return await self._registry.parked_events(channel.row.id, after_id, count_max)

    async def give_back(
        self, channel: ActiveChannel, event_id: int | None, append: Callable[[Parsed], Stored]
    ) -> int:
        """Put one event (None: all that are parked) at the end of the channel's queue; return how many.

        Each is forgotten when it is durable there: cut off in between, it may be given back twice.
        Raises ``NotFound``, and what ``append`` and ``durable`` raise; what was given back by then is.
        """
        async with self._one_at_a_time:
            return await self._each(channel, event_id, lambda event: append(encode_event(event.message)))

    async def discard(self, channel: ActiveChannel, event_id: int | None) -> int:
        """Forget one event, or all that are parked now; return how many.  Raises ``NotFound``."""
        async with self._one_at_a_time:
            return await self._each(channel, event_id, lambda _: None)

    async def _each(
        self, channel: ActiveChannel, event_id: int | None, take: Callable[[ParkedEvent], Stored | None]
    ) -> int:
        after_id, count_max = (
            (0, self.count(channel.row.id).events) if event_id is None else (event_id - 1, 1)
        )
        events = await self.events(channel, after_id, count_max)
        if event_id is not None and (not events or events[0].id != event_id):
            raise NotFound("there is no such parked event; it was given back, or discarded")
        for event in events:
            if channel.is_gone:
                raise NotFound("the channel was deleted meanwhile")
            stored = take(event)
            if stored is not None:
                await stored.durable()
            await self._registry.remove_parked_events([event.id])
            self._changed(event.channel_id, -1, -len(event.message))
        return len(events)

    async def _park(self, channel: ActiveChannel, position: Position, status: int) -> bool:
        peeked = await self._queue.peek(channel.row.id, _ONE, WHOLE)
        if not peeked or peeked[0].position != position:
            return False
        event = ParkedEvent(
            id=0,
            channel_id=channel.row.id,
            position=position,
            kind=peeked[0].kind,
            message=peeked[0].message,
            parked_unix_ms=self._now_unix_ms(),
            status=status,
        )
        if not await self._keep(event):
            return False
        # Without a loss it ended in another way meanwhile, which was told; the copy does no harm.
        return self._queue.park(channel.row.id, position) is not None

    async def _keep(self, event: ParkedEvent) -> bool:
        """See an event into the registry; False, which is told, when it cannot be kept."""
        count, reason = self.count(event.channel_id), ""
        if (
            count.events >= limits.PARKED_EVENTS_PER_CHANNEL_MAX
            or count.message_bytes + len(event.message) > limits.PARKED_BYTES_PER_CHANNEL_MAX
        ):
            reason = f"{count.events} events are parked, no more can be: give them back or discard them"
        else:
            try:
                if await self._registry.park_event(event):
                    self._changed(event.channel_id, 1, len(event.message))
            except DispatcherError as error:
                reason = error.message
        if reason:
            self._observer.not_parked(event.channel_id, reason)
        return not reason

    def _changed(self, channel_id: int, events: int, message_bytes: int) -> None:
        count = self.count(channel_id)
        now = ParkedCount(count.events + events, count.message_bytes + message_bytes)
        if now.events > 0:
            self._counts[channel_id] = now
        else:
            self._counts.pop(channel_id, None)
