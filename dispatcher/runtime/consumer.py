"""Consuming a channel in the same process: batches by iteration, acknowledged one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

import trio

from dispatcher import limits
from dispatcher.errors import ChannelGone, PositionLost
from dispatcher.model import Position
from dispatcher.queue.interface import Batch, ChannelQueue
from dispatcher.queue.whole_messages import read_messages
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.channel_task import confirm, expire
from dispatcher.runtime.observer import Observer


class ConsumedBatch:
    """Events handed to the embedding program; kept until ``ack``."""

    def __init__(self, batch: Batch, messages: tuple[bytes, ...], ack: Callable[[Position], int]) -> None:
        self.messages = messages
        self.events = batch.events
        self.first = batch.first
        self.last = batch.last
        self._ack = ack

    def __repr__(self) -> str:
        return f"<ConsumedBatch {self.events} events {self.first.seq}..{self.last.seq}>"

    def ack(self) -> int:
        """Everything up to the end of this batch is done with; return how many events that settled.

        Acknowledging an earlier batch later changes nothing.
        """
        return self._ack(self.last)


class Consumer:
    """An async iterator of one channel's batches, in order.

    What was handed out and not acknowledged when the consumer is closed is handed
    out again by the next one.  At most ``limits.WINDOW_BATCHES_MAX`` batches are out
    at a time; the iteration then waits for an ``ack``.  Cancellation loses nothing.
    """

    def __init__(
        self,
        channel: ActiveChannel,
        queue: ChannelQueue,
        now_unix_ms: Callable[[], int],
        observer: Observer,
    ) -> None:
        self._channel = channel
        self._queue = queue
        self._now_unix_ms = now_unix_ms
        self._observer = observer
        self._sent: Position | None = None
        self._unacked: deque[Position] = deque()
        channel.consumer_wakeup = trio.Event()

    def __aiter__(self) -> AsyncIterator[ConsumedBatch]:
        return self

    async def __anext__(self) -> ConsumedBatch:
        channel, number = self._channel, self._channel.row.id
        while True:
            if channel.is_gone:
                raise ChannelGone("the channel was deleted")
            channel.consumer_wakeup = wakeup = trio.Event()
            if len(self._unacked) < limits.WINDOW_BATCHES_MAX and not channel.row.is_paused:
                expire(channel, self._queue, self._now_unix_ms(), self._observer)
                batch = await self._queue.slice(number, self._sent, channel.limits(), channel.form)
                if batch is not None:
                    try:
                        messages = tuple(await read_messages(batch))
                    except PositionLost:  # its records had their time while they were read
                        continue
                    self._sent = batch.last
                    self._unacked.append(batch.last)
                    return ConsumedBatch(batch, messages, self._settle)
            await wakeup.wait()

    def close(self) -> None:
        """Give the channel back; what was not acknowledged stays in it."""
        self._channel.consumer_wakeup = None
        if not self._channel.is_gone:
            self._queue.release(self._channel.row.id)

    def _settle(self, position: Position) -> int:
        while self._unacked and self._unacked[0] <= position:
            self._unacked.popleft()
        if self._channel.consumer_wakeup is not None:
            self._channel.consumer_wakeup.set()
        return confirm(self._channel, self._queue, position)
