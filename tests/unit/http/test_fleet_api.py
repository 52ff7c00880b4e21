"""The totals, and the stream of what changes, on a mock clock."""

from __future__ import annotations

import json

import msgspec
import pytest
import trio
from support.admin_api import Operator, open_operator
from support.api_in_process import Caller, house_of
from support.registries import channel_for
from trio.testing import wait_all_tasks_blocked

from dispatcher import limits
from dispatcher.config import Settings, StorageSettings, TierSettings, channel_limits
from dispatcher.http.message import EventStream
from dispatcher.model import Application, ChannelType, Durability, Notification, Role
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.world import World

pytestmark = pytest.mark.usefixtures("autojump_clock")


def post(operator: Operator, application: Application, count: int = 1) -> None:
    for _ in range(count):
        operator.house.hub.publish(application, Notification("dev-1", "/1", b"x"))


async def channels_of(operator: Operator, count: int) -> list[int]:
    """So many channels of one account, whatever its tier says."""
    house = operator.house
    registry = house.hub.parts.registry
    account = await house.hub.ensure_account("big")
    made = [await registry.create_application(account.id, f"a{number}", 0) for number in range(count)]
    await house.hub.reload_identities()
    return [await operator.channel_of(application) for application in made]


async def test_totals_are_the_books_of_all_channels() -> None:
    async with open_operator() as operator:
        await operator.channel_of(operator.house.application)
        post(operator, operator.house.application, 3)
        totals = await operator.ask("GET", "stats")
        assert (totals["channels"], totals["by_status"]) == (1, {"disconnected": 1})
        assert (totals["records"], totals["queued"], totals["acked"], totals["dropped"]) == (3, 3, 0, {})
        assert totals["durability"] == "memory"
        assert "rate_in" not in totals


async def test_a_channel_that_is_followed_is_told_with_its_rates_and_then_when_it_changes() -> None:
    async with open_operator() as operator:
        number = await operator.channel_of(operator.house.application)

        async def publish() -> None:
            await trio.sleep(limits.FLEET_LOOK_S / 2)
            post(operator, operator.house.application, 30)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            first, second, third = await operator.watch(str(number), 3)
        assert [row["records"] for row in first["channels"]] == [0]
        (row,) = second["channels"]
        assert (row["records"], row["rate_out"]) == (30, 0)
        assert row["rate_in"] == pytest.approx(30 / limits.FLEET_LOOK_S, rel=0.2)
        assert second["totals"]["rate_in"] == row["rate_in"]
        assert [row["rate_in"] for row in third["channels"]] == [0]


async def test_what_is_not_followed_is_told_when_its_status_changes() -> None:
    async with open_operator() as operator:
        number = await operator.channel_of(operator.house.application)
        gone, *_ = await channels_of(operator, 2)

        async def act() -> None:
            await trio.sleep(1.5 * limits.FLEET_LOOK_S)
            post(operator, operator.house.application)
            await operator.ask("POST", f"channels/{number}/pause", status=204)
            await operator.ask("DELETE", f"channels/{gone}", status=204)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            told = await operator.watch("", 5)
        assert [[(row["id"], row["status"]) for row in update["channels"]] for update in told] == [
            [],
            [],
            [(number, "paused")],
            [],
            [],
        ]
        assert [update["gone"] for update in told] == [[], [], [gone], [], []]


