"""What is unconfirmed on one WebSocket, and what the passing of time asks for.  Pure.

The ping is the acknowledgement.  Behind each batch goes a ping whose four bytes are
a counter; a pong with counter n confirms every ping up to n of this socket, because
a client may answer only the newest (RFC 6455, section 5.5.3).  Idle pings, which ask
whether the peer is still there, count in the same row, so the counters in flight
are always consecutive and a pong is found by one subtraction:

      confirmed      in flight                 next
    ...............|=========================|.......
                    first               first + len        (all modulo 2**32)
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from dispatcher import limits
from dispatcher.model import ChannelLimits, Position

COUNTER_BYTES = 4
_COUNTERS = 1 << (8 * COUNTER_BYTES)


class WindowLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be unconfirmed at once.  A larger single batch goes alone."""

    bytes_max: int
    events_max: int
    pings_max: int


def window_limits(batch_events: int) -> WindowLimits:
    """The bounds for a channel whose full batch has this many events."""
    return WindowLimits(
        bytes_max=limits.WINDOW_BYTES_MAX,
        events_max=limits.WINDOW_BATCHES_MAX * batch_events,
        pings_max=limits.WINDOW_PINGS_MAX,
    )


class _Sent(msgspec.Struct, frozen=True):
    position: Position | None  # None: an idle ping
    bytes_count: int
    events: int


class Confirmation(msgspec.Struct, frozen=True):
    """What one pong says."""

    position: Position | None  # the receiver has all up to here; None: nothing new
    events: int


class Window:
    """The unconfirmed sends of one socket, one entry for each ping in flight."""

    __slots__ = ("_bytes", "_events", "_first", "_in_flight")

    def __init__(self, counter: int) -> None:
        """``counter`` is where to begin; random, so that old or forged pongs do not fit."""
        self._first = counter % _COUNTERS
        self._in_flight: list[_Sent] = []  # few; a deque takes 700 bytes on every idle socket
        self._events = 0
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Window pings={len(self._in_flight)} events={self._events} bytes={self._bytes}>"

    @property
    def events(self) -> int:
        """Unconfirmed events."""
        return self._events

    @property
    def bytes_count(self) -> int:
        """Unconfirmed bytes of messages."""
        return self._bytes

    @property
    def is_empty(self) -> bool:
        """Whether every ping was answered."""
        return not self._in_flight

    @property
    def awaits_idle_pong(self) -> bool:
        """Whether the oldest ping in flight was sent with nothing unconfirmed before it."""
        return bool(self._in_flight) and self._in_flight[0].position is None

    def has_room(self, bounds: WindowLimits, bytes_count: int, events: int) -> bool:
        """Whether a batch of this size may be sent now."""
        if self._events == 0:
            return True
        return (
            len(self._in_flight) < bounds.pings_max
            and self._bytes + bytes_count <= bounds.bytes_max
            and self._events + events <= bounds.events_max
        )

    def push(self, position: Position, bytes_count: int, events: int) -> bytes:
        """Take in a batch that ends at ``position``; return the payload of the ping behind it."""
        assert events > 0
        return self._push(_Sent(position, bytes_count, events))

    def push_idle_ping(self) -> bytes:
        """Return the payload of a ping with nothing before it.  The window must be empty."""
        assert not self._in_flight
        return self._push(_Sent(None, 0, 0))

    def confirm(self, payload: bytes) -> Confirmation | None:
        """Take in a pong; None when its payload is not in flight."""
        if len(payload) != COUNTER_BYTES:
            return None
        index = (int.from_bytes(payload, "big") - self._first) % _COUNTERS
        if index >= len(self._in_flight):
            return None
        return self._pop(index + 1)

    def _push(self, sent: _Sent) -> bytes:
        counter = (self._first + len(self._in_flight)) % _COUNTERS
        self._in_flight.append(sent)
        self._bytes += sent.bytes_count
        self._events += sent.events
        return counter.to_bytes(COUNTER_BYTES, "big")

    def _pop(self, count: int) -> Confirmation:
        confirmed = self._in_flight[:count]
        del self._in_flight[:count]
        events = sum(sent.events for sent in confirmed)
        self._bytes -= sum(sent.bytes_count for sent in confirmed)
        self._events -= events
        self._first = (self._first + count) % _COUNTERS
        return Confirmation(confirmed[-1].position, events)


