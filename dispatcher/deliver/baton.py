"""Whoever has it may write: what ``trio.Lock`` is, without who has it, which costs as much as the rest."""

from __future__ import annotations

import trio


class Baton:
    """One task at a time has it; the others get it in the order in which they asked."""

    __slots__ = ("_is_taken", "_waiting")

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: trio.lowlevel.ParkingLot | None = None  # while anyone ever had to

    def __repr__(self) -> str:
        waiting = 0 if self._waiting is None else len(self._waiting)
        return f"<Baton {'taken' if self._is_taken else 'free'}, {waiting} waiting>"

    async def take(self) -> None:
        """Return when it is ours.  Cancellation: it is not.  A free one costs no step of the loop."""
        if self._is_taken:
            if self._waiting is None:
                self._waiting = trio.lowlevel.ParkingLot()
            await self._waiting.park()  # whoever gives it back hands it over
            return
        await trio.lowlevel.checkpoint_if_cancelled()
        self._is_taken = True

    def give_back(self) -> None:
        """It is the next one's."""
        assert self._is_taken, "only who has it gives it back"
        if self._waiting:
            self._waiting.unpark()
        else:
            self._is_taken = False
