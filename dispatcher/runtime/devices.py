"""The directory of devices, kept up with the events that tell of them.

It lives in the registry, not in memory: a fleet of a million costs nothing here.  What
events tell is noted as they are stored, and written in one commit for all who wait
(``kept``), before their gateway's answer.  Whoever decides by the directory does it in
a ``settled`` block, where everything told so far has been written and nothing else is.

A registration that runs out is told to the applications as if a gateway had said so,
and that event is what takes the device out of the directory.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from dispatcher import limits
from dispatcher.core.routing import Router
from dispatcher.errors import DispatcherError, Unavailable
from dispatcher.model import Device, DeviceChange, DeviceReport, Kind, Subscription
from dispatcher.observe.log import LogEvent, log
from dispatcher.registry.interface import Registry
from dispatcher.runtime.directory import Directory

TellExpired = Callable[[int, Sequence[Device]], Callable[[], Awaitable[None]]]
"""Publish that an account's devices are gone, without blocking; the result waits until that is durable."""


class Devices:
    """What is known of every account's devices."""

    def __init__(
        self,
        *,
        registry: Registry,
        directory: Directory,
        router: Router,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._directory = directory
        self._router = router
        self._now_unix_ms = now_unix_ms
        self._noted: list[DeviceReport] = []
        self._refused: list[Subscription] = []  # bounded by the device requests
        self._unwritten = trio.Event()
        self._writing = trio.Lock()
        self._due_unix_ms: float = math.inf  # when the expiry task looks next
        self._earlier = trio.Event()

    def check_room(self) -> None:
        """Raise ``Unavailable`` when the registry is far behind what was noted."""
        if len(self._noted) >= limits.DEVICE_REPORTS_UNWRITTEN_MAX:
            raise Unavailable(
                "the registry is behind what gateways tell of devices", retry_after_s=limits.JOURNAL_RETRY_S
            )

    def note(self, account_id: int, gateway_id: str | None, changes: Sequence[DeviceChange]) -> None:
        """Take in what a request's events tell; routing knows it at once.  Never blocks."""
        now_unix_ms = self._now_unix_ms()
        for change in changes:
            if change.kind is Kind.REGISTRATION:
                self._router.remove_device_subscriptions(account_id, change.ep)
            self._noted.append(
                DeviceReport(
                    account_id=account_id, gateway_id=gateway_id, change=change, heard_unix_ms=now_unix_ms
                )
            )
            if change.told is not None and change.told.lt:
                self._look_at(now_unix_ms + change.told.lt * 1000)
        self._unwritten.set()

    def note_refused(self, account_id: int, subscription: Subscription) -> None:
        """A device does not let a resource be observed: the subscription is taken back."""
        self._router.remove_subscription(account_id, subscription)
        self._refused.append(subscription)
        self._unwritten.set()

    async def kept(self) -> None:
        """Return when everything noted so far is in the registry.

        Raises ``Unavailable`` and ``StorageFull``; what was noted then waits for the next
        call.  Cancellation leaves it noted, or written.
        """
        if self._noted or self._refused or self._writing.locked():
            async with self.settled():
                pass

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[None]:
        """The directory as the events so far leave it, and as it stays while the block runs."""
        async with self._writing:
            if self._noted or self._refused:
                with trio.CancelScope(shield=True):  # the snapshot is never behind the registry
                    await self._write()
            yield

    async def find(self, account_id: int, ep: str) -> Device | None:
        """A device, gone ones too; None is one never heard of."""
        await self.kept()
        return await self._registry.device(account_id, ep)

    async def write(self) -> None:
        """Write what is noted and nobody waits for; until cancelled."""
        while True:
            await self._unwritten.wait()
            self._unwritten = trio.Event()
            try:
                await self.kept()
            except DispatcherError as refused:  # busy or full: what was noted stays
                log(logging.WARNING, LogEvent.DEVICES_UNSAVED, reason=refused.message)
                self._unwritten.set()
                await trio.sleep(limits.JOURNAL_RETRY_S)

    async def run(self, tell_expired: TellExpired, startup_grace_s: float) -> None:
        """Tell of registrations that run out, as they do; until cancelled.

        Nothing runs out in the first ``startup_grace_s``: gateways could not refresh
        anything while the dispatcher was down.
        """
        await trio.sleep(startup_grace_s)
        while True:
            self._earlier = trio.Event()
            self._due_unix_ms = math.inf  # whatever is noted during the look asks for another
            try:
                self._due_unix_ms = await self._tell_due(tell_expired)
            except DispatcherError:  # the disk or the registry is busy or full: all is still due
                self._due_unix_ms = self._now_unix_ms() + limits.JOURNAL_RETRY_S * 1000
            pause_s = (self._due_unix_ms - self._now_unix_ms()) / 1000
            with trio.move_on_after(max(0.0, pause_s)):
                await self._earlier.wait()

    async def _tell_due(self, tell_expired: TellExpired) -> float:
        """Tell of what has run out; return when to look again."""
        async with self.settled():
            now_unix_ms = self._now_unix_ms()
            due = await self._registry.due_devices(now_unix_ms, limits.DEVICES_PER_STEP)
            # No await from here: what is noted now, and was not when we asked, has been refreshed.
            refreshed = {(report.account_id, report.change.ep) for report in self._noted}
            by_account: dict[int, list[Device]] = {}
            for device in due.devices:
                if (device.account_id, device.ep) not in refreshed:
                    by_account.setdefault(device.account_id, []).append(device)
            receipts = [tell_expired(account_id, devices) for account_id, devices in by_account.items()]
        for durable in receipts:
            await durable()
        if due.devices:
            return now_unix_ms
        return math.inf if due.next_unix_ms is None else due.next_unix_ms

    async def _write(self) -> None:
        while self._refused:
            refused = self._refused[0]
            await self._registry.remove_subscriptions(refused.application_id, refused.ep, refused.path)
            del self._refused[0]
        noted = tuple(self._noted)
        removed = await self._registry.keep_devices(noted, limits.DEVICES_PER_ACCOUNT_MAX)
        del self._noted[: len(noted)]  # only now: what is being written is not written
        for subscription in removed:
            account_id = self._directory.applications[subscription.application_id].account_id
            self._router.remove_subscription(account_id, subscription)

    def _look_at(self, unix_ms: int) -> None:
        if unix_ms < self._due_unix_ms:
            self._earlier.set()
