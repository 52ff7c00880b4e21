"""Clients that take connections and do nothing good with them; others are served all the while."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.http_servers import RunningServer, eventually, running
from support.http_wire import WireClient, get, request

import dispatcher
from dispatcher import Durability, Settings, StorageSettings, limits
from dispatcher.config import ServerSettings
from dispatcher.core.connection_places import AddressPlaces
from dispatcher.http.door import Door, connections_max
from dispatcher.http.server import open_listeners


async def connect_from(host: str, server: RunningServer) -> WireClient:
    """A connection from another address of the loopback network."""
    sock = trio.socket.socket()
    await sock.bind((host, 0))
    await sock.connect(("127.0.0.1", server.port))
    return WireClient(trio.SocketStream(sock))


async def is_let_in(client: WireClient) -> bool:
    """Whether a request on it is answered."""
    try:
        return (await client.ask(get("/a"))).status > 0
    except (trio.BrokenResourceError, AssertionError, EOFError):
        return False


async def test_a_flooding_address_takes_nothing_from_another(caplog: pytest.LogCaptureFixture) -> None:
    places, shed = AddressPlaces(3), list[str]()
    async with running(door=Door(places, count=shed.append)) as server:
        with trio.fail_after(20):
            flood = [await connect_from("127.0.0.2", server) for _ in range(3)]
            assert [await is_let_in(client) for client in flood] == [True] * 3
            for _ in range(50):
                client = await connect_from("127.0.0.2", server)
                assert not await is_let_in(client)
                await client.stream.aclose()
            others = [await connect_from(f"127.0.0.{number}", server) for number in range(3, 10)]
            assert all([await is_let_in(client) for client in others])
            assert shed == ["address"] * 50
            (record,) = (r for r in caplog.records if r.getMessage() == "connections.shed")
            assert record.fields["address"] == "127.0.0.2"  # type: ignore[attr-defined]
            await flood.pop().stream.aclose()
            await eventually(lambda: server.server.statistics().connections_open == 9)
            flood.append(await connect_from("127.0.0.2", server))
            assert await is_let_in(flood[-1])
            for client in (*flood, *others):
                await client.stream.aclose()
            await eventually(server.is_deserted)
    assert len(places) == 0


@pytest.fixture
def files_limit() -> Iterator[int]:
    """The soft limit of file descriptors, which is put back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fill_gaps(highest: int) -> list[int]:
    """Take every file descriptor up to one that is higher."""
    taken = [os.dup(0)]
    while taken[-1] <= highest:
        taken.append(os.dup(0))
    return taken


async def test_without_file_descriptors_clients_wait_and_are_served_when_there_are_some(
    files_limit: int,
) -> None:
    shed: list[str] = []
    async with running(door=Door(count=shed.append)) as server:
        sockets = [trio.socket.socket() for _ in range(60)]
        first = await server.connect()
        assert await is_let_in(first)
        taken = fill_gaps(max(sock.fileno() for sock in sockets))
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, files_limit))
        with trio.fail_after(20):
            for sock in sockets:
                await sock.connect(("127.0.0.1", server.port))
            await eventually(lambda: len(shed) > 0)
            assert await is_let_in(first)
            resource.setrlimit(resource.RLIMIT_NOFILE, (files_limit, files_limit))
            clients = [WireClient(trio.SocketStream(sock)) for sock in sockets]
            assert all([await is_let_in(client) for client in clients])
        assert set(shed) == {"files"}
        for number in taken:
            os.close(number)
        for client in (first, *clients):
            await client.stream.aclose()


@pytest.mark.parametrize(("soft", "connections"), [(1_024, 768), (4_000, 3_000)])
def test_connections_leave_file_descriptors_to_those_that_work(
    files_limit: int, soft: int, connections: int
) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, files_limit))
    assert connections_max() == connections


async def test_clients_that_say_nothing_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_REQUEST_S", 0.2)
    async with running() as server:
        silent = [await server.connect() for _ in range(50)]
        await server.check_alive()
        await eventually(server.is_deserted)
        for client in silent:
            assert await client.is_at_end()
            await client.stream.aclose()


async def test_a_body_that_never_stops_to_drip_is_told_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_BODY_TIMEOUT_S", 0.3)
    async with running() as server:
        client = await server.connect()
        await client.send(request("POST", "/echo", "Content-Length: 100000"))

        async def drip() -> None:
            while True:
                await client.send(b"x")
                await trio.sleep(0.02)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drip)
                assert (await client.response()).status == 408
                nursery.cancel_scope.cancel()
            await server.check_alive()
        await client.stream.aclose()


async def test_a_client_that_asked_and_says_nothing_more_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEEP_ALIVE_IDLE_S", 0.2)
    async with running() as server:
        client = await server.connect()
        assert await is_let_in(client)
        await eventually(server.is_deserted)
        assert await client.is_at_end()
        await client.stream.aclose()


async def test_the_settings_hold_and_metrics_tell(tmp_path: Path) -> None:
    settings = Settings(
        server=ServerSettings(connections_per_address_max=2, unlimited_networks=("127.0.0.9/32",)),
        storage=StorageSettings(data=str(tmp_path), durability=Durability.MEMORY),
    )
    async with dispatcher.open_dispatcher(settings) as hub, trio.open_nursery() as nursery:
        (listener,) = await open_listeners("127.0.0.1", 0)
        assert isinstance(listener, trio.SocketListener)
        port = listener.socket.getsockname()[1]
        server = RunningServer(await nursery.start(dispatcher.serve_http, hub, [listener]), port)
        kept: list[WireClient] = []
        with trio.fail_after(20):
            for host, count in (("127.0.0.1", 2), ("127.0.0.9", 5)):
                clients = [await connect_from(host, server) for _ in range(count)]
                assert all([await is_let_in(client) for client in clients])
                kept += clients
            refused = await connect_from("127.0.0.1", server)
            assert await refused.is_at_end()
            scrape = await kept[-1].ask(get("/metrics"))
            assert b'dispatcher_connections_shed_total{reason="address"} 1.0' in scrape.body
        nursery.cancel_scope.cancel()
