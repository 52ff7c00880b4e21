"""Turns of the loop that stay short, counted on a clock that goes on only when a step says so."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dispatcher.deliver.direct_io import receive
from dispatcher.deliver.turns import TURN_SECONDS, Turns, turns_of_loop
from dispatcher.limits import TURN_S_MAX, TURN_STEPS_FIRST

TASKS = 300


class House(trio.abc.Instrument):
    """A loop of which the turns are counted."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.turns = turns_of_loop(lambda: self.now_s)
        self.turn = 0
        self.are_long = False  # all turns from now on, from their beginning
        self.steps: list[tuple[int, int]] = []  # turn and who
        trio.lowlevel.add_instrument(self)

    def after_io_wait(self, timeout: float) -> None:
        self.turn += 1
        self.now_s += 2 * TURN_S_MAX if self.are_long else 0.0

    def step(self, who: int, step_s: float) -> None:
        self.steps.append((self.turn, who))
        self.now_s += step_s

    @property
    def steps_most(self) -> int:
        """In one turn."""
        return max(Counter(turn for turn, _ in self.steps).values())

    def call(self, nursery: trio.Nursery, work: Callable[[int], object]) -> None:
        """Let every task go as the supervisor does."""

        async def run(who: int) -> None:
            self.turns.begun()
            work(who)

        for who in range(TASKS):
            self.turns.call(lambda who=who: nursery.start_soon(run, who))  # type: ignore[misc]


@pytest.fixture
async def house() -> House:
    return House()


async def test_alone_a_task_gives_way_for_one_turn_and_stands_in_no_line(house: House) -> None:
    before = house.turn
    for _ in range(10):
        await house.turns.give_way()
    assert house.turn - before == 10


async def test_a_crowd_goes_in_order_and_only_so_many_in_a_turn(house: House) -> None:
    async with trio.open_nursery() as nursery:
        house.call(nursery, lambda who: house.step(who, TURN_S_MAX / 4))
    by_turn: dict[int, list[int]] = {}
    for turn, who in house.steps:
        by_turn.setdefault(turn, []).append(who)
    counts = [len(who) for _, who in sorted(by_turn.items())]
    assert max(counts) <= TURN_STEPS_FIRST
    assert max(counts[4:-1]) <= 6  # learnt: 4 take as long as a turn may
    order = [who for _, who in house.steps]
    assert all(abs(place - who) <= TURN_STEPS_FIRST for place, who in enumerate(order))


async def test_short_steps_are_let_go_in_greater_numbers(house: House) -> None:
    async with trio.open_nursery() as nursery:
        house.call(nursery, lambda who: house.step(who, TURN_S_MAX / 1_000))
    assert house.steps_most > TURN_STEPS_FIRST


async def test_who_had_a_step_stands_behind_all_who_had_none(house: House) -> None:
    async def greedy() -> None:
        while True:
            house.step(-1, TURN_S_MAX)
            await house.turns.give_way()

    async with trio.open_nursery() as nursery:
        house.call(nursery, lambda who: house.step(who, TURN_S_MAX))
        nursery.start_soon(greedy)
        while sum(who >= 0 for _, who in house.steps) < TASKS:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert sum(who < 0 for _, who in house.steps) <= 4


async def test_who_is_cancelled_in_line_leaves_it_and_holds_up_nobody(house: House) -> None:
    """At whatever moment: in line, let go and not begun, or giving way alone."""
    dice = Random(7)
    done: list[int] = []

    async def work(who: int, scope: trio.CancelScope) -> None:
        with scope:
            for _ in range(3):
                house.step(who, TURN_S_MAX / 2)
                await house.turns.give_way()
            done.append(who)

    scopes = [trio.CancelScope() for _ in range(TASKS)]
    async with trio.open_nursery() as nursery:
        for who, scope in enumerate(scopes):
            nursery.start_soon(work, who, scope)
        cancelled = dice.sample(range(TASKS), TASKS // 2)
        for who in cancelled:
            scopes[who].cancel()
            if dice.random() < 0.3:
                await trio.lowlevel.checkpoint()
    assert set(range(TASKS)) - set(cancelled) <= set(done)
    with trio.fail_after(1):
        await house.turns.give_way()
    assert "0 of" in repr(house.turns)
    assert "0 in line" in repr(house.turns)


@pytest.mark.parametrize("is_long", [False, True])
async def test_what_comes_in_a_turn_that_is_long_is_read_in_another(house: House, is_long: bool) -> None:
    ours, theirs = socket.socketpair()
    came = read = -1

    async def see() -> None:
        nonlocal came
        with socket.socket(fileno=os.dup(ours.fileno())) as same:
            await trio.lowlevel.wait_readable(same)
            came = house.turn

    async def receive_it() -> None:
        nonlocal read
        assert await receive(stream, 10) == b"hello"
        read = house.turn

    with ours, theirs:
        ours.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(see)
            nursery.start_soon(receive_it)
            await wait_all_tasks_blocked()
            house.are_long = is_long
            theirs.send(b"hello")
    assert read - came == is_long


async def test_turns_are_counted_by_how_long_they_last(house: House) -> None:
    def counts() -> list[float]:
        upto = [count for _, count in house.turns.seconds.buckets()]
        return [count - before for count, before in zip(upto, [0.0, *upto], strict=False)]

    await trio.lowlevel.checkpoint()
    before = counts()
    house.now_s += 0.004
    await trio.lowlevel.checkpoint()
    house.now_s += 100.0
    await trio.lowlevel.checkpoint()
    grown = [now - then for now, then in zip(counts(), before, strict=True)]
    assert grown[TURN_SECONDS.index(0.005)] == 1
    assert grown[-1] == 1


async def test_all_in_a_loop_share_its_turns(house: House) -> None:
    assert turns_of_loop() is house.turns
    assert isinstance(house.turns, Turns)