async def test_a_message_has_a_bound_however_many_channels_change() -> None:
    async with open_operator() as operator:
        numbers = await channels_of(operator, limits.VIEWED_CHANGES_MAX + 40)

        async def act() -> None:
            await trio.sleep(1.5 * limits.FLEET_LOOK_S)
            registrations = operator.house.hub.parts.registrations
            for number in numbers:
                await registrations.pause(operator.house.hub.parts.directory.channel(number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            told = await operator.watch("", 4)
        assert max(len(update["channels"]) for update in told) == limits.VIEWED_CHANGES_MAX
        assert sum(len(update["channels"]) + update["untold"] for update in told) == len(numbers)


async def test_a_stream_follows_a_bounded_number_of_channels() -> None:
    async with open_operator() as operator:
        many = ",".join(["1"] * (limits.VIEWED_CHANNELS_MAX + 1))
        for channels in (many, "x", "1;2", "-1"):
            told = await operator.ask("GET", f"events?channels={channels}", status=400)
            assert told["fields"][0]["name"] == "channels"


async def hold(stream: EventStream, received: list[bytes]) -> None:
    async def send(piece: bytes) -> None:
        received.append(piece)

    await stream.run(send)


async def test_a_stream_ends_with_its_key_and_others_go_on() -> None:
    async with open_operator() as operator:
        other = Operator(operator.house, await operator.house.caller(Role.ADMIN))
        received: dict[str, list[bytes]] = {"ours": [], "theirs": []}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, await operator.stream(), received["ours"])
            nursery.start_soon(hold, await other.stream(), received["theirs"])
            await trio.sleep(2.5 * limits.FLEET_LOOK_S)
            await operator.house.hub.revoke_key(other.caller.key_id)
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            before = len(received["theirs"])
            await trio.sleep(3 * limits.FLEET_LOOK_S)
            assert len(received["theirs"]) == before > 0
            assert len(received["ours"]) > before
            nursery.cancel_scope.cancel()


async def test_a_stream_whose_key_was_revoked_before_it_began_ends_at_once() -> None:
    async with open_operator() as operator:
        other = Operator(operator.house, await operator.house.caller(Role.ADMIN))
        stream = await other.stream()
        await operator.house.hub.revoke_key(other.caller.key_id)
        received: list[bytes] = []
        with trio.fail_after(5):
            await hold(stream, received)
        assert received == []


async def test_streams_end_at_the_stop_and_new_ones_at_once() -> None:
    async with open_operator() as operator:
        received: list[bytes] = []
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hold, await operator.stream(), received)
                await trio.sleep(1)
                await operator.house.hub.stop()
            await hold(await operator.stream(), [])


async def test_there_are_only_so_many_streams() -> None:
    async with open_operator() as operator:
        async with trio.open_nursery() as nursery:
            for _ in range(limits.VIEWERS_MAX):
                nursery.start_soon(hold, await operator.stream(), [])
                await wait_all_tasks_blocked()
            reply = await operator.caller.send("GET", "/admin/v1/events")
            assert reply.status == 429
            assert ("Retry-After", "10") in reply.headers
            nursery.cancel_scope.cancel()
        await operator.stream()


async def test_nobody_looks_while_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLEET_LOOK_S", 0.05)
    async with open_operator() as operator:
        fleet = operator.house.hub.parts.fleet
        await operator.watch("", 2)
        await trio.sleep(10 * limits.FLEET_LOOK_S)
        assert fleet._look is None


@pytest.mark.slow
async def test_ten_thousand_channels_make_no_answer_larger_than_a_hundred() -> None:
    registry = MemoryRegistry()
    account = await registry.ensure_account("acme", "commercial")
    bounds = channel_limits(TierSettings())
    for number in range(1, 10_001):  # as many as a registry would take hours of waiting for disks to make
        registry._applications[number] = Application(id=number, account_id=account.id, name=f"a{number}")
        row = channel_for(registry._applications[number], ChannelType.WEB_SOCKET)
        await registry.add_channel(msgspec.structs.replace(row, limits=bounds, incarnation=number))
    settings = Settings(storage=StorageSettings(durability=Durability.MEMORY))
    async with open_dispatcher(settings, world=World(registry=registry)) as hub:
        house = await house_of(hub)
        operator = Operator(house, house.caller_with(await hub.create_key(Role.ADMIN)))
        seen: list[int] = []
        after = ""
        for _ in range(10):
            page = await operator.ask("GET", f"channels?limit=1000&order=depth{after}")
            seen += [row["id"] for row in page["channels"]]
            after = f"&after={page['next']}"
        assert page["next"] is None
        assert sorted(seen) == list(range(1, 10_001))
        followed = ",".join(map(str, range(1, limits.VIEWED_CHANNELS_MAX + 1)))
        for update in await operator.watch(followed, 3):
            assert len(json.dumps(update)) < 64_000
            assert update["totals"]["channels"] == 10_000


async def test_only_an_admin_key_opens_a_stream() -> None:
    async with open_operator() as operator:
        house = operator.house
        for caller, status in (
            (house.app, 403),
            (house.gateway, 403),
            (Caller(house, "ak_unknown", ""), 401),
        ):
            assert (await caller.send("GET", "/admin/v1/events")).status == status
        assert json.loads((await operator.caller.send("GET", "/admin/v1/stats")).body)["channels"] == 0
