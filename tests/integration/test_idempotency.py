"""An ``Idempotency-Key`` against lost answers: whatever is cut off, events are stored once.

Against a real daemon that is killed, and against an open dispatcher whose disk can be held.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import h11
import pytest
import trio
from support.daemon import Daemon, Reply, Tenant, User, open_daemon
from support.tenants import queue_size, small, websocket_tenant
from trio.testing import wait_all_tasks_blocked

import dispatcher
from dispatcher import limits
from dispatcher.errors import StorageFull, UnprocessableKey
from dispatcher.http.caller import Caller, authenticate
from dispatcher.http.ingest_api import IngestApi, Intake
from dispatcher.http.message import Headers, ReadyBody, Request, Response
from dispatcher.queue.disk import Disk
from dispatcher.queue.native_journal import GroupOutcome, NativeJournal
from dispatcher.runtime.world import World

T = TypeVar("T")
EVENTS = "/gateway/v1/events"
NOBODYS = {"async-responses": [{"id": "x", "status": 200}]}  # an answer that no application asked for


async def post(gateway: User, key: str, *numbers: int, path: str = EVENTS) -> Reply:
    content = {"notifications": [small(number) for number in numbers]}
    return await gateway.send("POST", path, content, headers={"Idempotency-Key": key})


def at(user: User, daemon: Daemon) -> User:
    """The same user after a restart."""
    return User(daemon.port, user.key)


# --- a daemon that is killed --------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["disk", "process"])
async def test_after_a_kill_a_repeat_gets_the_first_answer_and_stores_nothing(
    tmp_path: Path, durability: str
) -> None:
    flag = f"--durability={durability}"
    with open_daemon(tmp_path, flag, exit_status=-signal.SIGKILL) as daemon:
        tenant = await websocket_tenant(daemon)
        other = await daemon.user("gateway", account=tenant.account)
        first = await post(tenant.gateway, "once", 1, 2)
        unrouted = await tenant.gateway.send(
            "POST",
            EVENTS,
            {"async-responses": [{"id": "x", "status": 200}]},
            headers={"Idempotency-Key": "no"},
        )
        assert (first.status, unrouted.status) == (202, 202)
        assert (first.content()["queued"], unrouted.content()["unrouted"]) == (2, 1)
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
    with open_daemon(tmp_path, flag) as daemon:
        gateway, application = at(tenant.gateway, daemon), at(tenant.application, daemon)
        for _ in range(2):
            again = await post(gateway, "once", 1, 2)
            assert (again.status, again.body) == (202, first.body)
            assert again.headers["idempotency-replayed"] == "true"
        again = await gateway.send(
            "POST",
            EVENTS,
            {"async-responses": [{"id": "x", "status": 200}]},
            headers={"Idempotency-Key": "no"},
        )
        assert (again.body, again.headers["idempotency-replayed"]) == (unrouted.body, "true")
        assert (await post(gateway, "once", 1)).status == 422
        assert await queue_size(application) == 2

        assert application.key is not None
        direct = f"/gateway/v1/applications/{application.key.application}/events"
        for fresh in (
            await post(at(other, daemon), "once", 1, 2),
            await post(gateway, "once", 1, 2, path=direct),
            await post(gateway, "ONCE", 1, 2),
        ):
            assert fresh.status == 202
            assert "idempotency-replayed" not in fresh.headers
        assert await queue_size(application) == 8


async def post_all(gateway: User, queue: list[int], done: dict[int, bytes]) -> None:
    """Post numbers until the daemon is killed; what had no answer stays, and comes first the next time."""
    with suppress(OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
        while queue:
            reply = await post(gateway, f"key-{queue[0]}", queue[0])
            assert reply.status == 202
            done[queue.pop(0)] = reply.body


@pytest.mark.slow
async def test_events_whose_answer_was_lost_in_a_kill_are_stored_once_when_they_are_repeated(
    tmp_path: Path,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    posts = 4_000
    queues = [list(range(lane, posts, 8)) for lane in range(8)]
    done: dict[int, bytes] = {}
    tenant: Tenant | None = None
    for _ in range(5):
        with open_daemon(tmp_path, exit_status=-signal.SIGKILL) as daemon:
            if tenant is None:
                tenant = await websocket_tenant(daemon)
            async with trio.open_nursery() as nursery:
                for queue in queues:
                    nursery.start_soon(post_all, at(tenant.gateway, daemon), queue, done)
                await trio.sleep(dice.uniform(0.05, 0.4))
                daemon.send_signal(signal.SIGKILL)
            await daemon.wait()
    assert tenant is not None
    with open_daemon(tmp_path) as daemon:
        gateway = at(tenant.gateway, daemon)
        posted = sorted({queue[0] for queue in queues if queue} | set(done))
        replies = {number: await post(gateway, f"key-{number}", number) for number in posted}
        assert {reply.status for reply in replies.values()} == {202}
        for number, body in done.items():
            assert (replies[number].body, replies[number].headers["idempotency-replayed"]) == (body, "true")
        assert await queue_size(at(tenant.application, daemon)) == len(posted)


# --- a disk that is held ------------------------------------------------------------------


class HeldDisk(Disk):
    """A disk whose calls begin when they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.gate.set()

    async def run(self, work: Callable[[], T]) -> T:
        await self.gate.wait()
        return await super().run(work)

    def hold(self) -> None:
        self.gate = trio.Event()


