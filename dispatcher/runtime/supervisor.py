"""Gives a channel a task when there is something to send, and contains its failures.

The only place that catches broadly: one channel's failure is one channel's.

To make a task and its cancel scope, and to end both, costs as much as to send a small
message.  So a task that has nothing more to send rests, and the channel that has next
gets it.  Few rest: an idle channel has no task.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from dispatcher import limits
from dispatcher.deliver.sink import SinkClosed
from dispatcher.deliver.turns import Turns
from dispatcher.errors import ChannelGone, PositionLost
from dispatcher.model import ChannelType
from dispatcher.queue.interface import ChannelQueue
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.channel_task import run_channel
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.parking import Parking


class Supervisor:
    """Owns every channel task, through the nursery it is given."""

    def __init__(
        self,
        nursery: trio.Nursery,
        turns: Turns,
        queue: ChannelQueue,
        now_unix_ms: Callable[[], int],
        observer: Observer,
        parking: Parking,
    ) -> None:
        self._nursery = nursery
        self._queue = queue
        self._now_unix_ms = now_unix_ms
        self._observer = observer
        self._parking = parking
        self._turns = turns
        self._running = 0
        self._resting: list[_Resting] = []  # the last to rest is the first to work: its memory is warm
        self._ended = trio.lowlevel.ParkingLot()

    def wake(self, channel: ActiveChannel) -> None:
        """There may be something to send.  Plain, cheap, never blocks; extra calls do no harm."""
        channel.is_dirty = True
        if channel.consumer_wakeup is not None:
            channel.consumer_wakeup.set()
        elif channel.is_running or (channel.sink is None and channel.make_sink is None):
            return  # as most do that are told of every event
        elif channel.is_gone or channel.row.is_paused:
            return
        elif channel.ready_sink() is not None:
            channel.is_running = True
            self._running += 1
            self._turns.call(partial(self._start, channel))

    def stop(self, channel: ActiveChannel) -> None:
        """End the channel's task where it stands; what it was sending counts as not confirmed."""
        if channel.scope is not None:
            channel.scope.cancel()

    async def wait_idle(self) -> None:
        """Return when no channel's task runs."""
        while self._running:
            await self._ended.park()

    def _start(self, channel: ActiveChannel) -> bool:
        """Give it a task, which begins in the turn after this one; False: the dispatcher ends.

        Another dispatcher in this loop may let it go when ours has ended.
        """
        if self._nursery.cancel_scope.cancel_called:
            self._note_end(channel)
            return False
        if self._resting:
            self._resting.pop().take(channel)
        else:
            self._nursery.start_soon(self._work, channel)
        return True

    async def _work(self, channel: ActiveChannel) -> None:
        """Run one channel, then others, until enough tasks rest, or until a channel is stopped."""
        self._turns.begun()
        with trio.CancelScope() as scope:
            while True:
                await self._run(channel, scope)
                self._run_again(channel)
                if len(self._resting) >= limits.CHANNEL_TASKS_RESTING_MAX:
                    return
                channel = await self._rest()
                self._turns.begun()
        self._run_again(channel)

    async def _rest(self) -> ActiveChannel:
        """Wait until ``wake`` has a channel for this task.  Cancellation: it gets none."""
        resting = _Resting(trio.lowlevel.current_task())
        self._resting.append(resting)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._resting.remove(resting)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        assert resting.channel is not None
        return resting.channel

    async def _run(self, channel: ActiveChannel, scope: trio.CancelScope) -> None:
        """Run it until it has nothing to do; again after a failure of its own."""
        channel.scope = scope
        try:
            await self._run_until_done(channel)
        finally:
            channel.scope = None
            self._note_end(channel)

    def _note_end(self, channel: ActiveChannel) -> None:
        channel.is_running = False
        self._running -= 1
        if self._ended and not self._running:
            self._ended.unpark_all()

    def _run_again(self, channel: ActiveChannel) -> None:
        """Something may have come after it looked last."""
        if channel.is_dirty:
            self.wake(channel)

    async def _run_until_done(self, channel: ActiveChannel) -> None:
        while await self._run_once(channel):  # noqa: ASYNC110  a pause after a failure, not a poll
            await trio.sleep(limits.TASK_RESTART_S)

    async def _run_once(self, channel: ActiveChannel) -> bool:
        """True when the task failed in a way that another start may mend."""
        sink = channel.sink
        try:
            await run_channel(channel, self._queue, self._now_unix_ms, self._observer, self._parking)
        except SinkClosed:
            if channel.sink is sink:
                detach(channel, self._queue)
        except PositionLost:
            channel.frozen = None
            return True
        except ChannelGone:
            return False
        except Exception as error:
            self._observer.task_failed(channel.row, error)
            return True
        return False


class _Resting:
    """A task without a channel."""

    __slots__ = ("_task", "channel")

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task = task
        self.channel: ActiveChannel | None = None  # what it is to run

    def take(self, channel: ActiveChannel) -> None:
        """It goes on with this one at the next turn; once only."""
        self.channel = channel
        trio.lowlevel.reschedule(self._task)


def detach(channel: ActiveChannel, queue: ChannelQueue) -> None:
    """Take the sink away: what it has not confirmed will be sent again by the next one."""
    channel.sink = None
    channel.sent = None
    if channel.row.type is ChannelType.WEB_SOCKET:
        channel.disconnected_since_s = trio.current_time()
    if not channel.is_gone:
        queue.release(channel.row.id)
