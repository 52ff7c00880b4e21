"""Callbacks through a real proxy on real sockets, with TLS inside of the tunnel."""

from __future__ import annotations

import ssl

import pytest
import trustme
from support.connect_proxy import ConnectProxy, open_connect_proxy
from support.receiver import Then, answer, open_receiver
from support.watched_batches import large_batch, small_batch

from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import parse_callback
from dispatcher.deliver.callback import CallbackSends, CallbackSink
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer, SystemResolver, connect_tcp
from dispatcher.deliver.egress_proxy import EgressProxy, ProxyTunnels
from dispatcher.deliver.sink import DeliveryFailed, FailureClass

GLOBAL = "8.8.8.8:9000"  # what the receiver of the test is, as far as anyone but the proxy knows


def dialer_through(proxy: ConnectProxy, tls: ssl.SSLContext | None = None) -> Dialer:
    tunnels = ProxyTunnels(
        EgressProxy(host="127.0.0.1", port=proxy.port), resolve=SystemResolver(), connect=connect_tcp
    )
    return Dialer(AddressPolicy(), tls or client_context(), connect=tunnels)


def sink_to(url: str, dialer: Dialer) -> CallbackSink:
    return CallbackSink(
        parse_callback(url, {}),
        dialer=dialer,
        timeout_s=5.0,
        confirmed=lambda position: None,
        sends=CallbackSends(),
        now_unix_s=lambda: 0.0,
    )


async def test_batches_share_one_tunnel_while_it_is_kept_alive() -> None:
    async with (
        open_receiver() as receiver,
        open_connect_proxy({GLOBAL: f"127.0.0.1:{receiver.port}"}) as proxy,
    ):
        sink = sink_to(f"http://{GLOBAL}/events", dialer_through(proxy))
        batches = [large_batch(600_000, last=seq) for seq in (1, 2)]
        for batch in batches:
            await sink.send(batch)
        await sink.aclose()
    assert [request.body for request in receiver.requests] == [batch.bodies()[0] for batch in batches]
    assert receiver.requests[0].line == b"PUT /events HTTP/1.1"
    assert receiver.requests[0].values("Host") == [GLOBAL.encode()]
    assert proxy.authorities == [GLOBAL]


async def test_a_tunnel_that_the_receiver_has_closed_is_made_again() -> None:
    closing = answer(200, then=Then.CLOSE)
    async with (
        open_receiver(closing) as receiver,
        open_connect_proxy({GLOBAL: f"127.0.0.1:{receiver.port}"}) as proxy,
    ):
        sink = sink_to(f"http://{GLOBAL}/", dialer_through(proxy))
        await sink.send(small_batch(1))
        await sink.send(small_batch(2))
        await sink.aclose()
    assert proxy.authorities == [GLOBAL, GLOBAL]


async def test_the_proxy_sees_nothing_of_an_https_callback() -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("8.8.8.8").configure_cert(server)
    client = client_context()
    authority.configure_trust(client)
    async with (
        open_receiver(tls=server) as receiver,
        open_connect_proxy({GLOBAL: f"127.0.0.1:{receiver.port}"}) as proxy,
    ):
        sink = sink_to(f"https://{GLOBAL}/events", dialer_through(proxy, client))
        await sink.send(small_batch())
        await sink.aclose()
    assert receiver.requests[0].line == b"PUT /events HTTP/1.1"
    assert b"/events" not in bytes(proxy.sent)
    assert b"/events" not in b"".join(proxy.heads)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "10.0.0.1", "0.0.0.0"])
async def test_the_proxy_is_never_asked_for_an_inside_address(host: str, scheme: str) -> None:
    async with open_receiver() as receiver, open_connect_proxy() as proxy:
        sink = sink_to(f"{scheme}://{host}:{receiver.port}/", dialer_through(proxy))
        with pytest.raises(DeliveryFailed) as caught:
            await sink.send(small_batch())
    assert caught.value.failure is FailureClass.ADDRESS
    assert (proxy.heads, receiver.connections) == ([], 0)


async def test_a_redirect_through_the_proxy_is_not_followed() -> None:
    async with open_receiver() as elsewhere:
        reply = answer(307, headers=(("Location", elsewhere.url),))
        async with (
            open_receiver(reply) as receiver,
            open_connect_proxy({GLOBAL: f"127.0.0.1:{receiver.port}"}) as proxy,
        ):
            sink = sink_to(f"http://{GLOBAL}/", dialer_through(proxy))
            with pytest.raises(DeliveryFailed, match="status 307"):
                await sink.send(small_batch())
            await sink.aclose()
        assert elsewhere.connections == 0
    assert proxy.authorities == [GLOBAL]