class House:
    """An open dispatcher with a gateway, and an application whose events stay queued."""

    def __init__(self, hub: dispatcher.Hub, disk: HeldDisk, caller: Caller, application: Any) -> None:
        self.hub = hub
        self.disk = disk
        self.api = IngestApi(hub, Intake(hub))
        self.caller = caller
        self.application = application
        self.answers: list[Response] = []

    async def post(self, number: int, key: str = "once") -> Response:
        body = json.dumps({"notifications": [small(number)]}).encode()
        headers = Headers([(b"content-type", b"application/json"), (b"idempotency-key", key.encode())])
        request = Request(method="POST", path=EVENTS, headers=headers, body=ReadyBody(body))
        answer = await self.api.post_events(request, self.caller)
        self.answers.append(answer)
        return answer

    async def post_and_leave(self, number: int) -> None:
        """Post, and be cancelled as soon as the event is stored, the disk being held."""
        stored = self.queued() + 1
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.post, number)
                while self.queued() < stored:  # noqa: ASYNC110
                    await trio.sleep(0.001)
                nursery.cancel_scope.cancel()

    def queued(self) -> int:
        stats = self.hub.statistics(self.application)
        assert stats is not None
        return stats.records


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    disk = HeldDisk()
    settings = dispatcher.Settings(storage=dispatcher.StorageSettings(data=str(folder)))
    async with dispatcher.open_dispatcher(settings, world=World(disk=disk)) as hub:
        account = await hub.ensure_account()
        application = await hub.ensure_application(account, "reader")
        await hub.register_websocket(application)
        await hub.subscribe(application, "d1", "/3/0/1")
        gateway = await hub.create_key(dispatcher.Role.GATEWAY, account=account)
        headers = Headers([(b"authorization", f"Bearer {gateway.key}".encode())])
        request = Request(method="POST", path=EVENTS, headers=headers)
        caller = authenticate(hub.parts, request, dispatcher.Role.GATEWAY)
        yield House(hub, disk, caller, application)


def is_replay(answer: Response) -> bool:
    return ("Idempotency-Replayed", "true") in answer.headers


async def test_a_request_that_is_cancelled_after_its_append_is_not_done_again(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.post(0, "another")
        house.disk.hold()
        await house.post_and_leave(1)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(house.post, 1)
            await wait_all_tasks_blocked(0.02)
            assert len(house.answers) == 1
            with pytest.raises(UnprocessableKey):
                await house.post(2)
            house.disk.gate.set()
        assert [is_replay(answer) for answer in house.answers] == [False, True, True, True]
        assert len({answer.body for answer in house.answers}) == 1
        assert house.queued() == 2


async def test_the_next_run_knows_an_answer_that_nobody_waited_for(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.disk.hold()
        await house.post_and_leave(1)
        house.disk.gate.set()
        caller = house.caller
    async with open_house(tmp_path) as house:
        house.caller = caller
        assert is_replay(await house.post(1))
        assert house.queued() == 1


async def test_a_repeat_on_a_full_disk_is_told_so_and_later_gets_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_RETRY_S", 0.02)
    async with open_house(tmp_path) as house:
        await house.post(0, "another")
        await wait_all_tasks_blocked(0.02)
        with monkeypatch.context() as full:
            full.setattr(NativeJournal, "write_sync", lambda journal: None)
            full.setattr(NativeJournal, "done", lambda journal: GroupOutcome.NO_SPACE)
            for _ in range(3):
                with pytest.raises(StorageFull):
                    await house.post(1)
            assert house.queued() == 2
        with trio.fail_after(5):
            while not house.answers[1:]:
                with suppress(StorageFull):
                    await house.post(1)
                await trio.sleep(0.01)
        assert is_replay(house.answers[1])
        assert house.queued() == 2
