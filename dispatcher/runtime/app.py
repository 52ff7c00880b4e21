"""The composition root: makes a dispatcher out of its parts, and takes it apart again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import trio

from dispatcher import limits
from dispatcher.config import Settings, StorageSettings
from dispatcher.deliver.turns import turns_of_loop
from dispatcher.errors import ConfigError, DispatcherError, Unavailable
from dispatcher.model import ChannelType, Durability
from dispatcher.observe.log import LogEvent, log
from dispatcher.observe.metrics import Metrics
from dispatcher.observe.tracing import Tracing, open_tracing
from dispatcher.queue.disk import SystemDisk
from dispatcher.queue.interface import ChannelQueue, Taker
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_routes import NativeFinder
from dispatcher.queue.native_scan import NativeScanner
from dispatcher.queue.native_taker import NativeTaker
from dispatcher.registry.control import serve_control
from dispatcher.registry.folder import JOURNAL_FOLDER, DataFolder, open_folder
from dispatcher.registry.interface import Contents, Registry
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.registry.sqlite import open_registry
from dispatcher.runtime.clock import WallClock
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.machine import machine_memory_bytes
from dispatcher.runtime.observer import FoundAtStart
from dispatcher.runtime.owner import open_owner
from dispatcher.runtime.parts import Ground, Parts
from dispatcher.runtime.storage import (
    deliver_recovered,
    journal_folder,
    open_journal_queue,
    open_memory_queue,
)
from dispatcher.runtime.supervisor import Supervisor
from dispatcher.runtime.world import World


@asynccontextmanager
async def open_dispatcher(
    settings: Settings | None = None, *, world: World | None = None
) -> AsyncIterator[Hub]:
    """Open a dispatcher; it is closed, with every task and file of it, when the block ends.

    ``settings`` None: the defaults, and nothing on disk: accounts, keys and channels
    live in memory as long as the block.  Otherwise ``settings.storage.data`` is the data
    folder, locked until the end: raises ``DataFolderError`` when another dispatcher has it.

    Cancellation of the block closes it as its normal end does: sockets get a Close
    frame with 1012, deliveries in flight count as not confirmed.
    """
    world = world or World()
    clock = WallClock(world.unix_s, trio.lowlevel.current_clock().current_time)
    turns = turns_of_loop(world.passing_s)
    async with AsyncExitStack() as stack:
        folder = _lock_folder(stack, settings, world)
        registry = await _open_registry(stack, folder, clock, world)
        settings = settings or Settings(storage=StorageSettings(durability=Durability.MEMORY))
        contents = await registry.load()
        clock.raise_floor(contents.life_times.unix_ms)
        queue, found = await _open_queue(settings, folder, registry, contents, clock, world)
        stack.callback(queue.close)
        scanner = NativeScanner()
        stack.callback(scanner.close)
        tracing = world.tracing or open_tracing(settings.tracing, lambda: int(world.unix_s() * 1e9))
        if tracing is not None:
            stack.push_async_callback(_close_tracing, tracing)
        nursery = await stack.enter_async_context(open_owner())
        ground = Ground(
            settings=settings,
            world=world,
            clock=clock,
            secret=world.secret or (world.random_bytes(32) if folder is None else folder.secret),
            registry=registry,
            queue=queue,
            new_staging=scanner.staging,
            taker=_taker(queue, scanner, world),
            tracing=tracing,
            turns=turns,
            nursery=nursery,
        )
        parts = _assemble(ground, contents)
        del contents  # it would stay as long as we do: with many channels, 100 MB
        parts.observer.found_at_start(found)
        hub = Hub(parts)
        if isinstance(queue, NativeQueue) and queue.log is not None:
            writing = trio.CancelScope(shield=True)  # what is confirmed while the block ends is written too
            stack.callback(writing.cancel)
            nursery.start_soon(_run_within, writing, queue.log.commit.run)
        _start_tasks(nursery, parts)
        if folder is not None:
            await nursery.start(_watch_identities, folder, hub)
        log(logging.INFO, LogEvent.STARTED, channels=len(parts.directory.channels()))
        _tell_unknown_tiers(hub)
        try:
            yield hub
        finally:
            log(logging.INFO, LogEvent.STOPPING)
            with trio.CancelScope(shield=True):  # bounded: sockets get a few seconds to say goodbye
                await hub.stop()
                await _write_last(queue, settings)
                await _keep_last(hub)
                await hub.parts.life_cycle.save()
            nursery.cancel_scope.cancel()


def _taker(queue: ChannelQueue, scanner: NativeScanner, world: World) -> Taker | None:
    """What takes texts in one go, when all that it joins is in the native core."""
    if isinstance(queue, NativeQueue) and world.route_finder is NativeFinder:
        return NativeTaker(queue, scanner)
    return None


def memory_bytes(settings: Settings) -> int:
    """The bound of all queues in memory: the setting, or half of what there is for us."""
    return settings.storage.memory_bytes or machine_memory_bytes() // 2


def _lock_folder(stack: AsyncExitStack, settings: Settings | None, world: World) -> DataFolder | None:
    if settings is None or world.registry is not None:
        return None
    folder = open_folder(Path(settings.storage.data), random_bytes=world.random_bytes)
    stack.enter_context(folder.locked())
    return folder


async def _open_registry(
    stack: AsyncExitStack, folder: DataFolder | None, clock: WallClock, world: World
) -> Registry:
    if folder is None:
        return world.registry or MemoryRegistry(world.random_bytes)
    return await stack.enter_async_context(
        open_registry(folder, unix_ms=clock.unix_ms, random_bytes=world.random_bytes)
    )


async def _open_queue(
    settings: Settings,
    folder: DataFolder | None,
    registry: Registry,
    contents: Contents,
    clock: WallClock,
    world: World,
) -> tuple[ChannelQueue, list[FoundAtStart]]:
    durability = settings.storage.durability
    if durability is Durability.MEMORY:
        return await open_memory_queue(folder, registry, memory_bytes(settings), world.queue), []
    return await open_journal_queue(
        Path(settings.storage.data, JOURNAL_FOLDER) if folder is None else journal_folder(folder),
        registry,
        contents.channels,
        durability,
        memory_bytes(settings),
        disk_bytes_max=settings.storage.disk_bytes,
        disk=world.disk or SystemDisk(),
        random_bytes=world.random_bytes,
        now_unix_ms=clock.unix_ms,
    )


async def _run_within(scope: trio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await work()


async def _write_last(queue: ChannelQueue, settings: Settings) -> None:
    """See the last acknowledgements onto the disk, or what is confirmed is sent again."""
    if isinstance(queue, NativeQueue) and queue.log is not None:
        with trio.move_on_after(settings.server.grace_s):
            await queue.log.commit.drain()


async def _close_tracing(tracing: Tracing) -> None:
    """Send the last spans.  A collector that does not answer is given up; the thread ends by itself."""
    with trio.move_on_after(limits.TRACE_CLOSE_S, shield=True):
        await trio.to_thread.run_sync(tracing.close, abandon_on_cancel=True)


async def _keep_last(hub: Hub) -> None:
    """See into the registry what it waits for; what cannot be written was told by the task that writes it."""
    with trio.move_on_after(hub.settings.server.grace_s), suppress(DispatcherError):
        await hub.parts.devices.kept()
        await hub.parts.device_requests.flush()


def _assemble(ground: Ground, contents: Contents) -> Parts:
    """All parts, each with what was left of its work when the last dispatcher ended."""
    parts = Parts(ground, contents)
    parts.make_all()
    _restore(contents, parts)
    if isinstance(ground.queue, NativeQueue):
        ground.queue.report_to(parts.publisher.tell_lost)
    _follow_journal(ground.queue, parts.directory, parts.supervisor, parts.metrics)
    return parts


def _start_tasks(nursery: trio.Nursery, parts: Parts) -> None:
    """Everything that runs as long as the dispatcher does, except what writes the journal."""
    if isinstance(parts.queue, NativeQueue):
        nursery.start_soon(parts.queue.rings.backing.run)
        if parts.queue.residency is not None:
            nursery.start_soon(parts.queue.residency.run)
    nursery.start_soon(parts.callbacks.close_idle_connections)
    nursery.start_soon(parts.life_cycle.run, parts.registrations.remove)
    nursery.start_soon(parts.fleet.run)
    nursery.start_soon(parts.watch.run)
    if parts.webhook is not None:
        nursery.start_soon(parts.webhook.run)
    nursery.start_soon(parts.devices.write)
    nursery.start_soon(parts.device_requests.run)
    nursery.start_soon(parts.device_requests.forget_answered)
    grace_s = parts.settings.limits.startup_grace_s
    nursery.start_soon(parts.devices.run, parts.publisher.tell_expired, grace_s)


def _follow_journal(
    queue: ChannelQueue, directory: Directory, supervisor: Supervisor, metrics: Metrics
) -> None:
    """Wake channels as their records become durable, and those that an earlier run left records in."""
    if not isinstance(queue, NativeQueue) or queue.log is None:
        return
    queue.log.report_to(
        on_shown=lambda number: supervisor.wake(directory.channel(number)),
        on_sync=metrics.journal_sync_seconds.observe,
    )
    metrics.journal_damaged_groups.set(queue.log.damaged_groups)
    deliver_recovered(queue, directory, supervisor)


def _restore(contents: Contents, parts: Parts) -> None:
    """What the registry knew when the dispatcher started."""
    parts.registrations.restore(contents.channels)
    for channel in parts.directory.channels():
        if channel.row.type is ChannelType.CALLBACK:
            parts.callbacks.restore(channel)
        parts.life_cycle.restore(channel, contents.life_times.clocks.get(channel.row.id))
    applications, router = parts.directory.applications, parts.router
    for subscription in contents.subscriptions:
        router.add_subscription(applications[subscription.application_id].account_id, subscription)
    for account_id, ep, ept in contents.device_types:
        router.learn_type(account_id, ep, ept)
    for application_id, entries in contents.presubscriptions.items():
        router.set_presubscriptions(applications[application_id].account_id, application_id, entries)
    parts.device_requests.restore(contents.device_requests)


def _tell_unknown_tiers(hub: Hub) -> None:
    """What exists goes on as it was registered; the operator learns why nothing can be added."""
    for account in hub.parts.directory.accounts.values():
        try:
            hub.parts.directory.tier_of(account, hub.settings.tiers)
        except ConfigError as error:
            log(logging.WARNING, LogEvent.TIER_UNKNOWN, account=account.name, reason=error.message)


async def _watch_identities(folder: DataFolder, hub: Hub, *, task_status: trio.TaskStatus[None]) -> None:
    """Take over keys made or revoked beside us: at a poke, and by a look every half second."""
    one_at_a_time = trio.Lock()  # whoever finds nothing new must not be told before it is taken over

    async def look() -> None:
        try:
            async with one_at_a_time:
                await hub.reload_identities()
        except Unavailable as busy:  # another process holds the registry; the next look will do
            log(logging.WARNING, LogEvent.KEYS_UNREAD, reason=busy.message)

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, folder, look)
        task_status.started()
        while True:
            await trio.sleep(limits.KEY_RELOAD_INTERVAL_S)
            await look()
