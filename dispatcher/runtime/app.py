"""The composition root: makes a dispatcher out of its parts, and takes it apart again."""

from __future__ import annotations

import logging
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import msgspec
import trio

from dispatcher import limits
from dispatcher.config import Settings, StorageSettings, port_range, split_proxy
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.device_requests import ASYNC_ID_RANDOM_BYTES
from dispatcher.core.request_book import RequestBook
from dispatcher.core.route_table import RouteFinder
from dispatcher.core.routing import Router
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Connect, Dialer, Resolve, SystemResolver, connect_tcp
from dispatcher.deliver.egress_proxy import EgressProxy, ProxyTunnels
from dispatcher.errors import CloseCode, ConfigError, DispatcherError, Unavailable
from dispatcher.model import ChannelType, Durability
from dispatcher.observe.log import LogEvent, log
from dispatcher.observe.metrics import Metrics
from dispatcher.observe.tracing import Tracing, open_tracing
from dispatcher.queue.disk import Disk, SystemDisk
from dispatcher.queue.interface import ChannelQueue
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_routes import NativeFinder
from dispatcher.queue.native_scan import NativeScanner
from dispatcher.registry.control import serve_control
from dispatcher.registry.folder import DataFolder, open_folder
from dispatcher.registry.interface import Contents, Registry
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.registry.sqlite import open_registry
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.budgets import Budgets
from dispatcher.runtime.callbacks import Callbacks
from dispatcher.runtime.clock import WallClock
from dispatcher.runtime.device_requests import DeviceRequests
from dispatcher.runtime.devices import Devices
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.fleet import Fleet
from dispatcher.runtime.gateways import Gateways
from dispatcher.runtime.hub import Hub, Parts, record_totals
from dispatcher.runtime.life_cycle import LifeCycle
from dispatcher.runtime.longpolls import LongPolls
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.operator_webhook import ANYWHERE, webhook_of
from dispatcher.runtime.owner import open_owner
from dispatcher.runtime.parking import Parking
from dispatcher.runtime.publishing import Publisher
from dispatcher.runtime.registrations import Registrations
from dispatcher.runtime.sockets import Sockets
from dispatcher.runtime.storage import (
    JOURNAL_FOLDER,
    deliver_recovered,
    journal_folder,
    open_journal_queue,
    open_memory_queue,
)
from dispatcher.runtime.subscriptions import Subscriptions
from dispatcher.runtime.supervisor import Supervisor
from dispatcher.runtime.values import Values
from dispatcher.runtime.views import Views
from dispatcher.runtime.watch import Watch
from dispatcher.wire.staging import NewStaging


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What the outside gives a dispatcher: time, randomness, and the way to other machines."""

    unix_s: Callable[[], float] = time.time
    random_bytes: Callable[[int], bytes] = secrets.token_bytes
    resolve: Resolve | None = None  # None: the system's resolver
    connect: Connect | None = None  # None: real sockets
    queue: Callable[[int, int], ChannelQueue] = NativeQueue  # of epoch and memory bound, without a journal
    route_finder: Callable[[bytes], RouteFinder] = NativeFinder  # of 16 secret bytes
    registry: Registry | None = None  # None: the data folder's; with another there is no such folder
    disk: Disk | None = None  # None: this machine's
    secret: bytes | None = None  # under which keys are kept; None: the data folder's, or a new one
    tls: ssl.SSLContext | None = None  # for callbacks; None: as the settings say
    tracing: Tracing | None = None  # None: as the settings say; closed with the dispatcher


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
    clock = WallClock(world.unix_s, trio.current_time)
    async with AsyncExitStack() as stack:
        folder = _lock_folder(stack, settings, world)
        registry = await _open_registry(stack, folder, clock, world)
        settings = settings or Settings(storage=StorageSettings(durability=Durability.MEMORY))
        secret = world.secret or (world.random_bytes(32) if folder is None else folder.secret)
        contents = await registry.load()
        queue = await _open_queue(settings, folder, registry, contents, clock, world)
        stack.callback(queue.close)
        scanner = NativeScanner()
        stack.callback(scanner.close)
        tracing = world.tracing or open_tracing(settings.tracing, lambda: int(world.unix_s() * 1e9))
        if tracing is not None:
            stack.push_async_callback(_close_tracing, tracing)
        nursery = await stack.enter_async_context(open_owner())
        hub = _assemble(
            settings,
            world,
            clock,
            secret,
            registry,
            contents,
            queue,
            scanner.staging,
            tracing,
            nursery,
        )
        if isinstance(queue, NativeQueue) and queue.log is not None:
            writing = trio.CancelScope(shield=True)  # what is confirmed while the block ends is written too
            stack.callback(writing.cancel)
            nursery.start_soon(_run_within, writing, queue.log.commit.run)
        if isinstance(queue, NativeQueue) and queue.residency is not None:
            nursery.start_soon(queue.residency.run)
        nursery.start_soon(hub.parts.callbacks.close_idle_connections)
        nursery.start_soon(hub.parts.life_cycle.run, hub.parts.registrations.remove)
        nursery.start_soon(hub.parts.fleet.run)
        nursery.start_soon(hub.parts.watch.run)
        if hub.parts.webhook is not None:
            nursery.start_soon(hub.parts.webhook.run)
        nursery.start_soon(hub.parts.devices.write)
        nursery.start_soon(hub.parts.device_requests.run)
        nursery.start_soon(hub.parts.device_requests.forget_answered)
        nursery.start_soon(
            hub.parts.devices.run, hub.parts.publisher.tell_expired, settings.limits.startup_grace_s
        )
        if folder is not None:
            await nursery.start(_watch_identities, folder, hub)
        log(logging.INFO, LogEvent.STARTED, channels=len(hub.parts.directory.channels()))
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


def memory_bytes(settings: Settings) -> int:
    """The bound of all queues in memory: the setting, or half of the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return settings.storage.memory_bytes or machine // 2


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
) -> ChannelQueue:
    durability = settings.storage.durability
    if durability is Durability.MEMORY:
        return await open_memory_queue(folder, registry, memory_bytes(settings), world.queue)
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


