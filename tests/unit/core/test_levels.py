"""When an operator is warned, and how rarely."""

from __future__ import annotations

import random

import pytest

from dispatcher.core.levels import LEVELS, level_now, next_level, room_bytes


@pytest.mark.parametrize(
    ("told", "share", "level"),
    [
        (0.0, 0.0, 0.0),
        (0.0, 0.49, 0.0),
        (0.0, 0.5, 0.5),
        (0.0, 0.95, 0.9),
        (0.5, 0.71, 0.7),
        (0.5, 0.45, 0.5),
        (0.5, 0.39, 0.0),
        (0.9, 0.85, 0.9),
        (0.9, 0.79, 0.7),
        (0.9, 0.0, 0.0),
    ],
)
def test_a_level_is_left_only_clearly_below_it(told: float, share: float, level: float) -> None:
    assert level_now(told, share) == level


def test_the_next_level_is_above() -> None:
    assert [next_level(share) for share in (0.0, 0.5, 0.69, 0.7, 0.9, 1.0)] == [
        0.5,
        0.7,
        0.7,
        0.9,
        None,
        None,
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_level_is_missed_however_bytes_come_and_go(seed: int) -> None:
    """Looks only when the room is used up, and hears of every level the first time it is passed."""
    chance = random.Random(seed)
    queue_bytes, held, told, room = 10_000, 0, 0.0, 0
    heard: set[float] = set()
    for _ in range(2_000):
        came = chance.randrange(1, 400)
        held = min(queue_bytes, held + came)
        room -= came
        if room < 0:
            told = level_now(told, held / queue_bytes)
            heard.add(told)
            room = room_bytes(held, queue_bytes)
        if chance.random() < 0.3:
            held = max(0, held - chance.randrange(0, 1_500))
        passed = {level for level in LEVELS if held / queue_bytes > level}
        assert not passed or max(heard) >= max(passed) - 0.01
