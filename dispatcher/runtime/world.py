"""What the outside gives a dispatcher."""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Callable

import msgspec

from dispatcher.core.route_table import RouteFinder
from dispatcher.deliver.dialer import Connect, Resolve
from dispatcher.observe.tracing import Tracing
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import ChannelQueue
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_routes import NativeFinder
from dispatcher.registry.interface import Registry


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What the outside gives a dispatcher: time, randomness, and the way to other machines."""

    unix_s: Callable[[], float] = time.time
    passing_s: Callable[[], float] = time.perf_counter  # passes while the loop is busy, too
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

    def wall_unix_ms(self) -> int:
        """The time as people set it: it may leap."""
        return int(self.unix_s() * 1000)