class LivenessRules(msgspec.Struct, frozen=True, kw_only=True):
    """How long a socket may be silent.  Seconds."""

    ping_interval_s: float
    pong_timeout_s: float  # for a ping sent with nothing unconfirmed before it
    ack_timeout_s: float  # without pong and without progress while something is unconfirmed
    inactivity_s: float  # without a message in either direction; pings and pongs do not count


def liveness_rules(channel: ChannelLimits) -> LivenessRules:
    """A channel's settings, as rules."""
    return LivenessRules(
        ping_interval_s=channel.ping_interval_s,
        pong_timeout_s=channel.pong_timeout_s,
        ack_timeout_s=channel.ack_timeout_s,
        inactivity_s=channel.websocket_inactivity_s,
    )


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a socket, at a moment.  Times are on the clock of ``decide``'s ``now_s``."""

    is_unconfirmed: bool  # messages wait for their pong, or something is being written
    alive_s: float  # last pong or progress, or when the oldest unconfirmed message began
    pinged_s: float  # last ping of any sort
    idle_pinged_s: float | None  # when the unanswered idle ping had been written; None: there is none
    active_s: float  # last message in either direction


class Verdict(StrEnum):
    """Why a socket is ended by the clock."""

    PING_TIMEOUT = "ping timeout"
    ACK_TIMEOUT = "ack timeout"
    INACTIVITY = "inactivity"


class Ping(msgspec.Struct, frozen=True):
    """Send an idle ping now."""


class Close(msgspec.Struct, frozen=True):
    """End the socket; ``text`` is for its Close frame."""

    verdict: Verdict
    text: str


class WaitUntil(msgspec.Struct, frozen=True):
    """Nothing to do.  Look again at ``at_s``, or when something became unconfirmed."""

    at_s: float


def decide(liveness: Liveness, rules: LivenessRules, now_s: float) -> Ping | Close | WaitUntil:
    """Say what the time asks for.

    An unanswered idle ping keeps its short limit when messages follow it: the
    client was idle when it was sent, and reads it before them.
    ``WaitUntil.at_s`` is always later than ``now_s``.
    """
    inactive_s = liveness.active_s + rules.inactivity_s
    if now_s >= inactive_s:
        return Close(Verdict.INACTIVITY, f"inactivity: no message for {rules.inactivity_s:g} s")
    due_s = inactive_s
    if liveness.idle_pinged_s is not None:
        pong_due_s = liveness.idle_pinged_s + rules.pong_timeout_s
        if now_s >= pong_due_s:
            return Close(Verdict.PING_TIMEOUT, f"ping timeout: no pong within {rules.pong_timeout_s:g} s")
        due_s = min(due_s, pong_due_s)
    if liveness.is_unconfirmed:
        ack_due_s = liveness.alive_s + rules.ack_timeout_s
        if now_s >= ack_due_s:
            return Close(
                Verdict.ACK_TIMEOUT, f"ping timeout: no pong and no progress for {rules.ack_timeout_s:g} s"
            )
        return WaitUntil(min(due_s, ack_due_s, now_s + progress_interval_s(rules)))
    if liveness.idle_pinged_s is not None:
        return WaitUntil(due_s)
    ping_due_s = max(liveness.pinged_s, liveness.alive_s) + rules.ping_interval_s
    return Ping() if now_s >= ping_due_s else WaitUntil(min(due_s, ping_due_s))


def progress_interval_s(rules: LivenessRules) -> float:
    """How often to ask the transport for progress while something is unconfirmed.

    Progress is dated when it is seen, so a dead peer may get this much on top of
    ``ack_timeout_s``.
    """
    return rules.ack_timeout_s / limits.PROGRESS_CHECKS_PER_ACK_TIMEOUT
