"""The address guard on real sockets: where the policy forbids, no connection arrives."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
import trio
from support.receiver import Receiver, answer, open_receiver
from support.watched_batches import small_batch

from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import CallbackTarget
from dispatcher.deliver.callback import CallbackSends, CallbackSink
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import DeliveryFailed, FailureClass
from dispatcher.deliver.verification import VerificationFailed, verify_callback

STRICT = AddressPolicy()
TLS = client_context()


def target(host: str, port: int, scheme: str = "http") -> CallbackTarget:
    """A target as no registration would let it through, to ask the dialer alone."""
    return CallbackTarget(scheme=scheme, host=host, port=port, target="/", host_header="h")


def sink(where: CallbackTarget, dialer: Dialer) -> CallbackSink:
    return CallbackSink(
        where,
        dialer=dialer,
        timeout_s=5.0,
        confirmed=lambda position: None,
        sends=CallbackSends(),
        now_unix_s=lambda: 0.0,
    )


async def assert_nothing_arrives(receiver: Receiver, where: CallbackTarget, dialer: Dialer) -> None:
    with pytest.raises(DeliveryFailed) as caught:
        await sink(where, dialer).send(small_batch())
    assert caught.value.failure is FailureClass.ADDRESS
    with pytest.raises(VerificationFailed, match=r"^address not allowed$"):
        await verify_callback(where, dialer)
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert receiver.connections == 0


def resolvable(host: str) -> bool:
    try:
        socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "127.0.0.2", "0.0.0.0", "::ffff:0.0.0.0", "::"],
)
async def test_no_connection_arrives_at_a_loopback_address(host: str, scheme: str) -> None:
    async with open_receiver(host="0.0.0.0") as receiver:
        await assert_nothing_arrives(receiver, target(host, receiver.port, scheme), Dialer(STRICT, TLS))


@pytest.mark.parametrize(
    "host", ["localhost", "0x7f.1", "2130706433", "0177.0.0.1", "127.1", "0x7f000001", "0", "017700000001"]
)
async def test_what_the_systems_resolver_turns_into_loopback_is_refused(host: str) -> None:
    if not resolvable(host):
        pytest.skip("this system's resolver does not know the spelling")
    async with open_receiver(host="0.0.0.0") as receiver:
        await assert_nothing_arrives(receiver, target(host, receiver.port), Dialer(STRICT, TLS))


@pytest.mark.parametrize(
    "answer", [["127.0.0.1"], ["::ffff:127.0.0.1"], ["0.0.0.0"], ["127.0.0.1", "10.0.0.1"], ["::1"]]
)
async def test_a_name_that_resolves_to_private_addresses_is_refused(answer: list[str]) -> None:
    async def resolve(host: str) -> Sequence[str]:
        return answer

    async with open_receiver(host="0.0.0.0") as receiver:
        dialer = Dialer(STRICT, TLS, resolve=resolve)
        await assert_nothing_arrives(receiver, target("attacker.example", receiver.port), dialer)


async def test_a_name_that_is_rebound_between_connections_cannot_reach_another_address() -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]]

    async def resolve(host: str) -> Sequence[str]:
        return answers.pop(0)

    allowed = AddressPolicy(allow_networks=(ip_network("127.0.0.1/32"),))
    dialer = Dialer(allowed, TLS, resolve=resolve)
    async with open_receiver(host="127.0.0.1") as right, trio.open_nursery() as nursery:
        arrived: list[trio.SocketStream] = []

        async def inside(stream: trio.SocketStream) -> None:
            arrived.append(stream)

        wrong = await trio.open_tcp_listeners(right.port, host="127.0.0.2")
        nursery.start_soon(trio.serve_listeners, inside, wrong)
        where = target("rebound.example", right.port)
        delivering = sink(where, dialer)
        await verify_callback(where, dialer)
        with pytest.raises(DeliveryFailed) as caught:
            await delivering.send(small_batch())
        assert caught.value.failure is FailureClass.ADDRESS
        with pytest.raises(VerificationFailed):
            await verify_callback(where, dialer)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert (right.connections, arrived, answers) == (1, [], [])
        nursery.cancel_scope.cancel()


async def test_the_answer_of_one_lookup_is_what_is_dialled() -> None:
    lookups = 0

    async def resolve(host: str) -> Sequence[str]:
        nonlocal lookups
        lookups += 1
        return ["127.0.0.1"] if lookups == 1 else ["127.0.0.3"]

    async with open_receiver() as receiver:
        dialer = Dialer(AddressPolicy(allow_private=True), TLS, resolve=resolve)
        delivering = sink(target("localhost", receiver.port), dialer)
        for seq in (1, 2, 3):
            await delivering.send(small_batch(seq))
        await delivering.aclose()
        assert receiver.connections == 1
    assert lookups == 1


async def test_the_operator_can_allow_loopback() -> None:
    async with open_receiver() as receiver:
        where = target("127.0.0.1", receiver.port)
        await verify_callback(where, Dialer(AddressPolicy(allow_private=True), TLS))
        only = AddressPolicy(allow_networks=(ip_network("127.0.0.1/32"),))
        await verify_callback(where, Dialer(only, TLS))
        assert receiver.connections == 2


async def test_a_redirect_to_an_inside_address_is_not_followed() -> None:
    async with open_receiver() as inside:
        reply = answer(307, headers=(("Location", inside.url),))
        async with open_receiver(reply) as receiver:
            only = AddressPolicy(allow_networks=(ip_network("127.0.0.1/32"),))
            with pytest.raises(VerificationFailed, match=r"^status 307$"):
                await verify_callback(target("127.0.0.1", receiver.port), Dialer(only, TLS))
        assert inside.connections == 0
