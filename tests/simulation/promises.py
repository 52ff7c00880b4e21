"""The promises of ARCHITECTURE.md, judged from outside while a run goes on.

INV-1, 6, 8   ``look``: the queue's own figures, at every turn of the scheduler
INV-2, 5      ``sending``: when bytes leave the dispatcher, against what the disk holds then
INV-3         ``learned``: when a record becomes safe on the disk
INV-4         ``shown`` and ``look``: the order that receivers see, and that nothing is settled
              which no receiver has
INV-5         ``began``: all of it is there after a crash; ``missing``: all of it arrived, or was named
INV-7         ``closed``: nothing is open after a close
once          ``learned``: a post with an Idempotency-Key is stored once
duplicates    ``sending``: what is settled is not sent again; ``began``: at most the last moments
              before a crash come back
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import msgspec
import trio
from simulation.channel_model import ChannelModel, Key
from simulation.chronicle import Chronicle
from simulation.disk import Mount
from simulation.disk_books import SafeRecord
from simulation.events import Event, Shown
from simulation.network import Host, Stream
from simulation.uids import Uids

from dispatcher import limits
from dispatcher.errors import Unavailable
from dispatcher.model import Durability
from dispatcher.queue.interface import Loss, QueueTotals
from dispatcher.runtime.hub import Hub

_UID = re.compile(rb'"uid":"([0-9a-f-]{36})"')
_UID_BYTES = 44
_NEEDLESS = ("memory", "corrupt")  # reasons that a whole journal gives none for

Place = tuple[ChannelModel, Key, int]
"""Where a record stands that somebody was shown, and the number of its event."""


class Post(msgspec.Struct, frozen=True):
    """One request of a gateway: the same body however often it is tried."""

    account: str
    numbers: tuple[int, ...]
    began_s: float
    idempotency_key: str


class Registered(msgspec.Struct):
    """An application, as far as the promises know it."""

    name: str
    account: str
    since_s: float | None = None  # when its registration was known to be complete; None: it is not
    model: ChannelModel | None = None  # of its channel now


class Promises:
    """Judges one run; ``on_broken`` is called once, with the first promise that is broken."""

    def __init__(self, chronicle: Chronicle, durability: Durability, on_broken: Callable[[], None]) -> None:
        self.chronicle = chronicle
        self.broken: str | None = None
        self.events: dict[int, Event] = {}
        self.accounts: dict[int, str] = {}  # of events
        self.applications: dict[int, Registered] = {}
        self.models: dict[int, ChannelModel] = {}  # by incarnation
        self.keyed: set[int] = set()  # events of posts with an Idempotency-Key
        self.accepted = 0
        self.lives = 0  # that began to serve
        self.damaged = 0  # groups and segments that a power cut took, where they were not synced
        self._durability = durability
        self._on_broken = on_broken
        self._uids: Uids[ChannelModel] = Uids()
        self._tails: dict[Stream, bytes] = {}  # of what was sent, as long as a uid could go on in it
        self._stored: set[tuple[int, int]] = set()  # of those, by incarnation and number
        self._hub: Hub | None = None
        self._has_begun = False
        self._ended_s = 0.0  # when the last life ended
        self._was_whole = True
        self._waited_s = 0.0

    @property
    def has_disk(self) -> bool:
        """Whether what is accepted lies on the disk."""
        return self._durability is not Durability.MEMORY

    def fail(self, what: str) -> None:
        """A promise is broken; the first one counts."""
        if self.broken is None:
            self.broken = what
            self.chronicle.note(f"BROKEN {what}")
            self._on_broken()

    def _judge(self, what: str | None) -> None:
        if what is not None:
            self.fail(what)

    # --- the disk --------------------------------------------------------------------------

    def learned(self, record: SafeRecord) -> None:
        """A record is safe on the disk."""
        model = self.models.get(record.incarnation)
        if model is None:
            self.fail(f"a record of incarnation {record.incarnation}, which does not exist")
            return
        self._uids.know(model, record.incarnation, record.epoch)
        event = self.events[record.number]
        key = (record.epoch, record.seq)
        if record.number in self.keyed:
            stored = (record.incarnation, record.number)
            if stored in self._stored and key not in model.records:
                self.fail(f"{model.name}: event {record.number} is stored twice under one Idempotency-Key")
            self._stored.add(stored)
        self._judge(model.add(key, record.number, event.ep, is_promised=record.is_promised))

    # --- bytes that leave ------------------------------------------------------------------

    def sending(self, stream: Stream, data: bytes) -> None:
        """The dispatcher hands bytes to the network."""
        post = stream.peer.about
        if isinstance(post, Post):
            if data.startswith(b"HTTP/1.1 202"):
                self._accept(post)
            return
        tail = self._tails.get(stream, b"") + data
        end = 0
        for found in _UID.finditer(tail):
            end = found.end()
            self._leaving(found[1].decode())
        self._tails[stream] = tail[max(end, len(tail) - _UID_BYTES) :]

    def _leaving(self, uid: str) -> None:
        found = self._uids.find(uid)
        if found is None:
            if self.has_disk:
                self.fail(f"INV-2: uid {uid} leaves, and nothing on the disk has it")
            return
        model, epoch, seq = found
        if self.has_disk and (epoch, seq) not in model.records:
            self.fail(f"INV-2: {model.name}: {(epoch, seq)} leaves, and is not on the disk")
        if seq <= model.settled_seq:
            self.fail(
                f"duplicates: {model.name}: {(epoch, seq)} is sent again, settled to {model.settled_seq}"
            )

    def _accept(self, post: Post) -> None:
        """A 202 leaves."""
        self.accepted += len(post.numbers)
        for application in self.applications.values():
            if not self._must_get(application, post):
                continue
            model = application.model
            assert model is not None
            for number in post.numbers:
                if self.has_disk and number not in model.copies and not model.lost_count:
                    self.fail(f"INV-5: event {number} is accepted, and the disk has none for {model.name}")
                model.expected[number] = None

    def _must_get(self, application: Registered, post: Post) -> bool:
        return (
            application.account == post.account
            and application.since_s is not None
            and application.since_s <= post.began_s
        )

    # --- receivers -------------------------------------------------------------------------

    def shown(self, application: Registered, events: list[Shown]) -> list[Place]:
        """An application has a whole message; where its records stand."""
        found = []
        for event in events:
            if self.accounts.get(event.number) != application.account:
                self.fail(f"{application.name} was shown event {event.number}, which is not for it")
                continue
            place = self._uids.find(event.uid)
            if place is None:
                self.fail(f"{application.name} was shown event {event.number} with a uid that nobody gave")
                continue
            model, epoch, seq = place
            self._judge(model.see((epoch, seq), event.number, event.ep, has_disk=self.has_disk))
            found.append((model, (epoch, seq), event.number))
        return found

    def confirmed(self, places: list[Place]) -> None:
        """A receiver is about to say that it has these."""
        for model, key, number in places:
            model.confirmed.add(key)
            model.confirmed_numbers.add(number)

    # --- the lives of the dispatcher ---------------------------------------------------------

    def recovered(self, damaged: int) -> None:
        """A dispatcher has read its journal, and misses so many groups and segments of it."""
        self.damaged += damaged
        if damaged and self._durability is Durability.DISK:
            self.fail("damage is named, and the disk lost nothing that was synced")

    def began(self, hub: Hub) -> None:
        """A dispatcher is open, with what an earlier one left."""
        self._hub = hub
        self._has_begun = True
        self.lives += 1
        for channel in hub.parts.directory.channels():
            model = self._model_of(hub, channel.row.application_id, channel.row.incarnation)
            self._uids.know(model, model.incarnation, hub.parts.queue.epoch)
            stats = hub.parts.queue.stats(channel.row.id)
            if not self.has_disk:
                model.settled_seq = 0
            elif self._ended_s:
                self._judge(model.begin_life(stats.settled_seq, stats.records, self._sure_s))
        self.look()

    @property
    def _sure_s(self) -> float:
        """Up to when the last life surely wrote down what it knew."""
        if self._was_whole:
            return self._ended_s
        return self._ended_s - limits.ACK_FLUSH_S - 4 * self._waited_s

    def is_remembered(self, life: int, known_s: float) -> bool:
        """Whether the life after this one knows what it knew at a moment."""
        return self.has_disk and life == self.lives - 1 and known_s <= self._sure_s

    def crashed(self, mount: Mount, *, is_power_cut: bool) -> None:
        """The dispatcher is no more, without having been asked to end."""
        self._end(mount)
        enough = (Durability.DISK,) if is_power_cut else (Durability.DISK, Durability.PROCESS)
        if self._durability not in enough:
            self._waited_s = math.inf
            self._promise_nothing()

    def closed(self, mount: Mount, host: Host, *, is_whole: bool) -> None:
        """The dispatcher was closed in order; ``is_whole``: its journal could be written to the end."""
        has_begun = self._has_begun
        self._end(mount)
        if has_begun:
            self._was_whole = is_whole
        if not self.has_disk:
            self._promise_nothing()
        if mount.platter.has_scratch and not mount.has_failed:
            self.fail("INV-7: the scratch file is there after the close")
        if mount.open_files:
            self.fail(f"INV-7: {mount.open_files} files are open after the close")
        if host.streams or host.listeners:
            self.fail(
                f"INV-7: {len(host.streams)} streams, {len(host.listeners)} listeners open after the close"
            )

    def _promise_nothing(self) -> None:
        self._stored.clear()
        for model in self.models.values():
            model.promise_nothing()

    def _end(self, mount: Mount) -> None:
        self._hub = None
        self._tails.clear()
        if self._has_begun:  # else nothing is known that the life before did not leave
            self._has_begun = False
            self._ended_s = trio.current_time()
            self._was_whole = False
            self._waited_s = math.inf if mount.was_full or mount.has_failed else mount.waited_s

    def lost(self, incarnation: int, loss: Loss) -> None:
        """The dispatcher says that records are gone."""
        model = self.models[incarnation]
        self.chronicle.note(
            f"{model.name}: {loss.count} lost by {loss.reason}, {loss.first_seq}..{loss.last_seq}"
        )
        model.lose(loss.first_seq, loss.last_seq, loss.count)
        if self.has_disk and loss.reason in _NEEDLESS and not self.damaged:
            self.fail(f"INV-5: {model.name}: {loss.count} lost by {loss.reason}, and the disk has them")

    def look(self) -> None:
        """Look at the queue's figures."""
        if self._hub is None or self.broken is not None:
            return
        try:
            totals = self._hub.parts.queue.totals()
        except Unavailable:  # it is closed
            self._hub = None
        else:
            self._look(self._hub, totals)

    def _look(self, hub: Hub, totals: QueueTotals) -> None:
        queue = hub.parts.queue
        records = record_bytes = 0
        for channel in hub.parts.directory.channels():
            row = channel.row
            model = self._model_of(hub, row.application_id, row.incarnation)
            stats = queue.stats(row.id)
            records += stats.records
            record_bytes += stats.record_bytes
            if stats.settled_seq != model.settled_seq:
                self._judge(model.settle(stats.settled_seq))
            if not stats.settled_seq <= stats.last_seq:
                self.fail(f"INV-1: {model.name}: {stats}")
            if self.has_disk and stats.settled_seq > model.last_seq and stats.settled_seq not in model.lost:
                self.fail(f"INV-1: {model.name}: settled to {stats.settled_seq}, durable to {model.last_seq}")
            if stats.record_bytes > row.limits.queue_bytes:
                self.fail(f"INV-6: {model.name}: {stats.record_bytes} bytes of {row.limits.queue_bytes}")
            if channel.sink is not None:
                window = channel.sink.statistics()
                if window.unconfirmed_events > limits.WINDOW_BATCHES_MAX * row.limits.batch_events:
                    self.fail(f"INV-6: {model.name}: {window.unconfirmed_events} events unconfirmed")
        came = totals.queued + totals.recovered
        left = totals.acked + totals.expired + sum(totals.dropped.values())
        left += totals.superseded + totals.parked + totals.deleted
        if came != left + totals.records or (records, record_bytes) != (totals.records, totals.record_bytes):
            self.fail(f"INV-8: {totals}, and the channels have {records} records, {record_bytes} bytes")
        if totals.memory_bytes > totals.memory_bytes_max:
            self.fail(f"INV-6: {totals.memory_bytes} bytes of memory of {totals.memory_bytes_max}")

    def _model_of(self, hub: Hub, application_id: int, incarnation: int) -> ChannelModel:
        model = self.models.get(incarnation)
        if model is None:
            name = f"{self.applications[application_id].name}/{len(self.models)}"
            model = self.models[incarnation] = ChannelModel(name, incarnation)
            self._uids.know(model, incarnation, hub.parts.queue.epoch)
        self.applications[application_id].model = model
        return model

    # --- the end -----------------------------------------------------------------------------

    def check_order(self) -> None:
        """A device's events are stored in the order in which its gateway was told that they are."""
        devices: dict[str, list[int]] = {}
        for number, event in self.events.items():
            devices.setdefault(event.ep, []).append(number)
        for model in self.models.values():
            for ep, numbers in devices.items():
                found = model.out_of_order(numbers)
                if found is not None:
                    self.fail(f"INV-4: {model.name}: {ep}: event {found[1]} is stored before {found[0]}")

    def missing(self) -> list[tuple[ChannelModel, list[int]]]:
        """What was accepted and neither arrived nor was named, by channel; -1: fewer named than missing."""
        found = [(model, model.missing()) for model in self.models.values() if not model.is_gone]
        return [(model, numbers) for model, numbers in found if numbers]
