"""Device requests from their acceptance to their result.

``core.device_requests`` decides; here is what it takes to keep that decision: a request is in
the registry before it is accepted, and leaves it when its result is durable in the
application's channel.  A crash in between sends it again: at least once, like everything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import trio

from dispatcher import limits
from dispatcher.core import device_requests as rules
from dispatcher.core.request_book import DeviceKey, Finished, Judged, RequestBook
from dispatcher.errors import DispatcherError
from dispatcher.model import (
    Application,
    AsyncAnswer,
    AsyncResponse,
    Device,
    DeviceChange,
    DeviceRequest,
    Subscription,
    WantedRequest,
)
from dispatcher.observe.log import LogEvent, log
from dispatcher.queue.interface import Ticket
from dispatcher.registry.interface import Registry
from dispatcher.runtime.devices import Devices
from dispatcher.runtime.values import Values

Deliver = Callable[[int, Sequence[tuple[int, AsyncResponse]]], Ticket]
"""Put responses into the channels of applications of one account; never blocks."""

Wake = Callable[[DeviceKey, str | None], None]
"""A request may be sent to a device of a gateway."""


_REFUSED = 400  # this status and above: the device does not do it


class DeviceRequests:
    """Takes requests in, hands answers to who asked, and ends what nobody answers."""

    def __init__(
        self,
        *,
        registry: Registry,
        devices: Devices,
        book: RequestBook,
        now_unix_ms: Callable[[], int],
        values: Values,
        deliver: Deliver,
        wake: Wake,
    ) -> None:
        self._registry = registry
        self._devices = devices
        self._book = book
        self._now_unix_ms = now_unix_ms
        self._values = values
        self._deliver = deliver
        self._wake = wake
        self._finished: list[Finished] = []  # by us, not yet told; bounded by the requests
        self._answered: list[tuple[Ticket, Sequence[DeviceRequest]]] = []  # told, still in the registry
        self._earlier = trio.Event()
        self._has_answered = trio.Event()
        self._forgetting = trio.Lock()

    def restore(self, rows: Iterable[tuple[DeviceRequest, Device | None]]) -> None:
        """Take over the requests that an earlier run left."""
        rows = tuple(rows)
        for request, device in rows:
            self._book.add(request, device)
        for request, device in rows:
            if device is not None and device.is_gone:
                self._end(self._book.device_gone((request.account_id, request.ep)))

    # --- applications -----------------------------------------------------------------

    async def accept(self, application: Application, ep: str, wanted: WantedRequest) -> DeviceRequest:
        """Put a request into its device's line; it is in the registry when this returns.

        The same request again, while it waits, is the same request.  Raises
        ``DeviceRequestRefused``.  Cancellation: it was accepted, or it was not.
        """
        key = (application.account_id, ep)
        async with self._devices.settled():
            device = await self._registry.device(*key)
            waiting = self._book.find(application.id, key, wanted.async_id)
            if waiting is not None:
                rules.check_same(waiting, wanted)
                return waiting
            found = rules.check_device(device, wanted.uri)
            self.check_room(found, wanted)
            return await self.add(application, found, wanted)

    def can_ask(self, device: Device) -> bool:
        """Whether the device's gateway executes commands, as far as this run knows."""
        return self._book.has_had_socket(device.gateway_id)

    def is_observing(self, device: Device, path: str) -> bool:
        """Whether a request to observe a resource waits to be answered."""
        return self._book.is_observing((device.account_id, device.ep), path)

    def check_room(self, device: Device, wanted: WantedRequest) -> None:
        """Raise ``DeviceRequestRefused`` unless ``add`` would take this request now."""
        is_away = self._book.is_away(device.gateway_id, self._now_unix_ms())
        rules.check_connected(device, is_away=is_away)
        self._book.check_room((device.account_id, device.ep), len(wanted.payload or b""))

    async def add(self, application: Application, device: Device, wanted: WantedRequest) -> DeviceRequest:
        """Put a request that was checked into its line; within a ``settled`` block."""
        wire_id = self._book.choose_wire_id(device.account_id, application.id, wanted.async_id)
        request = rules.make_request(application, device, wanted, wire_id or "", self._now_unix_ms())
        with trio.CancelScope(shield=True):  # the book is never behind the registry
            request = await self._registry.add_device_request(request)
            self._book.add(request, device)
        self._go_on((device.account_id, device.ep))
        return request

    # --- gateways ---------------------------------------------------------------------

    def judge(
        self, account_id: int, gateway_id: str | None, answers: Sequence[AsyncAnswer]
    ) -> tuple[Judged, ...]:
        """What the answers of a message mean; see ``RequestBook``."""
        return self._book.judge(account_id, gateway_id, answers)

    def settle(self, judged: Sequence[Judged], ticket: Ticket) -> None:
        """The answers are stored: their requests are over when ``ticket`` is durable."""
        finished = self._book.settle(judged, self._now_unix_ms())
        if finished:
            self._forget_after(ticket, finished)
        for verdict in judged:
            if verdict.request is None:
                continue
            if verdict.is_final:
                self._note_observation(verdict.request, verdict.response)
                self._values.learn_answer(verdict.request, verdict.response)
            self._go_on((verdict.request.account_id, verdict.request.ep))

    def learn(self, account_id: int, gateway_id: str | None, changes: Sequence[DeviceChange]) -> None:
        """Devices came, stayed or went."""
        for change in changes:
            key = (account_id, change.ep)
            if change.told is None:
                self._end(self._book.device_gone(key))
                self._earlier.set()
            elif self._book.device_heard(key, gateway_id, change.told.q):
                self._go_on(key)

    # --- time -------------------------------------------------------------------------

    def look_again(self) -> None:
        """Something may be due sooner than it was."""
        self._earlier.set()

    async def run(self) -> None:
        """End what is due, as it falls due, and tell who asked; until cancelled."""
        while True:
            self._earlier = trio.Event()
            due = self._book.due(self._now_unix_ms())
            self._end(due.finished)
            for key in due.ready:
                self._go_on(key)
            if self._finished and not self._tell():
                await trio.sleep(limits.JOURNAL_RETRY_S)
                continue
            pause_s = (self._book.next_due_ms - self._now_unix_ms()) / 1000
            with trio.move_on_after(max(0.0, pause_s)):
                await self._earlier.wait()

    async def forget_answered(self) -> None:
        """Take out of the registry what is over, as it is durable; until cancelled."""
        while True:
            await self._has_answered.wait()
            self._has_answered = trio.Event()
            try:
                await self.flush()
            except DispatcherError as refused:  # busy or full: it is still there
                log(logging.WARNING, LogEvent.DEVICE_REQUESTS_UNSAVED, reason=refused.message)
                await trio.sleep(limits.JOURNAL_RETRY_S)
                self._has_answered.set()

    async def flush(self) -> None:
        """Return when every request that is over has left the registry."""
        async with self._forgetting:
            while self._answered:
                answered = tuple(self._answered)
                for ticket, _ in answered:
                    await ticket.durable()
                ids = [request.id for _, requests in answered for request in requests]
                await self._registry.remove_device_requests(ids)
                del self._answered[: len(answered)]

    def _end(self, finished: Sequence[Finished]) -> None:
        """Requests ended without an answer; ``run`` tells who asked."""
        for each in finished:
            self._note_observation(each.request, each.response)
        self._finished += finished

    def _tell(self) -> bool:
        """Give the results that are ours to who asked; False when nothing can be stored now."""
        by_account: dict[int, list[Finished]] = {}
        for finished in self._finished:
            by_account.setdefault(finished.request.account_id, []).append(finished)
        for account_id, results in by_account.items():
            told = [(f.request.application_id, f.response) for f in results if not f.request.is_silent]
            try:
                ticket = self._deliver(account_id, told)
            except DispatcherError as refused:
                log(logging.WARNING, LogEvent.DEVICE_REQUESTS_UNSAVED, reason=refused.message)
                return False
            self._forget_after(ticket, [f.request for f in results])
            self._finished = [f for f in self._finished if f.request.account_id != account_id]
        return True

    def _forget_after(self, ticket: Ticket, requests: Sequence[DeviceRequest]) -> None:
        self._answered.append((ticket, requests))
        self._has_answered.set()

    def _note_observation(self, request: DeviceRequest, response: AsyncResponse) -> None:
        """A subscription whose resource cannot be observed is none."""
        if request.observe and response.status >= _REFUSED:
            subscription = Subscription(request.application_id, request.ep, request.uri)
            self._devices.note_refused(request.account_id, subscription)

    def _go_on(self, key: DeviceKey) -> None:
        """A line has changed: send what can be sent."""
        self._wake(key, self._book.gateway_of(key))
