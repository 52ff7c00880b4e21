"""The way of an event in: parsed, routed, appended, and the channels woken.

No ``await`` between routing and waking: what a request stores, it stores as one
unit under one snapshot of the subscriptions.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from dispatcher import limits
from dispatcher.core.idempotency import KeyScope
from dispatcher.core.request_book import Judged
from dispatcher.core.routes import Routes
from dispatcher.core.routing import Router
from dispatcher.errors import MemoryFull, QueueFull
from dispatcher.model import Application, AsyncResponse, Device, Durability, RegistrationExpired
from dispatcher.observe.tracing import Tracing
from dispatcher.queue.interface import ChannelQueue, Loss, Records, Stored, Taker, Ticket
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.clock import WallClock
from dispatcher.runtime.device_requests import DeviceRequests
from dispatcher.runtime.devices import Devices
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.supervisor import Supervisor
from dispatcher.runtime.values import Values
from dispatcher.wire.gateway_api import Accepted, encode_accepted
from dispatcher.wire.ingest import Parsed, encode_events, notifications, rename_answers
from dispatcher.wire.staging import Text


class Receipt(Accepted, frozen=True, kw_only=True):
    """What became of one request's events, and when that is durable."""

    ticket: Ticket
    kept: Callable[[], Awaitable[None]] | None = None  # what else the events changed is in the registry

    @property
    def is_durable(self) -> bool:
        """Whether ``durable`` has nothing to wait for."""
        return self.ticket.is_durable and self.kept is None

    async def durable(self) -> None:
        """Return when every record is as durable as ``durability`` says (INV-5), and what they tell is kept.

        Cancellation leaves the events stored.
        """
        await self.ticket.durable()
        if self.kept is not None:
            await self.kept()


class Held(msgspec.Struct, frozen=True):
    """Checked events, and what a taker makes of their records."""

    parsed: Parsed
    records: object  # None: there was no taker


