from __future__ import annotations

import ssl
from functools import partial

import pytest
import trio
import trustme
from support.receiver import open_receiver

from dispatcher.cli.server_address import ServerAddress, open_stream, parse_server_address
from dispatcher.errors import ServerUnreachable


@pytest.mark.parametrize(
    ("url", "host_header", "port", "prefix"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", 8080, ""),
        ("http://example.org", "example.org", 80, ""),
        ("https://example.org/", "example.org", 443, ""),
        ("https://example.org:80", "example.org:80", 80, ""),
        ("http://[::1]:9/below/", "[::1]:9", 9, "/below"),
    ],
)
def test_an_address_is_read_from_a_url(url: str, host_header: str, port: int, prefix: str) -> None:
    address = parse_server_address(url)
    assert (address.host_header, address.port, address.prefix) == (host_header, port, prefix)
    assert address.is_tls is url.startswith("https")


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://h:notaport", "http://h?key=ak_secret"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_server_address(url)
    assert "secret" not in str(refused.value)


def test_a_key_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="option of its own") as refused:
        parse_server_address("http://user:ak_secret@host:1")
    assert "secret" not in str(refused.value)


async def test_a_port_where_nobody_listens_is_unreachable_and_named() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(ServerUnreachable, match=rf"127\.0\.0\.1:{port}: connection refused.*--url"):
        await open_stream(ServerAddress(is_tls=False, host="127.0.0.1", port=port))


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises(ServerUnreachable, match="cannot reach"):
        await open_stream(ServerAddress(is_tls=False, host="nowhere.invalid", port=80))


async def test_a_certificate_of_an_unknown_authority_is_not_trusted() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with open_receiver(tls=context) as receiver:
        with pytest.raises(ServerUnreachable, match=r"certificate is not trusted.*SSL_CERT_FILE"):
            await open_stream(ServerAddress(is_tls=True, host="127.0.0.1", port=receiver.port))


async def test_https_where_there_is_only_http_says_so(nursery: trio.Nursery) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    (listener,) = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
    port = listener.socket.getsockname()[1]
    with pytest.raises(ServerUnreachable, match="no TLS there; is it http://"):
        await open_stream(ServerAddress(is_tls=True, host="127.0.0.1", port=port))
