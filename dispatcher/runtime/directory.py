"""The snapshot of who exists, patched after each change of the registry.

The event path and the HTTP side read this; neither ever waits for the database.
"""

from __future__ import annotations

from collections.abc import Mapping

from dispatcher.config import TierSettings
from dispatcher.core.access import KeyRing
from dispatcher.errors import ConfigError, NotFound
from dispatcher.model import AccessKey, Account, Application
from dispatcher.registry.interface import Identities
from dispatcher.runtime.active_channel import ActiveChannel


class Directory:
    """Accounts, applications, keys, and the channel of each application that has one."""

    def __init__(self, secret: bytes, identities: Identities) -> None:
        self._secret = secret
        self.accounts: dict[int, Account] = {}
        self.applications: dict[int, Application] = {}
        self._named: dict[int, dict[str, Application]] = {}  # by account and name
        self._channels: dict[int, ActiveChannel] = {}  # by application
        self.channel_of = self._channels.get  # an application's channel, of whatever type, or None
        self._by_number: dict[int, ActiveChannel] = {}
        self.keys = KeyRing(secret, ())
        self.replace_identities(identities)

    def replace_identities(self, identities: Identities) -> tuple[AccessKey, ...]:
        """Take over accounts, applications and keys; return the keys that are no longer there."""
        before = self.keys.keys()
        self.accounts = {account.id: account for account in identities.accounts}
        self.applications = {app.id: app for app in identities.applications}
        self._named = {}
        for app in identities.applications:
            self._named.setdefault(app.account_id, {})[app.name] = app
        self.keys = KeyRing(self._secret, identities.keys)
        remaining = {key.id for key in identities.keys}
        return tuple(key for key in before if key.id not in remaining)

    @staticmethod
    def tier_of(account: Account, tiers: Mapping[str, TierSettings]) -> TierSettings:
        """The settings of an account's tier; ``ConfigError`` when the operator took it away."""
        tier = tiers.get(account.tier)
        if tier is None:
            raise ConfigError(
                f"account {account.name!r} is of tier {account.tier!r}, which the settings do not have; "
                f"the operator has to add [tiers.{account.tier}] and restart"
            )
        return tier

    def application_named(self, account_id: int, name: str) -> Application:
        """An application of one account; another account's is as unknown as none (``NotFound``)."""
        found = self._named.get(account_id, {}).get(name)
        if found is None:
            raise NotFound(f"no application {name!r} in this account")
        return found

    def channel(self, number: int) -> ActiveChannel:
        """A channel by its number; it must exist."""
        return self._by_number[number]

    def find_channel(self, number: int) -> ActiveChannel | None:
        """A channel by its number, or None when it was deleted."""
        return self._by_number.get(number)

    @property
    def channel_count(self) -> int:
        """How many channels there are."""
        return len(self._by_number)

    def channels(self) -> tuple[ActiveChannel, ...]:
        """All of them, at this moment."""
        return tuple(self._by_number.values())

    def add_channel(self, channel: ActiveChannel) -> None:
        """A channel was registered."""
        self._channels[channel.row.application_id] = channel
        self._by_number[channel.row.id] = channel

    def remove_channel(self, channel: ActiveChannel) -> None:
        """A channel was deleted."""
        del self._channels[channel.row.application_id]
        del self._by_number[channel.row.id]