class Publisher:
    """Appends parsed events to the queues of the channels that they belong to.

    With a ``scope``, begun by the caller, the answer to the request is kept with them.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        router: Router,
        devices: Devices,
        requests: DeviceRequests,
        values: Values,
        queue: ChannelQueue,
        supervisor: Supervisor,
        observer: Observer,
        clock: WallClock,
        durability: Durability,
        taker: Taker | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """``taker`` None: every text is parsed, routed and appended step by step."""
        self._directory = directory
        self._channel_of = directory.channel_of
        self._router = router
        self._devices = devices
        self._requests = requests
        self._values = values
        self._queue = queue
        self._wake = supervisor.wake
        self._observer = observer
        self._clock = clock
        self._durability = durability
        self._taker = taker
        self._tracing = tracing
        self._stored: Stored | None = None  # what was told last,
        self._receipt: Receipt  # and the receipt for it

    def take_for_subscribers(
        self, account_id: int, text: Text, is_lines: bool, scope: KeyScope | None = None
    ) -> Receipt | None:
        """Publish the text of one message, or of one in each line, as ``to_subscribers`` does.

        None: nothing was done, and it has to be parsed first.  Never blocks.  Raises as
        ``to_subscribers`` does.
        """
        way = self._router.way(account_id)
        if self._taker is None or way is None or self._is_traced():
            return None
        taken = self._taker.take(way, 0, text, is_lines, self._clock.unix_ms(), scope is not None)
        if not isinstance(taken, Stored):
            return (
                None if taken is None else self.to_subscribers(account_id, notifications(taken), scope=scope)
            )
        receipt = self._announce(taken, self._channels(taken), scope)
        if self._values.wants(account_id, taken.events, has_lasting=taken.has_lasting):
            self._values.learn(account_id, notifications(self._taker.staged()))
        return receipt

    def take_for_application(
        self, application: Application, text: Text, is_lines: bool, scope: KeyScope | None = None
    ) -> Receipt | None:
        """Publish a text as ``to_application`` does; see ``take_for_subscribers``."""
        channel, taker, tracing = self._channel_of(application.id), self._taker, self._tracing
        if channel is None or taker is None or (tracing and tracing.is_noting):
            return None
        clock = self._clock
        now_s = clock.steady_s()
        unix_ms = clock.kept_ms if clock.seen_s <= now_s < clock.kept_until_s else clock.read(now_s)
        taken = taker.take(None, channel.row.id, text, is_lines, unix_ms, scope is not None)
        if not isinstance(taken, Stored):
            return None if taken is None else self.to_application(application, notifications(taken), scope)
        return self._announce(taken, (channel,), scope)

    def hold(self, parsed: Parsed) -> Held:
        """Make ready what will be published often, maybe.  Any thread may call it."""
        records = Records(parsed.block, parsed.meta)
        return Held(parsed, None if self._taker is None else self._taker.hold(records))

    def held_to_application(self, application: Application, held: Held) -> Receipt:
        """Publish what is held as ``to_application`` does."""
        channel, taker, tracing = self._channel_of(application.id), self._taker, self._tracing
        if channel is None or taker is None or held.records is None or (tracing and tracing.is_noting):
            return self.to_application(application, held.parsed)
        clock = self._clock
        now_s = clock.steady_s()
        unix_ms = clock.kept_ms if clock.seen_s <= now_s < clock.kept_until_s else clock.read(now_s)
        taken = taker.take_held(channel.row.id, held.records, unix_ms)
        if taken is None:
            return self.to_application(application, held.parsed)
        return self._announce(taken, (channel,), None)

    def _is_traced(self) -> bool:
        return self._tracing is not None and self._tracing.is_noting

    def _channels(self, stored: Stored) -> Sequence[ActiveChannel]:
        find = self._directory.channel
        return [find(number) for number in stored.channels]

    def to_subscribers(
        self,
        account_id: int,
        parsed: Parsed,
        gateway_id: str | None = None,
        scope: KeyScope | None = None,
    ) -> Receipt:
        """Route by subscription and append, and take in what the events tell of devices.  Never blocks.

        ``gateway_id`` is the access key of the gateway that posted them.
        Raises ``MemoryFull`` with nothing stored.
        """
        if parsed.device_changes:
            self._devices.check_room()
        judged = self._requests.judge(account_id, gateway_id, parsed.async_answers)
        if judged:
            parsed = _with_own_ids(parsed, judged)
        receipt = self._route(account_id, parsed, [verdict.asker for verdict in judged], scope)
        if judged:
            self._requests.settle(judged, receipt.ticket)
        if self._values.wants(account_id, parsed.events, has_lasting=bool(parsed.lasting)):
            self._values.learn(account_id, parsed)
        if not parsed.device_changes:
            return receipt
        self._values.forget_devices(account_id, parsed.device_changes)
        self._router.learn_devices(account_id, parsed)
        self._devices.note(account_id, gateway_id, parsed.device_changes)
        self._requests.learn(account_id, gateway_id, parsed.device_changes)
        return msgspec.structs.replace(receipt, kept=self._devices.kept)

    def to_askers(self, account_id: int, responses: Sequence[tuple[int, AsyncResponse]]) -> Ticket:
        """Append responses of our own to the channels of applications of one account.  Never blocks.

        Raises ``MemoryFull`` with nothing stored.
        """
        parsed = encode_events([response for _, response in responses])
        return self._route(account_id, parsed, [application_id for application_id, _ in responses]).ticket

    def tell_expired(self, account_id: int, devices: Sequence[Device]) -> Callable[[], Awaitable[None]]:
        """Publish that registrations ran out, as a gateway would; see ``Receipt.durable``."""
        gone = [RegistrationExpired(device.ep, device.original_ep) for device in devices]
        return self.to_subscribers(account_id, encode_events(gone)).durable

    def to_application(
        self, application: Application, parsed: Parsed, scope: KeyScope | None = None
    ) -> Receipt:
        """Append straight to one application's channel, subscriptions or not.  Never blocks.

        Raises ``QueueFull`` (policy ``reject``) and ``MemoryFull``, with nothing stored.
        """
        channel = self._channel_of(application.id)
        if channel is None:
            return self._append(parsed, Routes(parsed.events, array("Q")), parsed.events, scope)
        records = Records(parsed.block, parsed.meta)
        if not self._queue.has_room(channel.row.id, records):
            raise QueueFull(
                f"the queue of {application.name!r} is full; try again when its receiver has caught up",
                retry_after_s=channel.row.limits.retry_initial_s,
            )
        return self._append(parsed, Routes(parsed.events, array("Q", (channel.row.id,))), 0, scope)

    def _route(
        self,
        account_id: int,
        parsed: Parsed,
        askers: Sequence[int | None],
        scope: KeyScope | None = None,
    ) -> Receipt:
        plan = self._router.plan_routes(account_id, parsed, askers)
        return self._append(parsed, plan.routes, plan.unrouted, scope)

    def _append(self, parsed: Parsed, routes: Routes, unrouted: int, scope: KeyScope | None) -> Receipt:
        records = Records(parsed.block, parsed.meta)
        traced = None if self._tracing is None else self._last_seqs(self._tracing, routes)
        try:
            appended, ticket = self._queue.append(
                records, routes, self._clock.unix_ms(), has_answer=scope is not None
            )
        except MemoryFull:
            self._tell(self._queue.take_losses())  # what was dropped, and was not enough
            raise
        if traced:
            self._note_traced(traced)
        stored = Stored(
            events=parsed.events,
            came_bytes=len(parsed.block) + limits.RECORD_OVERHEAD_BYTES_MAX * parsed.events,
            queued=appended.queued,
            unrouted=unrouted,
            channels=routes.channels,
            ticket=ticket,
            rejected=appended.rejected,
            losses=appended.losses,
        )
        return self._announce(stored, self._channels(stored), scope)

    def _announce(self, stored: Stored, channels: Sequence[ActiveChannel], scope: KeyScope | None) -> Receipt:
        """Tell whoever has to know of records stored just now, and keep the answer for a ``scope``."""
        is_durable, seen_s = stored.ticket.is_durable, self._clock.seen_s
        for channel in channels:
            channel.last_event_s = seen_s
            channel.room_bytes -= stored.came_bytes
            if channel.room_bytes < 0:
                self._observer.queue_grew(channel, self._queue.stats(channel.row.id))
            if not is_durable:
                continue  # the queue says when there is something to show (INV-2)
            if channel.is_running:
                channel.is_dirty = True
            else:
                self._wake(channel)
        if stored.losses:
            self._tell(stored.losses)
        self._observer.accepted_events += stored.events
        if stored.unrouted:
            self._observer.unrouted_events += stored.unrouted
        if stored is not self._stored:  # as it is not, but for most who publish event by event
            self._stored, self._receipt = stored, self._receipt_for(stored)
        if scope is None:
            return self._receipt
        answer = encode_accepted(self._receipt)
        return msgspec.structs.replace(self._receipt, ticket=self._queue.keep(scope, answer))

    def _receipt_for(self, stored: Stored) -> Receipt:
        return Receipt(
            accepted=stored.events,
            queued=stored.queued,
            unrouted=stored.unrouted,
            rejected=stored.rejected,
            durability=self._durability,
            ticket=stored.ticket,
        )

    def _last_seqs(self, tracing: Tracing, routes: Routes) -> dict[int, int]:
        """Of the channels in which a traced request is followed, how far they were before it."""
        if not tracing.is_noting:
            return {}
        followed = routes.channels[: limits.TRACE_CHANNELS_PER_REQUEST_MAX]
        return {number: self._queue.stats(number).last_seq for number in followed}

    def _note_traced(self, before: dict[int, int]) -> None:
        assert self._tracing is not None
        for channel, seq in before.items():
            last_seq = self._queue.stats(channel).last_seq
            if last_seq > seq:
                self._tracing.appended(channel, seq + 1, last_seq)

    def _tell(self, losses: Sequence[Loss]) -> None:
        for loss in losses:
            self.tell_lost(loss)

    def tell_lost(self, loss: Loss) -> None:
        """Records left a queue: tell the operator, and the receiver if it wants to know."""
        channel = self._directory.find_channel(loss.channel)
        if channel is not None:
            self._observer.lost(channel, loss)
            if channel.form.include_gaps:
                self._wake(channel)  # it may have nothing but the gap to send


def _with_own_ids(parsed: Parsed, judged: Sequence[Judged]) -> Parsed:
    """The answers under the ids that their applications gave, where the gateway knew others."""
    names = {
        answer.index: verdict.request.async_id
        for answer, verdict in zip(parsed.async_answers, judged, strict=True)
        if verdict.request is not None and verdict.request.async_id != answer.id
    }
    return rename_answers(parsed, names) if names else parsed