def _assemble(
    settings: Settings,
    world: World,
    clock: WallClock,
    secret: bytes,
    registry: Registry,
    contents: Contents,
    queue: ChannelQueue,
    new_staging: NewStaging,
    tracing: Tracing | None,
    nursery: trio.Nursery,
) -> Hub:
    directory = Directory(secret, contents.identities)
    router = Router(world.route_finder(world.random_bytes(16)))
    metrics = Metrics(lambda: record_totals(queue, directory, clock.unix_ms()))
    webhook = webhook_of(
        settings.operator,
        new_dialer=lambda is_proxied, tls: _dialer(settings, world, ANYWHERE, tls, is_proxied=is_proxied),
        load_tls=lambda: world.tls or client_context(ca=settings.callbacks.ca),
        metrics=metrics,
        wall_unix_ms=lambda: int(world.unix_s() * 1000),
        random_bytes=world.random_bytes,
    )
    observer = Observer(metrics, AttemptLogs(clock.unix_ms), webhook, tracing)
    watch = Watch(
        queue=queue,
        observer=observer,
        certificates={
            "server": settings.server.tls_certificate,
            "callbacks": settings.callbacks.client_certificate,
        },
        wall_unix_s=world.unix_s,
    )
    parking = Parking(
        registry=registry, queue=queue, counts=contents.parked_counts, now_unix_ms=clock.unix_ms
    )
    supervisor = Supervisor(nursery, queue, clock.unix_ms, observer, parking)
    devices = Devices(registry=registry, directory=directory, router=router, now_unix_ms=clock.unix_ms)
    book = RequestBook(clock.unix_ms(), sooner=lambda: requests.look_again())
    gateways = Gateways(directory=directory, tiers=settings.tiers, book=book, now_unix_ms=clock.unix_ms)
    values = Values(clock.unix_ms)
    requests = DeviceRequests(
        registry=registry,
        devices=devices,
        book=book,
        now_unix_ms=clock.unix_ms,
        values=values,
        deliver=lambda account_id, responses: publisher.to_askers(account_id, responses),
        wake=gateways.wake,
    )
    policy = _address_policy(settings)

    def wall_unix_ms() -> int:
        return int(world.unix_s() * 1000)

    def load_tls() -> ssl.SSLContext:
        return world.tls or _tls(settings)

    clock.raise_floor(contents.life_times.unix_ms)
    life_cycle = LifeCycle(
        directory=directory,
        queue=queue,
        registry=registry,
        observer=observer,
        wake=supervisor.wake,
        now_unix_ms=clock.unix_ms,
        startup_grace_s=settings.limits.startup_grace_s,
        up_before_s=contents.life_times.up_s,
    )

    def end_sink(channel: ActiveChannel) -> None:
        supervisor.wake(channel)  # a consumer in this process learns that its channel is gone
        observer.attempts.forget(channel.row.id)
        parking.forget(channel)
        if tracing is not None:
            tracing.forget(channel.row.id)
        if channel.row.type is ChannelType.WEB_SOCKET:
            sockets.end(channel, CloseCode.NORMAL, "channel deleted")
        elif channel.row.type is ChannelType.CALLBACK:
            callbacks.end(channel)
            supervisor.stop(channel)
        elif channel.row.type is ChannelType.LONG_POLLING:
            long_polls.forget(channel)

    def new_async_id() -> str:
        return world.random_bytes(ASYNC_ID_RANDOM_BYTES).hex()

    subscriptions = Subscriptions(
        registry=registry,
        router=router,
        devices=devices,
        requests=requests,
        gateways=gateways,
        new_async_id=new_async_id,
    )
    registrations = Registrations(
        registry=registry,
        directory=directory,
        router=router,
        queue=queue,
        supervisor=supervisor,
        tiers=settings.tiers,
        new_incarnation=lambda: int.from_bytes(world.random_bytes(8), "big"),
        watch=life_cycle.watch,
        end_sink=end_sink,
    )
    callbacks = Callbacks(
        nursery=nursery,
        registrations=registrations,
        queue=queue,
        supervisor=supervisor,
        dialer=_dialer(settings, world, policy, load_tls()),
        policy=policy,
        load_tls=load_tls,
        wall_unix_ms=wall_unix_ms,
        random_bytes=world.random_bytes,
    )
    sockets = Sockets(
        nursery=nursery,
        directory=directory,
        registrations=registrations,
        queue=queue,
        supervisor=supervisor,
        new_counter=lambda: int.from_bytes(world.random_bytes(4), "big"),
    )
    long_polls = LongPolls(
        registrations=registrations, queue=queue, now_unix_ms=clock.unix_ms, observer=observer
    )
    publisher = Publisher(
        directory=directory,
        router=router,
        devices=devices,
        requests=requests,
        values=values,
        queue=queue,
        supervisor=supervisor,
        observer=observer,
        now_unix_ms=clock.unix_ms,
        durability=settings.storage.durability,
        tracing=tracing,
    )
    views = Views(
        directory=directory,
        queue=queue,
        life_cycle=life_cycle,
        parking=parking,
        attempts=observer.attempts,
        durability=settings.storage.durability,
        now_unix_ms=clock.unix_ms,
    )
    _restore(contents, directory, router, registrations, callbacks, life_cycle)
    requests.restore(contents.device_requests)
    if isinstance(queue, NativeQueue):
        queue.report_to(publisher.tell_lost)
    _follow_journal(queue, directory, supervisor, metrics)
    return Hub(
        Parts(
            settings=settings,
            secret=secret,
            random_bytes=world.random_bytes,
            now_unix_ms=clock.unix_ms,
            wall_unix_ms=wall_unix_ms,
            registry=registry,
            queue=queue,
            directory=directory,
            router=router,
            devices=devices,
            observer=observer,
            metrics=metrics,
            publisher=publisher,
            budgets=Budgets(settings.tiers, metrics),
            registrations=registrations,
            callbacks=callbacks,
            sockets=sockets,
            long_polls=long_polls,
            gateways=gateways,
            device_requests=requests,
            values=values,
            subscriptions=subscriptions,
            new_async_id=new_async_id,
            new_staging=new_staging,
            life_cycle=life_cycle,
            parking=parking,
            views=views,
            watch=watch,
            webhook=webhook,
            tracing=tracing,
            fleet=Fleet(directory=directory, queue=queue, views=views),
        )
    )


