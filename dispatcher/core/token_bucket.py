"""How fast something may be done in the long run, and how much of it at once.

A bucket holds ``burst`` tokens and fills at ``per_s``.  What is kept of it is one number:
the moment at which it will be full again.  Times are whole nanoseconds, so that a wait
that was told is exact: a nanosecond before its end is refused, its end is not.

Whoever takes needs one token and may take more than are there: the bucket is then
overdrawn, and the next one waits until all is paid back.  So what is larger than the
burst can be done at all, its size need not be known before it begins, and the rate holds
in the long run whatever the sizes.
"""

from __future__ import annotations

import msgspec

_SECOND_NS = 1_000_000_000
_SWEEP_MIN = 64


class Allowance(msgspec.Struct, frozen=True):
    """A bucket's size and rate, as times: how long one token takes, and how long all of them."""

    token_ns: int
    full_ns: int


def allowance(per_s: float, burst: int) -> Allowance | None:
    """The allowance of these settings; None for a rate of 0: no limit.

    ``burst`` 0 is what a second brings, and never less than one token.
    """
    if not per_s:
        return None
    token_ns = max(1, round(_SECOND_NS / per_s))
    return Allowance(token_ns, token_ns * (burst or max(1, round(per_s))))


def whole_seconds(wait_ns: int) -> int:
    """A wait as ``Retry-After`` says it, rounded up: after so many seconds it is over."""
    return -(-wait_ns // _SECOND_NS)


class _Bucket(msgspec.Struct):
    allowance: Allowance
    full_at_ns: int


class Buckets:
    """The buckets of many owners, by number.  Full ones are as good as none, and are forgotten.

    Cost: constant, and at times one step for each bucket, paid by as many that were new.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, _Bucket] = {}
        self._sweep_at = _SWEEP_MIN

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_ns(self, key: int, allowance: Allowance, now_ns: int) -> int:
        """How long until the owner may take; 0: now.  To ask takes nothing."""
        bucket = self._buckets.get(key)
        if bucket is None or bucket.allowance != allowance:
            return 0
        return max(0, bucket.full_at_ns - now_ns + allowance.token_ns - allowance.full_ns)

    def take(self, key: int, allowance: Allowance, count: int, now_ns: int) -> None:
        """Take so many tokens, though it be more than there are.  An owner whose allowance is another
        one than before begins with a full bucket.
        """
        bucket = self._buckets.get(key)
        if bucket is None or bucket.allowance != allowance:
            self._sweep(now_ns)
            bucket = self._buckets[key] = _Bucket(allowance, now_ns)
        bucket.full_at_ns = max(bucket.full_at_ns, now_ns) + count * allowance.token_ns

    def _sweep(self, now_ns: int) -> None:
        if len(self._buckets) < self._sweep_at:
            return
        self._buckets = {key: each for key, each in self._buckets.items() if each.full_at_ns > now_ns}
        self._sweep_at = max(_SWEEP_MIN, 2 * len(self._buckets))
