"""Running a command's work on Trio, so that its error is one error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from dispatcher.errors import DispatcherError

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command's work on Trio; an error comes out bare, not in an exception group."""
    try:
        return trio.run(work)
    except BaseExceptionGroup as group:
        raise _telling(group) from None


def _telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception of a group that says why the work ended; the group when none does."""
    leaves = list(_leaves(group))
    for kinds in ((KeyboardInterrupt,), (DispatcherError,), (OSError,)):
        for leaf in leaves:
            if isinstance(leaf, kinds):
                return leaf
    return leaves[0] if len(leaves) == 1 else group


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
