"""The sink seam: the sending side of a channel.

A sink knows a transport and nothing else: not the queue, not when to retry, not
what to do after a failure.  ``send`` hands a batch to the transport; what the
receiver is known to have comes back through ``confirmed``, which may be during
``send`` (a callback's 2xx) or later (a WebSocket's pong).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from dispatcher.model import Kind, Position

Confirmed = Callable[[Position], None]
"""Called by a sink, on the Trio thread, with a position up to which the receiver has all."""


class OutgoingMessage(Protocol):
    """What a sink needs to know of one message of a batch."""

    @property
    def kinds(self) -> tuple[Kind, ...]: ...
    @property
    def events(self) -> int: ...
    @property
    def bytes_count(self) -> int: ...


class OutgoingBatch(Protocol):
    """What a sink needs of a batch; ``queue.interface.Batch`` is one.  Guarantees are told there."""

    @property
    def first(self) -> Position: ...
    @property
    def last(self) -> Position: ...
    @property
    def events(self) -> int: ...
    @property
    def bytes_count(self) -> int: ...
    @property
    def messages(self) -> tuple[OutgoingMessage, ...]: ...

    async def read_into(self, buffer: bytearray, offset: int) -> int: ...
    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]: ...
    def rewind(self) -> None: ...


class FailureClass(StrEnum):
    """Why a delivery failed, as a receiver's owner may be told.  Never the target's words."""

    DNS = "dns"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    TLS = "tls"
    STATUS = "status"
    ADDRESS = "address not allowed"
    CONNECTION = "connection"  # reset, closed early, not HTTP
    PROXY = "proxy"  # the operator's egress proxy did not connect us


class DeliveryFailed(Exception):
    """The receiver does not have the batch, or did not say so.  The batch may be sent again."""

    def __init__(
        self,
        failure: FailureClass,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(f"{failure}{f' {status}' if status else ''}{f': {detail}' if detail else ''}")
        self.failure = failure
        self.status = status
        self.retry_after_s = retry_after_s
        self.detail = detail  # our own words, safe to log and to show

    @property
    def is_too_large(self) -> bool:
        """Whether the receiver refused the batch for its size."""
        return self.status == 413


class SinkClosed(Exception):
    """The transport is gone; this sink will take nothing more."""


class SinkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A sink, at a moment."""

    unconfirmed_events: int
    unconfirmed_bytes: int


class Sink(Protocol):
    """The sending side of one channel."""

    async def send(self, batch: OutgoingBatch) -> int | None:
        """Return when the batch was handed to the transport: the status it was taken with, if there is one.

        Batches are sent one at a time and in order.  Waits while the sink's window
        is full.  Raises ``DeliveryFailed`` or ``SinkClosed``.

        Cancellation: a transport with a half-written message is aborted, and the
        sink is closed; the batch was not confirmed.
        """
        ...

    async def drained(self) -> None:
        """Return when everything sent is confirmed; raise ``SinkClosed`` when it never will be."""
        ...

    def statistics(self) -> SinkStatistics:
        """What is unconfirmed now."""
        ...

    async def aclose(self) -> None:
        """Give the transport up without ceremony."""
        ...
