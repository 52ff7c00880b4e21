"""``dispatcher serve``: the daemon."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import click
import trio
from msgspec.structs import replace

from dispatcher import limits
from dispatcher.cli.allocator import give_back_freed_memory, keep_freed_memory
from dispatcher.cli.config import FILE_OPTION, load_settings
from dispatcher.cli.garbage import collect_rarely, opening
from dispatcher.cli.reloading import ReadSettings, reload_at
from dispatcher.cli.running import run
from dispatcher.cli.service_manager import NO_MANAGER, ServiceManager, take_service_manager
from dispatcher.config import Settings
from dispatcher.errors import DispatcherError
from dispatcher.http.passed_sockets import PassedSockets, address_of, take_passed_sockets
from dispatcher.http.server import Server
from dispatcher.http.serving import listen, listen_internally, serve_http, serve_internal, server_tls, url_of
from dispatcher.observe.log import log_to_stderr
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.world import World

_NONE_PASSED = PassedSockets()
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@click.command()
@FILE_OPTION
@click.option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 picks a free one.")
@click.option("--data", metavar="DIR", help="The data folder; made when it is not there.")
@click.option("--durability", metavar="disk|process|memory", help="What a 202 promises about a crash.")
@click.option(
    "--allow-private-callbacks",
    is_flag=True,
    default=None,
    help="Let callbacks go to private, loopback and link-local addresses.",
)
def serve(
    file: Path | None,
    listen: str | None,
    data: str | None,
    durability: str | None,
    allow_private_callbacks: bool | None,
) -> None:
    """Run the daemon until SIGTERM or SIGINT.

    \b
    dispatcher serve --config /etc/dispatcher.toml
    dispatcher serve --data ./data --allow-private-callbacks

    When it is ready, one line on stdout says where: 'ready http://HOST:PORT'.  Logs go to
    stderr.  A flag goes before a variable such as DISPATCHER_SERVER__LISTEN, that before the file.
    Exit 0 after a stop, 2 when a setting is wrong, 1 when the daemon cannot run.

    Listening sockets passed by systemd (LISTEN_FDS) are used instead of the addresses in the
    settings; one with the name 'internal' is server.internal_listen.  A service manager that
    asks for it (NOTIFY_SOCKET, WATCHDOG_USEC) is told when the daemon is ready, reloads, stops,
    and that it lives; 'dispatcher systemd' prints units that use both.

    SIGHUP reads the files of certificates again, the server's and those for callbacks. No
    connection is dropped; new ones use what was read.
    """
    flags = {
        "server.listen": listen,
        "storage.data": data,
        "storage.durability": durability,
        "callbacks.allow_private": allow_private_callbacks,
    }
    log_to_stderr()
    _raise_files_limit()
    keep_freed_memory()
    passed = take_passed_sockets(os.environ, os.getpid())
    manager = take_service_manager(os.environ, os.getpid())

    def read_settings() -> Settings:
        return _as_passed(load_settings(file, flags)[0], passed)

    with opening():
        run(partial(run_daemon, read_settings, passed, manager=manager, ready=_settle))


def _settle() -> None:
    """What is open lasts, and what opening it took does not come back."""
    collect_rarely()
    give_back_freed_memory()


def _raise_files_limit() -> None:
    """Have all the file descriptors that we may: the soft limit is for programs that use ``select``."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems know a lower limit than they tell
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _as_passed(settings: Settings, passed: PassedSockets) -> Settings:
    """The settings with the addresses of the sockets passed, which go before what is set."""
    server = settings.server
    if passed.public:
        server = replace(server, listen=address_of(passed.public[0]))
    if passed.internal:
        server = replace(server, internal_listen=address_of(passed.internal[0]))
    return replace(settings, server=server)


async def run_daemon(
    read_settings: ReadSettings,
    passed: PassedSockets = _NONE_PASSED,
    world: World | None = None,
    manager: ServiceManager = NO_MANAGER,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Open, listen, say so on stdout, and close in order at the first signal to stop.

    ``ready`` is called when what was to be opened is open, before anyone is told.
    """
    settings = read_settings()
    log_to_stderr(settings.server.log_format, settings.server.log_level)
    for number in (*_STOP_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what holds again when we have closed and are about to end
    with (
        trio.open_signal_receiver(*_STOP_SIGNALS) as signals,
        trio.open_signal_receiver(signal.SIGHUP) as hangups,
    ):
        tls = server_tls(settings.server)
        listeners = await listen(settings.server, tls, passed.public)
        await manager.tell("STATUS=starting: what is queued on the disk is read")
        async with open_dispatcher(settings, world=world) as hub, trio.open_nursery() as nursery:
            servers = [await nursery.start(serve_http, hub, listeners)]
            if settings.server.internal_listen:
                internal = await listen_internally(settings.server, passed.internal)
                servers.append(await nursery.start(serve_internal, hub, internal))
            nursery.start_soon(reload_at, hangups, hub, tls, read_settings, manager)
            status = partial(status_of, hub, url_of(listeners))
            ready()
            print(f"ready {url_of(listeners)}\n", end="", flush=True)  # in one write
            await manager.tell("READY=1", f"STATUS={status()}")
            nursery.start_soon(manager.feed, status)
            await anext(signals)
            await manager.tell("STOPPING=1", "STATUS=stopping")
            with trio.move_on_after(settings.server.grace_s - _reserve_s(settings)):
                await _stop(hub, servers)
            nursery.cancel_scope.cancel()


def status_of(hub: Hub, url: str) -> str:
    """The daemon in one line, for the one who asks the service manager."""
    try:
        hub.parts.queue.check_accepting()
    except DispatcherError as error:
        return f"on {url}, but nothing is accepted: {error.message}"
    channels, records = len(hub.parts.directory.channels()), hub.parts.queue.totals().records
    return f"on {url}: {channels:,} channels, {records:,} records queued"


async def _stop(hub: Hub, servers: Sequence[Server]) -> None:
    """Take no new work, let requests in flight finish, close sockets with 1012."""
    for server in servers:
        server.begin_drain()
    await hub.stop()
    for server in servers:
        await server.drain()


def _reserve_s(settings: Settings) -> float:
    return min(limits.STOP_RESERVE_S, settings.server.grace_s / 4)
