"""What is taken in one call of the core is what is parsed, routed and appended step by step.

Two dispatchers live the same life, which a seed tells; one of them takes nothing in one call.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec.structs import replace

from dispatcher import limits
from dispatcher.config import Settings, StorageSettings, TierSettings
from dispatcher.core.idempotency import Answered, KeyScope, key_scope
from dispatcher.errors import DispatcherError, ValidationError
from dispatcher.model import (
    Account,
    Application,
    Deregistration,
    Durability,
    Event,
    Notification,
    Overflow,
    Position,
    Presubscription,
    Subscription,
)
from dispatcher.queue.interface import Form, SliceLimits, Stored
from dispatcher.queue.native_routes import NativeFinder
from dispatcher.queue.native_taker import NativeTaker
from dispatcher.queue.whole_messages import read_messages
from dispatcher.runtime.app import open_dispatcher
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.publishing import Receipt
from dispatcher.runtime.world import World
from dispatcher.wire.ingest import BodyForm, parse
from dispatcher.wire.staging import Staged

SEEDS = range(8)
STEPS = 120
NOW_S = 1_767_225_600.0
EVERYTHING = SliceLimits(events_max=100_000, bytes_max=1 << 30)
WHOLE = Form(mixed_kinds=True, include_uid=True, include_timestamp=True, include_gaps=True)
OVERFLOWS = tuple(Overflow)
NOTE = Notification("a", "/1")
WEIGHTS = {"post": 12, "publish": 6, "subscribe": 3, "unsubscribe": 2, "choose": 1, "ack": 2}
ODD = (
    b'{"notifications":[{"ep":"a"}]}',
    b"{",
    b'{"de-registrations":["a"]}',
    b'{"registrations":[{"ep":"b","ept":"t"}]}',
    b"",
)
EPS = ("a", "b", 'ä"b', "sensor-1", "sensor-2")
PATHS = ("/1", "/3303/0/5700", "/3303/0/5701")

Outcome = tuple[object, ...]


class Side:
    """A dispatcher with an account of each overflow policy, and an application or three in each."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.accounts: list[Account] = []
        self.applications: list[Application] = []
        self.receipts: list[Receipt] = []

    async def furnish(self) -> None:
        for overflow in OVERFLOWS:
            account = await self.hub.ensure_account(overflow.value, overflow.value)
            self.accounts.append(account)
            for name in ("one", "two", "three"):
                application = await self.hub.ensure_application(account, name)
                await self.hub.register_websocket(application)
                self.applications.append(application)

    def post(self, account: int, text: bytes, is_lines: bool, key: int | None) -> Receipt | bytes:
        """What the gateway API does with a body; the answer that was kept, for a key that was used before."""
        account_id, answers = self.accounts[account].id, self.hub.parts.queue.answers
        if key is None:
            return self._publish(account_id, text, is_lines, None)
        scope = key_scope(account_id, "key", "/path", str(key))
        found = answers.begin(scope, sha256(text).digest(), int(NOW_S * 1000))
        if isinstance(found, Answered):
            return found.answer
        try:
            return self._publish(account_id, text, is_lines, scope)
        finally:
            answers.abandon(scope)

    def _publish(self, account_id: int, text: bytes, is_lines: bool, scope: KeyScope | None) -> Receipt:
        publisher = self.hub.parts.publisher
        receipt = publisher.take_for_subscribers(account_id, text, is_lines=is_lines, scope=scope)
        if receipt is not None:
            return receipt
        form = BodyForm.NDJSON if is_lines else BodyForm.JSON
        parsed = parse(text, form, self.hub.parts.new_staging)
        return publisher.to_subscribers(account_id, parsed, scope=scope)

    async def contents(self) -> list[object]:
        """All that every channel has to say, and the books."""
        for receipt in self.receipts:
            await receipt.durable()
        queue = self.hub.parts.queue
        found: list[object] = [replace(queue.totals(), journal_bytes=0)]
        for channel in self.hub.parts.directory.channels():
            found.append(queue.stats(channel.row.id))
            after: Position | None = None
            while (batch := await queue.slice(channel.row.id, after, EVERYTHING, WHOLE)) is not None:
                found += await read_messages(batch)
                after = batch.last
            queue.release(channel.row.id)
        return found


