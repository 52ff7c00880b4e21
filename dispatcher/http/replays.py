"""Answers each ``Idempotency-Key`` once: the first request works, the others get its answer.

An answer is kept in the step that stores the events, and becomes durable with them.  From
then on a repeat gets this answer, and what happens to the first request does not matter any
more: whether its client goes away, it is cancelled, or it hears that the disk is full.  What
is stored stays stored, and a repeat that worked again would store it twice.  So a repeat
waits until the answer is durable, and is told what the first was: 507 while the disk is full
and then the answer, or that the disk broke.  Whether the group reached that disk only the
next run can say: it finds events and answer, or neither, and then the repeat works.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from dispatcher.core.idempotency import Answered, Begun, IdempotencyTable, KeyScope


class Replays:
    """The waiting around an ``IdempotencyTable``."""

    def __init__(self, table: IdempotencyTable, now_unix_ms: Callable[[], int]) -> None:
        self._table = table
        self._now_unix_ms = now_unix_ms
        self._running: dict[KeyScope, trio.Event] = {}

    async def once(
        self, scope: KeyScope, body_sha256: bytes, work: Callable[[KeyScope], Awaitable[bytes]]
    ) -> tuple[bytes, bool]:
        """The answer to a request, and whether it is an earlier one's.

        ``work`` keeps its answer (``ChannelQueue.append``), waits until it is durable, and
        returns it.  The others of the key wait meanwhile; when it fails or is cancelled
        before it kept an answer, the next of them does the work.  Raises
        ``UnprocessableKey`` for another body, whatever ``work`` raises, and for a repeat
        whatever ``Ticket.durable`` raises.
        """
        while True:
            match self._table.begin(scope, body_sha256, self._now_unix_ms()):
                case Answered(answer, ticket):
                    if ticket is None:
                        await trio.lowlevel.checkpoint()
                    else:
                        await ticket.durable()
                    return answer, True
                case Begun():
                    return await self._work(scope, work), False
                case _:
                    await self._running[scope].wait()

    async def _work(self, scope: KeyScope, work: Callable[[KeyScope], Awaitable[bytes]]) -> bytes:
        done = self._running[scope] = trio.Event()
        try:
            return await work(scope)
        finally:
            self._table.abandon(scope)
            del self._running[scope]
            done.set()
