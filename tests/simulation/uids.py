"""Positions read back from uids, which FORMAT.md allows whoever knows incarnation and epoch."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_HIGH = (1 << 58) - 1
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_FIRST_INVERSE = pow(_FIRST, -1, 1 << 64)
_SECOND_INVERSE = pow(_SECOND, -1, 1 << 64)


def _mix(x: int) -> int:
    x ^= x >> 30
    x = x * _FIRST & _MASK
    x ^= x >> 27
    x = x * _SECOND & _MASK
    return x ^ (x >> 31)


def _unmix(x: int) -> int:
    x ^= x >> 31 ^ x >> 62
    x = x * _SECOND_INVERSE & _MASK
    x ^= x >> 27 ^ x >> 54
    x = x * _FIRST_INVERSE & _MASK
    return x ^ x >> 30 ^ x >> 60


class Uids(Generic[T]):
    """Says which (owner, epoch, seq) a uid is, for the owners that are known."""

    def __init__(self) -> None:
        self._owners: dict[int, tuple[T, int, int]] = {}  # by the part that all uids of an epoch share

    def know(self, owner: T, incarnation: int, epoch: int) -> None:
        """An incarnation gives seqs in an epoch."""
        key = _mix(incarnation)
        shared = _mix(key + (epoch + 1) * _GOLDEN & _MASK) & _HIGH
        self._owners.setdefault(shared, (owner, epoch, key))

    def find(self, uid: str) -> tuple[T, int, int] | None:
        """Owner, epoch and seq; None when no known incarnation can have given it."""
        digits = uid.replace("-", "")
        high60 = int(digits[:12] + digits[13:16], 16)
        low62 = int(digits[16:], 16) & ((1 << 62) - 1)
        found = self._owners.get(high60 >> 2)
        if found is None:
            return None
        owner, epoch, key = found
        return owner, epoch, _unmix((high60 & 3) << 62 | low62) ^ key