@pytest.fixture(params=[Durability.MEMORY, Durability.PROCESS])
async def sides(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Side, Side]]:
    tiers = {
        overflow.value: TierSettings(queue_bytes=4_096, overflow=overflow, event_lifetime_s=60.0)
        for overflow in OVERFLOWS
    }
    async with AsyncExitStack() as stack:
        made: list[Side] = []
        for name, finder in (("taking", NativeFinder), ("step-by-step", lambda key: NativeFinder(key))):
            settings = Settings(
                storage=StorageSettings(
                    data=str(tmp_path / name), durability=request.param, memory_bytes=64 << 20
                ),
                tiers=tiers,
            )
            world = World(unix_s=lambda: NOW_S, random_bytes=random.Random(1).randbytes, route_finder=finder)
            side = Side(await stack.enter_async_context(open_dispatcher(settings, world=world)))
            await side.furnish()
            made.append(side)
        yield made[0], made[1]


class Story:
    """What happens, step by step, to whoever is told."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._posts: list[tuple[int, bytes, bool, int | None]] = []

    def step(self) -> tuple[str, tuple[object, ...]]:
        draw = self._random
        match draw.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]:
            case "post":
                if self._posts and draw.random() < 0.1:
                    return "post", draw.choice(self._posts)
                texts = [self._message() for _ in range(draw.choice((1, 1, 2, 20)))]
                is_lines = len(texts) > 1 or draw.random() < 0.5
                key = len(self._posts) if draw.random() < 0.5 else None
                self._posts.append((draw.randrange(3), b"\n".join(texts), is_lines, key))
                return "post", self._posts[-1]
            case "publish":
                return "publish", (draw.randrange(9), self._event())
            case "choose":
                return "choose", (draw.randrange(9), self._entries())
            case "ack":
                return "ack", (draw.randrange(9),)
            case step:
                return step, (draw.randrange(9), draw.choice(EPS), draw.choice(PATHS))

    def _message(self) -> bytes:
        draw = self._random
        if draw.random() < 0.02:
            return draw.choice(ODD)
        events = [self._notification() for _ in range(draw.choice((0, 1, 1, 3, 30)))]
        return json.dumps({"notifications": events}, ensure_ascii=draw.random() < 0.5).encode()

    def _notification(self) -> dict[str, object]:
        draw = self._random
        event: dict[str, object] = {
            "ep": draw.choice(EPS),
            "path": draw.choice(PATHS),
            "payload": draw.choice(("", "MjEuNQ==", "eHh4" * 9)),
        }
        if draw.random() < 0.3:
            event |= {"ct": "text/plain", "original-ep": "o", "max-age": draw.choice((0, 60, None))}
        return event

    def _event(self) -> Event | bytes:
        draw = self._random
        if draw.random() < 0.3:
            return self._message()
        if draw.random() < 0.1:
            return Deregistration("a")
        path = "not a path" if draw.random() < 0.1 else draw.choice(PATHS)
        return Notification(draw.choice(EPS), path, b"x" * draw.choice((0, 5, 500)))

    def _entries(self) -> tuple[Presubscription, ...]:
        draw = self._random
        kinds = (
            Presubscription(),
            Presubscription(endpoint_name="sensor-*"),
            Presubscription(endpoint_type="t", resource_paths=("/3303/*",)),
        )
        return tuple(draw.sample(kinds, draw.randrange(3)))


def told(side: Side, step: str, arguments: tuple[object, ...]) -> Outcome:
    """What one of them makes of a step."""
    try:
        return _told(side, step, arguments)
    except DispatcherError as error:
        return (type(error), error.message, getattr(error, "fields", None))


def _told(side: Side, step: str, arguments: tuple[object, ...]) -> Outcome:
    hub = side.hub
    if step == "post":
        found = side.post(*arguments)  # type: ignore[arg-type]
        return (found,) if isinstance(found, bytes) else _plain(side, found)
    which, *rest = arguments
    application = side.applications[which]  # type: ignore[call-overload]
    if step == "publish":
        return _plain(side, hub.publish(application, rest[0]))  # type: ignore[arg-type]
    router, account_id = hub.parts.router, application.account_id
    if step == "choose":
        router.set_presubscriptions(account_id, application.id, rest[0])
    elif step == "ack":
        channel = hub.parts.directory.channel_of(application.id)
        last_seq = hub.parts.queue.stats(channel.row.id).last_seq
        return (hub.parts.queue.settle(channel.row.id, Position(hub.parts.queue.epoch, last_seq)),)
    else:
        change = router.add_subscription if step == "subscribe" else router.remove_subscription
        change(account_id, Subscription(application.id, *rest))  # type: ignore[arg-type]
    return ()


def _plain(side: Side, receipt: Receipt) -> Outcome:
    side.receipts.append(receipt)
    return (receipt.accepted, receipt.queued, receipt.unrouted, receipt.rejected, receipt.is_durable)


@pytest.mark.parametrize("seed", SEEDS)
async def test_both_ways_come_to_the_same(sides: tuple[Side, Side], seed: int) -> None:
    story = Story(seed)
    for number in range(STEPS):
        step = story.step()
        outcomes = [told(side, *step) for side in sides]
        assert outcomes[0] == outcomes[1], (number, step)
    contents = [await side.contents() for side in sides]
    assert contents[0] == contents[1]


async def test_a_story_takes_each_way(sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []
    take = NativeTaker.take

    def counted(taker: NativeTaker, *arguments: object) -> object:
        taken.append(take(taker, *arguments))  # type: ignore[arg-type]
        return taken[-1]

    monkeypatch.setattr(NativeTaker, "take", counted)
    story = Story(1)
    for _ in range(STEPS):
        told(sides[0], *story.step())
    assert sum(isinstance(each, Stored) for each in taken) > STEPS / 5
    assert sum(isinstance(each, Staged) for each in taken) > STEPS / 20  # refused, or not known yet
    assert sum(each is None for each in taken) > 0


async def test_what_was_prepared_is_published_again_and_again(sides: tuple[Side, Side]) -> None:
    hub, (one, other, *_) = sides[0].hub, sides[0].applications
    prepared = hub.prepare([NOTE, Notification('ä"\\', "/2"), b'{"notifications":[{"ep":"a","path":"/1"}]}'])
    assert prepared.events == 3
    receipts = [await hub.publish_many(one, prepared), hub.publish(other, prepared)]
    await receipts[1].durable()
    assert [receipt.queued for receipt in receipts] == [3, 3]
    messages = [message for message in await sides[0].contents() if isinstance(message, bytes)]
    told = [json.loads(message)["notifications"] for message in messages]
    assert [[event["ep"] for event in each] for each in told] == [["a", 'ä"\\', "a"]] * 2


async def test_what_comes_to_the_same_is_counted_each_time(sides: tuple[Side, Side]) -> None:
    """One receipt tells of many; each is in the books, in its channel, and durable when that says so."""
    hub, (one, other, *_) = sides[0].hub, sides[0].applications
    prepared = hub.prepare([NOTE])
    receipts = [hub.publish(one, event) for event in (NOTE, NOTE, prepared, prepared)]
    assert len(set(map(id, receipts))) == 1
    await receipts[-1].durable()
    receipts += [hub.publish(one, NOTE), hub.publish(other, NOTE), hub.publish(one, NOTE)]
    assert [receipt.queued for receipt in receipts] == [1] * 7
    assert receipts[0].is_durable
    is_in_memory = hub.parts.queue.log is None
    assert receipts[-1].is_durable is is_in_memory  # else it waits for another group than the first ones'
    await receipts[-1].durable()
    assert hub.parts.observer.accepted_events == hub.parts.queue.totals().queued == 7
    numbers = [hub.parts.directory.channel_of(application.id).row.id for application in (one, other)]
    assert [hub.parts.queue.stats(number).records for number in numbers] == [6, 1]
    messages = [message for message in await sides[0].contents() if isinstance(message, bytes)]
    assert sum(len(json.loads(message)["notifications"]) for message in messages) == 7


async def test_what_is_wrong_is_found_when_it_is_prepared(sides: tuple[Side, Side]) -> None:
    with pytest.raises(ValidationError, match=r"events\[1\].path"):
        sides[0].hub.prepare([NOTE, Notification("a", "1")])


async def test_what_a_large_text_took_of_memory_is_not_kept(sides: tuple[Side, Side]) -> None:
    hub, application = sides[0].hub, sides[0].applications[OVERFLOWS.index(Overflow.DROP_OLDEST)]
    taker = hub.parts.publisher._taker
    assert isinstance(taker, NativeTaker)
    event = {"ep": "a", "path": "/1", "payload": "MQ=="}
    assert (
        hub.publish(application, json.dumps({"notifications": [event] * 100_000}).encode()).accepted
        == 100_000
    )
    assert _held_bytes(taker) > limits.INGEST_STAGING_IDLE_BYTES_MAX
    hub.publish(application, json.dumps({"notifications": [event]}).encode())
    assert _held_bytes(taker) < limits.INGEST_STAGING_IDLE_BYTES_MAX / 100


def _held_bytes(taker: NativeTaker) -> int:
    assert taker._staging is not None
    held: int = taker._staging.look.memory_bytes
    return held


def test_seeds_differ() -> None:
    assert len({str([Story(seed).step() for _ in range(5)]) for seed in SEEDS}) == len(SEEDS)


def test_no_word_of_a_step_is_lost() -> None:
    """Every kind of step, and of account, is part of some story."""
    steps: Sequence[tuple[str, tuple[object, ...]]] = [Story(seed).step() for seed in range(200)]
    assert {step for step, _ in steps} == set(WEIGHTS)
