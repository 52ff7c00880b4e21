"""Long polls: one at a time for each channel, each answered with one message.

    GET ─▶ accepted ─▶ did the last answer arrive? ─yes─▶ it is settled ─▶ held until there is a message
                                                  └─no──▶ the same bytes again

A poll takes its batch out of the queue itself, in the task of its request.  So nothing
belongs to a channel that nobody polls but what is known of its last answer: which batch
it was, and a receipt.  That batch stays frozen until the next accepted poll, over a
restart too, so that it goes again byte for byte.

A batch with several kinds of events is several messages (unless the application wants
them mixed) and takes as many polls, in order; it is settled with the last.  A restart
in their midst begins the batch again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from functools import partial

import msgspec
import trio

from dispatcher import limits
from dispatcher.deliver.answer_bytes import AnswerBytes
from dispatcher.deliver.sink import DeliveryFailed, FailureClass
from dispatcher.deliver.tcp_receipt import TcpReceipt
from dispatcher.errors import ChannelGone, Conflict, InvalidAuth, NotFound, PositionLost
from dispatcher.model import AccessKey, Application, ChannelType, Position
from dispatcher.queue.interface import Batch, ChannelQueue, FrozenBatch
from dispatcher.queue.whole_messages import read_messages
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.channel_task import confirm, frozen, next_batch
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.owner import open_owner
from dispatcher.runtime.registrations import Registrations


class PollEnd(Enum):
    """How a poll ended that got no message."""

    EMPTY = "nothing came while it was held, or it was given up"
    DELETED = "its channel was deleted"


class Answer(msgspec.Struct, frozen=True):
    """One message.  Whoever sends it says so to the receipt: when, and when its connection ended."""

    body: bytes
    receipt: TcpReceipt


class _Given(msgspec.Struct):
    """How far the frozen batch is: the message given last, until the batch is settled."""

    batch: FrozenBatch
    messages: int  # of the batch
    index: int  # of the message
    events: int  # of the message
    bytes_count: int
    given_s: float
    receipt: TcpReceipt | None  # None: ``index`` is the message to give next

    @property
    def first(self) -> Position:
        """Of the batch, as the next."""
        return self.batch.first

    @property
    def last(self) -> Position:
        return self.batch.last


class _Poll:
    """A poll that is open."""

    def __init__(self, key: AccessKey, hold_s: float) -> None:
        self.key_id = key.id
        self.is_revoked = False
        self.scope = trio.CancelScope(deadline=trio.current_time() + hold_s)


class LongPolls:
    """Every open long poll, and the answers that are not acknowledged."""

    def __init__(
        self,
        *,
        registrations: Registrations,
        queue: ChannelQueue,
        now_unix_ms: Callable[[], int],
        observer: Observer,
    ) -> None:
        self._registrations = registrations
        self._queue = queue
        self._now_unix_ms = now_unix_ms
        self._observer = observer
        self._open: dict[int, _Poll] = {}  # by channel
        self._given: dict[int, _Given] = {}  # by channel
        self._bytes = AnswerBytes()
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"<LongPolls {len(self._open)} open, {len(self._given)} batches not settled, {self._bytes!r}>"

    async def poll(
        self, key: AccessKey, application: Application, wait_gone: Callable[[], Awaitable[None]]
    ) -> Answer | PollEnd:
        """The application's next message; waits for one up to the tier's ``long_poll_hold_s``.

        Makes the channel when there is none.  Being accepted acknowledges the last answer, if
        the client's TCP has all of it.  ``wait_gone`` returns when the client has gone: the poll
        then ends at once, and with it the time in which another one is refused.

        Raises ``BadRequest`` when a channel of another type exists, ``Conflict`` while another
        poll of the application is open, and ``InvalidAuth`` when the key was revoked meanwhile.
        Cancellation loses nothing: what was taken for this poll goes to the next.
        """
        channel = await self._registrations.ensure(application, ChannelType.LONG_POLLING)
        number = channel.row.id
        if number in self._open:
            raise Conflict("a long poll of this application is in progress; its answer comes there")
        hold_s = 0.0 if self._is_stopping else channel.row.limits.long_poll_hold_s
        poll = self._open[number] = _Poll(key, hold_s)
        channel.disconnected_since_s = None
        try:
            return await self._hold(channel, poll, wait_gone)
        finally:
            del self._open[number]
            channel.consumer_wakeup = None
            channel.disconnected_since_s = trio.current_time()
            if channel.frozen is None and not channel.is_gone:
                self._queue.release(number)

    async def delete(self, application: Application) -> bool:
        """Delete the application's long-poll channel; False when there is none.

        An open poll ends with ``PollEnd.DELETED``.
        """
        try:
            await self._registrations.delete(application, ChannelType.LONG_POLLING)
        except NotFound:
            return False
        return True

    def forget(self, channel: ActiveChannel) -> None:
        """Forget the answer given last; of a deleted channel, whose open poll notices by itself."""
        self._given.pop(channel.row.id, None)

    def revoke(self, keys: Iterable[AccessKey]) -> None:
        """End the polls that were opened with these keys."""
        gone = {key.id for key in keys}
        for poll in self._open.values():
            if poll.key_id in gone:
                poll.is_revoked = True
                poll.scope.cancel()

    def stop(self) -> None:
        """End every poll as one for which nothing came; new ones too.  Clients then poll again."""
        self._is_stopping = True
        for poll in self._open.values():
            poll.scope.cancel()

    async def _hold(
        self, channel: ActiveChannel, poll: _Poll, wait_gone: Callable[[], Awaitable[None]]
    ) -> Answer | PollEnd:
        answer: Answer | PollEnd = PollEnd.EMPTY

        async def end_when_gone() -> None:
            await wait_gone()
            poll.scope.cancel()

        try:
            with poll.scope:
                async with open_owner() as nursery:
                    nursery.start_soon(end_when_gone)
                    await self._acknowledge(channel)
                    answer = await self._next_answer(channel)
                    nursery.cancel_scope.cancel()
            if poll.is_revoked:
                raise InvalidAuth("Invalid access token.")
        except BaseException:
            if isinstance(answer, Answer):
                answer.receipt.end(is_reset=True)  # it will never be sent
            raise
        return answer

    async def _acknowledge(self, channel: ActiveChannel) -> None:
        """Settle the last answer if the client has it."""
        given = self._given.get(channel.row.id)
        if given is None or given.receipt is None:
            return
        if not given.receipt.is_acknowledged() and given.receipt.is_open:
            await trio.sleep(limits.TCP_ACK_DELAY_S)  # a kernel may wait so long with an acknowledgement
        seconds = trio.current_time() - given.given_s
        if not given.receipt.is_acknowledged():
            lost = DeliveryFailed(FailureClass.CONNECTION, detail="not all of it was acknowledged")
            self._observer.delivery_failed(channel, given, lost, seconds)
            return
        self._observer.delivered(channel, given, seconds)
        given.receipt = None
        given.index += 1
        if given.index == given.messages:
            confirm(channel, self._queue, given.batch.last)
            channel.frozen = None
            self.forget(channel)

    async def _next_answer(self, channel: ActiveChannel) -> Answer | PollEnd:
        while True:
            channel.consumer_wakeup = wakeup = trio.Event()
            try:
                batch = await next_batch(channel, self._queue, self._now_unix_ms(), self._observer)
                if batch is not None:
                    return await self._give(channel, batch)
            except ChannelGone:
                return PollEnd.DELETED
            except PositionLost:  # its records had their time while it waited for room
                continue
            await wakeup.wait()

    async def _give(self, channel: ActiveChannel, batch: Batch) -> Answer:
        number = channel.row.id
        before = self._given.get(number)
        index = before.index if before is not None and before.batch == channel.frozen else 0
        message = batch.messages[index]
        await self._bytes.take(message.bytes_count)
        receipt = TcpReceipt(partial(self._bytes.give_back, message.bytes_count))
        try:
            body = (await read_messages(batch))[index]
        except BaseException:
            receipt.end(is_reset=True)
            raise
        channel.frozen = frozen(channel, batch)
        self._queue.freeze(number, channel.frozen)
        self._given[number] = _Given(
            batch=channel.frozen,
            messages=len(batch.messages),
            index=index,
            events=message.events,
            bytes_count=message.bytes_count,
            given_s=trio.current_time(),
            receipt=receipt,
        )
        return Answer(body, receipt)
