"""The uid of a record: a UUIDv8 of (incarnation, epoch, seq), as FORMAT.md gives it.

A uid is never stored: the same record has the same one on every delivery, and no
two records of one channel's life share one.  The native core writes the same.
"""

from __future__ import annotations

_MASK_64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: splitmix64's step


def uid(incarnation: int, epoch: int, seq: int) -> str:
    """The uid of a record, in lower case with hyphens; all three are 64-bit numbers."""
    key = _mix64(incarnation)
    shared = _mix64(key + (epoch + 1) * _GOLDEN)
    own = _mix64(seq ^ key)
    high = ((shared & ((1 << 58) - 1)) << 2) | (own >> 62)
    low = own & ((1 << 62) - 1)
    digits = f"{high >> 12:012x}8{high & 0xFFF:03x}{0b10 << 62 | low:016x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _mix64(x: int) -> int:
    """The finaliser of splitmix64: a bijection of 64-bit numbers."""
    x &= _MASK_64
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & _MASK_64
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & _MASK_64
    return x ^ (x >> 31)
