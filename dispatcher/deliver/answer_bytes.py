"""The memory that answers to long polls take while they are on their way."""

from __future__ import annotations

import trio

from dispatcher import limits


class AnswerBytes:
    """Bounds the bytes of all answers that no socket has taken yet.

    One of it serves the whole process.  An answer larger than everything goes alone.
    """

    def __init__(self, bytes_max: int = limits.LONG_POLL_ANSWERS_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._held = 0
        self._given_back = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<AnswerBytes {self._held} of {self._bytes_max}>"

    async def take(self, count: int) -> None:
        """Return when there is room for ``count`` bytes, which are then taken.

        Cancellation: nothing was taken.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._held and self._held + count > self._bytes_max:
            await self._given_back.park()
        self._held += count

    def give_back(self, count: int) -> None:
        """The bytes are no longer held."""
        assert count <= self._held
        self._held -= count
        self._given_back.unpark_all()
