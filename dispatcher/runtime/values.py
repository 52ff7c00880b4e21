"""What events tell of resources' values; ``core.value_cache`` has the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dispatcher.core.value_cache import Value, ValueCache
from dispatcher.model import AsyncResponse, DeviceChange, DeviceRequest, Kind
from dispatcher.wire.ingest import Parsed, lasting_values


class Values:
    """The last values of every account's resources."""

    def __init__(self, now_unix_ms: Callable[[], int]) -> None:
        self._now_unix_ms = now_unix_ms
        self._cache = ValueCache()

    def wants(self, account_id: int, events: int, *, has_lasting: bool) -> bool:
        """Whether to ``learn`` of a request with so many events; next to never for an account that
        reads no values.  ``has_lasting``: some may be read again.
        """
        return self._cache.wants(account_id, events, has_lasting=has_lasting)

    def forget_devices(self, account_id: int, changes: Sequence[DeviceChange]) -> None:
        """Devices that registered, or are gone, have no known values."""
        for change in changes:
            if change.kind is not Kind.REG_UPDATE:
                self._cache.remove_device(account_id, change.ep)

    def learn_answer(self, request: DeviceRequest, response: AsyncResponse) -> None:
        """Take in what a device answered."""
        key = (request.ep, request.uri)
        if not 200 <= response.status < 300:
            return
        if request.method == "GET":
            ct, payload = response.ct or "", response.payload or b""
            self._cache.put(request.account_id, key, payload, ct, response.max_age, self._now_unix_ms())
        else:
            self._cache.remove(request.account_id, key)

    def read(self, account_id: int, ep: str, path: str) -> tuple[Value, int] | None:
        """A value that may still be read, and for how many seconds."""
        now_ms = self._now_unix_ms()
        value = self._cache.read(account_id, (ep, path), now_ms)
        return None if value is None else (value, -int((now_ms - value.expires_ms) // 1000))

    def learn(self, account_id: int, parsed: Parsed) -> None:
        """Take in a request's notifications."""
        now_ms = self._now_unix_ms()
        lasting = {index: (payload, ct, age) for index, payload, ct, age in lasting_values(parsed)}
        for index, (ep, path) in enumerate(zip(parsed.eps, parsed.paths, strict=True)):
            if ep is None or path is None:
                continue
            if index in lasting:
                self._cache.put(account_id, (ep, path), *lasting[index], now_ms)
            else:
                self._cache.remove(account_id, (ep, path))
