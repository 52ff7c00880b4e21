"""The tunnel through a proxy: what it is asked, and every way in which it may not come about."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
import trio
import trio.testing

from dispatcher import limits
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import parse_callback
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer, TunnelFailed
from dispatcher.deliver.egress_proxy import EgressProxy, ProxyTunnels
from dispatcher.deliver.sink import DeliveryFailed, FailureClass

TLS = client_context()
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """A proxy in memory: says ``answer`` once it was asked, and keeps what it was asked."""

    def __init__(
        self,
        nursery: trio.Nursery,
        answer: bytes = CONNECTED,
        *,
        is_closed_then: bool = False,
        credentials: str = "",
    ) -> None:
        self._nursery = nursery
        self._answer = answer
        self._is_closed_then = is_closed_then
        self.asked: list[bytes] = []
        self.dialled: list[tuple[str, int]] = []
        self.lookups: list[str] = []
        self.streams: list[trio.abc.Stream] = []
        self.tunnels = ProxyTunnels(
            EgressProxy(host="proxy.inside", port=3128, credentials=credentials),
            resolve=self.resolve,
            connect=self.connect,
        )

    async def resolve(self, host: str) -> Sequence[str]:
        self.lookups.append(host)
        return {"proxy.inside": ["10.0.0.9"], "receiver.example": ["10.0.0.1", "8.8.8.8"]}.get(host, [])

    async def connect(self, address: str, port: int) -> trio.abc.Stream:
        self.dialled.append((address, port))
        ours, theirs = trio.testing.memory_stream_pair()
        self.streams.append(ours)
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        self.asked.append(head)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(self._answer)
            if self._is_closed_then:
                await stream.aclose()


async def failure(answer: bytes) -> str:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, answer, is_closed_then=True)
        with pytest.raises(TunnelFailed) as caught:
            await proxy.tunnels("8.8.8.8", 443)
        with pytest.raises(trio.ClosedResourceError):
            await proxy.streams[0].send_all(b"x")
        nursery.cancel_scope.cancel()
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "authority"), [("8.8.8.8", b"8.8.8.8:443"), ("2606:4700::1", b"[2606:4700::1]:443")]
)
async def test_the_proxy_is_asked_for_the_number_and_the_port(address: str, authority: bytes) -> None:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery)
        await proxy.tunnels(address, 443)
    assert proxy.asked == [b"CONNECT " + authority + b" HTTP/1.1\r\nHost: " + authority + b"\r\n\r\n"]
    assert proxy.dialled == [("10.0.0.9", 3128)]


async def test_credentials_go_to_the_proxy_and_into_no_repr() -> None:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, credentials="user:pass word")
        await proxy.tunnels("8.8.8.8", 80)
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n" in proxy.asked[0]
    assert repr(proxy.tunnels) == "<ProxyTunnels <EgressProxy proxy.inside:3128>>"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_proxy_never_hears_a_name_and_never_a_refused_address(scheme: str) -> None:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery)
        dialer = Dialer(AddressPolicy(), TLS, resolve=proxy.resolve, connect=proxy.tunnels)
        with trio.move_on_after(0.05):
            await dialer.dial(parse_callback(f"{scheme}://receiver.example:8443/", {}))
        with pytest.raises(DeliveryFailed) as caught:
            await dialer.dial(parse_callback(f"{scheme}://[::ffff:10.0.0.1]/", {}))
        nursery.cancel_scope.cancel()
    assert caught.value.failure is FailureClass.ADDRESS
    assert [head.split(b" ")[1] for head in proxy.asked] == [b"8.8.8.8:8443"]
    assert b"receiver" not in b"".join(proxy.asked)


@pytest.mark.parametrize("status", [301, 403, 407, 413, 502, 504])
async def test_any_answer_but_2xx_is_the_proxys_failure(status: int) -> None:
    said = await failure(f"HTTP/1.1 {status} No\r\nContent-Length: 6\r\n\r\nsecret".encode())
    assert said == f"it answered {status}"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 102 Wait\r\n\r\n" * (limits.CALLBACK_INFORMATIONAL_MAX + 1),
        b"X" * (2 * limits.CALLBACK_RESPONSE_HEAD_BYTES_MAX),
    ],
    ids=["nothing", "another protocol", "half", "switch", "informational without end", "head without end"],
)
async def test_what_is_no_answer_is_the_proxys_failure(answer: bytes) -> None:
    assert await failure(answer)


async def test_informational_answers_of_the_proxy_are_skipped() -> None:
    async with trio.open_nursery() as nursery:
        await Proxy(nursery, b"HTTP/1.1 102 Wait\r\n\r\n" + CONNECTED).tunnels("8.8.8.8", 80)


async def test_words_before_the_first_of_ours_are_not_the_receivers() -> None:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, CONNECTED + b"HTTP/1.1 200 OK\r\n\r\n")
        with pytest.raises(TunnelFailed, match="before anything was sent"):
            await proxy.tunnels("8.8.8.8", 80)


async def test_a_413_of_the_proxy_does_not_make_batches_smaller() -> None:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        dialer = Dialer(AddressPolicy(), TLS, resolve=proxy.resolve, connect=proxy.tunnels)
        with pytest.raises(DeliveryFailed, match=r"^proxy: it answered 413$") as caught:
            await dialer.dial(parse_callback("http://8.8.8.8/", {}))
    assert not caught.value.is_too_large


async def test_a_proxy_that_nobody_can_reach_is_not_the_receivers_fault() -> None:
    async def refuse(address: str, port: int) -> trio.abc.Stream:
        raise ConnectionRefusedError

    async def nowhere(host: str) -> Sequence[str]:
        raise OSError

    for tunnels, said in (
        (ProxyTunnels(EgressProxy(host="10.0.0.9", port=1), resolve=nowhere, connect=refuse), "reached"),
        (ProxyTunnels(EgressProxy(host="proxy", port=1), resolve=nowhere, connect=refuse), "no address"),
    ):
        with pytest.raises(DeliveryFailed, match=said) as caught:
            await Dialer(AddressPolicy(), TLS, connect=tunnels).dial(parse_callback("http://8.8.8.8/", {}))
        assert caught.value.failure is FailureClass.PROXY


async def test_a_cancelled_tunnel_leaves_no_socket(autojump_clock: trio.abc.Clock) -> None:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, b"HTTP/1.1 2")
        with trio.move_on_after(5) as waiting:
            await proxy.tunnels("8.8.8.8", 80)
        assert waiting.cancelled_caught
        with pytest.raises(trio.ClosedResourceError):
            await proxy.streams[0].send_all(b"x")
        nursery.cancel_scope.cancel()
