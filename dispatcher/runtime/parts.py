"""What a dispatcher is made of, and how its parts know each other."""

from __future__ import annotations

import ssl
from functools import cached_property
from ipaddress import ip_network

import msgspec
import trio

from dispatcher.config import CallbackSettings, Settings, port_range, split_proxy
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.device_requests import ASYNC_ID_RANDOM_BYTES
from dispatcher.core.request_book import RequestBook
from dispatcher.core.routing import Router
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer, SystemResolver, connect_tcp
from dispatcher.deliver.egress_proxy import EgressProxy, ProxyTunnels
from dispatcher.deliver.turns import Turns
from dispatcher.errors import CloseCode
from dispatcher.model import ChannelType
from dispatcher.observe.metrics import Metrics
from dispatcher.observe.tracing import Tracing
from dispatcher.queue.interface import ChannelQueue, Taker
from dispatcher.registry.interface import Contents, Registry
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
from dispatcher.runtime.life_cycle import LifeCycle
from dispatcher.runtime.longpolls import LongPolls
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.operator_webhook import ANYWHERE, OperatorWebhook, webhook_of
from dispatcher.runtime.parking import Parking
from dispatcher.runtime.publishing import Publisher
from dispatcher.runtime.registrations import Registrations
from dispatcher.runtime.scrape import Scrape
from dispatcher.runtime.sockets import Sockets
from dispatcher.runtime.subscriptions import Subscriptions
from dispatcher.runtime.supervisor import Supervisor
from dispatcher.runtime.values import Values
from dispatcher.runtime.views import Views
from dispatcher.runtime.watch import Watch
from dispatcher.runtime.world import World
from dispatcher.wire.staging import NewStaging


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What is there before the first part, and is closed after the last one."""

    settings: Settings
    world: World
    clock: WallClock
    secret: bytes  # under which keys are kept
    registry: Registry
    queue: ChannelQueue
    new_staging: NewStaging
    taker: Taker | None  # None: texts are parsed, routed and appended step by step
    tracing: Tracing | None
    turns: Turns  # of the event loop that all this runs in
    nursery: trio.Nursery  # owns every task


class Parts:
    """Each part is made when it is first asked for, and asks for those that it needs.

    Those that need each other are joined by a function that asks later.  ``make_all``
    makes every part, so that none is made in the middle of the work.
    """

    def __init__(self, ground: Ground, contents: Contents) -> None:
        self._contents = contents
        self._nursery = ground.nursery
        self._world = ground.world
        self.settings = ground.settings
        self.secret = ground.secret
        self.random_bytes = ground.world.random_bytes
        self._clock = ground.clock
        self.now_unix_ms = ground.clock.unix_ms
        self.wall_unix_ms = ground.world.wall_unix_ms  # as people set it; ``now_unix_ms`` never leaps
        self.registry = ground.registry
        self.queue = ground.queue
        self.new_staging = ground.new_staging
        self._taker = ground.taker
        self.tracing = ground.tracing
        self._turns = ground.turns

    def make_all(self) -> None:
        """Make what nobody has asked for yet.  Raises what a part's settings are refused with."""
        for name, member in vars(type(self)).items():
            if isinstance(member, cached_property):
                getattr(self, name)
        del self._contents  # large, and of the past

    def new_async_id(self) -> str:
        """What names a request to a device, and its answer."""
        return self.random_bytes(ASYNC_ID_RANDOM_BYTES).hex()

    # --- who there is -------------------------------------------------------------------

    @cached_property
    def directory(self) -> Directory:
        return Directory(self.secret, self._contents.identities)

    @cached_property
    def router(self) -> Router:
        return Router(self._world.route_finder(self.random_bytes(16)))

    @cached_property
    def devices(self) -> Devices:
        return Devices(
            registry=self.registry,
            directory=self.directory,
            router=self.router,
            now_unix_ms=self.now_unix_ms,
        )

    @cached_property
    def registrations(self) -> Registrations:
        return Registrations(
            registry=self.registry,
            directory=self.directory,
            router=self.router,
            queue=self.queue,
            supervisor=self.supervisor,
            tiers=self.settings.tiers,
            new_incarnation=lambda: int.from_bytes(self.random_bytes(8), "big"),
            watch=self.life_cycle.watch,
            end_sink=self._end_sink,
        )

    @cached_property
    def subscriptions(self) -> Subscriptions:
        return Subscriptions(
            registry=self.registry,
            router=self.router,
            devices=self.devices,
            requests=self.device_requests,
            gateways=self.gateways,
            new_async_id=self.new_async_id,
        )

    @cached_property
    def budgets(self) -> Budgets:
        return Budgets(self.settings.tiers, self.metrics)

    # --- what comes in ------------------------------------------------------------------

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(
            directory=self.directory,
            router=self.router,
            devices=self.devices,
            requests=self.device_requests,
            values=self.values,
            queue=self.queue,
            supervisor=self.supervisor,
            observer=self.observer,
            clock=self._clock,
            durability=self.settings.storage.durability,
            taker=self._taker,
            tracing=self.tracing,
        )

    @cached_property
    def values(self) -> Values:
        return Values(self.now_unix_ms)

    # --- what is asked of devices -------------------------------------------------------

    @cached_property
    def _request_book(self) -> RequestBook:
        return RequestBook(self.now_unix_ms(), sooner=lambda: self.device_requests.look_again())

    @cached_property
    def gateways(self) -> Gateways:
        return Gateways(
            directory=self.directory,
            tiers=self.settings.tiers,
            book=self._request_book,
            now_unix_ms=self.now_unix_ms,
        )

    @cached_property
    def device_requests(self) -> DeviceRequests:
        return DeviceRequests(
            registry=self.registry,
            devices=self.devices,
            book=self._request_book,
            now_unix_ms=self.now_unix_ms,
            values=self.values,
            deliver=lambda account_id, responses: self.publisher.to_askers(account_id, responses),
            wake=self.gateways.wake,
        )

    # --- what goes out ------------------------------------------------------------------

    @cached_property
    def supervisor(self) -> Supervisor:
        return Supervisor(
            self._nursery, self._turns, self.queue, self.now_unix_ms, self.observer, self.parking
        )

    @cached_property
    def parking(self) -> Parking:
        return Parking(
            registry=self.registry,
            queue=self.queue,
            counts=self._contents.parked_counts,
            observer=self.observer,
            now_unix_ms=self.now_unix_ms,
        )

    @cached_property
    def life_cycle(self) -> LifeCycle:
        return LifeCycle(
            directory=self.directory,
            queue=self.queue,
            registry=self.registry,
            observer=self.observer,
            wake=self.supervisor.wake,
            now_unix_ms=self.now_unix_ms,
            startup_grace_s=self.settings.limits.startup_grace_s,
            up_before_s=self._contents.life_times.up_s,
        )

    @cached_property
    def callbacks(self) -> Callbacks:
        policy = self._address_policy()
        return Callbacks(
            nursery=self._nursery,
            registrations=self.registrations,
            queue=self.queue,
            supervisor=self.supervisor,
            dialer=self._dialer(policy, self._load_tls()),
            policy=policy,
            load_tls=self._load_tls,
            wall_unix_ms=self.wall_unix_ms,
            random_bytes=self.random_bytes,
        )

    @cached_property
    def sockets(self) -> Sockets:
        return Sockets(
            nursery=self._nursery,
            directory=self.directory,
            registrations=self.registrations,
            queue=self.queue,
            supervisor=self.supervisor,
            new_counter=lambda: int.from_bytes(self.random_bytes(4), "big"),
            deflate_bytes_per_s=self.settings.server.websocket_deflate_bytes_per_s,
            metrics=self.metrics,
        )

    @cached_property
    def long_polls(self) -> LongPolls:
        return LongPolls(
            registrations=self.registrations,
            queue=self.queue,
            now_unix_ms=self.now_unix_ms,
            observer=self.observer,
        )

    def _end_sink(self, channel: ActiveChannel) -> None:
        """A channel is gone: so is whatever carried its events."""
        self.supervisor.wake(channel)  # a consumer in this process learns that its channel is gone
        self.observer.attempts.forget(channel.row.id)
        self.parking.forget(channel)
        if self.tracing is not None:
            self.tracing.forget(channel.row.id)
        if channel.row.type is ChannelType.WEB_SOCKET:
            self.sockets.end(channel, CloseCode.NORMAL, "channel deleted")
        elif channel.row.type is ChannelType.CALLBACK:
            self.callbacks.end(channel)
            self.supervisor.stop(channel)
        elif channel.row.type is ChannelType.LONG_POLLING:
            self.long_polls.forget(channel)

    # --- what the operator sees ---------------------------------------------------------

    @cached_property
    def scrape(self) -> Scrape:
        return Scrape(
            directory=self.directory,
            queue=self.queue,
            turns=self._turns,
            observer=lambda: self.observer,
            now_unix_ms=self.now_unix_ms,
        )

    @cached_property
    def metrics(self) -> Metrics:
        return self.scrape.metrics

    @cached_property
    def observer(self) -> Observer:
        return Observer(self.metrics, AttemptLogs(self.now_unix_ms), self.webhook, self.tracing)

    @cached_property
    def webhook(self) -> OperatorWebhook | None:
        return webhook_of(
            self.settings.operator,
            new_dialer=lambda is_proxied, tls: self._dialer(ANYWHERE, tls, is_proxied=is_proxied),
            load_tls=lambda: self._world.tls or client_context(ca=self.settings.callbacks.ca),
            metrics=self.metrics,
            wall_unix_ms=self.wall_unix_ms,
            random_bytes=self.random_bytes,
        )

    @cached_property
    def watch(self) -> Watch:
        return Watch(
            queue=self.queue,
            observer=self.observer,
            certificates={
                "server": self.settings.server.tls_certificate,
                "callbacks": self.settings.callbacks.client_certificate,
            },
            wall_unix_s=self._world.unix_s,
        )

    @cached_property
    def views(self) -> Views:
        return Views(
            directory=self.directory,
            queue=self.queue,
            life_cycle=self.life_cycle,
            parking=self.parking,
            attempts=self.observer.attempts,
            durability=self.settings.storage.durability,
            now_unix_ms=self.now_unix_ms,
        )

    @cached_property
    def fleet(self) -> Fleet:
        return Fleet(directory=self.directory, queue=self.queue, views=self.views)

    # --- the way to other machines ------------------------------------------------------

    def _load_tls(self) -> ssl.SSLContext:
        return self._world.tls or callback_tls(self.settings.callbacks)

    def _address_policy(self) -> AddressPolicy:
        chosen = self.settings.callbacks
        return AddressPolicy(
            allow_private=chosen.allow_private,
            allow_networks=tuple(map(ip_network, chosen.allow_networks)),
            deny_networks=tuple(map(ip_network, chosen.deny_networks)),
            allow_ports=tuple(map(port_range, chosen.allow_ports)),
        )

    def _dialer(self, policy: AddressPolicy, tls: ssl.SSLContext, *, is_proxied: bool = True) -> Dialer:
        resolve, connect = self._world.resolve or SystemResolver(), self._world.connect or connect_tcp
        if self.settings.callbacks.proxy and is_proxied:
            host, port, credentials = split_proxy("callbacks.proxy", self.settings.callbacks.proxy)
            proxy = EgressProxy(host=host, port=port, credentials=credentials)
            connect = ProxyTunnels(proxy, resolve=resolve, connect=connect)
        return Dialer(policy, tls, resolve=resolve, connect=connect)


def callback_tls(chosen: CallbackSettings) -> ssl.SSLContext:
    """What https callbacks are called with.  Reads files; raises ``ConfigError``."""
    return client_context(ca=chosen.ca, certificate=chosen.client_certificate, key=chosen.client_key)
