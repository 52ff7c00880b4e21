"""One answer per ``Idempotency-Key``, however many ask."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dispatcher.core.idempotency import IdempotencyTable, KeyScope, key_scope
from dispatcher.errors import StorageFull, UnprocessableKey
from dispatcher.http.replays import Replays

PATH = "/gateway/v1/events"
SCOPE = key_scope(1, "k_1", PATH, "once")
BODY, OTHER = b"a" * 32, b"b" * 32


class Ticket:
    """Becomes durable when it is let go, or says that the disk is full."""

    def __init__(self) -> None:
        self.is_durable = False
        self.is_full = False
        self.gate = trio.Event()

    async def durable(self) -> None:
        await self.gate.wait()
        if self.is_full:
            raise StorageFull("full")


class Work:
    """Counts how often it was done; waits until it is let go, then keeps its answer."""

    def __init__(self, table: IdempotencyTable) -> None:
        self.table = table
        self.count = 0
        self.gate = trio.Event()
        self.fails = False
        self.ticket: Ticket | None = None

    async def __call__(self, scope: KeyScope) -> bytes:
        self.count += 1
        if not self.gate.is_set():
            await self.gate.wait()
        if self.fails:
            self.fails = False
            raise ValueError
        kept = self.table.finish(scope, b"answer %d" % self.count, 0, self.ticket)
        if self.ticket is not None:
            await self.ticket.durable()
        return kept.answer


class World:
    """A table, what is done at most once, and the time."""

    def __init__(self, *, is_let_go: bool = True) -> None:
        table = IdempotencyTable()
        self.now_ms = 0
        self.replays = Replays(table, lambda: self.now_ms)
        self.work = Work(table)
        self.found: list[tuple[bytes, bool]] = []
        if is_let_go:
            self.work.gate.set()

    async def ask(self, scope: KeyScope = SCOPE, body: bytes = BODY) -> tuple[bytes, bool]:
        answer = await self.replays.once(scope, body, self.work)
        self.found.append(answer)
        return answer


async def test_a_second_request_gets_the_first_answer_and_does_no_work() -> None:
    world = World()
    assert await world.ask() == (b"answer 1", False)
    assert await world.ask() == (b"answer 1", True)
    assert world.work.count == 1


async def test_requests_that_come_meanwhile_wait_for_the_first() -> None:
    world = World(is_let_go=False)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(world.ask)
        await wait_all_tasks_blocked()
        assert (world.work.count, world.found) == (1, [])
        world.work.gate.set()
    found = sorted(world.found, key=lambda item: item[1])
    assert found == [(b"answer 1", False)] + [(b"answer 1", True)] * 2


async def test_when_the_first_fails_or_is_cancelled_with_nothing_stored_the_next_does_the_work() -> None:
    world = World(is_let_go=False)
    with trio.move_on_after(0):
        await world.ask()
    world.work.fails = True
    world.work.gate.set()
    with pytest.raises(ValueError):  # noqa: PT011  the work's own
        await world.ask()
    assert await world.ask() == (b"answer 3", False)


async def test_a_first_request_that_is_cancelled_after_it_stored_its_events_is_never_done_again() -> None:
    world = World()
    ticket = world.work.ticket = Ticket()
    with trio.move_on_after(0):
        await world.ask()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.ask)
        await wait_all_tasks_blocked()
        assert world.found == []  # not durable yet
        with pytest.raises(UnprocessableKey):
            await world.ask(body=OTHER)
        ticket.gate.set()
    assert world.found == [(b"answer 1", True)]
    assert world.work.count == 1


async def test_those_who_wait_for_a_first_request_that_is_cancelled_get_its_answer() -> None:
    world = World(is_let_go=False)
    ticket = world.work.ticket = Ticket()
    first = trio.CancelScope()

    async def ask_first() -> None:
        with first:
            await world.ask()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_first)
        await wait_all_tasks_blocked()
        nursery.start_soon(world.ask)
        await wait_all_tasks_blocked()
        world.work.gate.set()
        await wait_all_tasks_blocked()
        first.cancel()
        await wait_all_tasks_blocked()
        assert (world.work.count, world.found) == (1, [])
        ticket.gate.set()
    assert world.found == [(b"answer 1", True)]
    assert world.work.count == 1


async def test_while_the_disk_is_full_a_repeat_is_told_so_and_afterwards_gets_the_answer() -> None:
    world = World()
    ticket = world.work.ticket = Ticket()
    ticket.is_full = True
    ticket.gate.set()
    for _ in range(3):
        with pytest.raises(StorageFull):
            await world.ask()
    ticket.is_full = False
    assert await world.ask() == (b"answer 1", True)
    assert world.work.count == 1


async def test_another_body_under_the_same_key_is_refused_and_does_no_work() -> None:
    world = World()
    await world.ask()
    with pytest.raises(UnprocessableKey):
        await world.ask(body=OTHER)
    assert world.work.count == 1


async def test_another_scope_is_another_key() -> None:
    world = World()
    await world.ask()
    for scope in (
        key_scope(2, "k_1", PATH, "once"),
        key_scope(1, "k_2", PATH, "once"),
        key_scope(1, "k_1", "/other", "once"),
    ):
        assert (await world.ask(scope))[1] is False
    assert world.work.count == 4


async def test_an_answer_is_forgotten_after_its_lifetime() -> None:
    world = World()
    await world.ask()
    world.now_ms = 86_400_001
    assert await world.ask(body=OTHER) == (b"answer 2", False)
