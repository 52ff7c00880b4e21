"""When an operator is warned that something runs full or runs out, and how rarely.  Pure.

A level is told when it is reached, and again only after the share has fallen clearly
below it: what swings about a level is told once.
"""

from __future__ import annotations

LEVELS = (0.5, 0.7, 0.9)
_FALL = 0.1  # how far below a level counts as having left it
_LOOK_SHARE = 0.05  # of a queue's bound that may come in above the last level before a look


def level_now(told: float, share: float) -> float:
    """The highest level that ``share`` is at, 0 for none; ``told`` is the one that was before."""
    reached = max((level for level in LEVELS if share >= level), default=0.0)
    return told if reached < told and share >= told - _FALL else reached


def next_level(share: float) -> float | None:
    """The next level above; None: there is none."""
    return next((level for level in LEVELS if level > share), None)


def room_bytes(record_bytes: int, queue_bytes: int) -> int:
    """How many bytes may come into a queue before it has to be looked at, so that no level is missed."""
    level = next_level(record_bytes / queue_bytes)
    return int(queue_bytes * _LOOK_SHARE) if level is None else int(level * queue_bytes) - record_bytes
