"""One answer per ``Idempotency-Key``, however many ask."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dispatcher.core.idempotency import KeyScope
from dispatcher.errors import UnprocessableKey
from dispatcher.http.replays import Replays

SCOPE = KeyScope(1, "k_1", "/gateway/v1/events", "once")
BODY, OTHER = b"a" * 32, b"b" * 32


class Work:
    """Counts how often it was done; waits until it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = trio.Event()
        self.fails = False

    async def __call__(self) -> bytes:
        self.count += 1
        await self.gate.wait()
        if self.fails:
            self.fails = False
            raise ValueError
        return b"answer %d" % self.count


async def test_a_second_request_gets_the_first_answer_and_does_no_work() -> None:
    replays, work = Replays(lambda: 0.0), Work()
    work.gate.set()
    assert await replays.once(SCOPE, BODY, work) == (b"answer 1", False)
    assert await replays.once(SCOPE, BODY, work) == (b"answer 1", True)
    assert work.count == 1


async def test_requests_that_come_meanwhile_wait_for_the_first() -> None:
    replays, work = Replays(lambda: 0.0), Work()
    found: list[tuple[bytes, bool]] = []

    async def ask() -> None:
        found.append(await replays.once(SCOPE, BODY, work))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert (work.count, found) == (1, [])
        work.gate.set()
    assert sorted(found, key=lambda item: item[1]) == [(b"answer 1", False)] + [(b"answer 1", True)] * 2


async def test_when_the_first_fails_or_is_cancelled_the_next_does_the_work() -> None:
    replays, work = Replays(lambda: 0.0), Work()
    with trio.move_on_after(0):
        await replays.once(SCOPE, BODY, work)
    work.fails = True
    work.gate.set()
    with pytest.raises(ValueError):  # noqa: PT011  the work's own
        await replays.once(SCOPE, BODY, work)
    assert await replays.once(SCOPE, BODY, work) == (b"answer 3", False)


async def test_another_body_under_the_same_key_is_refused_and_does_no_work() -> None:
    replays, work = Replays(lambda: 0.0), Work()
    work.gate.set()
    await replays.once(SCOPE, BODY, work)
    with pytest.raises(UnprocessableKey):
        await replays.once(SCOPE, OTHER, work)
    assert work.count == 1


async def test_another_scope_is_another_key() -> None:
    replays, work = Replays(lambda: 0.0), Work()
    work.gate.set()
    await replays.once(SCOPE, BODY, work)
    for scope in (
        KeyScope(2, "k_1", SCOPE.path, "once"),
        KeyScope(1, "k_2", SCOPE.path, "once"),
        KeyScope(1, "k_1", "/other", "once"),
    ):
        assert (await replays.once(scope, BODY, work))[1] is False
    assert work.count == 4


async def test_an_answer_is_forgotten_after_its_lifetime() -> None:
    now_s = 0.0
    replays, work = Replays(lambda: now_s), Work()
    work.gate.set()
    await replays.once(SCOPE, BODY, work)
    now_s = 86_401.0
    assert await replays.once(SCOPE, OTHER, work) == (b"answer 2", False)