def _address_policy(settings: Settings) -> AddressPolicy:
    chosen = settings.callbacks
    return AddressPolicy(
        allow_private=chosen.allow_private,
        allow_networks=tuple(map(ip_network, chosen.allow_networks)),
        deny_networks=tuple(map(ip_network, chosen.deny_networks)),
        allow_ports=tuple(map(port_range, chosen.allow_ports)),
    )


def _dialer(
    settings: Settings,
    world: World,
    policy: AddressPolicy,
    tls: ssl.SSLContext,
    *,
    is_proxied: bool = True,
) -> Dialer:
    resolve, connect = world.resolve or SystemResolver(), world.connect or connect_tcp
    if settings.callbacks.proxy and is_proxied:
        host, port, credentials = split_proxy("callbacks.proxy", settings.callbacks.proxy)
        proxy = EgressProxy(host=host, port=port, credentials=credentials)
        connect = ProxyTunnels(proxy, resolve=resolve, connect=connect)
    return Dialer(policy, tls, resolve=resolve, connect=connect)


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


def _restore(
    contents: Contents,
    directory: Directory,
    router: Router,
    registrations: Registrations,
    callbacks: Callbacks,
    life_cycle: LifeCycle,
) -> None:
    """What the registry knew when the dispatcher started."""
    registrations.restore(contents.channels)
    for channel in directory.channels():
        if channel.row.type is ChannelType.CALLBACK:
            callbacks.bind(channel)
        life_cycle.restore(channel, contents.life_times.clocks.get(channel.row.id))
    for subscription in contents.subscriptions:
        application = directory.applications[subscription.application_id]
        router.add_subscription(application.account_id, subscription)
    for account_id, ep, ept in contents.device_types:
        router.learn_type(account_id, ep, ept)
    for application_id, entries in contents.presubscriptions.items():
        application = directory.applications[application_id]
        router.set_presubscriptions(application.account_id, application_id, entries)


def _tell_unknown_tiers(hub: Hub) -> None:
    """What exists goes on as it was registered; the operator learns why nothing can be added."""
    for account in hub.parts.directory.accounts.values():
        try:
            hub.parts.directory.tier_of(account, hub.settings.tiers)
        except ConfigError as error:
            log(logging.WARNING, LogEvent.TIER_UNKNOWN, account=account.name, reason=error.message)


def _tls(settings: Settings) -> ssl.SSLContext:
    chosen = settings.callbacks
    return client_context(ca=chosen.ca, certificate=chosen.client_certificate, key=chosen.client_key)


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
