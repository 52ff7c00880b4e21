"""Counts the requests with bodies that are in flight, and refuses what would be too much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from dispatcher import limits
from dispatcher.core import admission
from dispatcher.http.message import Request
from dispatcher.model import AccessKey
from dispatcher.queue.interface import ChannelQueue


class _Held(msgspec.Struct):
    """What one account has in flight."""

    requests: int = 0
    body_bytes: int = 0


_NOTHING = _Held()


class IngestGate:
    """What gateways and applications are sending, asked before a body is read."""

    def __init__(self, queue: ChannelQueue) -> None:
        self._queue = queue
        self._requests = 0
        self._body_bytes = 0
        self._by_key: dict[str, int] = {}
        self._by_account: dict[int | None, _Held] = {}

    @contextmanager
    def passing(
        self, key: AccessKey, request: Request, bytes_max: int = limits.REQUEST_BODY_BYTES_MAX
    ) -> Iterator[None]:
        """Count a request while the block runs; its body is not read yet, and more of it than
        ``bytes_max`` never is, whatever is announced.

        Raises ``TooManyRequests`` or ``Unavailable`` with the time to come back, before
        anything was read or stored.
        """
        body_bytes = bytes_max
        announced = request.headers.get("content-length")
        if announced is not None:
            body_bytes = min(body_bytes, int(announced))
        with self.counted(key, body_bytes):
            yield

    @contextmanager
    def counted(self, key: AccessKey, body_bytes: int) -> Iterator[None]:
        """The same for a body of this size, or a message on a socket."""
        refusal = admission.decide(self._load(key), body_bytes)
        if refusal is not None:
            raise refusal
        self._requests += 1
        self._body_bytes += body_bytes
        self._by_key[key.id] = self._by_key.get(key.id, 0) + 1
        held = self._by_account.setdefault(key.account_id, _Held())
        held.requests += 1
        held.body_bytes += body_bytes
        try:
            yield
        finally:
            self._requests -= 1
            self._body_bytes -= body_bytes
            self._by_key[key.id] -= 1
            if not self._by_key[key.id]:
                del self._by_key[key.id]
            held.requests -= 1
            held.body_bytes -= body_bytes
            if not held.requests:
                del self._by_account[key.account_id]

    def _load(self, key: AccessKey) -> admission.Load:
        totals = self._queue.totals()
        held = self._by_account.get(key.account_id, _NOTHING)
        return admission.Load(
            requests=self._requests,
            account_requests=held.requests,
            key_requests=self._by_key.get(key.id, 0),
            body_bytes=self._body_bytes,
            account_body_bytes=held.body_bytes,
            memory_bytes=totals.memory_bytes,
            memory_bytes_max=totals.memory_bytes_max,
            may_drop=True,
        )
