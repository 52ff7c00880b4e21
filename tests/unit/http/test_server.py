"""The server's life on listeners in memory: slots, faults, the graceful end."""

from __future__ import annotations

import errno
import logging
from typing import cast

import pytest
import trio
import trio.testing
from support.http_wire import WireClient, get

from dispatcher import limits
from dispatcher.errors import ConfigError
from dispatcher.http.door import Door
from dispatcher.http.message import Request, Response, Upgrade, text_response
from dispatcher.http.server import Listener, Server, open_listeners, serve

Clock = trio.testing.MockClock


class MemoryListener(trio.abc.Listener[trio.StapledStream]):
    """Connections without a network."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.StapledStream | OSError](100)
        self.is_closed = False
        self.accepted = 0

    async def accept(self) -> trio.StapledStream:
        """The next connection, or the next error."""
        item = await self._receive.receive()
        if isinstance(item, OSError):
            raise item
        self.accepted += 1
        return item

    async def aclose(self) -> None:
        """Close."""
        self.is_closed = True
        await trio.lowlevel.checkpoint()

    def connect(self) -> WireClient:
        """A new connection, in the listen queue."""
        ours, theirs = trio.testing.memory_stream_pair()
        self._send.send_nowait(ours)
        return WireClient(theirs)

    def fail(self, error: OSError) -> None:
        """Have the next accept fail."""
        self._send.send_nowait(error)


def listeners(*found: MemoryListener) -> list[Listener]:
    return cast(list[Listener], list(found))


async def answer(request: Request) -> Response | Upgrade:
    match request.path:
        case "/slow":
            await trio.sleep(5)
        case "/forever":
            await trio.sleep_forever()
        case "/upgrade":
            return Upgrade(_hold)
        case "/failing-upgrade":
            return Upgrade(_fail)
        case "/interrupt":
            raise KeyboardInterrupt
    return text_response(request.path)


async def _hold(stream: trio.abc.Stream, leftover: bytes) -> None:
    await trio.sleep_forever()


async def _fail(stream: trio.abc.Stream, leftover: bytes) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise KeyError("ak_secret")


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


async def test_drain_of_an_idle_server_takes_a_moment(autojump_clock: Clock, nursery: trio.Nursery) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=10)
    await nursery.start(server.serve, listeners(listener))
    client = listener.connect()
    await client.ask(get())
    started = trio.current_time()
    await server.drain()
    assert trio.current_time() - started == pytest.approx(limits.DRAIN_IDLE_S)
    assert listener.is_closed
    assert await client.is_at_end()
    assert server.statistics().connections_open == 0


async def test_drain_waits_for_requests_within_the_grace_time(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=10)
    await nursery.start(server.serve, listeners(listener))
    client = listener.connect()
    await client.send(get("/slow"))
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(server.drain)
    response = await client.response()
    assert (response.body, response.headers["connection"]) == (b"/slow", "close")
    assert await client.is_at_end()


async def test_what_outlasts_the_grace_time_is_cancelled(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=10)
    await nursery.start(server.serve, listeners(listener))
    stuck, upgraded = listener.connect(), listener.connect()
    await stuck.send(get("/forever"))
    assert (await upgraded.ask(get("/upgrade", *UPGRADE))).status == 101
    await trio.testing.wait_all_tasks_blocked()
    statistics = server.statistics()
    assert (statistics.upgrades_open, statistics.requests_running) == (1, 1)
    started = trio.current_time()
    await server.drain()
    assert trio.current_time() - started == pytest.approx(10)
    assert await stuck.is_at_end()
    assert await upgraded.is_at_end()
    assert server.statistics().upgrades_open == server.statistics().requests_running == 0


async def test_second_drain_does_not_prolong_the_first(autojump_clock: Clock, nursery: trio.Nursery) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=10)
    await nursery.start(server.serve, listeners(listener))
    await listener.connect().send(get("/forever"))
    await trio.testing.wait_all_tasks_blocked()
    started = trio.current_time()
    server.begin_drain()
    await trio.sleep(9)
    await server.drain()
    assert trio.current_time() - started == pytest.approx(10)


async def test_server_drained_before_it_serves_ends_at_once(autojump_clock: Clock) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=10)
    server.begin_drain()
    with trio.fail_after(1):
        await server.serve(listeners(listener))
    assert listener.is_closed


async def test_cancelled_server_leaves_nothing(autojump_clock: Clock) -> None:
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda *, task_status: serve(listeners(listener), answer, grace_s=10, task_status=task_status)
        )
        clients = [listener.connect(), listener.connect()]
        await clients[0].send(get("/forever"))
        await clients[1].ask(get())
        nursery.cancel_scope.cancel()
    assert listener.is_closed
    assert server.statistics().connections_open == 0
    for client in clients:
        assert await client.is_at_end()


async def test_more_connections_than_slots_wait_in_the_listen_queue(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=1, connections_max=2)
    await nursery.start(server.serve, listeners(listener))
    clients = [listener.connect() for _ in range(3)]
    for client in clients:
        await client.send(get("/a"))
    await trio.testing.wait_all_tasks_blocked()
    assert listener.accepted == 2
    assert not clients[2].received
    await clients[0].stream.aclose()
    with trio.fail_after(10):
        assert (await clients[2].response()).body == b"/a"
    nursery.cancel_scope.cancel()


async def test_exhausted_descriptors_are_waited_out(
    autojump_clock: Clock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    listener = MemoryListener()
    refused: list[str] = []
    server = Server(answer, grace_s=1, connections_max=1, door=Door(count=refused.append))
    await nursery.start(server.serve, listeners(listener))
    began_s = trio.current_time()
    for _ in range(30):
        listener.fail(OSError(errno.EMFILE, "too many open files"))
    with trio.fail_after(10):
        assert (await listener.connect().ask(get("/a"))).body == b"/a"
    assert trio.current_time() - began_s == pytest.approx(30 * limits.ACCEPT_PAUSE_S)  # tried in no hurry
    assert refused == ["files"] * 30
    (record,) = (one for one in caplog.records if one.getMessage() != "connections.full")
    assert record.getMessage() == "connections.shed"
    assert record.exc_info is None
    nursery.cancel_scope.cancel()


async def test_a_new_connection_has_less_time_than_one_that_has_asked(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    listener = MemoryListener()
    await nursery.start(Server(answer, grace_s=1).serve, listeners(listener))
    silent, asking = listener.connect(), listener.connect()
    began_s = trio.current_time()
    await asking.ask(get("/a"))
    assert await silent.is_at_end()
    assert trio.current_time() - began_s == pytest.approx(limits.FIRST_REQUEST_S)
    await asking.ask(get("/a"))
    assert await asking.is_at_end()
    waited_s = limits.FIRST_REQUEST_S + limits.KEEP_ALIVE_IDLE_S
    assert trio.current_time() - began_s == pytest.approx(waited_s)
    nursery.cancel_scope.cancel()


async def test_a_full_server_says_so_once(
    autojump_clock: Clock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=1, connections_max=1)
    await nursery.start(server.serve, listeners(listener))
    for _ in range(5):
        client = listener.connect()
        await client.ask(get("/a"))
        await client.stream.aclose()
    assert [record.getMessage() for record in caplog.records] == ["connections.full"]
    nursery.cancel_scope.cancel()


async def test_failing_connection_ends_alone_and_is_logged_without_its_words(
    autojump_clock: Clock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=1, connections_max=1)
    await nursery.start(server.serve, listeners(listener))
    failing = listener.connect()
    await failing.ask(get("/failing-upgrade", *UPGRADE))
    assert await failing.is_at_end()
    with trio.fail_after(10):
        assert (await listener.connect().ask(get("/a"))).body == b"/a"
    assert server.statistics().connections_failed_total == 1
    (record,) = (one for one in caplog.records if one.getMessage() != "connections.full")
    assert (record.getMessage(), record.levelno) == ("connection.failed", logging.ERROR)
    assert record.exc_text is not None
    assert "KeyError" in record.exc_text
    assert "in _fail" in record.exc_text
    nursery.cancel_scope.cancel()


async def test_failure_while_being_cancelled_does_not_bring_down_the_server(autojump_clock: Clock) -> None:
    async def run(stream: trio.abc.Stream, leftover: bytes) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError

    async def upgrade(request: Request) -> Upgrade:
        return Upgrade(run)

    listener = MemoryListener()
    server = Server(upgrade, grace_s=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners(listener))
        await listener.connect().ask(get("/", *UPGRADE))
        await server.drain()
    assert server.statistics().connections_failed_total == 1


async def test_keyboard_interrupt_flies(autojump_clock: Clock) -> None:
    listener = MemoryListener()
    await listener.connect().send(get("/interrupt"))
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await Server(answer, grace_s=1).serve(listeners(listener))
    assert listener.is_closed


async def test_statistics_count(autojump_clock: Clock, nursery: trio.Nursery) -> None:
    listener = MemoryListener()
    server = Server(answer, grace_s=1)
    await nursery.start(server.serve, listeners(listener))
    first, second = listener.connect(), listener.connect()
    await first.ask(get())
    await first.ask(get())
    await second.ask(b"garbage\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    statistics = server.statistics()
    assert statistics.connections_total == 2
    assert statistics.requests_total == 2
    assert statistics.requests_refused_total == 1
    assert statistics.requests_running == 0
    assert repr(server).startswith("<Server ")
    nursery.cancel_scope.cancel()


async def test_address_in_use_names_the_setting() -> None:
    (taken,) = await open_listeners("127.0.0.1", 0)
    assert isinstance(taken, trio.SocketListener)
    async with taken:
        port = taken.socket.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"server\.listen: cannot listen on 127\.0\.0\.1:{port}"):
            await open_listeners("127.0.0.1", port)


async def test_name_that_is_no_address_names_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"server\.listen"):
        await open_listeners("256.256.256.256", 0)
