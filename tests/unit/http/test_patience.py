"""Waits on a clock that jumps: cut in time, not before, and looked at rarely."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from support.http_wire import WireClient, get
from support.served_connection import serve_alone

from dispatcher.http.message import Request, Response
from dispatcher.http.patience import Patience, Timekeeper
from dispatcher.http.service import Service
from dispatcher.limits import DRAIN_IDLE_S, KEEP_ALIVE_IDLE_S, PATIENCE_STEP_S, RESPONSE_STALL_S

Clock = trio.testing.MockClock


@asynccontextmanager
async def kept_time() -> AsyncIterator[Timekeeper]:
    timekeeper = Timekeeper()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timekeeper.run)
        yield timekeeper
        nursery.cancel_scope.cancel()


async def cut_after_s(patience: Patience) -> float:
    """How long the wait lasts that was just begun."""
    began_s = trio.current_time()
    with patience:
        await trio.sleep_forever()
    assert patience.is_lost
    return trio.current_time() - began_s


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.25, 19.9, 20.0, 20.01, 75.0])
async def test_wait_is_cut_in_its_time_and_never_before(seconds: float, autojump_clock: Clock) -> None:
    async with kept_time() as timekeeper:
        await trio.sleep(0.1)
        patience = Patience(timekeeper)
        patience.wait(seconds)
        assert seconds <= await cut_after_s(patience) <= seconds + PATIENCE_STEP_S


async def test_short_wait_behind_a_long_one_is_cut_in_its_time(autojump_clock: Clock) -> None:
    async with kept_time() as timekeeper:
        patience = Patience(timekeeper)
        patience.wait_idly(75)
        await trio.sleep(1)
        patience.rest()
        patience.wait(20)
        assert 20 <= await cut_after_s(patience) <= 20 + PATIENCE_STEP_S


async def test_long_wait_behind_a_short_one_has_all_its_time(autojump_clock: Clock) -> None:
    async with kept_time() as timekeeper:
        patience = Patience(timekeeper)
        patience.wait(20)
        await trio.sleep(1)
        patience.rest()
        patience.wait_idly(75)
        assert 75 <= await cut_after_s(patience) <= 75 + PATIENCE_STEP_S


async def test_nothing_is_cut_that_is_not_waiting(autojump_clock: Clock) -> None:
    async with kept_time() as timekeeper:
        patience = Patience(timekeeper)
        with patience:
            patience.wait_idly(20)
            patience.rest()
            await trio.sleep(10_000)
        assert not patience.is_lost


async def test_waits_that_move_on_are_looked_at_once_in_a_wait_s_length(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Patience.look

    def counted(self: Patience, now_s: float) -> None:
        nonlocal looks
        looks += 1
        look(self, now_s)

    monkeypatch.setattr(Patience, "look", counted)
    async with kept_time() as timekeeper:
        patience = Patience(timekeeper)
        with patience:
            for _ in range(3_000):
                patience.wait_idly(75)
                await trio.sleep(0.5)
                patience.rest()
        assert not patience.is_lost
    assert 1_500 / 75 - 2 <= looks <= 1_500 / 75


async def test_of_many_waits_each_is_cut_at_its_own_end(autojump_clock: Clock) -> None:
    async with kept_time() as timekeeper:

        async def wait(seconds: float) -> None:
            patience = Patience(timekeeper)
            patience.wait(seconds)
            assert seconds <= await cut_after_s(patience) <= seconds + PATIENCE_STEP_S

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(wait, 1 + number * 37 % 100)


async def test_nothing_is_kept_of_connections_that_ended(autojump_clock: Clock) -> None:
    timekeeper = Timekeeper()
    for number in range(100):
        patience = Patience(timekeeper)
        with patience:
            patience.wait_idly(number)
            if number % 2:
                patience.rest()
    assert "waiting=0" in repr(timekeeper)
    assert not timekeeper._looks


async def test_drain_cuts_who_is_idle_and_not_who_is_being_answered(autojump_clock: Clock) -> None:
    async with kept_time() as timekeeper:
        idle, answered, late = (Patience(timekeeper) for _ in range(3))
        idle.wait_idly(75)
        answered.wait(20)
        timekeeper.drain()
        late.wait_idly(75)
        began_s = trio.current_time()
        for patience, seconds in ((idle, DRAIN_IDLE_S), (late, DRAIN_IDLE_S), (answered, 20)):
            await cut_after_s(patience)
            assert seconds <= trio.current_time() - began_s <= seconds + PATIENCE_STEP_S


# --- what a connection makes of it --------------------------------------------------------


async def test_client_that_stops_reading_behind_a_long_rest_is_cut_in_time(autojump_clock: Clock) -> None:
    async def big(request: Request) -> Response:
        return Response(200, bytes(1_000_000 if request.path == "/big" else 1))

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, Service(big))
        client = WireClient(theirs)
        for _ in range(3):
            await client.ask(get())
            await trio.sleep(KEEP_ALIVE_IDLE_S - 1)
        await client.send(get("/big"))
        await trio.sleep(RESPONSE_STALL_S + 2 * PATIENCE_STEP_S)
        assert not [task for task in nursery.child_tasks if task.name.endswith("serve_alone")]


async def test_client_that_rests_too_long_is_cut_and_one_that_comes_in_time_is_not(
    autojump_clock: Clock,
) -> None:
    async def answer(request: Request) -> Response:
        await trio.sleep(5 * KEEP_ALIVE_IDLE_S)  # to work long is not to rest
        return Response(200)

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_alone, ours, Service(answer))
        client = WireClient(theirs)
        for _ in range(20):
            assert (await client.ask(get())).status == 200
            await trio.sleep(KEEP_ALIVE_IDLE_S - 1)
        assert (await client.ask(get())).status == 200
        began_s = trio.current_time()
        assert await client.is_at_end()
        assert KEEP_ALIVE_IDLE_S <= trio.current_time() - began_s <= KEEP_ALIVE_IDLE_S + PATIENCE_STEP_S
