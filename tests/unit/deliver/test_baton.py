"""One writer at a time, in order, whoever gives up meanwhile."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dispatcher.deliver.baton import Baton


class Writers:
    """Tasks that take it in turn, and hold it until they are told."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.baton = Baton()
        self.began: list[str] = []
        self._nursery = nursery
        self._may_end = {name: trio.Event() for name in "abcd"}
        self.scopes: dict[str, trio.CancelScope] = {}

    async def start(self, name: str) -> None:
        self._nursery.start_soon(self._write, name)
        await wait_all_tasks_blocked()

    async def end(self, name: str) -> None:
        self._may_end[name].set()
        await wait_all_tasks_blocked()

    async def _write(self, name: str) -> None:
        with trio.CancelScope() as self.scopes[name]:
            await self.baton.take()
            self.began.append(name)
            try:
                await self._may_end[name].wait()
            finally:
                self.baton.give_back()


async def test_the_next_begins_when_the_one_before_has_ended(nursery: trio.Nursery) -> None:
    writers = Writers(nursery)
    for name in "abc":
        await writers.start(name)
    assert writers.began == ["a"]
    await writers.end("a")
    assert writers.began == ["a", "b"]
    await writers.start("d")
    await writers.end("b")
    await writers.end("c")
    assert writers.began == ["a", "b", "c", "d"]
    await writers.end("d")
    assert repr(writers.baton) == "<Baton free, 0 waiting>"


async def test_who_gives_up_waiting_is_passed_over_and_who_was_just_given_it_gives_it_back(
    nursery: trio.Nursery,
) -> None:
    writers = Writers(nursery)
    for name in "abcd":
        await writers.start(name)
    writers.scopes["b"].cancel()
    await wait_all_tasks_blocked()
    writers._may_end["a"].set()
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    writers.scopes["c"].cancel()  # whether it has begun or not
    await wait_all_tasks_blocked()
    assert writers.began[0] == "a"
    assert writers.began[-1] == "d"
    await writers.end("d")
    assert "free" in repr(writers.baton)


async def test_a_free_baton_is_taken_without_a_step_of_the_loop_but_not_by_who_is_cancelled() -> None:
    baton = Baton()
    steps: list[str] = []

    async def other() -> None:
        steps.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await baton.take()
        steps.append("taken")
    assert steps == ["taken", "other"]
    baton.give_back()
    with trio.CancelScope() as scope:
        scope.cancel()
        await baton.take()
    assert scope.cancelled_caught
    with pytest.raises(AssertionError):
        baton.give_back()
