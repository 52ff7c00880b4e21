"""Puts the HTTP side of an open dispatcher on listeners."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import trio

from dispatcher import limits
from dispatcher.config import ServerSettings, split_listen
from dispatcher.core.connection_places import AddressPlaces
from dispatcher.http.api import internal_api, public_api
from dispatcher.http.door import Door, connections_max
from dispatcher.http.server import Listener, Server, open_listeners, secured, serve
from dispatcher.http.tls import server_context
from dispatcher.runtime.hub import Hub


async def serve_http(
    hub: Hub,
    listeners: Sequence[Listener],
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve applications and gateways on listeners of the caller's until drained or cancelled.

    ``server = await nursery.start(serve_http, hub, listeners)`` gives the server, whose
    ``drain`` ends it in order.  With ``server.internal_listen`` set, ``/metrics``, the health
    paths, ``/admin`` and ``/console`` are left out: serve them with ``serve_internal``.
    """
    settings = hub.settings.server
    handle = public_api(hub, with_internal=not settings.internal_listen)
    unlimited = [ipaddress.ip_network(block) for block in settings.unlimited_networks]
    await serve(
        listeners,
        handle,
        grace_s=settings.grace_s,
        connections_max=connections_max(),
        door=_door(hub, AddressPlaces(settings.connections_per_address_max, unlimited)),
        task_status=task_status,
    )


async def serve_internal(
    hub: Hub,
    listeners: Sequence[Listener],
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve what is for monitoring and for the operator alone."""
    await serve(
        listeners,
        internal_api(hub),
        grace_s=hub.settings.server.grace_s,
        connections_max=limits.INTERNAL_CONNECTIONS_MAX,
        door=_door(hub, AddressPlaces()),
        task_status=task_status,
    )


def _door(hub: Hub, places: AddressPlaces) -> Door:
    shed = hub.parts.metrics.connections_shed
    return Door(places, count=lambda reason: shed.labels(reason).inc())


def server_tls(settings: ServerSettings) -> ssl.SSLContext | None:
    """The context of ``server.tls_certificate``, None when there is none to be shown.

    Blocks for reading its files.  Raises ``ConfigError``.
    """
    if not settings.tls_certificate:
        return None
    return server_context(Path(settings.tls_certificate), Path(settings.tls_key))


async def listen(
    settings: ServerSettings, tls: ssl.SSLContext | None, passed: Sequence[socket.socket] = ()
) -> list[Listener]:
    """The listeners of ``server.listen``, or on the sockets passed; with ``tls`` for https and wss.

    Raises ``ConfigError``.
    """
    if passed:
        return secured(_listeners_on(passed), tls)
    host, port = split_listen("server.listen", settings.listen)
    return await open_listeners(host, port, tls=tls)


async def listen_internally(settings: ServerSettings, passed: Sequence[socket.socket] = ()) -> list[Listener]:
    """The listeners of ``server.internal_listen``, or on the sockets passed; never with TLS.

    Raises ``ConfigError``.
    """
    if passed:
        return secured(_listeners_on(passed), None)
    host, port = split_listen("server.internal_listen", settings.internal_listen)
    return await open_listeners(host, port)


def _listeners_on(passed: Sequence[socket.socket]) -> list[trio.SocketListener]:
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in passed]


def url_of(listeners: Sequence[Listener]) -> str:
    """The address of the first listener, as a client would write it."""
    listener: trio.abc.Listener[trio.SocketStream] | Listener = listeners[0]
    scheme = "http"
    if isinstance(listener, trio.SSLListener):
        listener, scheme = listener.transport_listener, "https"
    assert isinstance(listener, trio.SocketListener)
    host, port = listener.socket.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
