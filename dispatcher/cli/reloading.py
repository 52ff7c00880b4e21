"""What SIGHUP does to a running daemon: certificates are read again, and nothing else.

The files are those that the settings named at the start.  A change of the settings
themselves wants a restart, which loses nothing; what differs is told in the log.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import click
import trio

from dispatcher.cli.service_manager import ServiceManager
from dispatcher.config import Settings, changed
from dispatcher.errors import ConfigError
from dispatcher.http.serving import server_tls
from dispatcher.http.tls import renew
from dispatcher.observe.log import LogEvent, log
from dispatcher.runtime.hub import Hub

ReadSettings = Callable[[], Settings]
"""Reads the settings as the start did.  Raises ``click.UsageError``."""


async def reload_at(
    hangups: AsyncIterator[int],
    hub: Hub,
    tls: ssl.SSLContext | None,
    read_settings: ReadSettings,
    manager: ServiceManager,
) -> None:
    """Reload at each signal, one after the other, until cancelled.

    ``tls`` is the context that the listeners have, ``manager`` learns of each begin and end.
    Each side's certificates are taken over whole, or left as they were with one line in the log
    that says why.
    """
    async for _ in hangups:
        await manager.tell_reloading()
        if tls is not None:
            await _reload("server", partial(_renew_server, tls, hub))
        await _reload("callbacks", hub.reload_callback_tls)
        await _tell_changes(hub.settings, read_settings)
        await manager.tell("READY=1")


async def _reload(side: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except ConfigError as error:
        log(logging.ERROR, LogEvent.CERTIFICATES_KEPT, of=side, reason=error.message)
    else:
        log(logging.INFO, LogEvent.CERTIFICATES_RELOADED, of=side)


async def _renew_server(tls: ssl.SSLContext, hub: Hub) -> None:
    newer = await trio.to_thread.run_sync(server_tls, hub.settings.server)
    assert newer is not None  # the settings are those of the start, which had a certificate
    renew(tls, newer)
    await hub.parts.watch.renewed("server")


async def _tell_changes(settings: Settings, read_settings: ReadSettings) -> None:
    try:
        names = changed(settings, await trio.to_thread.run_sync(read_settings))
    except click.UsageError as error:
        log(logging.WARNING, LogEvent.SETTINGS_NOT_RELOADED, reason=error.message)
        return
    if names:
        reason = "a changed setting holds from the next start on"
        log(logging.WARNING, LogEvent.SETTINGS_NOT_RELOADED, changed=",".join(names), reason=reason)
