"""Signed and compressed deliveries on real sockets, verified by the package of Standard Webhooks."""

from __future__ import annotations

import base64
import json
import signal
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from support.daemon import Tenant, log_shown, new_tenant, open_daemon
from support.receiver import Receiver, Request, Then, When, answer, open_receiver
from support.tenants import EVERYTHING, numbers, small
from support.watched_batches import WatchedBatch, large_batch

from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import parse_callback
from dispatcher.deliver.callback import CallbackSends, CallbackSink
from dispatcher.deliver.callback_body import Envelope
from dispatcher.deliver.callback_tls import client_context
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import DeliveryFailed
from dispatcher.model import Signing

FIRST, SECOND = (f"whsec_{base64.b64encode(letter * 32).decode()}" for letter in (b"1", b"2"))
BOTH = Envelope(signing=Signing(secret=b"1" * 32), is_gzipped=True)
CALLBACK = "/v2/notification/callback"
FLAGS = ("--allow-private-callbacks",)
FAST = "[tiers.commercial]\nretry_initial_s = 0.05\nretry_max_s = 0.1\n"


def message_of(request: Request) -> bytes:
    """The JSON of a request."""
    if request.values("Content-Encoding") == [b"gzip"]:
        return zlib.decompress(request.body, 31)
    assert request.values("Content-Encoding") == []
    return request.body


def verified(request: Request, secret: str = FIRST) -> Any:
    """The message of a request, if the package says that it is signed with this secret."""
    headers = {name.decode(): value.decode() for name, value in request.headers}
    return Webhook(secret).verify(message_of(request), headers)


def id_of(request: Request) -> bytes:
    (id,) = request.values("webhook-id")
    return id


def sink_to(receiver: Receiver, envelope: Envelope, incarnation: int = 7) -> CallbackSink:
    return CallbackSink(
        parse_callback(receiver.url, {}),
        dialer=Dialer(AddressPolicy(allow_private=True), client_context()),
        timeout_s=5.0,
        confirmed=lambda position: None,
        sends=CallbackSends(),
        now_unix_s=time.time,
        envelope=envelope,
        incarnation=incarnation,
    )


# --- the sink alone -------------------------------------------------------------------


@pytest.mark.parametrize("is_gzipped", [False, True])
async def test_every_message_of_a_batch_is_whole_signed_and_has_an_id_of_its_own(is_gzipped: bool) -> None:
    batch = WatchedBatch([b'{"a":', b"1}"], [b'{"b":', b"2}"], [b'{"c":3}'], last=9)
    envelope = Envelope(signing=BOTH.signing, is_gzipped=is_gzipped)
    async with open_receiver() as receiver:
        sink = sink_to(receiver, envelope)
        await sink.send(batch)
        await sink.aclose()
    assert [verified(request) for request in receiver.requests] == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert len({id_of(request) for request in receiver.requests}) == 3


@pytest.mark.parametrize("bytes_min", [2_000, 8_000_000])
async def test_a_retry_has_the_same_id_and_bytes_and_a_timestamp_of_its_own(bytes_min: int) -> None:
    now_s = time.time() - 60
    async with open_receiver(answer(500)) as receiver:
        sink = sink_to(receiver, BOTH)
        sink._now_unix_s = lambda: now_s
        with pytest.raises(DeliveryFailed):
            await sink.send(large_batch(bytes_min, last=10_000))
        now_s += 50
        await sink.send(large_batch(bytes_min, last=10_000))
        await sink.aclose()
    first, second = receiver.requests
    assert id_of(first) == id_of(second)
    assert first.body == second.body
    assert message_of(first) == large_batch(bytes_min).bodies()[0]
    assert first.values("webhook-timestamp") != second.values("webhook-timestamp")


async def test_another_channels_batch_and_another_batch_have_other_ids() -> None:
    async with open_receiver() as receiver:
        for incarnation, last in ((7, 10), (8, 10), (7, 11)):
            sink = sink_to(receiver, BOTH, incarnation)
            await sink.send(WatchedBatch([b"{}"], last=last))
            await sink.aclose()
    assert len({id_of(request) for request in receiver.requests}) == 3


async def test_more_events_in_the_same_place_are_another_message() -> None:
    """As when kinds are asked to be mixed after the first of two messages was taken."""
    async with open_receiver(answer(200), answer(500)) as receiver:
        sink = sink_to(receiver, BOTH)
        with pytest.raises(DeliveryFailed):
            await sink.send(WatchedBatch([b"[1]"], [b"[2]"], last=2))
        await sink.send(WatchedBatch([b"[1,", b"2]"], last=2))
        await sink.aclose()
    assert len({id_of(request) for request in receiver.requests}) == 3


async def test_an_early_refusal_is_seen_and_a_dead_connection_replaced_for_compressed_bodies_too() -> None:
    early = answer(413, when=When.AFTER_HEAD, then=Then.CLOSE)
    async with open_receiver(early, answer(200), answer(200, then=Then.CLOSE)) as receiver:
        sink = sink_to(receiver, BOTH)
        with pytest.raises(DeliveryFailed, match="status 413"):
            await sink.send(large_batch(30_000_000, last=100_000))
        for last in (1, 2, 3):
            await sink.send(WatchedBatch([b"[%d]" % last], last=last))
        await sink.aclose()
    assert [verified(request) for request in receiver.requests[1:]] == [[1], [2], [3]]


