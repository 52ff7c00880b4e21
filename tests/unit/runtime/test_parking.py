"""Events that a receiver refuses: found, set aside, shown, and given back."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
from support.channels import NO_TOTALS, ScriptedSink, channel_row, open_channel, put
from support.registries import channel_for, make_application
from trio.testing import MockClock, wait_all_tasks_blocked

from dispatcher import limits
from dispatcher.deliver.sink import DeliveryFailed, FailureClass, OutgoingBatch
from dispatcher.deliver.turns import turns_of_loop
from dispatcher.errors import NotFound, Unavailable
from dispatcher.model import ParkedCount, ParkedEvent, Position, RefusedEvents, Serialization
from dispatcher.observe.log import LogEvent
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.interface import Records, Route, Ticket
from dispatcher.queue.memory import MemoryQueue
from dispatcher.queue.whole_messages import read_messages
from dispatcher.registry.memory import MemoryRegistry
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.channel_task import confirm
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.parking import Parking
from dispatcher.runtime.supervisor import Supervisor
from dispatcher.wire.ingest import Parsed


class PickySink(ScriptedSink):
    """Answers 422 to every batch with one of these devices in it."""

    def __init__(self, confirmed: Callable[[Position], object], refused: Collection[str]) -> None:
        super().__init__(confirmed)
        self.refused = set(refused)
        self.status = 422
        self.taken: list[str] = []
        self.gaps: list[dict[str, object]] = []

    async def send(self, batch: OutgoingBatch) -> None:
        message = json.loads((await read_messages(batch))[0])  # type: ignore[attr-defined]
        eps = [event["ep"] for event in message.get("notifications", ())]
        if self.refused & set(eps):
            self.attempts.append(await read_messages(batch))  # type: ignore[attr-defined]
            self.times_s.append(trio.current_time())
            raise DeliveryFailed(FailureClass.STATUS, status=self.status)
        await super().send(batch)
        self.taken += eps
        self.gaps += message.get("gaps", ())


class BusyRegistry(MemoryRegistry):
    """Another process holds it."""

    async def park_event(self, event: ParkedEvent) -> bool:
        raise Unavailable("the registry has been locked by another process")


class Webhook:
    """What the operator's one is told."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str]] = []

    def note(self, event: LogEvent, subject: str, fields: Mapping[str, object]) -> None:
        self.noted.append((event, subject))


class Yard:
    """One channel with a receiver that does not want everything."""

    def __init__(self, nursery: trio.Nursery, registry: MemoryRegistry) -> None:
        self.queue = MemoryQueue(1, 1 << 30)
        self.registry = registry
        self.webhook = Webhook()
        observer = Observer(Metrics(lambda: NO_TOTALS), AttemptLogs(lambda: 0), self.webhook)  # type: ignore[arg-type]
        self.parking = Parking(
            registry=registry, queue=self.queue, counts={}, observer=observer, now_unix_ms=lambda: 5_000
        )
        self.supervisor = Supervisor(
            nursery, turns_of_loop(), self.queue, lambda: 1_000, observer, self.parking
        )
        self.sink: PickySink

    async def open(
        self,
        *refused: str,
        policy: RefusedEvents = RefusedEvents.PARK,
        serialization: Serialization | None = None,
        **tier: object,
    ) -> PickySink:
        application = await make_application(self.registry)
        await self.registry.add_channel(channel_for(application))
        row = channel_row(serialization=serialization, refused_events=policy, **tier)
        self.channel = open_channel(self.queue, row)
        self.channel.sink = self.sink = PickySink(
            lambda position: confirm(self.channel, self.queue, position), refused
        )
        return self.sink

    def put(self, *eps: str) -> None:
        put(self.queue, self.channel, eps)
        self.supervisor.wake(self.channel)

    async def parked(self) -> list[str]:
        """The devices of what is parked."""
        events = await self.parking.events(self.channel, 0, 10_000)
        assert self.parking.count(1) == ParkedCount(len(events), sum(len(one.message) for one in events))
        return [json.loads(one.message)["notifications"][0]["ep"] for one in events]

    def append(self, parsed: Parsed) -> Ticket:
        records = Records(parsed.block, parsed.meta)
        _, ticket = self.queue.append(records, [Route(1)], 2_000)
        self.supervisor.wake(self.channel)
        return ticket

    def assert_balanced(self) -> None:
        books = self.queue.totals()
        gone = books.acked + books.expired + books.parked + sum(books.dropped.values())
        assert books.queued == gone + books.records


@asynccontextmanager
async def open_yard(registry: MemoryRegistry) -> AsyncIterator[Yard]:
    async with trio.open_nursery() as nursery:
        yield Yard(nursery, registry)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    async with open_yard(MemoryRegistry()) as opened:
        yield opened


DEVICES = tuple(f"dev-{number}" for number in range(100))


async def test_only_the_refused_event_is_parked_and_all_others_arrive_in_order(
    yard: Yard, autojump_clock: MockClock
) -> None:
    sink = await yard.open("dev-37")
    yard.put(*DEVICES)
    await trio.sleep(10)
    assert sink.taken == [name for name in DEVICES if name != "dev-37"]
    assert await yard.parked() == ["dev-37"]
    assert yard.queue.totals().parked == 1
    yard.assert_balanced()


async def test_several_refused_events_are_each_found(yard: Yard, autojump_clock: MockClock) -> None:
    refused = ("dev-0", "dev-1", "dev-50", "dev-99")
    sink = await yard.open(*refused)
    yard.put(*DEVICES)
    await trio.sleep(1_000)
    assert sink.taken == [name for name in DEVICES if name not in refused]
    assert await yard.parked() == list(refused)


