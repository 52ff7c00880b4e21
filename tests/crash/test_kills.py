"""A daemon that is killed under load, again and again: everything answered 202 arrives, in order.

``DISPATCHER_KILL_ROUNDS`` sets how often (100 when unset).  The first lives end at each of
the named points between two system calls (``support/kill_points.py``) in turn, and twice
in a row while they recover; then half end at such a point, and half at a random moment.
A failure shows the seed.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.crash_house import SIZES, House, open_house
from support.kill_points import KILL_POINTS, Death
from support.lives import Lives, open_lives

from dispatcher.model import Durability

ROUNDS = int(os.environ.get("DISPATCHER_KILL_ROUNDS", "100"))
RANDOM_S_MAX = 0.5
POINT_S_MAX = 10.0  # until a named point is passed
NTH_MAX = {"recovery": 4, "secure": 2, "prepare": 4, "header": 4, "group": 30, "clean": 4}
DELIVERY_S = 30.0


def deaths(dice: random.Random, passed: set[str]) -> Iterator[Death | None]:
    """Where the lives end; None: at a random moment.  A point that no life has come to is tried again."""
    for point in dice.sample(KILL_POINTS, len(KILL_POINTS)):
        yield Death(point)
        if point.startswith(("recovery", "secure")):
            yield Death(point)
    while True:
        missed = [point for point in KILL_POINTS if point not in passed]
        point = dice.choice(missed or KILL_POINTS)
        nth = 1 if missed else dice.randint(1, NTH_MAX[point.partition(".")[0]])
        yield Death(point, nth) if dice.random() < 0.5 else None


async def live_and_die(lives: Lives, house: House, death: Death | None, dice: random.Random) -> bool:
    """One life under load; whether it ended where it was told to."""
    durability = Durability.PROCESS if death is None and dice.random() < 0.4 else Durability.DISK
    await house.begin_life()
    life = await lives.begin(house.settings(durability), death)
    async with trio.open_nursery() as nursery:
        if life.port is not None:
            nursery.start_soon(house.read_websocket, life.port, house.websocket)
            for poster in house.posters:
                nursery.start_soon(poster.post_until_killed, life.port, durability)
            if dice.random() < 0.3:  # the late one connects: mostly it only looks, and confirms nothing
                answers_pings = dice.random() < 0.4
                nursery.start_soon(
                    lambda port: house.read_websocket(port, house.late, answers_pings=answers_pings),
                    life.port,
                )
        with trio.move_on_after(POINT_S_MAX if death else dice.uniform(0.01, RANDOM_S_MAX)):
            await life.ended()
        died_there = life.exit_status is not None
        good = {-signal.SIGKILL}
        if dice.random() < 0.2:  # in the midst of an orderly end, unless that is faster
            good.add(0)
            life.kill(signal.SIGTERM)
            await trio.sleep(dice.uniform(0, 0.03))
        life.kill(signal.SIGKILL)
        assert await life.ended() in good
    return died_there


async def deliver_the_rest(lives: Lives, house: House) -> None:
    """A last life, which ends well, and in which everyone gets what is left."""
    await house.begin_life()
    life = await lives.begin(house.settings())
    assert life.port is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.read_websocket, life.port, house.websocket)
        nursery.start_soon(house.read_websocket, life.port, house.late)
        with trio.move_on_after(DELIVERY_S):
            while not all(poster.is_served() for poster in house.posters):  # noqa: ASYNC110
                await trio.sleep(0.05)  # another process has no event to wait for
        life.kill(signal.SIGTERM)
        assert await life.ended() == 0


@pytest.mark.slow
async def test_what_was_accepted_arrives_in_order_wherever_the_daemon_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    passed: set[str] = set()
    async with open_lives(tmp_path, SIZES) as lives, open_house(tmp_path, seed) as house:
        for _, death in zip(range(ROUNDS), deaths(dice, passed), strict=False):
            if await live_and_die(lives, house, death, dice) and death is not None:
                passed.add(death.point)
        await deliver_the_rest(lives, house)
        for poster in house.posters:
            poster.check()
        print(house.callback, house.websocket, house.late, house.refused, len(passed))
    assert 2 * len(KILL_POINTS) > ROUNDS or passed == set(KILL_POINTS)
