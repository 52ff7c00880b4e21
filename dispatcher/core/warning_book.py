"""What an operator is to be told and was not yet: one entry for each event and what it is about.  Pure.

Of a storm the book keeps a bounded part: what happens again to the same channel is added to its
entry, and what finds no place is a number.
"""

from __future__ import annotations

from collections.abc import Mapping

from dispatcher.model import OperatorWarning

_SUMS = frozenset({"count"})  # fields that are added up; of the others the newest is kept


class WarningBook:
    """Entries in the order of their first happening, at most ``entries_max``."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._entries: dict[tuple[str, str], OperatorWarning] = {}
        self._untold: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, event: str, subject: str, fields: Mapping[str, object], now_unix_ms: int) -> bool:
        """It happened; False when there was no place for it.  Cost: constant."""
        entry = self._entries.get((event, subject))
        if entry is None:
            if len(self._entries) >= self._entries_max:
                self._untold[event] = self._untold.get(event, 0) + 1
                return False
            self._entries[event, subject] = OperatorWarning(event, now_unix_ms, now_unix_ms, 1, dict(fields))
            return True
        for name in _SUMS & entry.fields.keys() & fields.keys():
            fields = {**fields, name: entry.fields[name] + fields[name]}  # type: ignore[operator]
        entry.last_unix_ms, entry.fields = now_unix_ms, dict(fields)
        entry.times += 1
        return True

    def take(self) -> tuple[list[OperatorWarning], dict[str, int]]:
        """All entries, and by event how many found no place; the book is empty then."""
        taken = list(self._entries.values()), self._untold
        self._entries, self._untold = {}, {}
        return taken
