"""The library as an embedder uses it: this file imports ``dispatcher`` and nothing below it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

import dispatcher
from dispatcher import Notification


def settings(folder: Path | str = "", **tier: object) -> dispatcher.Settings:
    commercial = dispatcher.TierSettings(**tier)  # type: ignore[arg-type]
    return dispatcher.Settings(
        storage=dispatcher.StorageSettings(data=str(folder)),
        callbacks=dispatcher.CallbackSettings(allow_private=True),
        tiers={"commercial": commercial, "free": commercial},
    )


@pytest.fixture
async def hub() -> AsyncIterator[dispatcher.Hub]:
    async with dispatcher.open_dispatcher() as opened:
        yield opened


async def application_of(hub: dispatcher.Hub, name: str = "app") -> dispatcher.Application:
    return await hub.ensure_application(await hub.ensure_account(), name)


def numbered(count: int, start: int = 0) -> list[Notification]:
    return [Notification("dev-1", "/3303/0/5700", str(start + i).encode()) for i in range(count)]


def payloads(batch: dispatcher.ConsumedBatch) -> list[str]:
    return [e["payload"] for m in batch.messages for e in json.loads(m)["notifications"]]


async def test_what_is_published_is_consumed_in_order_and_gone_after_ack(hub: dispatcher.Hub) -> None:
    app = await application_of(hub)
    with trio.fail_after(5):
        async with hub.consume(app) as batches:
            for event in numbered(5):
                receipt = hub.publish(app, event)
                assert (receipt.accepted, receipt.queued, receipt.unrouted) == (1, 1, 0)
            await receipt.durable()
            batch = await anext(batches)
            assert batch.events == 5
            assert payloads(batch) == ["MA==", "MQ==", "Mg==", "Mw==", "NA=="]
            assert batch.ack() == 5
            assert batch.ack() == 0
            statistics = hub.statistics(app)
            assert statistics is not None
            assert statistics.records == 0


async def test_what_was_not_acknowledged_is_given_to_the_next_consumer(hub: dispatcher.Hub) -> None:
    app = await application_of(hub)
    options = dispatcher.Serialization(include_uid=True)
    with trio.fail_after(5):
        async with hub.consume(app, options) as batches:
            await hub.publish_many(app, numbered(3))
            first = await anext(batches)
            await hub.publish_many(app, numbered(2, 3))
            second = await anext(batches)
            first.ack()
        async with hub.consume(app, options) as batches:
            again = await anext(batches)
    assert again.messages == second.messages


async def test_a_consumer_that_never_acknowledges_is_given_a_bounded_number_of_batches(
    hub: dispatcher.Hub,
) -> None:
    app = await application_of(hub)
    async with hub.consume(app) as batches:
        given = []
        for _ in range(4):
            hub.publish(app, numbered(1)[0])
            given.append(await anext(batches))
        hub.publish(app, numbered(1)[0])
        with trio.move_on_after(0.05) as scope:
            await anext(batches)
        assert scope.cancelled_caught
        given[0].ack()
        with trio.fail_after(1):
            await anext(batches)


async def test_a_program_that_is_cancelled_ends_at_once_and_keeps_what_it_acknowledged(
    tmp_path: Path,
) -> None:
    with trio.CancelScope() as scope:
        async with dispatcher.open_dispatcher(settings(tmp_path)) as hub:
            app = await application_of(hub)
            async with hub.consume(app) as batches:
                await hub.publish_many(app, numbered(3))
                (await anext(batches)).ack()
                scope.cancel()
                cancelled_s = trio.current_time()
                await trio.lowlevel.checkpoint()
    assert trio.current_time() - cancelled_s < 5.0
    async with dispatcher.open_dispatcher(settings(tmp_path)) as hub:
        statistics = hub.statistics(await application_of(hub))
        assert statistics is not None
        assert statistics.records == 0


async def test_bytes_of_a_message_are_events_too(hub: dispatcher.Hub) -> None:
    app = await application_of(hub)
    async with hub.consume(app) as batches:
        hub.publish(app, b'{"notifications": [{"ep": "d", "path": "/1"}], "de-registrations": ["d"]}')
        with trio.fail_after(5):
            first = await anext(batches)
    assert [json.loads(m) for m in first.messages] == [
        {"notifications": [{"ep": "d", "path": "/1", "ct": "", "payload": "", "max-age": 0}]},
        {"de-registrations": ["d"]},
    ]


@pytest.mark.parametrize(
    "event",
    [Notification("", "/1"), Notification("d", "1"), b"{", b'{"notifications": [{"ep": "d"}]}', b"[]"],
)
async def test_a_bad_event_is_refused_and_stores_nothing(hub: dispatcher.Hub, event: object) -> None:
    app = await application_of(hub)
    async with hub.consume(app):
        with pytest.raises(dispatcher.BadRequest):
            await hub.publish_many(app, [*numbered(3), event])  # type: ignore[list-item]
        statistics = hub.statistics(app)
        assert statistics is not None
        assert statistics.records == 0


async def test_a_full_queue_that_rejects_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with dispatcher.open_dispatcher(settings(tmp_path, queue_bytes=4096, overflow="reject")) as hub:
        app = await application_of(hub)
        async with hub.consume(app):
            await hub.publish_many(app, numbered(20))
            with pytest.raises(dispatcher.QueueFull):
                await hub.publish_many(app, numbered(100))
            statistics = hub.statistics(app)
            assert statistics is not None
            assert statistics.records == 20


async def test_routing_goes_to_subscribers_alone(hub: dispatcher.Hub) -> None:
    account = await hub.ensure_account()
    other_account = await hub.ensure_account("other")
    subscribed = await hub.ensure_application(account, "subscribed")
    unsubscribed = await hub.ensure_application(account, "unsubscribed")
    foreign = await hub.ensure_application(other_account, "foreign")
    async with hub.consume(subscribed) as batches, hub.consume(unsubscribed), hub.consume(foreign):
        await hub.subscribe(subscribed, "dev-1", "/3303/0/5700")
        await hub.subscribe(foreign, "dev-1", "/3303/0/5700")
        receipt = hub.route(account, [*numbered(1), Notification("dev-1", "/other")])
        assert (receipt.accepted, receipt.queued, receipt.unrouted) == (2, 1, 1)
        with trio.fail_after(5):
            assert (await anext(batches)).events == 1
        for name in (unsubscribed, foreign):
            statistics = hub.statistics(name)
            assert statistics is not None
            assert statistics.last_seq == 0


async def test_a_deleted_channel_ends_its_consumer(hub: dispatcher.Hub) -> None:
    app = await application_of(hub)
    async with hub.consume(app) as batches, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def waiting() -> None:
            with pytest.raises(dispatcher.ChannelGone):
                await anext(batches)

        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            assert await hub.delete_channel(app)
    assert not await hub.delete_channel(app)


async def test_one_consumer_at_a_time(hub: dispatcher.Hub) -> None:
    app = await application_of(hub)
    async with hub.consume(app):
        with pytest.raises(dispatcher.Conflict):
            async with hub.consume(app):
                pass
    async with hub.consume(app):
        pass


async def test_a_channel_that_is_consumed_excludes_other_types(hub: dispatcher.Hub) -> None:
    app = await application_of(hub)
    async with hub.consume(app):
        with pytest.raises(dispatcher.BadRequest, match="Another notification channel exists"):
            await hub.register_websocket(app)


async def test_applications_are_bounded_by_the_tier() -> None:
    async with dispatcher.open_dispatcher() as hub:
        account = await hub.ensure_account("small", "free")
        for number in range(4):
            await hub.ensure_application(account, f"app-{number}")
        with pytest.raises(dispatcher.TooManyRequests):
            await hub.ensure_application(account, "one-more")
        assert (await hub.ensure_application(account, "app-0")).name == "app-0"


@pytest.mark.parametrize(
    ("durability", "last_seq"),
    [(dispatcher.Durability.MEMORY, 0), (dispatcher.Durability.PROCESS, 3), (dispatcher.Durability.DISK, 3)],
)
async def test_registrations_survive_in_the_data_folder_and_queues_as_their_durability_says(
    tmp_path: Path, durability: dispatcher.Durability, last_seq: int
) -> None:
    kept = settings(tmp_path)
    kept = msgspec.structs.replace(kept, storage=msgspec.structs.replace(kept.storage, durability=durability))
    async with dispatcher.open_dispatcher(kept) as hub:
        app = await application_of(hub)
        async with hub.consume(app):
            await hub.publish_many(app, numbered(3))
        key = await hub.create_key(dispatcher.Role.APPLICATION, application=app)
    async with dispatcher.open_dispatcher(kept) as hub:
        again = await application_of(hub)
        assert again == app
        statistics = hub.statistics(again)
        assert statistics is not None
        assert statistics.last_seq == last_seq
        assert await hub.revoke_key(key.id)


async def test_a_second_dispatcher_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with dispatcher.open_dispatcher(settings(tmp_path)):
        with pytest.raises(dispatcher.DataFolderError, match="in use by process"):
            async with dispatcher.open_dispatcher(settings(tmp_path)):
                pass


async def test_the_http_side_runs_on_the_embedders_listeners(hub: dispatcher.Hub) -> None:
    app = await application_of(hub)
    key = await hub.create_key(dispatcher.Role.APPLICATION, application=app)
    listeners = await dispatcher.open_listeners("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(dispatcher.serve_http, hub, listeners)
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(5):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(
                b"PUT /v2/notification/websocket HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                b"Authorization: Bearer " + key.key.encode() + b"\r\nConnection: close\r\n\r\n"
            )
            answer = b"".join([part async for part in stream])
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert hub.statistics(app) is not None
        with trio.fail_after(5):
            await server.drain()
        nursery.cancel_scope.cancel()


async def test_an_error_in_the_block_comes_out_as_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        async with dispatcher.open_dispatcher():
            raise ZeroDivisionError


async def test_a_channel_deleted_while_its_events_are_on_their_way_to_the_disk_troubles_nobody(
    tmp_path: Path,
) -> None:
    async with dispatcher.open_dispatcher(settings(tmp_path)) as hub:
        doomed, other = await application_of(hub, "doomed"), await application_of(hub, "other")
        with trio.fail_after(10):
            async with hub.consume(other) as batches:
                for _ in range(20):
                    async with hub.consume(doomed):
                        pending = hub.publish(doomed, numbered(1)[0])
                        assert await hub.delete_channel(doomed)
                        await pending.durable()
                await hub.publish_many(other, numbered(1))
                assert (await anext(batches)).events == 1


async def test_a_consumer_with_nothing_to_read_is_told_of_what_was_refused(tmp_path: Path) -> None:
    """In a request that another channel takes, so that nothing becomes durable for this one."""
    options = settings(tmp_path, queue_bytes=4_096, overflow="reject")
    async with dispatcher.open_dispatcher(options) as hub:
        account = await hub.ensure_account()
        full, other = [await hub.ensure_application(account, name) for name in ("full", "other")]
        telling = dispatcher.Serialization(include_gaps=True)
        with trio.fail_after(5):
            async with hub.consume(full, telling) as batches, hub.consume(other):
                await hub.publish_many(full, [Notification("dev-2", f"/{n}", b"x" * 200) for n in range(9)])
                taken = await anext(batches)
                for application in (full, other):
                    await hub.subscribe(application, "dev-1", "/1")

                async def route() -> None:
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    receipt = hub.route(account, [Notification("dev-1", "/1", b"y" * 900)])
                    assert (receipt.queued, receipt.rejected) == (1, 1)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(route)
                    batch = await anext(batches)
                (message,) = batch.messages
                assert [gap["reason"] for gap in json.loads(message)["gaps"]] == ["rejected"]
                assert batch.ack() == taken.events
                assert batch.events == 0
