"""Callback channels: verified before they are stored, bound to a sink while they exist."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection
from functools import partial

import trio

from dispatcher import limits
from dispatcher.core.addresses import AddressPolicy
from dispatcher.core.callback_rules import CallbackTarget, check_registration
from dispatcher.core.rate import Rate, RateWindow, admit, is_idle
from dispatcher.core.signing import renewed
from dispatcher.deliver.callback import CallbackSends, CallbackSink, StoredTarget
from dispatcher.deliver.callback_body import Envelope, envelope_of
from dispatcher.deliver.dialer import Dialer
from dispatcher.deliver.verification import Probe, VerificationFailed, verify_callback
from dispatcher.errors import FieldError, TooManyRequests, ValidationError
from dispatcher.model import Application, ChannelType, Position, Serialization, Signing
from dispatcher.queue.interface import ChannelQueue
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.channel_task import confirm, frozen
from dispatcher.runtime.registrations import Callback, Registrations
from dispatcher.runtime.supervisor import Supervisor
from dispatcher.wire.webhook_signature import ID_BYTES, id_of, parse_secret

_RATE = Rate(count_max=limits.VERIFICATIONS_PER_MINUTE_MAX, period_s=60.0)


class Callbacks:
    """Registers callbacks and gives their channels a sink."""

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        registrations: Registrations,
        queue: ChannelQueue,
        supervisor: Supervisor,
        dialer: Dialer,
        policy: AddressPolicy,
        load_tls: Callable[[], ssl.SSLContext],
        wall_unix_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._nursery = nursery
        self._registrations = registrations
        self._queue = queue
        self._supervisor = supervisor
        self._dialer = dialer
        self._policy = policy
        self._load_tls = load_tls
        self._wall_unix_ms = wall_unix_ms  # as people set it: receivers compare it with their own
        self._now_unix_s = lambda: wall_unix_ms() / 1000
        self._confirm = self._confirmed  # made once, and shared by all sinks
        self._make_sink = self._new_sink  # and this by all channels
        self._random_bytes = random_bytes
        self._sends = CallbackSends()
        self._warm: dict[int, ActiveChannel] = {}  # by channel: those that keep a connection
        self._verifications: dict[int, RateWindow] = {}  # by application, forgotten when idle

    async def register(
        self,
        application: Application,
        url: str,
        headers: dict[str, str],
        serialization: Serialization | None,
        *,
        signing_secret: str | None = None,
        is_gzipped: bool = False,
    ) -> None:
        """Verify with one request, then store; the queue of an earlier callback is kept.

        The request has the envelope that deliveries will have.
        Raises ``ValidationError`` or ``BadRequest`` with the earlier callback as it was,
        and ``TooManyRequests`` above the rate of verifications.
        """
        existing = self._registrations.check_type(application, ChannelType.CALLBACK)
        signing = self._signing(existing, signing_secret)
        envelope = Envelope(signing=signing, is_gzipped=is_gzipped)
        target = check_registration(url, headers, self._policy, reserved=envelope.header_names)
        self._admit_verification(application)
        try:
            await self._verify(target, envelope)
        except VerificationFailed as failure:
            message = f"the callback could not be verified: {failure}"
            raise ValidationError(message, fields=(FieldError(name="url", message=message),)) from None
        channel, _ = await self._registrations.register(
            application,
            ChannelType.CALLBACK,
            serialization=serialization,
            callback=Callback(url=url, headers=headers, signing=signing, is_gzipped=is_gzipped),
        )
        self.bind(channel)

    def bind(self, channel: ActiveChannel) -> None:
        """Give a channel the sink of its registration; failures of an earlier one are forgotten."""
        if channel.is_gone:
            return
        self.end(channel)
        self.restore(channel)
        channel.start_over()
        self._supervisor.wake(channel)

    def restore(self, channel: ActiveChannel) -> None:
        """Give a channel its sink when it has something to send: most of those that exist never do today."""
        channel.make_sink = self._make_sink

    def _new_sink(self, channel: ActiveChannel) -> CallbackSink:
        row = channel.row
        return CallbackSink(
            StoredTarget(row.url, row.headers),
            dialer=self._dialer,
            timeout_s=row.limits.callback_timeout_s,
            confirmed=partial(self._confirm, channel),
            sends=self._sends,
            now_unix_s=self._now_unix_s,
            envelope=envelope_of(row.signing, is_gzipped=row.is_gzipped),
            incarnation=row.incarnation,
        )

    async def reload_tls(self) -> None:
        """Read the client certificate, its key and the roots again, for connections made from now on.

        Raises ``ConfigError``; the earlier ones then hold on.
        """
        self._dialer.use_tls(await trio.to_thread.run_sync(self._load_tls))

    async def stop(self, channels: Collection[ActiveChannel]) -> None:
        """Let the requests in flight finish and begin no others; then close every connection.

        Takes as long as the slowest receiver: the caller bounds it.  What is cut off then
        has failed, and goes again byte for byte in the next run.
        """
        for channel in channels:
            channel.make_sink = None
        bound = [(channel, channel.sink) for channel in channels if isinstance(channel.sink, CallbackSink)]
        try:
            for channel, _ in bound:
                channel.sink = None
                channel.end_pause()
            await self._supervisor.wait_idle()
        finally:
            for channel, sink in bound:
                if sink.in_flight is not None and channel.frozen is None and not channel.is_gone:
                    self._queue.freeze(channel.row.id, frozen(channel, sink.in_flight))
                with trio.CancelScope(shield=True):  # closing a socket does not wait
                    await sink.aclose()

    def end(self, channel: ActiveChannel) -> None:
        """Close the channel's connection, if it has one."""
        channel.make_sink = None
        sink, channel.sink = channel.sink, None
        if sink is not None:
            self._nursery.start_soon(sink.aclose)

    async def close_idle_connections(self) -> None:
        """Close connections that were kept and not used, and forget their sinks; runs until cancelled."""
        while True:
            await trio.sleep(limits.CALLBACK_IDLE_S / 4)
            idle_before_s = trio.current_time() - limits.CALLBACK_IDLE_S
            for number, channel in tuple(self._warm.items()):
                sink = channel.sink
                if not isinstance(sink, CallbackSink):
                    del self._warm[number]
                elif sink.idle_since_s is not None and sink.idle_since_s <= idle_before_s:
                    del self._warm[number]
                    await sink.close_idle()
                    if channel.sink is sink and not channel.is_running:
                        channel.sink = None
                        self.restore(channel)

    def _signing(self, existing: ActiveChannel | None, secret: str | None) -> Signing | None:
        """What signs once this secret is registered.  Raises ``ValidationError``."""
        try:
            given = None if secret is None else parse_secret(secret)
        except ValueError as wrong:
            field = FieldError(name="signing.secret", message=str(wrong))
            raise ValidationError(f"{field.name} {field.message}", fields=(field,)) from None
        before = None if existing is None else existing.row.signing
        return renewed(before, given, self._wall_unix_ms())

    async def _verify(self, target: CallbackTarget, envelope: Envelope) -> None:
        def id() -> str:
            return id_of(self._random_bytes(ID_BYTES))

        body = await self._sends.wrapper.wrap(Probe(), envelope, id, self._wall_unix_ms())
        await verify_callback(target, self._dialer, limits.VERIFICATION_TIMEOUT_S, body)

    def _confirmed(self, channel: ActiveChannel, position: Position) -> None:
        self._warm[channel.row.id] = channel
        confirm(channel, self._queue, position)

    def _admit_verification(self, application: Application) -> None:
        now_s = trio.current_time()
        for number, window in tuple(self._verifications.items()):
            if is_idle(window, _RATE, now_s):
                del self._verifications[number]
        window = self._verifications.get(application.id, RateWindow())
        self._verifications[application.id], wait_s = admit(window, _RATE, now_s)
        if wait_s > 0:
            raise TooManyRequests(
                f"at most {_RATE.count_max} callbacks are verified per minute for one application",
                retry_after_s=wait_s,
            )
