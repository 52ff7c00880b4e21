"""What two kernels tell of each other, on real loopback sockets, plain and under TLS."""

from __future__ import annotations

import socket
import ssl
import sys

import pytest
import trio
import trustme

from dispatcher.deliver import tcp_progress
from dispatcher.deliver.tcp_progress import bytes_acked, bytes_unacked, reset_on_close, transport_socket


async def connected_streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    server = await listener.accept()
    await listener.aclose()
    return server, client


async def until(condition) -> None:
    """The kernel's answer to the peer's acknowledgement; microseconds on loopback."""
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110  the kernel sets no event
            await trio.sleep(0.001)


async def standstill(sock) -> int:
    """The number at which a peer that does not read has come to rest."""
    with trio.fail_after(10):
        while True:
            first = bytes_acked(sock)
            await trio.sleep(0.3)
            if bytes_acked(sock) == first:
                return first


@pytest.mark.parametrize("counts", [True, False])
async def test_acknowledged_bytes_are_counted_and_waiting_ones_are_not(monkeypatch, counts):
    if not counts:
        monkeypatch.setattr(sys, "platform", "elsewhere")
    server, client = await connected_streams()
    async with server, client:
        before = bytes_acked(server.socket, 0)
        await server.send_all(b"x" * 1000)
        await until(lambda: bytes_unacked(server.socket) == 0)
        assert bytes_acked(server.socket, 1000) - before == 1000


@pytest.mark.slow
async def test_a_peer_that_does_not_read_makes_no_progress(monkeypatch):
    server, client = await connected_streams()
    async with server, client:
        with trio.move_on_after(0.2):
            await server.send_all(bytes(64 * 2**20))
        assert bytes_unacked(server.socket) > 0
        first = await standstill(server.socket)
        with trio.move_on_after(0.2):
            while True:
                await client.receive_some(2**20)
        assert bytes_acked(server.socket) > first


async def test_the_socket_under_tls_is_found(monkeypatch):
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    server, client = await connected_streams()
    server_tls = trio.SSLStream(server, server_context, server_side=True)
    client_tls = trio.SSLStream(client, client_context, server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_tls.do_handshake)
        nursery.start_soon(client_tls.do_handshake)
    assert transport_socket(server_tls) is server.socket
    before = bytes_acked(server.socket)
    await server_tls.send_all(b"x" * 1000)
    await until(lambda: bytes_unacked(server.socket) == 0)
    assert bytes_acked(server.socket) - before >= 1000
    await trio.aclose_forcefully(server_tls)
    await trio.aclose_forcefully(client_tls)


def test_a_stream_without_a_socket_has_none():
    stream, _ = trio.testing.memory_stream_pair()
    assert transport_socket(stream) is None


async def test_a_closed_socket_has_no_progress_and_can_be_asked():
    server, client = await connected_streams()
    await client.aclose()
    await server.aclose()
    assert bytes_acked(server.socket) is None
    assert bytes_unacked(server.socket) is None
    reset_on_close(server.socket)


async def test_a_socket_that_is_not_tcp_has_no_progress():
    one, other = trio.socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert tcp_progress.bytes_acked(one) is None


async def test_a_reset_throws_away_what_was_not_sent():
    server, client = await connected_streams()
    async with client:
        reset_on_close(server.socket)
        await server.aclose()
        with pytest.raises(trio.BrokenResourceError) as broken:
            await client.receive_some()
        assert isinstance(broken.value.__cause__, ConnectionResetError)
