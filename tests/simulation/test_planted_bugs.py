"""Each checker has seen what it is there for: bugs are planted, and must be caught.

Stories are bent towards the place where a bug shows, so that a few seeds are enough.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace
from simulation.bends import (
    KIB,
    Bend,
    bent,
    cleaned_often,
    ending,
    plain,
    short_of_memory,
    with_modes,
)
from simulation.chronicle import Violation
from simulation.disk import AFTER, Mount
from simulation.story import Act, Cause, Ending, Story, tell
from simulation.world import Sabotage, run_story

from dispatcher.deliver.callback import CallbackSink
from dispatcher.deliver.callback_connection import CallbackConnection
from dispatcher.deliver.sink import DeliveryFailed
from dispatcher.deliver.websocket_connection import WebSocketConnection
from dispatcher.model import Position
from dispatcher.queue import native_rings
from dispatcher.queue.group_commit import Group
from dispatcher.queue.ledger import Ledger
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_append import Appender
from dispatcher.queue.native_journal import CleaningStep, SegmentCleaner
from dispatcher.queue.native_log import QueueLog
from dispatcher.queue.native_recovery import JournalReader
from dispatcher.queue.native_residency import SCRATCH_NAME
from dispatcher.queue.native_space import JournalSpace
from dispatcher.queue.segment_books import SegmentBooks
from dispatcher.runtime.hub import Hub
from dispatcher.runtime.publishing import Publisher
from dispatcher.wire.ingest import Parsing

pytestmark = pytest.mark.slow


def caught(by: str, bend: Bend, *, within: int = 10, sabotage: Sabotage | None = None) -> None:
    """Run seeds until a promise is broken: one of those that ``by`` matches, and no other."""
    broken = (broken_promise(bend(tell(seed)), sabotage) for seed in range(within))
    first = next(filter(None, broken), f"{within} seeds did not see it")
    assert re.search(by, first), first


def broken_promise(story: Story, sabotage: Sabotage | None) -> str:
    try:
        run_story(story, sabotage=sabotage)
    except Violation as violation:
        return str(violation)
    return ""


# --- durability -------------------------------------------------------------------------------


def test_a_sync_that_does_nothing_is_caught() -> None:
    def sabotage(thing: Any) -> None:
        if isinstance(thing, Mount):
            thing.make_safe = lambda file: None  # type: ignore[method-assign]

    caught("not on the disk|the disk has none", plain, sabotage=sabotage)


def test_a_sync_that_is_skipped_now_and_then_is_caught() -> None:
    def sabotage(thing: Any) -> None:
        if isinstance(thing, Mount):
            make_safe, calls = thing.make_safe, iter(range(1_000_000))
            thing.make_safe = lambda file: next(calls) % 10 == 9 or make_safe(file)  # type: ignore[method-assign]

    caught("INV-", plain, sabotage=sabotage)


def test_a_202_before_the_sync_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def durable(group: Group) -> None:
        """It will be."""

    monkeypatch.setattr(Group, "durable", durable)
    caught("INV-5", plain)


def test_records_that_are_shown_before_the_sync_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    appended = QueueLog.appended

    def show_at_once(log: QueueLog, last_seqs: dict[int, int]) -> Group:
        for number, last_seq in last_seqs.items():
            native_rings.lib.nd_ring_show(log._channels[number].ring, last_seq)
            log._on_shown(number)
        return appended(log, last_seqs)

    monkeypatch.setattr(QueueLog, "appended", show_at_once)
    caught("INV-2", plain)


def test_a_group_that_a_killed_process_left_unsynced_and_that_is_shown_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(JournalReader, "secure", lambda reader: None)

    def bend(story: Story) -> Story:
        return ending(Cause.CALL, 40 + story.seed, is_power_cut=False)(story)

    caught("INV-2|INV-5", bend, within=30)


def test_a_durable_group_that_is_cut_off_as_if_torn_is_caught() -> None:
    def sabotage(thing: Any) -> None:
        if not isinstance(thing, Mount):
            return
        for _, file in sorted(thing.platter.files.items(), reverse=True):
            groups = [at for at in range(4096, len(file.bytes), 4096) if file.bytes[at : at + 4] == b"NDGR"]
            if groups:
                file.bytes[groups[-1] : groups[-1] + 4] = bytes(4)
                return

    caught("INV-5|duplicates", with_modes("hang", "deaf", endings=_restart()), sabotage=sabotage)


def test_a_moved_record_that_is_lost_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentCleaner, "move", lambda *arguments: CleaningStep.DONE)
    caught("INV-5", cleaned_often)


def test_moved_records_that_are_forgotten_where_they_went_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentBooks, "moved", lambda books, origin, segment: books._of(segment))
    caught("INV-5", cleaned_often, within=40)


def test_a_segment_that_is_unlinked_before_it_is_emptied_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JournalSpace, "_is_needed", lambda space, segment: False)
    caught("INV-5", cleaned_often)


def _restart() -> tuple[Ending, ...]:
    return (Ending(cause=Cause.TIME, at=20.0, when=AFTER, is_power_cut=True, down_s=1.0),)


# --- numbers and order ------------------------------------------------------------------------


def test_a_seq_that_is_given_twice_is_caught() -> None:
    def sabotage(thing: Any) -> None:
        if isinstance(thing, Hub):
            thing.parts.registrations._new_incarnation = lambda: 42

    def bend(story: Story) -> Story:
        acts = (Act(0.0, "mode", (0, "deaf")), Act(12.0, "anew", 0))
        return bent(story, callbacks=0, sockets=1, has_stranger=False, acts=acts, endings=())

    caught("INV-3", bend, sabotage=sabotage)


def test_a_record_that_is_skipped_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    slice_ = NativeQueue.slice

    async def skip(queue: NativeQueue, channel: int, after: Position | None, *arguments: Any) -> Any:
        return await slice_(queue, channel, after and Position(after.epoch, after.seq + 1), *arguments)

    monkeypatch.setattr(NativeQueue, "slice", skip)
    caught("INV-4", plain)


def test_events_that_are_stored_in_another_order_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Parsing.__init__

    def reverse(parsing: Parsing, body: bytes, *arguments: Any) -> None:
        begin(parsing, b"\n".join(reversed(body.split(b"\n"))), *arguments)

    monkeypatch.setattr(Parsing, "__init__", reverse)
    caught("INV-4", plain)


def test_a_batch_that_is_tried_again_in_another_form_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rebuild(*arguments: Any) -> None:
        """It is gone, says the queue, and the next slice holds what came meanwhile."""

    monkeypatch.setattr(NativeQueue, "rebuild", rebuild)

    def bend(story: Story) -> Story:
        acts = (Act(8.0, "mode", (0, "error")),)
        return bent(story, callbacks=1, sockets=0, has_stranger=False, acts=acts, endings=())

    caught("other bytes", bend)


# --- confirmed, and only then settled ---------------------------------------------------------


def test_a_batch_that_is_settled_before_its_pong_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    end_batch = WebSocketConnection.end_batch

    def settle_at_once(connection: WebSocketConnection) -> None:
        end_batch(connection)
        position = connection.window._in_flight[-1].position
        if position is not None and connection.confirmed is not None:
            connection.confirmed(position)

    monkeypatch.setattr(WebSocketConnection, "end_batch", settle_at_once)
    caught("INV-4", with_modes("healthy", "mute"))


def test_a_batch_that_is_settled_whatever_the_callback_says_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deliver = CallbackSink._deliver

    async def take_any_answer(sink: CallbackSink, body: Any) -> None:
        try:
            await deliver(sink, body)
        except DeliveryFailed:
            return

    monkeypatch.setattr(CallbackSink, "_deliver", take_any_answer)
    caught("INV-4", with_modes("error", "healthy"))


def test_acknowledgements_that_are_not_written_down_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueLog, "_collect_states", lambda log: True)
    caught("duplicates", with_modes("healthy", "healthy", endings=_restart()))


# --- losses -----------------------------------------------------------------------------------


def test_an_overflow_that_nobody_is_told_of_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Publisher, "_tell", lambda publisher, appended: None)
    caught("nobody has it|has none", with_modes("hang", "deaf", tier={"queue_bytes": 8 * KIB}))


def test_an_expiry_that_nobody_is_told_of_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    expire = NativeQueue.expire

    def swallow(queue: NativeQueue, channel: int, received_before_unix_ms: int) -> None:
        expire(queue, channel, received_before_unix_ms)

    monkeypatch.setattr(NativeQueue, "expire", swallow)
    caught("settled, and nobody has it", with_modes("hang", "deaf", tier={"event_lifetime_s": 5.0}))


def test_a_record_that_leaves_the_books_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    acked = Ledger.acked
    monkeypatch.setattr(
        Ledger, "acked", lambda ledger, records, count: acked(ledger, max(0, records - 1), count)
    )
    caught("INV-8", plain)


# --- memory -----------------------------------------------------------------------------------


def test_a_queue_that_drops_what_the_disk_could_hold_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    relieve = Appender._relieve

    def drop(appender: Appender, *arguments: Any) -> None:
        rings = appender._rings
        residency, rings.residency = rings.residency, None
        try:
            relieve(appender, *arguments)
        finally:
            rings.residency = residency

    monkeypatch.setattr(Appender, "_relieve", drop)
    caught("lost by memory", short_of_memory)


def test_cold_records_that_come_back_as_others_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Mount._write

    def write_zeros(mount: Mount, _: Any, number: int, data: Any, count: int, *rest: Any) -> int:
        if mount._handles[number] is mount.platter.files.get(SCRATCH_NAME):
            data = native_rings.ffi.new("uint8_t[]", count)
        return write(mount, _, number, data, count, *rest)

    monkeypatch.setattr(Mount, "_write", write_zeros)
    caught("lost by corrupt|nobody has it", short_of_memory)


def test_bytes_that_are_to_be_counted_later_and_are_not_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Ledger, "shrunk", lambda ledger, record_bytes: None)
    caught("INV-8", short_of_memory)


# --- bounds, ends, and other people's events ----------------------------------------------------


def test_a_queue_over_its_bound_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    open_ring = native_rings.open_ring

    def open_larger(pool: Any, number: int, epoch: int, options: Any) -> Any:
        return open_ring(pool, number, epoch, replace(options, queue_bytes=4 * options.queue_bytes))

    monkeypatch.setattr(native_rings, "open_ring", open_larger)
    caught("INV-6", with_modes("hang", "deaf", tier={"queue_bytes": 8 * KIB}))


def test_a_connection_that_is_left_open_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave(connection: CallbackConnection) -> None:
        """Somebody else will."""

    monkeypatch.setattr(CallbackConnection, "aclose", leave)
    caught("INV-7", plain)


def test_events_that_reach_another_account_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    to_subscribers = Publisher.to_subscribers
    monkeypatch.setattr(
        Publisher, "to_subscribers", lambda publisher, _, *rest: to_subscribers(publisher, 1, *rest)
    )
    monkeypatch.setattr(Publisher, "take_for_subscribers", lambda *_, **__: None)
    caught("is not for it", lambda story: bent(story, has_stranger=True))
