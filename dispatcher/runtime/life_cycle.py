"""The one task that removes what has had its time: events past their lifetime, and channels.

``core.timers`` holds, for each channel, the next moment at which anything about it could be
due.  Activity never touches them: it only moves deadlines away, so a channel is
looked at when its old moment comes and put back for the new one.

Removal clocks count up time (``core.life_cycle``).  ``UpTime`` is Trio's clock moved by
what earlier runs were up, and is saved with the channels' clocks at least every
``limits.LIFE_TIMES_SAVE_S``; a crash can make a channel live that much longer.  What was saved
is not kept: a clock that began anew since then says so by its moment, and which clocks ran is two bits.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable

import trio

from dispatcher import limits
from dispatcher.core.levels import next_level
from dispatcher.core.life_cycle import Deadline, Removal, judge, next_deadline
from dispatcher.core.timers import Timers
from dispatcher.errors import StorageFull, Unavailable
from dispatcher.model import ChannelClocks
from dispatcher.observe.log import LogEvent, log
from dispatcher.queue.interface import ChannelQueue
from dispatcher.registry.interface import LifeTimes, Registry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.channel_task import expire
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.observer import Observer

_CAN_WAIT = (Unavailable, StorageFull)  # another process holds the registry, or the disk is full

Remove = Callable[[ActiveChannel, Removal], Awaitable[None]]


class LifeCycle:
    """Watches every channel's clocks."""

    def __init__(
        self,
        *,
        directory: Directory,
        queue: ChannelQueue,
        registry: Registry,
        observer: Observer,
        wake: Callable[[ActiveChannel], None],
        now_unix_ms: Callable[[], int],
        startup_grace_s: float,
        up_before_s: float,
    ) -> None:
        """``wake`` is called for a channel that has a gap to tell; ``up_before_s``: how long
        earlier runs were up, together."""
        now_s = trio.current_time()
        self._directory = directory
        self._queue = queue
        self._registry = registry
        self._observer = observer
        self._wake = wake
        self._now_unix_ms = now_unix_ms
        self._offset_s = up_before_s - now_s  # from Trio's clock to up time
        self._removes_from_s = now_s + startup_grace_s
        self._timers = Timers()
        self._earlier = trio.Event()
        self._saved_s = now_s  # what moved before is saved

    def watch(self, channel: ActiveChannel) -> None:
        """Begin to watch a channel."""
        now_s = trio.current_time()
        self._push(channel.row.id, now_s, now_s)
        if len(self._timers) > 2 * self._directory.channel_count + limits.CHANNELS_PER_STEP:
            self._timers.keep(lambda number: self._directory.find_channel(number) is not None)

    def restore(self, channel: ActiveChannel, clocks: ChannelClocks | None) -> None:
        """Give a channel of an earlier run its clocks back."""
        if clocks is None:
            return
        channel.saved_running = _running(clocks)
        channel.last_event_s = clocks.last_event_s - self._offset_s
        if clocks.failing_since_s is not None:
            channel.remember_failing(clocks.failing_since_s - self._offset_s)
        if clocks.disconnected_since_s is not None:
            channel.disconnected_since_s = clocks.disconnected_since_s - self._offset_s

    def deadline(self, channel: ActiveChannel) -> tuple[Deadline, float] | None:
        """What removes a channel next if nothing changes, and in how many seconds."""
        found = next_deadline(channel.row.type, channel.row.limits, self._clocks(channel))
        if found is None:
            return None
        now_s = trio.current_time()
        return found, max(found.due_s - self._offset_s, self._removes_from_s) - now_s

    async def run(self, remove: Remove) -> None:
        """Remove what is due, as it falls due; until cancelled."""
        save_s = trio.current_time() + limits.LIFE_TIMES_SAVE_S
        while True:
            now_s = trio.current_time()
            await self._look_at_due(now_s, remove)
            if now_s >= save_s:
                await self.save()
                save_s = now_s + limits.LIFE_TIMES_SAVE_S
            self._earlier = trio.Event()
            with trio.move_on_at(min(save_s, self._timers.next_s)):
                await self._earlier.wait()

    async def save(self) -> None:
        """Save how far the clocks are; of the channels, those that changed since the last time."""
        looked_s = trio.current_time()  # what moves while we look may be saved twice
        moved: dict[int, ChannelClocks] = {}
        for count, channel in enumerate(self._directory.channels(), 1):
            clocks = self._clocks(channel)
            if self._has_moved(clocks, channel.saved_running):
                moved[channel.row.id] = clocks
            if count % limits.CHANNELS_PER_STEP == 0:
                await trio.lowlevel.checkpoint()
        up_s = trio.current_time() + self._offset_s
        try:
            await self._registry.save_life_times(
                LifeTimes(up_s=up_s, unix_ms=self._now_unix_ms(), clocks=moved)
            )
        except _CAN_WAIT as reason:  # the next save has it all
            log(logging.WARNING, LogEvent.LIFE_TIMES_UNSAVED, reason=reason.message)
            return
        self._saved_s = looked_s
        for number, clocks in moved.items():
            saved = self._directory.find_channel(number)
            if saved is not None:
                saved.saved_running = _running(clocks)

    def _has_moved(self, clocks: ChannelClocks, saved_running: int | None) -> bool:
        """Whether a channel's clocks are others than those saved last."""
        since_up_s = self._saved_s + self._offset_s
        return (
            _running(clocks) != saved_running
            or clocks.last_event_s >= since_up_s
            or (clocks.failing_since_s is not None and clocks.failing_since_s >= since_up_s)
            or (clocks.disconnected_since_s is not None and clocks.disconnected_since_s >= since_up_s)
        )

    async def _look_at_due(self, now_s: float, remove: Remove) -> None:
        for count in range(1, len(self._timers) + 1):  # what is put back meanwhile waits for the next turn
            number = self._timers.take(now_s)
            if number is None:
                return
            await self._look(number, remove)
            if count % limits.CHANNELS_PER_STEP == 0:
                await trio.lowlevel.checkpoint()

    async def _look(self, number: int, remove: Remove) -> None:
        channel = self._directory.find_channel(number)
        if channel is None:
            return
        now_s = trio.current_time()
        verdict = judge(channel.row.type, channel.row.limits, self._clocks(channel), now_s + self._offset_s)
        look_again_s = verdict.look_again_s - self._offset_s
        if verdict.removal is not None:
            if now_s >= self._removes_from_s:
                await self._remove(channel, verdict.removal, remove)
                return
            look_again_s = self._removes_from_s
        look_again_s = min(look_again_s, self._warn(channel, now_s))
        self._push(number, min(look_again_s, now_s + self._expire(channel)), now_s)

    def _warn(self, channel: ActiveChannel, now_s: float) -> float:
        """Tell how near a channel's removal is; return when there could be more to tell."""
        found = next_deadline(channel.row.type, channel.row.limits, self._clocks(channel))
        if found is None:
            return math.inf
        up_s = now_s + self._offset_s
        self._observer.deadline_nears(channel, found, up_s)
        level = next_level(found.share(up_s))
        return math.inf if level is None else found.at(level) - self._offset_s

    async def _remove(self, channel: ActiveChannel, removal: Removal, remove: Remove) -> None:
        try:
            await remove(channel, removal)
        except _CAN_WAIT as reason:
            log(
                logging.WARNING,
                LogEvent.CHANNEL_NOT_REMOVED,
                channel=channel.row.id,
                removal=removal,
                reason=reason.message,
            )
            now_s = trio.current_time()
            self._push(channel.row.id, now_s + limits.REMOVAL_RETRY_S, now_s)

    def _expire(self, channel: ActiveChannel) -> float:
        """Remove a channel's old events; return the seconds until the next could be due.

        While the channel's task sends, it does this itself before each batch: taking
        the records of a half-sent message away would cost the connection.
        """
        now_unix_ms = self._now_unix_ms()
        if channel.is_at_rest and expire(channel, self._queue, now_unix_ms, self._observer):
            self._wake(channel)
        oldest_unix_ms = self._queue.stats(channel.row.id).oldest_unix_ms
        age_ms = 0 if oldest_unix_ms is None else now_unix_ms - oldest_unix_ms
        lifetime_ms = channel.row.limits.event_lifetime_s * 1000
        return max(limits.EXPIRY_PAUSE_S, (lifetime_ms - age_ms) / 1000)

    def _clocks(self, channel: ActiveChannel) -> ChannelClocks:
        return ChannelClocks(
            last_event_s=channel.last_event_s + self._offset_s,
            failing_since_s=None if channel.row.is_paused else self._up(channel.retry.failing_since_s),
            disconnected_since_s=self._up(channel.disconnected_since_s),
        )

    def _up(self, moment_s: float | None) -> float | None:
        return None if moment_s is None else moment_s + self._offset_s

    def _push(self, number: int, at_s: float, now_s: float) -> None:
        if at_s < self._timers.next_s:
            self._earlier.set()
        self._timers.put(number, at_s, now_s)


def _running(clocks: ChannelClocks) -> int:
    """Which of a channel's clocks run, of those that need not."""
    return (clocks.failing_since_s is not None) + 2 * (clocks.disconnected_since_s is not None)
