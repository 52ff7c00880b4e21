"""What the connections of one server have in common: who answers, what is counted, how long to wait."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from dispatcher import limits
from dispatcher.errors import Unavailable
from dispatcher.http.body_buffers import BodyBuffers
from dispatcher.http.message import Handle
from dispatcher.http.patience import Timekeeper

_ID_DIGITS = 16


class Traffic(msgspec.Struct):
    """Counters of a server, since its start."""

    connections: int = 0
    connections_open: int = 0
    connections_failed: int = 0  # ended by an exception that is a bug of ours
    handshakes_failed: int = 0  # TLS
    requests: int = 0
    requests_running: int = 0
    requests_refused: int = 0  # before a handler saw them: malformed, too large, too slow
    requests_failed: int = 0  # by an exception that is a bug of ours
    upgrades_open: int = 0
    streams_open: int = 0


class BodyBudget:
    """Bounds the memory of all bodies together; counts bytes that came, not those announced."""

    def __init__(self, bytes_max: int = limits.REQUEST_BODIES_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.bytes_held = 0

    def take(self, count: int) -> None:
        """Account for ``count`` bytes more; raises ``Unavailable``, then nothing was taken."""
        if self.bytes_held + count > self._bytes_max:
            raise Unavailable("too many request bodies are being read at once", retry_after_s=1.0)
        self.bytes_held += count

    def give_back(self, count: int) -> None:
        """The bytes are no longer held."""
        assert 0 <= count <= self.bytes_held
        self.bytes_held -= count


class RequestIds:
    """16 hexadecimal digits each, from the system's source, which is asked for many at once."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def __call__(self) -> str:
        """The next one."""
        if self._at == len(self._digits):
            self._digits = secrets.token_hex(limits.REQUEST_IDS_AT_ONCE * _ID_DIGITS // 2)
            self._at = 0
        self._at += _ID_DIGITS
        return self._digits[self._at - _ID_DIGITS : self._at]


class Service:
    """Shared by every connection of one server.

    ``new_request_id`` gives 6 to 32 hexadecimal digits that cannot be guessed (None: ``RequestIds``).
    """

    def __init__(
        self,
        handle: Handle,
        *,
        new_request_id: Callable[[], str] | None = None,
        bodies: BodyBudget | None = None,
    ) -> None:
        self.handle = handle
        self.new_request_id = RequestIds() if new_request_id is None else new_request_id
        self.bodies = BodyBudget() if bodies is None else bodies
        self.body_buffers = BodyBuffers()
        self.timekeeper = Timekeeper()
        self.traffic = Traffic()
