"""Tells the operator's webhook of what the log warns of.

What happens is noted in a book, which never waits.  One task takes the book's entries when it has
any, after a moment in which a storm comes together, and sends them as one message until somebody
takes it or its time is over.  Meanwhile the book fills again, up to its bound.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping

import msgspec
import trio

from dispatcher import limits
from dispatcher.config import OperatorSettings
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import CallbackTarget, parse_callback
from dispatcher.core.warning_book import WarningBook
from dispatcher.deliver.callback_body import Envelope, Wrapper
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.sink import DeliveryFailed, FailureClass
from dispatcher.deliver.verification import Text, ask_once
from dispatcher.errors import ConfigError, ValidationError
from dispatcher.model import Signing
from dispatcher.observe.log import LogEvent, log
from dispatcher.observe.metrics import Metrics
from dispatcher.wire.operator_message import encode_warnings
from dispatcher.wire.webhook_signature import ID_BYTES, id_of, parse_secret

ANYWHERE = AddressPolicy(allow_private=True)
"""Whom the dispatcher warns is its operator's own choice, unlike the callbacks of applications."""


class OperatorWebhook:
    """Sends warnings to one URL.  ``load_tls`` reads the roots it is trusted by; may block."""

    def __init__(
        self,
        target: CallbackTarget,
        *,
        dialer: Dialer,
        load_tls: Callable[[], ssl.SSLContext],
        envelope: Envelope,
        metrics: Metrics,
        wall_unix_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._target = target
        self._dialer = dialer
        self._load_tls = load_tls
        self._envelope = envelope
        self._metrics = metrics
        self._wall_unix_ms = wall_unix_ms
        self._random_bytes = random_bytes
        self._wrapper = Wrapper()
        self._book = WarningBook(limits.OPERATOR_WARNINGS_MAX)
        self._wakeup = trio.Event()

    def __repr__(self) -> str:
        return f"<OperatorWebhook {self._target} {len(self._book)} to tell>"

    def note(self, event: LogEvent, subject: str, fields: Mapping[str, object]) -> None:
        """Have it told.  Plain, cheap, never blocks; what finds no place is counted."""
        if not self._book.note(event, subject, fields, self._wall_unix_ms()):
            self._count("dropped", 1)
        self._wakeup.set()

    async def reload_tls(self) -> None:
        """Read the roots again, for what is sent from now on.  Raises ``ConfigError``."""
        self._dialer.use_tls(await trio.to_thread.run_sync(self._load_tls))

    async def run(self) -> None:
        """Send what is noted; until cancelled, when the rest is counted as dropped."""
        try:
            while True:
                await self._wakeup.wait()
                await trio.sleep(limits.OPERATOR_GATHER_S)
                self._wakeup = trio.Event()
                await self._tell()
        finally:
            self._drop(len(self._book.take()[0]), "the daemon stopped")

    async def _tell(self) -> None:
        entries, untold = self._book.take()
        for event, count in untold.items():
            _say_dropped(count, f"more {event} at once than a message holds")
        if not entries:
            return
        outcome = "the daemon stopped"
        try:
            outcome = await self._send(encode_warnings(entries, untold, self._wall_unix_ms()))
        finally:
            if outcome:
                self._drop(len(entries), outcome)
            else:
                self._count("delivered", len(entries))

    async def _send(self, message: bytes) -> str:
        """Try until it is taken or its time is over; return why it was not, or nothing."""
        number = id_of(self._random_bytes(ID_BYTES))  # the same for every attempt
        give_up_s = trio.current_time() + limits.OPERATOR_GIVE_UP_S
        pause_s = limits.OPERATOR_RETRY_INITIAL_S
        while True:
            try:
                await self._attempt(message, number)
            except DeliveryFailed as failure:
                reason = str(failure)
            else:
                return ""
            if trio.current_time() + pause_s > give_up_s:
                return reason
            if (
                pause_s == limits.OPERATOR_RETRY_INITIAL_S
            ):  # one line for a message, however often it is tried
                log(logging.WARNING, LogEvent.OPERATOR_WEBHOOK_FAILED, reason=reason)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, limits.OPERATOR_RETRY_MAX_S)

    async def _attempt(self, message: bytes, number: str) -> None:
        body = await self._wrapper.wrap(Text(message), self._envelope, lambda: number, self._wall_unix_ms())
        with trio.move_on_after(limits.OPERATOR_REQUEST_S):
            status = await ask_once(self._target, self._dialer, body)
            if not 200 <= status <= 299:
                raise DeliveryFailed(FailureClass.STATUS, status=status)
            return
        raise DeliveryFailed(FailureClass.TIMEOUT)

    def _drop(self, count: int, reason: str) -> None:
        if count:
            self._count("dropped", count)
            _say_dropped(count, reason)

    def _count(self, outcome: str, count: int) -> None:
        self._metrics.operator_warnings.labels(outcome).inc(count)


def webhook_of(
    settings: OperatorSettings,
    *,
    new_dialer: Callable[[bool, ssl.SSLContext], Dialer],
    load_tls: Callable[[], ssl.SSLContext],
    metrics: Metrics,
    wall_unix_ms: Callable[[], int],
    random_bytes: Callable[[int], bytes],
) -> OperatorWebhook | None:
    """The webhook of the settings; None: there is none.  Raises ``ConfigError``.

    ``new_dialer`` takes whether it goes through the proxy of callbacks.
    """
    if not settings.webhook:
        return None
    try:
        target = parse_callback(settings.webhook, {})
        secret = parse_secret(settings.webhook_secret) if settings.webhook_secret else None
    except ValidationError as wrong:
        raise ConfigError(f"operator.webhook {'; '.join(one.message for one in wrong.fields)}") from None
    except ValueError as wrong_secret:
        raise ConfigError(f"operator.webhook_secret {wrong_secret}") from None
    return OperatorWebhook(
        msgspec.structs.replace(target, method="POST"),
        dialer=new_dialer(settings.webhook_through_proxy, load_tls()),
        load_tls=load_tls,
        envelope=Envelope(signing=None if secret is None else Signing(secret=secret)),
        metrics=metrics,
        wall_unix_ms=wall_unix_ms,
        random_bytes=random_bytes,
    )


def _say_dropped(count: int, reason: str) -> None:
    log(logging.WARNING, LogEvent.OPERATOR_WARNINGS_DROPPED, count=count, reason=reason)
