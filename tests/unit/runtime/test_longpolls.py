"""Long polls on a mock clock, over a dispatcher in memory.

The client's TCP is played by hand: ``read`` says that it has all of an answer, ``lose`` that a
reset came first.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dispatcher import limits
from dispatcher.config import Settings, StorageSettings, TierSettings
from dispatcher.deliver import tcp_receipt
from dispatcher.deliver.answer_bytes import AnswerBytes
from dispatcher.errors import BadRequest, Conflict, InvalidAuth
from dispatcher.model import (
    AccessKey,
    Application,
    ChannelType,
    Durability,
    Event,
    Notification,
    Registration,
    Role,
    Serialization,
)
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.longpolls import Answer, PollEnd
from dispatcher.runtime.world import World

KEY = AccessKey(id="k_1", role=Role.APPLICATION, digest=b"1")
OTHER_KEY = AccessKey(id="k_2", role=Role.APPLICATION, digest=b"2")
WITH_UID = Serialization(include_uid=True)


class House:
    """One application of a dispatcher, polling."""

    def __init__(self, hub: Hub, application: Application) -> None:
        self.hub = hub
        self.application = application

    async def poll(
        self, key: AccessKey = KEY, wait_gone: Callable[[], Awaitable[None]] = trio.sleep_forever
    ) -> Answer | PollEnd:
        return await self.hub.parts.long_polls.poll(key, self.application, wait_gone)

    async def answer(self) -> Answer:
        """A poll that must be answered, and at once but for the wait for a late acknowledgement."""
        with trio.fail_after(1):
            polled = await self.poll()
        assert isinstance(polled, Answer)
        return polled

    async def messages(self, count: int) -> list[Any]:
        return [json.loads(read(await self.answer())) for _ in range(count)]

    def publish(self, *eps: str) -> None:
        for ep in eps:
            self.hub.publish(self.application, Notification(ep, "/1"))

    def put(self, *events: Event) -> None:
        for event in events:
            self.hub.publish(self.application, event)

    def records(self) -> int:
        statistics = self.hub.statistics(self.application)
        assert statistics is not None
        return statistics.records

    def channel_type(self) -> ChannelType | None:
        channel = self.hub.parts.directory.channel_of(self.application.id)
        return None if channel is None else channel.row.type


def read(answer: Answer) -> bytes:
    """The client's TCP has all of it, and the connection ended in peace."""
    answer.receipt.sent(memory_stream_pair()[0])
    answer.receipt.end(is_reset=False)
    return answer.body


def lose(answer: Answer) -> bytes:
    """The connection was reset before the client had all of it."""
    answer.receipt.end(is_reset=True)
    return answer.body


class Wire:
    """A socket whose peer has not acknowledged what was sent."""

    unacked = 5

    def getsockopt(self, level: int, option: int) -> int:
        return 0


def late_wire(answer: Answer) -> Wire:
    """The answer was sent, and what the kernels say of it can still be changed."""
    wire = Wire()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tcp_receipt, "transport_socket", lambda stream: wire)
        answer.receipt.sent(memory_stream_pair()[0])
    return wire


def eps(answer: Answer) -> list[str]:
    return [event["ep"] for event in json.loads(answer.body)["notifications"]]


def unix_s() -> float:
    return 1_700_000_000 + trio.current_time()


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(tcp_receipt, "bytes_unacked", lambda wire: wire.unacked)
    async with open_dispatcher(world=World(unix_s=unix_s)) as hub:
        account = await hub.ensure_account()
        yield House(hub, await hub.ensure_application(account, "a"))


# --- the hold -------------------------------------------------------------------------


async def test_the_first_poll_makes_the_channel_and_is_held_thirty_seconds(
    house: House, autojump_clock: MockClock
) -> None:
    started_s = trio.current_time()
    assert await house.poll() is PollEnd.EMPTY
    assert trio.current_time() - started_s == pytest.approx(30)
    assert house.channel_type() is ChannelType.LONG_POLLING


