"""All channels, looked at once a second for as long as anyone watches.

One look serves every viewer.  What a viewer is sent has a bound that does not know how
many channels there are: the totals, the channels that it follows, and those whose status
changed as far as they find room.  A viewer that is slow misses looks and gets the newest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec
import trio

from dispatcher import limits
from dispatcher.errors import TooManyRequests
from dispatcher.model import AccessKey, ChannelStatus
from dispatcher.queue.interface import ChannelQueue
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.views import Views
from dispatcher.wire.admin_api import ChannelRow, FleetUpdate, Totals


class _Seen(msgspec.Struct, frozen=True):
    """What a look found of a channel, as far as the next needs it."""

    status: ChannelStatus
    last_seq: int
    confirmed: int
    rate_in: float
    rate_out: float


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All channels at a moment."""

    totals: Totals
    seen: dict[int, _Seen]  # by channel


class Viewer:
    """One event stream: which channels it follows, and what it was not told yet."""

    def __init__(self, key_id: str, followed: Iterable[int]) -> None:
        self.key_id = key_id
        self.scope = trio.CancelScope()
        self.followed = tuple(dict.fromkeys(followed))
        self.sent: dict[int, ChannelRow] = {}
        self.changed: dict[int, None] = {}  # in order
        self.untold = 0

    def note(self, channels: Iterable[int]) -> None:
        """These changed their status, came, or went."""
        for number in channels:
            if number in self.changed or len(self.changed) < limits.VIEWED_CHANGES_MAX:
                self.changed[number] = None
            else:
                self.untold += 1


class Fleet:
    """Looks at all channels, and tells viewers."""

    def __init__(self, *, directory: Directory, queue: ChannelQueue, views: Views) -> None:
        self._directory = directory
        self._queue = queue
        self._views = views
        self._viewers: set[Viewer] = set()
        self._wanted = trio.Event()
        self._looked = trio.lowlevel.ParkingLot()
        self._look: Look | None = None
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"<Fleet {len(self._viewers)} viewers>"

    def check_room(self) -> None:
        """Raise ``TooManyRequests`` while there are as many viewers as there may be."""
        if len(self._viewers) >= limits.VIEWERS_MAX:
            raise TooManyRequests(f"{limits.VIEWERS_MAX} event streams are open; close one", retry_after_s=10)

    @contextmanager
    def viewer(self, key: AccessKey, followed: Iterable[int]) -> Iterator[Viewer]:
        """Someone who watches, with this key; its block ends when the key is revoked, or at the stop."""
        viewer = Viewer(key.id, followed)
        is_valid = self._directory.keys.holds(key)  # it may have been revoked since it was looked up
        if self._is_stopping or not is_valid or len(self._viewers) >= limits.VIEWERS_MAX:
            viewer.scope.cancel()
        self._viewers.add(viewer)
        self._wanted.set()
        try:
            with viewer.scope:
                yield viewer
        finally:
            self._viewers.discard(viewer)

    async def next_update(self, viewer: Viewer) -> FleetUpdate:
        """What a viewer is to be told, after the next look; cancellation loses nothing."""
        await self._looked.park()
        assert self._look is not None  # whoever unparks has looked
        return self._update(viewer, self._look)

    def revoke(self, keys: Iterable[AccessKey]) -> None:
        """End the streams that were opened with these keys."""
        gone = {key.id for key in keys}
        for viewer in self._viewers:
            if viewer.key_id in gone:
                viewer.scope.cancel()

    def stop(self) -> None:
        """End every stream; new ones end at once."""
        self._is_stopping = True
        for viewer in self._viewers:
            viewer.scope.cancel()

    async def run(self) -> None:
        """Look while anyone watches; until cancelled."""
        before_s = trio.current_time()
        while True:
            if not self._viewers:
                self._look, self._wanted = None, trio.Event()
                await self._wanted.wait()
            began_s = trio.current_time()
            await self._look_at_all(began_s - before_s)
            before_s = began_s
            self._looked.unpark_all()
            took_s = trio.current_time() - began_s
            await trio.sleep(max(limits.FLEET_LOOK_S, limits.FLEET_LOOK_SHARE * took_s) - took_s)

    async def totals(self) -> Totals:
        """All channels together, now.  A step for each channel; others get their turns."""
        return (await self._looked_at(None, 0.0)).totals

    async def _look_at_all(self, passed_s: float) -> None:
        before = self._look
        self._look = await self._looked_at(before, passed_s)
        if before is None:
            return
        now, then = self._look.seen, before.seen
        changed = [number for number, seen in now.items() if _status_of(then, number) is not seen.status]
        changed += [number for number in then if number not in now]
        for viewer in self._viewers:
            viewer.note(changed)

    async def _looked_at(self, before: Look | None, passed_s: float) -> Look:
        seen: dict[int, _Seen] = {}
        by_status: Counter[ChannelStatus] = Counter()
        oldest_unix_ms: int | None = None
        for count, channel in enumerate(self._directory.channels(), 1):
            if count % limits.FLEET_CHANNELS_PER_STEP == 0:
                await trio.lowlevel.checkpoint()
            if channel.is_gone:
                continue
            stats = self._queue.stats(channel.row.id)
            by_status[channel.status] += 1
            if stats.oldest_unix_ms is not None:
                oldest_unix_ms = min(stats.oldest_unix_ms, oldest_unix_ms or stats.oldest_unix_ms)
            then = None if before is None else before.seen.get(channel.row.id)
            seen[channel.row.id] = _seen(channel, stats.last_seq, then, passed_s)
        if before is None:
            return Look(totals=self._views.totals(dict(by_status), oldest_unix_ms), seen=seen)
        now, then_totals = self._queue.totals(), before.totals
        totals = self._views.totals(
            dict(by_status),
            oldest_unix_ms,
            rate_in=_rate(now.queued - then_totals.queued, passed_s),
            rate_out=_rate(now.acked - then_totals.acked, passed_s),
        )
        return Look(totals=totals, seen=seen)

    def _update(self, viewer: Viewer, look: Look) -> FleetUpdate:
        rows: list[ChannelRow] = []
        gone: list[int] = []
        for number in dict.fromkeys((*viewer.followed, *viewer.changed)):
            channel, seen = self._directory.find_channel(number), look.seen.get(number)
            if channel is None:
                if number in viewer.changed or viewer.sent.pop(number, None) is not None:
                    gone.append(number)
            elif seen is not None:
                row = self._views.row(channel, seen.rate_in, seen.rate_out)
                if number in viewer.changed or viewer.sent.get(number) != row:
                    rows.append(row)
        viewer.sent.update((row.id, row) for row in rows if row.id in viewer.followed)
        update = FleetUpdate(totals=look.totals, channels=rows, gone=gone, untold=viewer.untold)
        viewer.changed.clear()
        viewer.untold = 0
        return update


def _seen(channel: ActiveChannel, last_seq: int, then: _Seen | None, passed_s: float) -> _Seen:
    return _Seen(
        status=channel.status,
        last_seq=last_seq,
        confirmed=channel.confirmed_count,
        rate_in=0.0 if then is None else _rate(last_seq - then.last_seq, passed_s),
        rate_out=0.0 if then is None else _rate(channel.confirmed_count - then.confirmed, passed_s),
    )


def _rate(count: int, passed_s: float) -> float:
    return round(count / passed_s, 1) if passed_s > 0 else 0.0


def _status_of(seen: dict[int, _Seen], number: int) -> ChannelStatus | None:
    found = seen.get(number)
    return None if found is None else found.status
