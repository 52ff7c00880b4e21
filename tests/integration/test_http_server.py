"""The HTTP server on real sockets, asked by our raw client and by independent ones."""

from __future__ import annotations

import gc
import http.client
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trustme
from support.http_servers import RunningServer, eventually, running
from support.http_wire import WireClient, get, post, request

from dispatcher import limits
from dispatcher.deliver.tcp_receipt import TcpReceipt
from dispatcher.http.message import Request, Response, text_response
from dispatcher.http.tls import server_context

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    with trio.fail_after(20):
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True)


async def test_three_pipelined_requests_in_one_send() -> None:
    async with running() as server:
        client = await server.connect()
        await client.send(get("/1") + post(b"two") + get("/3"))
        assert [(await client.response()).body for _ in range(3)] == [b"/1", b"two", b"/3"]
        await client.stream.aclose()


async def test_body_of_a_megabyte_comes_back() -> None:
    body = os.urandom(limits.API_BODY_BYTES_MAX)
    async with running() as server:
        client = await server.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, post(body))
            assert (await client.response()).body == body
        await client.stream.aclose()


async def test_200_connections_at_once() -> None:
    async with running() as server:

        async def ask(number: int) -> None:
            client = await server.connect()
            for turn in range(3):
                body = f"{number} {turn}".encode()
                assert (await client.ask(post(body))).body == body
            assert (await client.ask(get("/slow"))).body == b"/slow"
            await client.stream.aclose()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(ask, number)
        assert server.server.statistics().requests_total == 800


async def test_peer_is_the_client_s_address() -> None:
    async def peer(request: Request) -> Response:
        return text_response(request.peer)

    async with running(peer) as server:
        client = await server.connect()
        assert isinstance(client.stream, trio.SocketStream)
        host, port = client.stream.socket.getsockname()
        assert (await client.ask(get())).body == f"{host}:{port}".encode()
        await client.stream.aclose()


async def test_upgrade_with_glued_bytes_after_a_kept_alive_request() -> None:
    async with running() as server:
        client = await server.connect()
        await client.ask(get("/first"))
        response = await client.ask(get("/upgrade", "Connection: Upgrade", "Upgrade: websocket") + b"glued")
        assert response.status == 101
        while bytes(client.received) != b"glued":
            client.received += await client.stream.receive_some(100)
        await client.send(b" and more")
        while bytes(client.received) != b"glued and more":
            client.received += await client.stream.receive_some(100)
        await client.stream.aclose()


# --- other people's clients -----------------------------------------------------------


