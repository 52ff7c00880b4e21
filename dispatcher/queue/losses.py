"""What left a queue without being delivered: from the core's figures to losses, and to gaps.

A queue reports a loss to its operator, and its receiver is told of a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dispatcher.model import Gap, Position
from dispatcher.queue.interface import Loss


def gap_of(loss: Loss, last_seq: int) -> Gap:
    """A loss as a gap; records that never had a seq stand behind ``last_seq``, the last one given."""
    return Gap(
        behind_seq=loss.first_seq - 1 if loss.first_seq else last_seq,
        last_seq=loss.last_seq,
        count=loss.count,
        reason=loss.reason,
        from_unix_ms=loss.from_unix_ms,
        to_unix_ms=loss.to_unix_ms,
    )


def position_behind(gaps: Sequence[Gap], epoch: int) -> Position:
    """Where a batch ends that holds these gaps and no record."""
    return Position(epoch, max(gap.end_seq for gap in gaps), is_behind_gap=True)


def loss_of(channel: int, reason: str, removed: Any) -> Loss:
    """What the core removed (``nd_removed``)."""
    return Loss(
        channel=channel,
        reason=reason,
        count=removed.count,
        record_bytes=removed.bytes,
        first_seq=removed.first_seq,
        last_seq=removed.last_seq,
        from_unix_ms=removed.first_unix_ms,
        to_unix_ms=removed.last_unix_ms,
    )


def rejection_of(channel: int, route: Any, received_unix_ms: int) -> Loss:
    """What a full ring refused of a request (``nd_route``)."""
    return Loss(
        channel=channel,
        reason="rejected",
        count=route.rejected_count,
        record_bytes=route.rejected_bytes,
        first_seq=0,
        last_seq=0,
        from_unix_ms=received_unix_ms,
        to_unix_ms=received_unix_ms,
    )


def corruption_of(channel: int, count: int, record_bytes: int, first_seq: int) -> Loss:
    """Records that cannot be read any more."""
    return Loss(
        channel=channel,
        reason="corrupt",
        count=count,
        record_bytes=record_bytes,
        first_seq=first_seq,
        last_seq=first_seq + count - 1,
    )


def joined(losses: Sequence[Loss]) -> Loss:
    """Losses of one channel and reason, which follow each other, as one."""
    return Loss(
        channel=losses[0].channel,
        reason=losses[0].reason,
        count=sum(loss.count for loss in losses),
        record_bytes=sum(loss.record_bytes for loss in losses),
        first_seq=losses[0].first_seq,
        last_seq=losses[-1].last_seq,
        from_unix_ms=losses[0].from_unix_ms,
        to_unix_ms=losses[-1].to_unix_ms,
    )
