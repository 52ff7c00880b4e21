"""The last values of resources, for as long as they may be read again.  Pure.

A value may be read for its ``max-age``: 60 s when none was given, three days at most, not at all
with 0.  Whatever is newer takes the older one's place, also when it may not be kept itself.

Keeping values costs a little for each event, and most accounts never read one.  So an
account that has seen ``limits.VALUES_UNREAD_EVENTS_MAX`` events go by without a read is left
alone until it reads again: that first read finds nothing, as if the value had been too old.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from dispatcher import limits

ResourceKey = tuple[str, str]
"""Ep and path."""


class Value(msgspec.Struct, frozen=True):
    """A resource's value, and until when it may be read."""

    payload: bytes
    ct: str
    expires_ms: float


def lifetime_s(max_age_s: int | None) -> float:
    """How long a value may be read; ``max_age_s`` None: the device did not say."""
    return limits.VALUE_LIFETIME_S if max_age_s is None else min(max_age_s, limits.VALUE_LIFETIME_S_MAX)


class ValueCache:
    """The values of all accounts.

    Memory: ``limits.VALUES_BYTES_PER_ACCOUNT_MAX`` for each account that reads; what was written
    longest ago goes first.
    """

    def __init__(self) -> None:
        self._accounts: dict[int, _Account] = {}

    def wants(self, account_id: int, events: int, *, has_lasting: bool) -> bool:
        """Whether a request of so many events has to be looked at; counts them as unread if so."""
        account = self._accounts.get(account_id)
        if account is None:
            if not has_lasting:
                return False
            account = self._accounts[account_id] = _Account()
        if account.is_off or not (has_lasting or account.values):
            return False
        account.unread_events += events
        if account.unread_events > limits.VALUES_UNREAD_EVENTS_MAX:
            account.clear()
            account.is_off = True
        return not account.is_off

    def put(
        self, account_id: int, key: ResourceKey, payload: bytes, ct: str, max_age_s: int | None, now_ms: float
    ) -> None:
        """A resource has a new value."""
        account = self._accounts.setdefault(account_id, _Account())
        account.remove(key)
        kept_ms = lifetime_s(max_age_s) * 1000
        if kept_ms > 0 and not account.is_off:
            account.add(key, Value(payload, ct, now_ms + kept_ms))

    def remove(self, account_id: int, key: ResourceKey) -> None:
        """A resource's value is not known any more."""
        account = self._accounts.get(account_id)
        if account is not None:
            account.remove(key)

    def remove_device(self, account_id: int, ep: str) -> None:
        """Nor are any of a device's."""
        account = self._accounts.get(account_id)
        for path in tuple(account.paths.get(ep, ())) if account is not None else ():
            self.remove(account_id, (ep, path))

    def read(self, account_id: int, key: ResourceKey, now_ms: float) -> Value | None:
        """A resource's value, if it may still be read."""
        account = self._accounts.setdefault(account_id, _Account())
        account.unread_events = 0
        account.is_off = False
        value = account.values.get(key)
        if value is not None and value.expires_ms <= now_ms:
            account.remove(key)
            return None
        return value


class _Account:
    def __init__(self) -> None:
        self.values: OrderedDict[ResourceKey, Value] = OrderedDict()  # written longest ago first
        self.paths: dict[str, set[str]] = {}  # by ep
        self.bytes_held = 0
        self.unread_events = 0
        self.is_off = False

    def add(self, key: ResourceKey, value: Value) -> None:
        self.values[key] = value
        self.paths.setdefault(key[0], set()).add(key[1])
        self.bytes_held += _size(key, value)
        while self.bytes_held > limits.VALUES_BYTES_PER_ACCOUNT_MAX:
            self.remove(next(iter(self.values)))

    def remove(self, key: ResourceKey) -> None:
        value = self.values.pop(key, None)
        if value is None:
            return
        self.bytes_held -= _size(key, value)
        paths = self.paths[key[0]]
        paths.discard(key[1])
        if not paths:
            del self.paths[key[0]]

    def clear(self) -> None:
        self.values.clear()
        self.paths.clear()
        self.bytes_held = 0


def _size(key: ResourceKey, value: Value) -> int:
    return limits.VALUE_OVERHEAD_BYTES + len(key[0]) + len(key[1]) + len(value.payload) + len(value.ct)
