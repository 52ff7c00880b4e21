"""Counts the requests with bodies that are in flight, and refuses what would be too much."""

from __future__ import annotations

from typing import Self

import msgspec

from dispatcher import limits
from dispatcher.core import admission
from dispatcher.http.message import Request
from dispatcher.model import AccessKey


class _Held(msgspec.Struct):
    """What one account has in flight."""

    requests: int = 0
    body_bytes: int = 0


_NOTHING = _Held()


class IngestGate:
    """What gateways and applications are sending, asked before a body is read."""

    def __init__(self) -> None:
        self._requests = 0
        self._body_bytes = 0
        self._by_key: dict[str, int] = {}
        self._by_account: dict[int | None, _Held] = {}

    def passing(
        self, key: AccessKey, request: Request, bytes_max: int = limits.REQUEST_BODY_BYTES_MAX
    ) -> Passing:
        """Count a request while the block runs; its body is not read yet, and more of it than
        ``bytes_max`` never is, whatever is announced.

        Raises ``TooManyRequests`` or ``Unavailable`` with the time to come back, before
        anything was read or stored.
        """
        announced = request.headers.get("content-length")
        return Passing(self, key, bytes_max if announced is None else min(bytes_max, int(announced)))

    def counted(self, key: AccessKey, body_bytes: int) -> Passing:
        """The same for a body of this size, or a message on a socket."""
        return Passing(self, key, body_bytes)

    def enter(self, key: AccessKey, body_bytes: int) -> None:
        """Count it, or refuse it; ``leave`` must follow when it was counted."""
        held = self._by_account.get(key.account_id, _NOTHING)
        of_key = self._by_key.get(key.id, 0)
        load = admission.Load(
            requests=self._requests,
            account_requests=held.requests,
            key_requests=of_key,
            body_bytes=self._body_bytes,
            account_body_bytes=held.body_bytes,
        )
        refusal = admission.decide(load, body_bytes)
        if refusal is not None:
            raise refusal
        if held is _NOTHING:
            held = self._by_account[key.account_id] = _Held()
        self._requests += 1
        self._body_bytes += body_bytes
        self._by_key[key.id] = of_key + 1
        held.requests += 1
        held.body_bytes += body_bytes

    def leave(self, key: AccessKey, body_bytes: int) -> None:
        """What ``enter`` counted has ended."""
        self._requests -= 1
        self._body_bytes -= body_bytes
        self._by_key[key.id] -= 1
        if not self._by_key[key.id]:
            del self._by_key[key.id]
        held = self._by_account[key.account_id]
        held.requests -= 1
        held.body_bytes -= body_bytes
        if not held.requests:
            del self._by_account[key.account_id]


class Passing:
    """Counts a request while a block runs.  A class, for a generator costs four times as much."""

    __slots__ = ("_body_bytes", "_gate", "_key")

    def __init__(self, gate: IngestGate, key: AccessKey, body_bytes: int) -> None:
        self._gate = gate
        self._key = key
        self._body_bytes = body_bytes

    def __enter__(self) -> Self:
        """Raises ``TooManyRequests`` or ``Unavailable``; then nothing is counted."""
        self._gate.enter(self._key, self._body_bytes)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the place back."""
        self._gate.leave(self._key, self._body_bytes)
