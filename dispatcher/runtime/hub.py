"""The dispatcher as one object: what the HTTP side, the command line and embedders call.

A facade only: it knows who does what and does nothing itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio

from dispatcher import limits
from dispatcher.config import Settings, check_tier
from dispatcher.core.access import KEY_ID_RANDOM_BYTES, KEY_RANDOM_BYTES, make_key, make_key_id
from dispatcher.core.access import digest as key_digest
from dispatcher.errors import BadRequest, Conflict
from dispatcher.model import (
    AccessKey,
    Account,
    Application,
    ChannelType,
    Event,
    Role,
    Serialization,
)
from dispatcher.queue.interface import ChannelStats
from dispatcher.runtime.consumer import Consumer
from dispatcher.runtime.parts import Parts
from dispatcher.runtime.publishing import Held, Receipt
from dispatcher.wire.ingest import encode_events, text_of_event, text_of_events


class CreatedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key, shown this once: only its HMAC is kept."""

    key: str
    id: str
    role: Role
    expires_unix_ms: int | None = None


class Prepared(msgspec.Struct, frozen=True):
    """Events that were checked, and may be published any number of times; made by ``Hub.prepare``."""

    held: Held

    @property
    def events(self) -> int:
        """How many events there are."""
        return self.held.parsed.events


class Hub:
    """An open dispatcher.  Made by ``open_dispatcher``; usable until that block ends.

    Every method belongs to the Trio thread that opened it.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._publisher = parts.publisher
        self.is_stopping = False

    def __repr__(self) -> str:
        totals = self.parts.queue.totals()
        return f"<Dispatcher {len(self.parts.directory.channels())} channels, {totals.records} records>"

    @property
    def settings(self) -> Settings:
        """The settings it was opened with."""
        return self.parts.settings

    async def stop(self) -> None:
        """Finish the callbacks in flight, close the sockets with 1012, end the polls; twice is once.

        Takes ``server.grace_s`` at most; what is not finished then is given back.
        """
        if self.is_stopping:
            return
        self.is_stopping = True
        self.parts.long_polls.stop()
        self.parts.fleet.stop()
        with trio.move_on_after(self.settings.server.grace_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.parts.sockets.stop, self._confirm_s())
                nursery.start_soon(self.parts.gateways.stop)
                nursery.start_soon(self.parts.callbacks.stop, self.parts.directory.channels())

    def _confirm_s(self) -> float:
        """How long of the grace time a message on its way may wait for its confirmation."""
        return min(limits.STOP_CONFIRM_S, self.settings.server.grace_s / 4)

    # --- publishing ---------------------------------------------------------------------

    def publish(self, application: Application, event: Event | bytes | Prepared) -> Receipt:
        """Put one event, or a notification message as JSON bytes, into an application's channel.

        A plain function: it never blocks, and stores all or nothing.  Subscriptions are
        not asked.  ``await receipt.durable()`` waits for the durability of the settings.
        Raises ``ValidationError``, ``QueueFull`` and ``MemoryFull``, with nothing stored.
        """
        if isinstance(event, bytes):
            text: bytes | None = event
        elif isinstance(event, Prepared):
            return self._publisher.held_to_application(application, event.held)
        else:
            text = text_of_event(event)
        if text is not None:
            receipt = self._publisher.take_for_application(application, text, False)
            if receipt is not None:
                return receipt
        return self._publish_parsed(application, (event,))

    async def publish_many(
        self, application: Application, events: Sequence[Event | bytes] | Prepared
    ) -> Receipt:
        """The same for many events, in one append, and wait until they are durable.

        Cancellation before the append stores nothing, after it everything.
        """
        receipt = self._publish_all(application, events)
        await receipt.durable()
        return receipt

    def prepare(self, events: Sequence[Event | bytes]) -> Prepared:
        """Check events now, to publish them later: to several applications, or when it must go quickly.

        Any thread may call it.  Raises ``ValidationError`` and ``MemoryFull``.
        """
        return Prepared(self._publisher.hold(encode_events(events, self.parts.new_staging)))

    def _publish_all(self, application: Application, events: Sequence[Event | bytes] | Prepared) -> Receipt:
        publisher = self._publisher
        if isinstance(events, Prepared):
            return publisher.held_to_application(application, events.held)
        text = text_of_events(events)
        if text is not None:
            receipt = publisher.take_for_application(application, text[0], is_lines=text[1])
            if receipt is not None:
                return receipt
        return self._publish_parsed(application, events)

    def _publish_parsed(self, application: Application, events: Sequence[Event | bytes]) -> Receipt:
        parsed = encode_events(events, self.parts.new_staging)
        return self._publisher.to_application(application, parsed)

    def route(self, account: Account, events: Sequence[Event | bytes]) -> Receipt:
        """Put events into the channels of every application that subscribed to them."""
        publisher = self._publisher
        return publisher.to_subscribers(account.id, encode_events(events, self.parts.new_staging))

    # --- what exists --------------------------------------------------------------------

    async def ensure_account(self, name: str = "default", tier: str = "commercial") -> Account:
        """The account of this name; made with ``tier`` when there is none."""
        check_tier(tier, self.settings.tiers)
        account = await self.parts.registry.ensure_account(name, tier)
        await self.reload_identities()
        return account

    async def set_tier(self, account: Account, tier: str) -> Account:
        """Give an account another tier, and return it as it is then.

        For what is registered from then on: a channel keeps the limits it was registered with.
        """
        check_tier(tier, self.settings.tiers)
        account = await self.parts.registry.set_tier(account.id, tier)
        await self.reload_identities()
        return account

    async def ensure_application(self, account: Account, name: str) -> Application:
        """The account's application of this name; made when there is none.

        Raises ``TooManyRequests`` at the tier's ``applications_max``, and ``ConfigError``
        when the settings do not have the account's tier any more.
        """
        tier = self.parts.directory.tier_of(account, self.settings.tiers)
        try:
            application = await self.parts.registry.create_application(
                account.id, name, tier.applications_max
            )
        except Conflict:
            await self.reload_identities()
            return self.parts.directory.application_named(account.id, name)
        await self.reload_identities()
        return application

    async def create_key(
        self,
        role: Role,
        *,
        account: Account | None = None,
        application: Application | None = None,
        expires_unix_ms: int | None = None,
    ) -> CreatedKey:
        """Make a key: for an application, a gateway of an account, or an administrator.

        From ``expires_unix_ms`` on (None: never) it opens nothing more.  What it has opened
        stays open, and the application's channel and subscriptions go on.
        """
        if role is Role.APPLICATION and application is None:
            raise BadRequest("an application key needs its application")
        if role is Role.GATEWAY and account is None:
            raise BadRequest("a gateway key needs its account")
        if expires_unix_ms is not None and expires_unix_ms <= self.parts.wall_unix_ms():
            raise BadRequest("a key has to expire in the future")
        text = make_key(self.parts.random_bytes(KEY_RANDOM_BYTES))
        key = AccessKey(
            id=make_key_id(self.parts.random_bytes(KEY_ID_RANDOM_BYTES)),
            role=role,
            digest=key_digest(self.parts.secret, text),
            account_id=application.account_id if application else account.id if account else None,
            application_id=application.id if application else None,
            expires_unix_ms=expires_unix_ms,
        )
        await self.parts.registry.add_key(key)
        await self.reload_identities()
        return CreatedKey(key=text, id=key.id, role=role, expires_unix_ms=expires_unix_ms)

    async def revoke_key(self, key_id: str) -> bool:
        """Revoke a key and close the sockets opened with it; False when there is none."""
        revoked = await self.parts.registry.revoke_key(key_id)
        await self.reload_identities()
        return revoked

    async def reload_identities(self) -> None:
        """Take over what anyone changed in the registry; sockets and polls of revoked keys end."""
        with trio.CancelScope(shield=True):
            identities = await self.parts.registry.identities_if_changed()
            if identities is not None:
                revoked = self.parts.directory.replace_identities(identities)
                self.parts.sockets.revoke(revoked)
                self.parts.long_polls.revoke(revoked)
                self.parts.gateways.revoke(revoked)
                self.parts.fleet.revoke(revoked)

    async def reload_callback_tls(self) -> None:
        """Read the files of ``callbacks.client_certificate``, ``client_key`` and ``ca`` again.

        New connections use what they hold now; none that is open is closed.  Raises
        ``ConfigError``, and what was read before then holds on.
        """
        await self.parts.callbacks.reload_tls()
        if self.parts.webhook is not None:
            await self.parts.webhook.reload_tls()
        await self.parts.watch.renewed("callbacks")

    # --- channels -----------------------------------------------------------------------

    async def register_callback(
        self,
        application: Application,
        url: str,
        headers: dict[str, str] | None = None,
        serialization: Serialization | None = None,
        *,
        signing_secret: str | None = None,
        is_gzipped: bool = False,
    ) -> None:
        """Verify a callback with one request, then make it the application's channel.

        With a ``signing_secret`` (``whsec_...``) requests are signed by Standard Webhooks;
        one that takes the place of another signs with it for a day.  ``is_gzipped``: bodies
        are compressed.
        Raises ``ValidationError`` and ``BadRequest`` with the reason; an earlier callback
        is then as it was.
        """
        await self.parts.callbacks.register(
            application,
            url,
            headers or {},
            serialization,
            signing_secret=signing_secret,
            is_gzipped=is_gzipped,
        )

    async def register_websocket(
        self, application: Application, serialization: Serialization | None = None
    ) -> bool:
        """Make the application's WebSocket channel, or change its serialization; True when new."""
        _, is_new = await self.parts.registrations.register(
            application, ChannelType.WEB_SOCKET, serialization=serialization
        )
        return is_new

    async def register_long_poll(
        self, application: Application, serialization: Serialization | None = None
    ) -> bool:
        """Make the application's long-poll channel, or change its serialization; True when new."""
        _, is_new = await self.parts.registrations.register(
            application, ChannelType.LONG_POLLING, serialization=serialization
        )
        return is_new

    async def delete_channel(self, application: Application) -> bool:
        """Delete the application's channel with its queue; False when there is none."""
        channel = self.parts.directory.channel_of(application.id)
        if channel is None:
            return False
        await self.parts.registrations.delete(application, channel.row.type)
        return True

    async def subscribe(self, application: Application, ep: str, path: str) -> None:
        """Subscribe an application to one resource of one device; ``path`` starts with a slash."""
        await self.parts.subscriptions.subscribe(application, ep, path)

    @asynccontextmanager
    async def consume(
        self, application: Application, serialization: Serialization | None = None
    ) -> AsyncIterator[Consumer]:
        """Consume an application's events in this process.

        The application's channel becomes (or is) one of type ``IN_PROCESS``, which stays
        registered when the block ends and goes on storing.  One consumer at a time: a
        second one raises ``Conflict``.
        """
        channel, _ = await self.parts.registrations.register(
            application, ChannelType.IN_PROCESS, serialization=serialization
        )
        if channel.consumer_wakeup is not None:
            raise Conflict("this application's channel is being consumed already")
        consumer = Consumer(channel, self.parts.queue, self.parts.now_unix_ms, self.parts.observer)
        try:
            yield consumer
        finally:
            consumer.close()

    def statistics(self, application: Application) -> ChannelStats | None:
        """The queue of an application's channel at this moment, or None without a channel."""
        channel = self.parts.directory.channel_of(application.id)
        return None if channel is None else self.parts.queue.stats(channel.row.id)