async def test_http_client_of_the_standard_library() -> None:
    def ask(port: int) -> list[tuple[int, bytes]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        found = []
        for method, path, body in [
            ("GET", "/a", None),
            ("POST", "/echo", b"x" * 300_000),
            ("PUT", "/refuse", b"small"),
            ("HEAD", "/abc", None),
            ("POST", "/echo", iter([b"chunk", b"ed"])),
            ("DELETE", "/d", None),
        ]:
            connection.request(method, path, body)
            response = connection.getresponse()
            found.append((response.status, response.read()))
        connection.close()
        return found

    async with running() as server:
        found = await in_thread(lambda: ask(server.port))
        assert [status for status, _ in found] == [200, 200, 401, 200, 200, 200]
        bodies = [body for _, body in found]
        assert bodies[0] == b"/a"
        assert bodies[1] == b"x" * 300_000
        assert bodies[3:] == [b"", b"chunked", b"/d"]
        assert server.server.statistics().connections_total == 1


async def test_client_that_sends_all_before_it_reads_gets_its_413() -> None:
    def ask(port: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/echo", bytes(16 * limits.MIB))
        response = connection.getresponse()
        return response.status, response.read()

    async with running() as server:
        status, body = await in_thread(lambda: ask(server.port))
        assert status == 413
        assert json.loads(body)["type"] == "body_too_large"
        await server.check_alive()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
class TestCurl:
    async def test_two_urls_over_one_connection(self) -> None:
        async with running() as server:
            url = f"http://127.0.0.1:{server.port}"
            assert await self._curl(f"{url}/a", f"{url}/b") == "/a/b"
            assert server.server.statistics().connections_total == 1

    async def test_large_body_waits_for_100(self, tmp_path: Path) -> None:
        body = tmp_path / "body"
        body.write_bytes(b"y" * limits.API_BODY_BYTES_MAX)
        async with running() as server:
            found = await self._curl(
                "-H",
                "Expect: 100-continue",
                "--data-binary",
                f"@{body}",
                f"http://127.0.0.1:{server.port}/echo",
            )
            assert found == body.read_text()

    async def test_refused_body_is_never_sent(self, tmp_path: Path) -> None:
        body = tmp_path / "body"
        body.write_bytes(bytes(limits.API_BODY_BYTES_MAX))
        async with running() as server:
            found = await self._curl(
                *("-H", "Expect: 100-continue", "--data-binary", f"@{body}"),
                *("-o", os.devnull, "-w", "%{http_code} %{size_upload}"),
                f"http://127.0.0.1:{server.port}/refuse",
            )
            assert found == "401 0"

    async def test_chunked_upload_http_1_0_and_head(self) -> None:
        async with running() as server:
            url = f"http://127.0.0.1:{server.port}"
            chunked = ("-H", "Transfer-Encoding: chunked", "-d", "abc")
            assert await self._curl(*chunked, f"{url}/echo") == "abc"
            assert await self._curl("--http1.0", f"{url}/old") == "/old"
            assert "Content-Length: 4" in await self._curl("-I", f"{url}/abc")

    async def test_http_2_upgrade_is_declined(self) -> None:
        async with running() as server:
            assert await self._curl("--http2", "-d", "abc", f"http://127.0.0.1:{server.port}/echo") == "abc"

    @staticmethod
    async def _curl(*arguments: str) -> str:
        command = ["curl", "-sS", "--max-time", "10", "--noproxy", "*", *arguments]
        done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT)
        return done.stdout.decode()


# --- TLS ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return server_context(certificate, key)


async def connect_tls(server: RunningServer, authority: trustme.CA) -> WireClient:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    plain = await trio.open_tcp_stream("127.0.0.1", server.port)
    stream = trio.SSLStream(plain, context, server_hostname="127.0.0.1", https_compatible=True)
    return WireClient(stream)


async def test_https_serves_requests_bodies_and_upgrades(authority: trustme.CA, tls: ssl.SSLContext) -> None:
    async with running(tls=tls) as server:
        client = await connect_tls(server, authority)
        body = os.urandom(500_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, post(body))
            assert (await client.response()).body == body
        response = await client.ask(get("/upgrade", "Connection: Upgrade", "Upgrade: websocket") + b"glued")
        assert response.status == 101
        while bytes(client.received) != b"glued":
            client.received += await client.stream.receive_some(100)
        await client.stream.aclose()


async def test_https_connection_is_closed_with_a_notice(authority: trustme.CA, tls: ssl.SSLContext) -> None:
    async with running(tls=tls) as server:
        client = await connect_tls(server, authority)
        assert (await client.ask(get("/a", "Connection: close"))).body == b"/a"
        assert await client.is_at_end()


async def test_plain_http_on_the_tls_port_disturbs_nobody(authority: trustme.CA, tls: ssl.SSLContext) -> None:
    async with running(tls=tls) as server:
        plain = await server.connect()
        await plain.send(get())
        with trio.fail_after(5):
            while await plain.stream.receive_some(1000):  # an alert, at most
                pass
        client = await connect_tls(server, authority)
        assert (await client.ask(get("/a"))).body == b"/a"
        assert server.server.statistics().handshakes_failed_total == 1
        await client.stream.aclose()


async def test_silent_client_on_the_tls_port_is_let_go(
    authority: trustme.CA, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_TIMEOUT_S", 0.2)
    async with running(tls=tls) as server:
        silent = await server.connect()
        with trio.fail_after(5):
            assert await silent.is_at_end()
        assert server.server.statistics().handshakes_failed_total == 1


async def test_tls_on_the_plain_port_disturbs_nobody(authority: trustme.CA) -> None:
    async with running() as server:
        client = await connect_tls(server, authority)
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await client.send(get())
        await trio.aclose_forcefully(client.stream)
        await server.check_alive()


# --- the end --------------------------------------------------------------------------


async def test_drain_ends_idle_connections_and_finishes_requests() -> None:
    async with running() as server:
        idle, busy = await server.connect(), await server.connect()
        await idle.ask(get())
        await busy.send(get("/slow"))
        await eventually(lambda: server.server.statistics().requests_running == 1)
        server.server.begin_drain()
        with trio.fail_after(5):
            assert await idle.is_at_end()
            response = await busy.response()
            assert (response.body, response.headers["connection"]) == (b"/slow", "close")
            assert await busy.is_at_end()
        with pytest.raises(OSError, match="connect"):
            await server.connect()
        await busy.stream.aclose()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_behind() -> None:
    gc.collect()
    before = open_descriptors()
    async with running(grace_s=0.1) as server:
        clients = [await server.connect() for _ in range(20)]
        for client in clients[:5]:
            await client.ask(get())
        for client in clients[5:10]:
            await client.send(get("/half")[:20])
        for client in clients[10:15]:
            await client.ask(get("/upgrade", "Connection: Upgrade", "Upgrade: websocket"))
    for client in clients:
        await client.stream.aclose()
    assert open_descriptors() == before


# --- receipts -------------------------------------------------------------------------


def reset_on_close(client: WireClient) -> None:
    assert isinstance(client.stream, trio.SocketStream)
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("line", ["Accept: */*", "Connection: close"])
async def test_receipt_says_yes_when_the_client_read_and_left(line: str) -> None:
    receipt = TcpReceipt()

    async def give(request: Request) -> Response:
        return Response(200, bytes(100_000), receipt=receipt)

    async with running(give) as server:
        client = await server.connect()
        await client.ask(get("/", line))
        await client.stream.aclose()
    assert receipt.is_acknowledged()


async def test_receipt_says_yes_while_the_connection_is_open() -> None:
    receipt = TcpReceipt()

    async def give(request: Request) -> Response:
        return Response(200, b"x", receipt=receipt)

    async with running(give) as server:
        client = await server.connect()
        await client.ask(get())
        await eventually(receipt.is_acknowledged)
        await client.stream.aclose()


@pytest.mark.parametrize("is_all_read", [False, True])
async def test_receipt_says_no_when_the_client_reset_the_connection(is_all_read: bool) -> None:
    receipt = TcpReceipt()

    async def give(request: Request) -> Response:
        return Response(200, bytes(100_000), receipt=receipt)

    async with running(give) as server:
        client = await server.connect()
        await client.send(get())
        if is_all_read:
            await client.response()
        else:
            await client.stream.receive_some(100)
        reset_on_close(client)
        await client.stream.aclose()
        await eventually(server.is_deserted)
    assert not receipt.is_acknowledged()


async def test_receipt_says_no_until_the_last_byte_is_acknowledged() -> None:
    receipt = TcpReceipt()
    size = 20_000  # the server hands all of it to its kernel at once

    async def give(request: Request) -> Response:
        return Response(200, bytes(size), receipt=receipt)

    async with running(give) as server:
        sock = trio.socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the rest stays in the server's kernel
        await sock.connect(("127.0.0.1", server.port))
        client = WireClient(trio.SocketStream(sock))
        await client.send(get())
        await eventually(lambda: server.server.statistics().requests_total == 1)
        await trio.sleep(0.05)
        assert not receipt.is_acknowledged()
        with trio.fail_after(5):
            assert len((await client.response()).body) == size
        await eventually(receipt.is_acknowledged)
        await client.stream.aclose()


async def test_receipt_says_no_when_the_answer_was_never_sent() -> None:
    receipt = TcpReceipt()

    async def give(request: Request) -> Response:
        return Response(200, bytes(64 * limits.MIB), receipt=receipt)

    async with running(give, grace_s=0.1) as server:
        client = await server.connect()
        await client.send(request("GET", "/"))
        await client.stream.receive_some(100)
        await client.stream.aclose()
    assert not receipt.is_acknowledged()
