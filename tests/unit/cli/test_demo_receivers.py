from __future__ import annotations

import json
from binascii import b2a_base64

import pytest
import trio
import trio.testing

from dispatcher.cli.api_client import ApiClient
from dispatcher.cli.demo_plan import device_name
from dispatcher.cli.demo_receivers import CallbackReceiver, Inbox, _Line
from dispatcher.cli.server_address import parse_server_address
from dispatcher.errors import DemoFailed

DEVICES = 3


def notification(device: int, counter: int, due_us: int = 0, uid: str | None = None) -> dict[str, object]:
    return {
        "ep": device_name(device),
        "path": "/3303/0/5700",
        "payload": b2a_base64(b"%d %d" % (counter, due_us), newline=False).decode(),
        "uid": uid or f"n-{device}-{counter}",
    }


def registration(device: int) -> dict[str, object]:
    return {"ep": device_name(device), "ept": "x", "resources": [], "uid": f"r-{device}"}


def message(**arrays: list[dict[str, object]]) -> bytes:
    return json.dumps({name.replace("_", "-"): items for name, items in arrays.items()}).encode()


ALL_REGISTERED = message(registrations=[registration(device) for device in range(DEVICES)])


def inbox_with(*bodies: bytes | str) -> Inbox:
    inbox = Inbox(DEVICES)
    for body in bodies:
        inbox.take(body, now_s=2.0)
    return inbox


def is_proven(inbox: Inbox, *expected: int) -> bool:
    return inbox.ledger.verdict(expected.__getitem__).is_proven


def test_events_are_entered_in_the_order_of_the_message() -> None:
    both = message(registrations=[registration(0)], notifications=[notification(0, 1), notification(0, 2)])
    assert is_proven(inbox_with(both), 3, 0, 0)


def test_a_notification_before_its_device_registered_is_out_of_order() -> None:
    swapped = message(notifications=[notification(0, 1)], registrations=[registration(0)])
    assert not is_proven(inbox_with(swapped), 2, 0, 0)


def test_latency_counts_from_when_a_notification_was_due_to_its_first_arrival() -> None:
    inbox = inbox_with(ALL_REGISTERED, message(notifications=[notification(1, 1, due_us=1_250_000)]))
    inbox.ledger.restarted()
    inbox.take(message(notifications=[notification(1, 1, due_us=1_250_000)]), now_s=9.0)
    assert list(inbox.latencies_us) == [750_000]
    assert inbox.lag_s == 0.75


def test_batches_are_counted_with_the_largest_and_the_probe_is_none() -> None:
    inbox = inbox_with(b"{}", ALL_REGISTERED, message(notifications=[notification(1, 1)]))
    assert (inbox.batches, inbox.largest_batch) == (2, DEVICES)


@pytest.mark.parametrize(
    "body", [message(reg_updates=[registration(0)]), message(notifications=[registration(0)])]
)
def test_an_event_that_no_device_caused_is_unknown(body: bytes) -> None:
    assert inbox_with(body).ledger.verdict(lambda device: 0).unknown == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"notifications":[{"ep":"device-000001"}]}'])
def test_what_is_no_message_with_uids_fails_the_demo(body: bytes) -> None:
    with pytest.raises(DemoFailed):
        inbox_with(body)


async def test_a_callback_is_taken_and_answered_204(nursery: trio.Nursery) -> None:
    receiver = CallbackReceiver(Inbox(DEVICES))
    await nursery.start(receiver.serve)
    async with ApiClient(parse_server_address(receiver.url)) as client:
        assert (await client.request("PUT", "", b"{}")).status == 204
        assert (await client.request("PUT", "", ALL_REGISTERED)).status == 204
    assert is_proven(receiver.inbox, 1, 1, 1)


async def test_a_failing_callback_takes_the_batch_answers_503_and_expects_it_again(
    nursery: trio.Nursery,
) -> None:
    receiver = CallbackReceiver(Inbox(DEVICES))
    await nursery.start(receiver.serve)
    async with ApiClient(parse_server_address(receiver.url)) as client:
        receiver.is_failing = True
        assert (await client.request("PUT", "", ALL_REGISTERED)).status == 503
        receiver.is_failing = False
        assert (await client.request("PUT", "", ALL_REGISTERED)).status == 204
        assert receiver.refused == 1
        assert is_proven(receiver.inbox, 1, 1, 1)
        await client.request("PUT", "", ALL_REGISTERED)  # this time nobody asked for it
    assert not is_proven(receiver.inbox, 1, 1, 1)


async def test_a_callback_that_goes_on_failing_takes_nothing_more(nursery: trio.Nursery) -> None:
    receiver = CallbackReceiver(Inbox(DEVICES))
    await nursery.start(receiver.serve)
    receiver.is_failing = True
    async with ApiClient(parse_server_address(receiver.url)) as client:
        for body in (ALL_REGISTERED, message(notifications=[notification(0, 1)])):
            assert (await client.request("PUT", "", body)).status == 503
    assert is_proven(receiver.inbox, 1, 1, 1)  # the notification was not taken


async def test_a_mute_line_loses_what_is_sent_and_still_hears() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    line = _Line(ours)
    await line.send_all(b"1")
    line.is_mute = True
    await line.send_all(b"2")
    await theirs.send_all(b"3")
    assert await line.receive_some() == b"3"
    await line.aclose()
    assert [await theirs.receive_some(), await theirs.receive_some()] == [b"1", b""]


async def test_a_deaf_line_hears_nothing_but_the_end() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    line = _Line(ours)
    line.is_deaf = True
    await theirs.send_all(b"1")
    await theirs.aclose()
    assert await line.receive_some() == b""
