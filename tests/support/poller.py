"""A client of ``/v2/notification/pull`` that shows what happens below HTTP.

A ``Poller`` has one connection and sends raw requests, so a test decides when an answer is read,
left unread, or torn off.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from support.daemon import Daemon, Tenant, User, new_tenant
from support.http_wire import WireClient, WireResponse, request
from support.tenants import EVERYTHING, key_of

PULL = "/v2/notification/pull"
ANSWER_S = 15.0


class Poller:
    """One connection of one application."""

    def __init__(self, wire: WireClient, key: str) -> None:
        self._wire = wire
        self._key = key

    async def send(self, *lines: str) -> None:
        """Send a poll, and read nothing."""
        await self._wire.send(request("GET", PULL, f"Authorization: Bearer {self._key}", *lines))

    async def response(self) -> WireResponse:
        """Read an answer."""
        with trio.fail_after(ANSWER_S):
            return await self._wire.response()

    async def poll(self, *lines: str) -> WireResponse:
        """Send a poll and read its answer."""
        await self.send(*lines)
        return await self.response()

    async def read_some(self) -> int:
        """Read a part of an answer; how many bytes."""
        with trio.fail_after(ANSWER_S):
            return len(await self._wire.stream.receive_some(1000))

    async def reset(self) -> None:
        """Tear the connection off."""
        stream = self._wire.stream
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        assert isinstance(transport, trio.SocketStream)
        transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)

    async def aclose(self) -> None:
        """Close in order; what was not read makes the kernel send a reset."""
        await self._wire.stream.aclose()


@asynccontextmanager
async def open_poller(
    daemon: Daemon, user: User, *, receive_bytes: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Poller]:
    """Connect; ``receive_bytes`` bounds what our kernel takes while nobody reads."""
    sock = trio.socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await sock.connect(("127.0.0.1", daemon.port))
    poller = Poller(WireClient(secured(trio.SocketStream(sock), tls)), key_of(user))
    try:
        yield poller
    finally:
        with contextlib.suppress(trio.ClosedResourceError):
            await poller.aclose()


def secured(stream: trio.SocketStream, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """The stream, under TLS where a context is given."""
    if tls is None:
        return stream
    return trio.SSLStream(stream, tls, server_hostname="localhost", https_compatible=True)


async def polling_tenant(daemon: Daemon, **cfg: bool) -> Tenant:
    """A tenant with a long-poll channel, subscribed to everything."""
    tenant = await new_tenant(daemon)
    content = {"serialization": {"type": "v2", "cfg": cfg}} if cfg else None
    assert (await tenant.application.send("PUT", PULL, content)).status == 204
    assert (await tenant.application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
    return tenant


def events_of(response: WireResponse) -> list[Any]:
    """The notifications of an answer."""
    assert response.status == 200, response
    assert response.headers["content-type"] == "application/json"
    return list(json.loads(response.body)["notifications"])


def numbers_of(response: WireResponse) -> list[int]:
    """The numbers of the events in an answer (``tenants.small``)."""
    return [event["max-age"] for event in events_of(response)]
