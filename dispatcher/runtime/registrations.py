"""Changes of what exists: channels.

Each change is committed to the registry first, then patched into the snapshots
without an ``await`` in between.  Changes of one application's channel happen one
at a time.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio
from msgspec.structs import replace

from dispatcher import limits
from dispatcher.config import TierSettings, channel_limits
from dispatcher.core.routing import Router
from dispatcher.errors import BadRequest, NotFound
from dispatcher.model import (
    Application,
    Channel,
    ChannelType,
    Serialization,
    Signing,
)
from dispatcher.observe.log import LogEvent, log
from dispatcher.queue.interface import ChannelQueue
from dispatcher.registry.interface import Registry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.storage import queue_options
from dispatcher.runtime.supervisor import Supervisor

EndSink = Callable[[ActiveChannel], None]
"""Ends a deleted channel's transport: called once, after the channel is gone."""


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how an application wants its deliveries; channels of other types have an empty one."""

    url: str = ""
    headers: dict[str, str] = {}
    signing: Signing | None = None
    is_gzipped: bool = False

    def __repr__(self) -> str:
        return f"<Callback with {len(self.headers)} headers>"


_NO_CALLBACK = Callback()


def _whole() -> trio.CancelScope:
    """Commit and patch belong together: a caller that is cancelled between them would leave
    the snapshot behind the registry.  The wait is one local transaction."""
    return trio.CancelScope(shield=True)


def _wanting(row: Channel, serialization: Serialization | None, callback: Callback) -> Channel:
    """The row as a registration wants it."""
    return replace(
        row,
        serialization=serialization,
        url=callback.url,
        headers=callback.headers,
        signing=callback.signing,
        is_gzipped=callback.is_gzipped,
    )


class Registrations:
    """Makes, changes and deletes channels."""

    def __init__(
        self,
        *,
        registry: Registry,
        directory: Directory,
        router: Router,
        queue: ChannelQueue,
        supervisor: Supervisor,
        tiers: dict[str, TierSettings],
        new_incarnation: Callable[[], int],
        watch: Callable[[ActiveChannel], None],
        end_sink: EndSink,
    ) -> None:
        self._registry = registry
        self._directory = directory
        self._router = router
        self._queue = queue
        self._supervisor = supervisor
        self._tiers = tiers
        self._new_incarnation = new_incarnation
        self._watch = watch
        self._end_sink = end_sink
        self._locks: dict[int, trio.Lock] = {}  # by application; only while someone holds or waits

    def check_type(self, application: Application, type_: ChannelType) -> ActiveChannel | None:
        """The application's channel, if it has one; refuse (``BadRequest``) one of another type."""
        channel = self._directory.channel_of(application.id)
        if channel is not None and channel.row.type is not type_:
            raise BadRequest(f"Another notification channel exists: {channel.row.type}; delete it first")
        return channel

    async def register(
        self,
        application: Application,
        type_: ChannelType,
        *,
        serialization: Serialization | None = None,
        callback: Callback = _NO_CALLBACK,
    ) -> tuple[ActiveChannel, bool]:
        """Make the application's channel, or change it when it exists; True when it is new.

        A change keeps the queue and applies from the next batch on.  Raises
        ``BadRequest`` when a channel of another type exists.
        """
        async with self._one_at_a_time(application.id):
            existing = self.check_type(application, type_)
            if existing is not None:
                row = _wanting(existing.row, serialization, callback)
                await self._registry.update_channel(row)
                existing.replace_row(row)
                self._queue.keep_gaps(row.id, existing.form.include_gaps)
                return existing, False
            channel = await self._add(application, type_, serialization, callback)
            return channel, True

    async def ensure(self, application: Application, type_: ChannelType) -> ActiveChannel:
        """The application's channel of this type, as it is; a plain one is made when there is none.

        Raises ``BadRequest`` when a channel of another type exists.
        """
        async with self._one_at_a_time(application.id):
            existing = self.check_type(application, type_)
            return existing or await self._add(application, type_, None, _NO_CALLBACK)

    async def delete(self, application: Application, type_: ChannelType) -> None:
        """Delete the application's channel of this type with its queue.

        Raises ``NotFound`` when there is none.  Subscriptions stay.
        """
        async with self._one_at_a_time(application.id):
            channel = self.channel(application, type_)
            await self._registry.remove_channel(channel.row.id)
            self._forget(channel, "deleted")

    async def remove(self, channel: ActiveChannel, reason: str) -> None:
        """Delete a channel that has had its time; nothing when it is gone meanwhile."""
        async with self._one_at_a_time(channel.row.application_id):
            if not channel.is_gone:
                await self._registry.remove_channel(channel.row.id)
                self._forget(channel, reason)

    async def pause(self, channel: ActiveChannel) -> None:
        """Send nothing more from a channel, over restarts too, until ``resume``; it goes on storing.

        What is on its way is finished and confirmed.  The clock of failures stands still, for
        nothing fails; the others run on.  Twice is once.
        """
        await self._set_paused(channel, True)
        channel.end_pause()  # of its retries: its task then finds out and ends

    async def resume(self, channel: ActiveChannel) -> None:
        """Send again, at once; failures from before the pause are forgotten."""
        if channel.row.is_paused:
            await self._set_paused(channel, False)
            channel.start_over()
        self._supervisor.wake(channel)

    def channel(self, application: Application, type_: ChannelType) -> ActiveChannel:
        """The application's channel of this type, or ``NotFound``."""
        channel = self._directory.channel_of(application.id)
        if channel is None or channel.row.type is not type_:
            raise NotFound(f"This application has no {type_} channel")
        return channel

    async def learn_batch_bytes(self, channel: ActiveChannel, refused_bytes: int) -> None:
        """Halve a size that the receiver refused, for the registration's life.

        Refusals of the same size count once.  The size holds at once, before the commit:
        the client is back sooner than the disk is done.
        """
        smaller = max(limits.LEARNED_BATCH_BYTES_MIN, refused_bytes // 2)
        known = channel.row.learned_batch_bytes
        if known is not None and known <= smaller:
            return
        channel.replace_row(replace(channel.row, learned_batch_bytes=smaller))
        async with self._one_at_a_time(channel.row.application_id):
            if not channel.is_gone:
                await self._registry.update_channel(channel.row)

    def restore(self, rows: Sequence[Channel]) -> None:
        """Take over the channels found in the registry at start."""
        for row in rows:
            self._open(row)

    async def _add(
        self,
        application: Application,
        type_: ChannelType,
        serialization: Serialization | None,
        callback: Callback,
    ) -> ActiveChannel:
        account = self._directory.accounts[application.account_id]
        tier = self._directory.tier_of(account, self._tiers)
        plain = Channel(
            id=0,
            application_id=application.id,
            account_id=application.account_id,
            type=type_,
            incarnation=self._new_incarnation(),
            limits=channel_limits(tier),
        )
        row = await self._registry.add_channel(_wanting(plain, serialization, callback))
        log(logging.INFO, LogEvent.CHANNEL_REGISTERED, channel=row.id, type=row.type)
        return self._open(row)

    def _open(self, row: Channel) -> ActiveChannel:
        channel = ActiveChannel(row)
        self._queue.open_channel(row.id, queue_options(row))
        self._directory.add_channel(channel)
        self._router.add_channel(row.account_id, row.application_id, row.id)
        self._watch(channel)
        return channel

    def _forget(self, channel: ActiveChannel, reason: str) -> None:
        """Take a channel out of every snapshot; its transport ends by itself."""
        row = channel.row
        channel.is_gone = True
        self._router.remove_channel(row.account_id, row.application_id)
        self._directory.remove_channel(channel)
        records = self._queue.delete_channel(row.id)
        self._end_sink(channel)
        log(
            logging.INFO,
            LogEvent.CHANNEL_DELETED,
            channel=row.id,
            type=row.type,
            reason=reason,
            records=records,
        )

    async def _set_paused(self, channel: ActiveChannel, is_paused: bool) -> None:
        async with self._one_at_a_time(channel.row.application_id):
            if channel.is_gone:
                raise NotFound("the channel was deleted meanwhile")
            if channel.row.is_paused is not is_paused:
                await self._registry.update_channel(replace(channel.row, is_paused=is_paused))
                channel.replace_row(replace(channel.row, is_paused=is_paused))

    @asynccontextmanager
    async def _one_at_a_time(self, application_id: int) -> AsyncIterator[None]:
        lock = self._locks.setdefault(application_id, trio.Lock())
        try:
            async with lock:
                with _whole():
                    yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(application_id, None)