# --- a daemon -------------------------------------------------------------------------


async def registered(tenant: Tenant, receiver: Receiver, status: int = 204, **members: object) -> Any:
    content = {"url": receiver.url, **members}
    put = await tenant.application.send("PUT", CALLBACK, content)
    assert put.status == status, put.body
    return put


@pytest.mark.slow
async def test_a_receiver_that_verifies_everything_gets_everything(tmp_path: Path) -> None:
    def judge(request: Request) -> Any:
        try:
            verified(request)
        except WebhookVerificationError:
            return answer(401)
        return answer(204)

    with open_daemon(tmp_path, *FLAGS) as running, log_shown(running):
        async with open_receiver(otherwise=judge) as receiver:
            tenant = await new_tenant(running)
            await registered(tenant, receiver, 400)
            await registered(tenant, receiver, 400, signing={"secret": SECOND})
            await registered(tenant, receiver, signing={"secret": FIRST}, content_encoding="gzip")
            assert (await tenant.application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
            await tenant.gateway.post_events([small(number) for number in range(2_000)])
            await receiver.wait_requests(4)
            shown = (await tenant.application.send("GET", CALLBACK)).content()
    assert numbers(verified(receiver.requests[3])) == list(range(2_000))
    assert shown == {
        "url": receiver.url,
        "headers": {},
        "signing": {},
        "content_encoding": "gzip",
    }


@pytest.mark.slow
async def test_an_id_outlives_a_restart_and_so_does_the_secret(tmp_path: Path) -> None:
    async with open_receiver(answer(204), otherwise=answer(503)) as receiver:
        with open_daemon(tmp_path, *FLAGS, config=FAST, exit_status=-signal.SIGKILL) as first:
            tenant = await new_tenant(first)
            await registered(tenant, receiver, signing={"secret": FIRST}, content_encoding="gzip")
            assert (await tenant.application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
            await tenant.gateway.post_events([small(1), small(2)])
            await receiver.wait_requests(3)
            await tenant.gateway.post_events([small(3)])
            await receiver.wait_requests(6)  # by then the journal knows that the batch is to go again
            first.send_signal(signal.SIGKILL)
            await first.wait()
        before = len(receiver.requests)
        with open_daemon(tmp_path, *FLAGS, config=FAST) as second, log_shown(second):
            await receiver.wait_requests(before + 2)
    probe, *attempts = receiver.requests
    assert verified(probe) == {}
    whole = [request for request in attempts if request.is_whole]
    assert len({id_of(request) for request in whole}) == 1
    assert len({request.body for request in whole}) == 1
    assert numbers(verified(whole[-1])) == [1, 2]
    assert id_of(probe) != id_of(whole[0])


@pytest.mark.slow
async def test_after_a_rotation_both_secrets_verify_and_without_signing_nothing_is_signed(
    tmp_path: Path,
) -> None:
    with open_daemon(tmp_path, *FLAGS) as running, log_shown(running):
        async with open_receiver() as receiver:
            tenant = await new_tenant(running)
            await registered(tenant, receiver, signing={"secret": FIRST})
            await registered(tenant, receiver, signing={"secret": SECOND})
            shown = (await tenant.application.send("GET", CALLBACK)).content()
            await registered(tenant, receiver)
            probes = receiver.requests
    verified(probes[0], FIRST)
    with pytest.raises(WebhookVerificationError):
        verified(probes[0], SECOND)
    for secret in (FIRST, SECOND):
        verified(probes[1], secret)
    day_ms = shown["signing"]["older_secret_until"] - time.time() * 1000
    assert 86_000_000 < day_ms < 86_500_000
    assert probes[2].values("webhook-id") == []
    assert json.loads(probes[2].body) == {}


@pytest.mark.slow
async def test_a_wrong_secret_or_a_header_that_is_ours_is_refused_by_its_name(tmp_path: Path) -> None:
    with open_daemon(tmp_path, *FLAGS) as running, log_shown(running):
        async with open_receiver() as receiver:
            tenant = await new_tenant(running)
            for members, name in (
                ({"signing": {"secret": "whsec_c2hvcnQ="}}, "signing.secret"),
                ({"signing": {"secret": FIRST}, "headers": {"Webhook-Id": "x"}}, "headers.Webhook-Id"),
                (
                    {"content_encoding": "gzip", "headers": {"Content-Encoding": "x"}},
                    "headers.Content-Encoding",
                ),
                ({"content_encoding": "br"}, "content_encoding"),
            ):
                refused = await registered(tenant, receiver, 400, **members)
                assert [field["name"] for field in refused.content()["fields"]] == [name]
                assert "c2hvcnQ" not in refused.body.decode()
            assert receiver.connections == 0
            await registered(tenant, receiver, headers={"Webhook-Id": "mine"})
    assert receiver.requests[0].values("webhook-id") == [b"mine"]
