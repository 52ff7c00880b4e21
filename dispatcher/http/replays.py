"""Answers each ``Idempotency-Key`` once: the first request works, the others get its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from dispatcher.core.idempotency import Answered, Begun, IdempotencyTable, KeyScope


class Replays:
    """The waiting around an ``IdempotencyTable``."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._table = IdempotencyTable()
        self._now_s = now_s
        self._running: dict[KeyScope, trio.Event] = {}

    async def once(
        self, scope: KeyScope, body_sha256: bytes, work: Callable[[], Awaitable[bytes]]
    ) -> tuple[bytes, bool]:
        """The answer to a request, and whether it is an earlier one's.

        While the first request of a key is in flight the others wait for it; when it
        fails or is cancelled, the next of them does the work.  Raises ``UnprocessableKey``
        for another body, and whatever ``work`` raises, which is not kept.
        """
        while True:
            match self._table.begin(scope, body_sha256, self._now_s()):
                case Answered(answer):
                    await trio.lowlevel.checkpoint()
                    return answer, True
                case Begun():
                    return await self._work(scope, work), False
                case _:
                    await self._running[scope].wait()

    async def _work(self, scope: KeyScope, work: Callable[[], Awaitable[bytes]]) -> bytes:
        done = self._running[scope] = trio.Event()
        try:
            answer = await work()
        except BaseException:
            self._table.abandon(scope)
            raise
        else:
            self._table.finish(scope, answer, self._now_s())
            return answer
        finally:
            del self._running[scope]
            done.set()
