"""When a failed delivery is tried again, and how large the next batch may be.

Pure: the caller passes the time in, on whatever clock it compares with.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from dispatcher import limits

_DOUBLINGS_MAX = 32  # far past any longest pause; keeps the power finite
_GROWTH_PARTS = 16  # a learned size grows by a sixteenth, and stays a sixteenth below a refusal


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's pauses between attempts: ``initial_s``, doubled each time, at most ``max_s``."""

    initial_s: float
    max_s: float


class RetryState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a channel stands.  A fresh one is a channel that does not fail."""

    failures: int = 0  # since the last success
    failing_since_s: float | None = None  # when the first of them was seen
    next_attempt_s: float = 0.0  # 0: at once


def after_failure(
    state: RetryState, policy: RetryPolicy, now_s: float, retry_after_s: float | None
) -> RetryState:
    """The state after an attempt that failed at ``now_s``: the answer's or the timeout's time.

    ``retry_after_s`` is what the receiver asked for; it lengthens the pause, up to
    ``limits.RETRY_AFTER_S_MAX``, and never shortens it.
    """
    backoff_s = min(policy.max_s, policy.initial_s * 2.0 ** min(state.failures, _DOUBLINGS_MAX))
    asked_s = min(retry_after_s or 0.0, limits.RETRY_AFTER_S_MAX)
    return RetryState(
        failures=state.failures + 1,
        failing_since_s=now_s if state.failing_since_s is None else state.failing_since_s,
        next_attempt_s=now_s + max(backoff_s, asked_s),
    )


def parse_retry_after(value: str, date: str | None, now_unix_s: float) -> float | None:
    """Seconds that a ``Retry-After`` asks for, at least 0; None when it says nothing we understand.

    An HTTP date is taken relative to the answer's own ``Date`` where there is one,
    so that the receiver's clock may be wrong; else to ``now_unix_s``.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])  # a longer number is over every bound as well
    until_unix_s = _unix_s(text)
    if until_unix_s is None:
        return None
    answered_unix_s = _unix_s(date) if date is not None else None
    return max(0.0, until_unix_s - (now_unix_s if answered_unix_s is None else answered_unix_s))


def _unix_s(http_date: str) -> float | None:
    try:
        moment: datetime = parsedate_to_datetime(http_date)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class BatchSize(msgspec.Struct, frozen=True, kw_only=True):
    """How large a channel's next batch may be.

    Starts as the tier's limit.  ``ceiling_bytes`` is how far it may grow back; None
    while the receiver never refused a size.
    """

    limit_bytes: int
    ceiling_bytes: int | None = None


def after_refused_size(size: BatchSize, sent_bytes: int) -> BatchSize:
    """The size after the receiver refused a batch of ``sent_bytes`` as too large.

    Half of what was sent, where that is less than half of the limit, so that a
    refusal always makes the next batch smaller; never below
    ``limits.LEARNED_BATCH_BYTES_MIN`` (or the limit itself, if that is smaller).
    """
    floor_bytes = min(limits.LEARNED_BATCH_BYTES_MIN, size.limit_bytes)
    highest_bytes = size.limit_bytes if size.ceiling_bytes is None else size.ceiling_bytes
    below_refused_bytes = sent_bytes - max(1, sent_bytes // _GROWTH_PARTS)
    return BatchSize(
        limit_bytes=max(floor_bytes, min(size.limit_bytes, sent_bytes) // 2),
        ceiling_bytes=max(floor_bytes, min(highest_bytes, below_refused_bytes)),
    )


def after_success(size: BatchSize) -> BatchSize:
    """The size after a batch was taken: a sixteenth more, up to the ceiling.

    The ceiling lies a sixteenth below the last size refused and falls with each
    refusal, so a receiver with a fixed bound refuses a few batches and then none.
    """
    if size.ceiling_bytes is None or size.limit_bytes >= size.ceiling_bytes:
        return size
    grown_bytes = size.limit_bytes + max(1, size.limit_bytes // _GROWTH_PARTS)
    return msgspec.structs.replace(size, limit_bytes=min(size.ceiling_bytes, grown_bytes))
