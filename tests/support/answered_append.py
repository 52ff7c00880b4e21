"""An append whose answer is kept with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dispatcher.core.idempotency import KeyScope
from dispatcher.queue.interface import Appended, ChannelQueue, Records, Route, Ticket


def append_answered(
    queue: ChannelQueue,
    records: Records,
    routes: Sequence[Route],
    unix_ms: int,
    scope: KeyScope,
    tell: Callable[[Appended], bytes],
) -> tuple[Appended, Ticket]:
    """``append``, and ``keep`` of what ``tell`` says of it: the ticket is for both."""
    appended, _ = queue.append(records, routes, unix_ms, has_answer=True)
    return appended, queue.keep(scope, tell(appended))
