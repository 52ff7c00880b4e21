from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing
import trio_websocket

from dispatcher import limits
from dispatcher.cli.application_socket import CLOSE_ABNORMAL, SocketEnd, receive_messages
from dispatcher.cli.server_address import ServerAddress
from dispatcher.errors import CloseCode, RequestRefused, ServerUnreachable

KEY = "ak_1notarealkey"
Handler = Callable[[trio_websocket.WebSocketRequest], Awaitable[None]]


def take_nothing(message: str) -> bool:
    raise AssertionError("no message was sent")


async def serve(nursery: trio.Nursery, handler: Handler) -> ServerAddress:
    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            await handler(request)

    server = await nursery.start(trio_websocket.serve_websocket, handle, "127.0.0.1", 0, None)
    return ServerAddress(is_tls=False, host="127.0.0.1", port=server.port)


async def test_messages_are_taken_in_order_until_take_says_stop(nursery: trio.Nursery) -> None:
    ended: list[int] = []

    async def send(request: trio_websocket.WebSocketRequest) -> None:
        assert (b"authorization", f"Bearer {KEY}".encode()) in request.headers
        assert request.path == "/v2/notification/websocket-connect"
        socket = await request.accept()
        for text in ("one", "two", "three"):
            await socket.send_message(text)
        with suppress(trio_websocket.ConnectionClosed):
            await socket.get_message()
        assert socket.closed is not None
        ended.append(socket.closed.code)

    taken: list[str] = []
    opened: list[bool] = []

    def take(message: str) -> bool:
        taken.append(message)
        return len(taken) < 2

    address = await serve(nursery, send)
    end = await receive_messages(address, KEY, take, opened=lambda: opened.append(True))
    assert (taken, opened, end.code) == (["one", "two"], [True], CloseCode.NORMAL)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert ended == [CloseCode.NORMAL]


async def test_a_close_of_the_server_is_told_with_its_code_and_words(nursery: trio.Nursery) -> None:
    async def close(request: trio_websocket.WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.aclose(1012, "restarting")

    end = await receive_messages(await serve(nursery, close), KEY, take_nothing)
    assert end == SocketEnd(1012, "restarting")


async def test_a_connection_that_is_cut_is_abnormal(nursery: trio.Nursery) -> None:
    async def cut(request: trio_websocket.WebSocketRequest) -> None:
        socket = await request.accept()
        await trio.aclose_forcefully(socket._stream)

    end = await receive_messages(await serve(nursery, cut), KEY, take_nothing)
    assert end.code == CLOSE_ABNORMAL


async def test_a_refused_handshake_is_refused_with_its_status_and_without_the_key(
    nursery: trio.Nursery,
) -> None:
    async def reject(request: trio_websocket.WebSocketRequest) -> None:
        await request.reject(401)

    with pytest.raises(RequestRefused, match=r"401.*application key with --key") as refused:
        await receive_messages(await serve(nursery, reject), KEY, take_nothing)
    assert refused.value.status == 401
    assert KEY not in str(refused.value)


async def test_a_handshake_without_an_answer_is_given_up(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLIENT_CONNECT_S", 0.05)

    async def ignore(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    (listener,) = await nursery.start(partial(trio.serve_tcp, ignore, 0, host="127.0.0.1"))
    address = ServerAddress(is_tls=False, host="127.0.0.1", port=listener.socket.getsockname()[1])
    with pytest.raises(ServerUnreachable, match="did not answer the WebSocket handshake"):
        await receive_messages(address, KEY, take_nothing)
    nursery.cancel_scope.cancel()


async def test_what_take_raises_comes_out_and_the_connection_is_gone(nursery: trio.Nursery) -> None:
    gone = trio.Event()

    async def send(request: trio_websocket.WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.send_message("one")
        with suppress(trio_websocket.ConnectionClosed):
            await socket.get_message()
        gone.set()

    def fail(message: str) -> bool:
        raise BrokenPipeError

    with pytest.raises(ExceptionGroup) as group:
        await receive_messages(await serve(nursery, send), KEY, fail)
    assert group.group_contains(BrokenPipeError)
    with trio.fail_after(5):
        await gone.wait()
