"""What a log may say of an exception nobody expected."""

from __future__ import annotations

import traceback


def describe(error: BaseException) -> str:
    """Type and places of an exception, one leaf of a group after the other.

    Never its words: they may quote what a client sent.
    """
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(describe(leaf) for leaf in error.exceptions)
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__qualname__}\n{places}".rstrip()