async def test_by_default_nothing_is_skipped(yard: Yard, autojump_clock: MockClock) -> None:
    sink = await yard.open("a", policy=RefusedEvents.RETRY)
    yard.put("a", "b")
    await trio.sleep(1_000)
    assert (sink.taken, await yard.parked()) == ([], [])
    assert {tuple(attempt) for attempt in sink.attempts} == {tuple(sink.attempts[0])}, "it is never cut"
    assert yard.webhook.noted == []


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_no_other_answer_parks_anything(yard: Yard, autojump_clock: MockClock, status: int) -> None:
    sink = await yard.open("a")
    sink.status = status
    yard.put("a", "b")
    await trio.sleep(1_000)
    assert (sink.taken, await yard.parked()) == ([], [])


async def test_an_event_that_is_refused_once_and_then_taken_is_not_parked(
    yard: Yard, autojump_clock: MockClock
) -> None:
    sink = await yard.open("a")
    yard.put("a", "b")
    await wait_all_tasks_blocked()
    sink.refused.clear()
    await trio.sleep(10)
    assert (sink.taken, await yard.parked()) == (["a", "b"], [])


async def test_a_receiver_that_refuses_everything_costs_an_event_for_each_of_its_longest_pauses(
    yard: Yard, autojump_clock: MockClock
) -> None:
    await yard.open(*DEVICES, retry_max_s=100)
    yard.put(*DEVICES)
    await trio.sleep(2_000)
    assert 20 <= len(await yard.parked()) <= 30
    yard.assert_balanced()


async def test_what_is_parked_is_told_as_a_gap_at_its_place(yard: Yard, autojump_clock: MockClock) -> None:
    sink = await yard.open("b", serialization=Serialization(include_gaps=True))
    yard.put("a", "b", "c")
    await trio.sleep(10)
    assert sink.taken == ["a", "c"]
    assert [(gap["first_seq"], gap["last_seq"], gap["reason"]) for gap in sink.gaps] == [(2, 2, "parked")]


async def test_what_is_given_back_comes_behind_everything_and_is_parked_no_more(
    yard: Yard, autojump_clock: MockClock
) -> None:
    sink = await yard.open("b", "d")
    yard.put("a", "b", "c", "d", "e")
    await trio.sleep(100)
    sink.refused.clear()
    (first, _) = await yard.parking.events(yard.channel, 0, 10)
    assert await yard.parking.give_back(yard.channel, first.id, yard.append) == 1
    assert await yard.parked() == ["d"]
    assert await yard.parking.give_back(yard.channel, None, yard.append) == 1
    await trio.sleep(10)
    assert sink.taken == ["a", "c", "e", "b", "d"]
    assert await yard.parked() == []
    yard.assert_balanced()


async def test_what_is_given_back_and_refused_again_is_parked_again(
    yard: Yard, autojump_clock: MockClock
) -> None:
    await yard.open("b")
    yard.put("b")
    await trio.sleep(100)
    await yard.parking.give_back(yard.channel, None, yard.append)
    await trio.sleep(100)
    (event,) = await yard.parking.events(yard.channel, 0, 10)
    assert event.position == Position(1, 2)
    assert yard.queue.totals().parked == 2


async def test_two_who_give_back_at_once_give_back_once(yard: Yard, autojump_clock: MockClock) -> None:
    await yard.open("b")
    yard.put("b")
    await trio.sleep(100)
    yard.channel.sink = None
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(yard.parking.give_back, yard.channel, None, yard.append)
    assert yard.queue.stats(1).records == 1


async def test_an_append_that_is_refused_leaves_the_event_parked(
    yard: Yard, autojump_clock: MockClock
) -> None:
    await yard.open("b")
    yard.put("b")
    await trio.sleep(100)

    def refuse(parsed: Parsed) -> Ticket:
        raise Unavailable("no room")

    with pytest.raises(Unavailable):
        await yard.parking.give_back(yard.channel, None, refuse)
    assert await yard.parked() == ["b"]


async def test_what_is_discarded_is_gone_and_cannot_be_given_back(
    yard: Yard, autojump_clock: MockClock
) -> None:
    await yard.open("b")
    yard.put("b")
    await trio.sleep(100)
    (event,) = await yard.parking.events(yard.channel, 0, 10)
    assert await yard.parking.discard(yard.channel, event.id) == 1
    assert await yard.parked() == []
    with pytest.raises(NotFound):
        await yard.parking.give_back(yard.channel, event.id, yard.append)


async def test_a_channel_with_much_parked_parks_no_more_and_says_so(
    yard: Yard,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "PARKED_EVENTS_PER_CHANNEL_MAX", 1)
    sink = await yard.open("a", "b")
    yard.put("a", "b", "c")
    with caplog.at_level(logging.WARNING):
        await trio.sleep(1_000)
    assert (sink.taken, await yard.parked()) == ([], ["a"])
    assert "event.not-parked" in caplog.messages
    assert yard.webhook.noted[:2] == [("event.parked", "1"), ("event.not-parked", "1")]
    yard.assert_balanced()


async def test_an_event_that_the_registry_cannot_keep_stays_and_is_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_yard(BusyRegistry()) as yard:
        sink = await yard.open("a")
        yard.put("a", "b")
        await trio.sleep(100)
        assert (await yard.parked(), yard.queue.stats(1).records) == ([], 2)
        sink.refused.clear()
        await trio.sleep(200)
        assert sink.taken == ["a", "b"]
        assert {event for event, _ in yard.webhook.noted} == {
            "event.not-parked"
        }  # and never that it was parked