async def test_an_event_that_comes_in_is_answered_at_once(house: House, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def later() -> None:
            await trio.sleep(7)
            house.publish("a")

        started_s = trio.current_time()
        answer = await house.poll()
    assert trio.current_time() - started_s == pytest.approx(7)
    assert isinstance(answer, Answer)
    assert eps(answer) == ["a"]


async def test_what_waits_already_goes_in_one_answer_in_order(
    house: House, autojump_clock: MockClock
) -> None:
    await house.poll()
    house.publish("c", "a", "b")
    assert eps(await house.answer()) == ["c", "a", "b"]


async def test_a_second_poll_is_refused_and_the_first_lives(house: House, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def second() -> None:
            for _ in range(3):
                await trio.sleep(1)
                with pytest.raises(Conflict):
                    await house.poll(OTHER_KEY)
            house.publish("a")

        answer = await house.poll()
    assert isinstance(answer, Answer)
    assert eps(answer) == ["a"]


async def test_a_client_that_vanishes_makes_room_for_its_next_poll(
    house: House, autojump_clock: MockClock
) -> None:
    started_s = trio.current_time()
    assert await house.poll(wait_gone=partial(trio.sleep, 3)) is PollEnd.EMPTY
    assert trio.current_time() - started_s == pytest.approx(3)
    house.publish("a")
    assert eps(await house.answer()) == ["a"]


async def test_polls_of_two_applications_do_not_meet(house: House, autojump_clock: MockClock) -> None:
    account = await house.hub.ensure_account()
    other = House(house.hub, await house.hub.ensure_application(account, "b"))
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def elsewhere() -> None:
            assert await other.poll() is PollEnd.EMPTY

        await wait_all_tasks_blocked()
        house_poll = trio.Event()

        @nursery.start_soon
        async def here() -> None:
            answer = await house.poll()
            assert isinstance(answer, Answer)
            assert eps(answer) == ["a"]
            house_poll.set()

        await wait_all_tasks_blocked()
        house.publish("a")
        await house_poll.wait()


# --- the acknowledgement --------------------------------------------------------------


async def test_an_answer_that_was_read_is_settled_by_the_next_poll_and_not_before(
    house: House, autojump_clock: MockClock
) -> None:
    await house.poll()
    house.publish("a")
    read(await house.answer())
    await trio.sleep(100)
    assert house.records() == 1
    assert await house.poll() is PollEnd.EMPTY
    assert house.records() == 0


async def test_an_answer_that_was_lost_goes_again_byte_for_byte_though_more_has_come(
    house: House, autojump_clock: MockClock
) -> None:
    await house.hub.register_long_poll(house.application, WITH_UID)
    house.publish("a", "b")
    first = lose(await house.answer())
    house.publish("c")
    assert lose(await house.answer()) == first
    assert read(await house.answer()) == first
    assert eps(await house.answer()) == ["c"]


async def test_an_answer_that_was_never_sent_goes_again(house: House, autojump_clock: MockClock) -> None:
    await house.poll()
    house.publish("a")
    assert (await house.answer()).body == (await house.answer()).body


async def test_a_refused_poll_acknowledges_nothing(house: House, autojump_clock: MockClock) -> None:
    """It comes while the accepted one waits for an acknowledgement, which then does not come."""
    await house.poll()
    house.publish("a")
    wire = late_wire(await house.answer())
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def accepted() -> None:
            assert eps(await house.answer()) == ["a"]

        await wait_all_tasks_blocked()
        for _ in range(3):
            with pytest.raises(Conflict):
                await house.poll()
        assert house.records() == 1
    assert wire.unacked


async def test_deleting_acknowledges_nothing(house: House, autojump_clock: MockClock) -> None:
    await house.poll()
    house.publish("a")
    read(await house.answer())
    assert await house.hub.parts.long_polls.delete(house.application)
    totals = house.hub.parts.queue.totals()
    assert (totals.acked, totals.deleted) == (0, 1)


async def test_an_acknowledgement_that_comes_late_counts(house: House, autojump_clock: MockClock) -> None:
    """The client has read, and polls on another connection before its kernel has told ours."""
    await house.poll()
    house.publish("a")
    wire = late_wire(await house.answer())
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def polling() -> None:
            assert await house.poll() is PollEnd.EMPTY

        await trio.sleep(0.2)
        assert house.records() == 1
        wire.unacked = 0
    assert house.records() == 0


async def test_what_an_open_answer_holds_is_not_dropped_when_the_queue_is_full(
    autojump_clock: MockClock,
) -> None:
    tiers = {"commercial": TierSettings(queue_bytes=4096)}
    settings = Settings(tiers=tiers, storage=StorageSettings(durability=Durability.MEMORY))
    async with open_dispatcher(settings, world=World(registry=MemoryRegistry(), unix_s=unix_s)) as hub:
        house = House(hub, await hub.ensure_application(await hub.ensure_account(), "a"))
        await house.poll()
        house.publish("first")
        first = lose(await house.answer())
        house.publish(*(f"later-{number}" for number in range(200)))
        assert read(await house.answer()) == first
        assert eps(await house.answer())[-1] == "later-199"


async def test_what_a_given_up_poll_had_taken_may_be_dropped_like_everything_else(
    autojump_clock: MockClock,
) -> None:
    tiers = {"commercial": TierSettings(queue_bytes=4096)}
    settings = Settings(tiers=tiers, storage=StorageSettings(durability=Durability.MEMORY))
    async with open_dispatcher(settings, world=World(registry=MemoryRegistry(), unix_s=unix_s)) as hub:
        house = House(hub, await hub.ensure_application(await hub.ensure_account(), "a"))
        await house.poll()
        house.publish(*(f"early-{number}" for number in range(200)))
        hub.parts.long_polls._bytes._held = limits.LONG_POLL_ANSWERS_BYTES_MAX
        assert await house.poll() is PollEnd.EMPTY
        hub.parts.long_polls._bytes._held = 0
        house.publish(*(f"later-{number}" for number in range(200)))
        assert eps(await house.answer())[-1] == "later-199"


async def test_events_past_their_lifetime_do_not_go_again(house: House, autojump_clock: MockClock) -> None:
    await house.poll()
    house.publish("old")
    lose(await house.answer())
    with trio.move_on_after(86_400 - 100):
        while True:  # so that the channel lives on
            await trio.sleep(300)
            lose(await house.answer())
    house.publish("new")
    await trio.sleep(200)
    assert eps(await house.answer()) == ["new"]


# --- several messages -----------------------------------------------------------------


async def test_each_kind_is_an_answer_of_its_own_and_the_batch_is_settled_with_the_last(
    house: House, autojump_clock: MockClock
) -> None:
    await house.poll()
    house.put(Registration(ep="a"), Notification("b", "/1"), Registration(ep="c"))
    messages = await house.messages(2)
    assert [list(message) for message in messages] == [["registrations"], ["notifications"]]
    assert [event["ep"] for event in messages[0]["registrations"]] == ["a", "c"]
    assert house.records() == 3
    assert await house.poll() is PollEnd.EMPTY
    assert house.records() == 0


async def test_a_message_lost_in_the_midst_goes_again_and_those_before_it_do_not(
    house: House, autojump_clock: MockClock
) -> None:
    await house.poll()
    house.put(Registration(ep="a"), Notification("b", "/1"))
    assert b"registrations" in read(await house.answer())
    lost = lose(await house.answer())
    assert b"notifications" in lost
    assert read(await house.answer()) == lost
    assert await house.poll() is PollEnd.EMPTY


async def test_a_poll_given_up_in_the_midst_of_a_batch_skips_no_message(
    house: House, autojump_clock: MockClock
) -> None:
    """Accepted, so the first message is acknowledged; but it ends before it has the second."""
    await house.poll()
    house.put(Registration(ep="a"), Notification("b", "/1"))
    read(await house.answer())
    house.hub.parts.long_polls._bytes._held = limits.LONG_POLL_ANSWERS_BYTES_MAX
    for _ in range(2):
        assert await house.poll() is PollEnd.EMPTY
    house.hub.parts.long_polls._bytes._held = 0
    assert b"notifications" in (await house.answer()).body


async def test_kinds_go_together_where_the_application_wants_them_mixed(
    house: House, autojump_clock: MockClock
) -> None:
    await house.hub.register_long_poll(house.application, Serialization(mixed_kinds=True))
    house.put(Registration(ep="a"), Notification("b", "/1"))
    (message,) = await house.messages(1)
    assert set(message) == {"registrations", "notifications"}


async def test_another_serialization_begins_the_lost_batch_anew(
    house: House, autojump_clock: MockClock
) -> None:
    await house.poll()
    house.publish("a")
    assert b"uid" not in lose(await house.answer())
    assert not await house.hub.register_long_poll(house.application, WITH_UID)
    assert b"uid" in read(await house.answer())
    assert await house.poll() is PollEnd.EMPTY
    assert house.records() == 0


async def test_another_serialization_in_the_midst_of_a_batch_begins_it_anew(
    house: House, autojump_clock: MockClock
) -> None:
    await house.poll()
    house.put(Registration(ep="a"), Notification("b", "/1"))
    assert b"registrations" in read(await house.answer())
    lose(await house.answer())
    await house.hub.register_long_poll(house.application, WITH_UID)
    assert [next(iter(message)) for message in await house.messages(2)] == ["registrations", "notifications"]


async def test_an_answer_is_no_larger_than_a_websocket_batch(autojump_clock: MockClock) -> None:
    tiers = {"commercial": TierSettings(websocket_batch_bytes=65_536)}
    settings = Settings(tiers=tiers, storage=StorageSettings(durability=Durability.MEMORY))
    async with open_dispatcher(settings, world=World(registry=MemoryRegistry(), unix_s=unix_s)) as hub:
        house = House(hub, await hub.ensure_application(await hub.ensure_account(), "a"))
        await house.poll()
        house.publish(*(f"dev-{number}" for number in range(2_000)))
        found: list[str] = []
        while len(found) < 2_000:
            answer = await house.answer()
            assert len(read(answer)) <= 65_536
            found += eps(answer)
    assert found == [f"dev-{number}" for number in range(2_000)]


# --- ends -----------------------------------------------------------------------------


async def test_deleting_the_channel_ends_its_poll_at_once(house: House, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def polling() -> None:
            assert await house.poll() is PollEnd.DELETED

        await wait_all_tasks_blocked()
        started_s = trio.current_time()
        assert await house.hub.parts.long_polls.delete(house.application)
    assert trio.current_time() == started_s
    assert not await house.hub.parts.long_polls.delete(house.application)
    assert house.channel_type() is None


async def test_stopping_ends_every_poll_as_one_for_which_nothing_came(
    house: House, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def polling() -> None:
            assert await house.poll() is PollEnd.EMPTY

        await wait_all_tasks_blocked()
        started_s = trio.current_time()
        await house.hub.stop()
    assert await house.poll() is PollEnd.EMPTY
    assert trio.current_time() == started_s


async def test_a_poll_of_a_revoked_key_ends_and_those_of_others_do_not(
    house: House, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def polling() -> None:
            with pytest.raises(InvalidAuth):
                await house.poll()

        await wait_all_tasks_blocked()
        house.hub.parts.long_polls.revoke([OTHER_KEY])
        await wait_all_tasks_blocked()
        with pytest.raises(Conflict):
            await house.poll(OTHER_KEY)
        house.hub.parts.long_polls.revoke([KEY])
    assert await house.poll(OTHER_KEY) is PollEnd.EMPTY


async def test_a_channel_of_another_type_is_left_as_it_is(house: House, autojump_clock: MockClock) -> None:
    await house.hub.register_websocket(house.application)
    with pytest.raises(BadRequest, match="Another notification channel exists"):
        await house.poll()
    assert not await house.hub.parts.long_polls.delete(house.application)
    assert house.channel_type() is ChannelType.WEB_SOCKET


async def test_a_cancelled_poll_loses_nothing_and_leaves_nothing(
    house: House, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(5):
        await house.poll()
    house.publish("a")
    assert eps(await house.answer()) == ["a"]


# --- bounds ---------------------------------------------------------------------------


async def test_an_answer_waits_while_those_before_it_are_not_sent(autojump_clock: MockClock) -> None:
    room = AnswerBytes(bytes_max=100)
    await room.take(60)
    with trio.move_on_after(1000) as waiting:
        await room.take(60)
    assert waiting.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.take, 60)
        await wait_all_tasks_blocked()
        room.give_back(60)
    room.give_back(60)
    await room.take(5_000)  # larger than everything: alone


async def test_the_memory_of_an_answer_is_given_back_however_it_ends(
    house: House, autojump_clock: MockClock
) -> None:
    held = house.hub.parts.long_polls._bytes
    await house.poll()
    house.publish("a")
    for end in (read, lose, read):
        answer = await house.answer()
        assert held._held == len(answer.body)
        end(answer)
        assert held._held == 0
        house.publish("b")


async def test_nothing_is_remembered_of_a_channel_whose_last_answer_arrived(
    house: House, autojump_clock: MockClock
) -> None:
    await house.poll()
    house.publish("a")
    read(await house.answer())
    await house.poll()
    polls = house.hub.parts.long_polls
    assert (polls._open, polls._given) == ({}, {})
    house.publish("b")
    lose(await house.answer())
    await polls.delete(house.application)
    assert polls._given == {}


# --- life -----------------------------------------------------------------------------


async def test_ten_minutes_without_a_poll_remove_the_channel(house: House, autojump_clock: MockClock) -> None:
    await trio.sleep(limits_of_start())
    await house.poll()
    await trio.sleep(599)
    assert house.channel_type() is ChannelType.LONG_POLLING
    await trio.sleep(2)
    assert house.channel_type() is None


async def test_polls_keep_the_channel_though_each_of_them_is_empty(
    house: House, autojump_clock: MockClock
) -> None:
    for _ in range(20):
        assert await house.poll() is PollEnd.EMPTY
        await trio.sleep(500)
    assert house.channel_type() is ChannelType.LONG_POLLING


async def test_an_open_poll_counts_as_activity(autojump_clock: MockClock) -> None:
    tiers = {"commercial": TierSettings(long_poll_hold_s=5_000, long_poll_idle_s=600)}
    settings = Settings(tiers=tiers, storage=StorageSettings(durability=Durability.MEMORY))
    async with open_dispatcher(settings, world=World(registry=MemoryRegistry(), unix_s=unix_s)) as hub:
        house = House(hub, await hub.ensure_application(await hub.ensure_account(), "a"))
        assert await house.poll() is PollEnd.EMPTY
        await trio.sleep(599)
        assert house.channel_type() is ChannelType.LONG_POLLING


async def test_refused_polls_do_not_keep_a_channel(house: House, autojump_clock: MockClock) -> None:
    await house.hub.register_websocket(house.application)
    for _ in range(280):
        with pytest.raises(BadRequest):
            await house.poll()
        await trio.sleep(300)
    assert house.channel_type() is ChannelType.WEB_SOCKET
    await trio.sleep(9 * 300)
    assert house.channel_type() is None


def limits_of_start() -> float:
    return Settings().limits.startup_grace_s
