"""What gateways, applications and the operator see when the disk is full or broken."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from support.cold_queues import WatchedDisk
from support.daemon import Key, User

import dispatcher
from dispatcher.queue.disk import Disk
from dispatcher.queue.group_commit import GroupCommit
from dispatcher.queue.native_journal import GroupOutcome, NativeJournal
from dispatcher.runtime.world import World


class House(msgspec.Struct):
    """An open dispatcher with its HTTP side, a gateway, and an application that consumes everything."""

    gateway: User
    anyone: User
    batches: dispatcher.Consumer


@asynccontextmanager
async def open_house(
    folder: Path, *, memory_bytes: int = 0, disk: Disk | None = None
) -> AsyncIterator[House]:
    settings = dispatcher.Settings(
        storage=dispatcher.StorageSettings(data=str(folder), memory_bytes=memory_bytes)
    )
    world = World(disk=disk)
    async with dispatcher.open_dispatcher(settings, world=world) as hub, trio.open_nursery() as nursery:
        account = await hub.ensure_account()
        application = await hub.ensure_application(account, "reader")
        made = await hub.create_key(dispatcher.Role.GATEWAY, account=account)
        listeners = await dispatcher.open_listeners("127.0.0.1", 0)
        await nursery.start(dispatcher.serve_http, hub, listeners)
        port = listeners[0].socket.getsockname()[1]
        await hub.subscribe(application, "d1", "/1")
        async with hub.consume(application) as batches:
            key = Key(id=made.id, key=made.key, role=made.role.value, account="default", application=None)
            yield House(User(port, key), User(port), batches)
        nursery.cancel_scope.cancel()


def event(number: int) -> dict[str, object]:
    return {"ep": "d1", "path": "/1", "max-age": number}


async def received(house: House) -> list[int]:
    with trio.fail_after(5):
        batch = await anext(house.batches)
    batch.ack()
    return [e["max-age"] for message in batch.messages for e in json.loads(message)["notifications"]]


async def test_after_an_error_of_the_disk_nothing_is_accepted_and_what_is_durable_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(tmp_path) as house:
        await house.gateway.post_events([event(1)])
        assert (await house.anyone.send("GET", "/readyz")).status == 200
        monkeypatch.setattr(NativeJournal, "done", lambda journal: GroupOutcome.POISONED)
        for _ in range(2):  # the one whose sync failed, and one that comes later
            refused = await house.gateway.send("POST", "/gateway/v1/events", {"notifications": [event(2)]})
            assert (refused.status, refused.content()["type"]) == (503, "journal_failed")
        assert (await house.anyone.send("GET", "/readyz")).status == 503
        assert (await house.anyone.send("GET", "/healthz")).status == 200
        assert await received(house) == [1]


async def test_a_full_disk_answers_507_and_says_when_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(tmp_path) as house:
        await house.gateway.post_events([event(1)])
        with monkeypatch.context() as full:
            is_full = property(lambda commit: True, lambda commit, value: None)
            full.setattr(GroupCommit, "is_full", is_full, raising=False)
            refused = await house.gateway.send("POST", "/gateway/v1/events", {"notifications": [event(2)]})
            assert (refused.status, refused.content()["type"]) == (507, "storage_full")
            assert refused.headers["retry-after"] == "1"
            assert (await house.anyone.send("GET", "/readyz")).status == 503
        await house.gateway.post_events([event(3)])
        assert await received(house) == [1, 3]


async def test_a_disk_that_fills_up_under_cold_queues_answers_507_and_everything_accepted_arrives(
    tmp_path: Path,
) -> None:
    disk = WatchedDisk()
    async with open_house(tmp_path, memory_bytes=8 << 20, disk=disk) as house:
        body = {"notifications": [event(number) | {"payload": "A" * 20_000} for number in range(40)]}
        for _ in range(2):  # the journal has its segment, and the one after it
            await house.gateway.post_events([event(0)])
        disk.is_full = True
        statuses = []
        while (status := (await house.gateway.send("POST", "/gateway/v1/events", body)).status) != 507:
            statuses.append(status)
        assert statuses.count(202) > 5
        assert (await house.anyone.send("GET", "/readyz")).status == 503
        disk.is_full = False
        with trio.fail_after(20):
            while (status := (await house.gateway.send("POST", "/gateway/v1/events", body)).status) != 202:
                assert status in (503, 507)
                await trio.sleep(0.05)
        assert (await house.anyone.send("GET", "/readyz")).status == 200
        arrived: list[int] = []
        expected = [0, 0, *list(range(40)) * (statuses.count(202) + 1)]
        while len(arrived) < len(expected):
            arrived += await received(house)
        assert arrived == expected


async def test_cold_queues_are_delivered_right_after_a_restart(tmp_path: Path) -> None:
    posted = 0
    async with open_house(tmp_path, memory_bytes=8 << 20) as house:
        while posted < 30:
            body = {"notifications": [event(posted) | {"payload": "A" * 20_000} for _ in range(40)]}
            answer = await house.gateway.send("POST", "/gateway/v1/events", body)
            posted += answer.status == 202
            assert answer.status in (202, 503)
    async with open_house(tmp_path, memory_bytes=8 << 20) as house:
        text = (await house.anyone.send("GET", "/metrics")).body.decode()
        figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert float(figures["dispatcher_records_recovered_total"]) == 1_200
        assert float(figures["dispatcher_queue_bytes"]) > 20_000_000
        assert 0 < float(figures["dispatcher_queue_memory_bytes"]) <= 8 << 20
        assert float(figures["dispatcher_queue_scratch_bytes"]) > 12_000_000
        assert float(figures["dispatcher_journal_bytes"]) >= 64 << 20
        arrived: list[int] = []
        while len(arrived) < 1_200:
            arrived += await received(house)
        assert arrived == [number for number in range(30) for _ in range(40)]
