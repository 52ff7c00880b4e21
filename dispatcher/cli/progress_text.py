"""One line on how far long work is.  Pure: numbers in, text out."""

from __future__ import annotations

import math

from dispatcher.cli.quantities import bytes_text, seconds_text

_BAR_COLUMNS_MIN = 10
_BAR_COLUMNS_MAX = 40


def progress_text(label: str, elapsed_s: float, done: int, whole: int | None, width: int) -> str:
    """How far it is, in at most ``width`` columns of plain ASCII; ``done`` and ``whole`` are bytes.

    Without a ``whole``, or when more than that is done, no end is told.  What does not find
    room is left out, the rate first and the label last.
    """
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    rate_text = f"{bytes_text(int(rate))}/s" if rate >= 1 else ""
    if whole is None or done > whole:
        amount = bytes_text(done) if done else ""
        return _fitting(width, [label, amount, _time_text(elapsed_s), rate_text], by_use=[0, 2, 1, 3])
    share = done / whole if whole else 1.0
    left_text = f"{_time_text((whole - done) / rate)} left" if rate >= 1 else ""
    parts = [label, f"{share:4.0%}", f"{bytes_text(done)} of {bytes_text(whole)}", rate_text, left_text]
    text = _fitting(width - _BAR_COLUMNS_MIN - 4, parts, by_use=[0, 1, 4, 2, 3])
    if not text.startswith(label):  # too narrow for a bar
        return _fitting(width, [label, f"{share:.0%}"], by_use=[0, 1])
    columns = min(_BAR_COLUMNS_MAX, width - len(text) - 4)
    filled = math.floor(columns * share)
    bar = f"[{'#' * filled}{'.' * (columns - filled)}]"
    return f"{label}  {bar}{text[len(label) :]}"


def _fitting(width: int, parts: list[str], by_use: list[int]) -> str:
    """As many of the parts as find room, in their order; the first one is cut when it has to be."""
    for count in range(len(parts), 0, -1):
        kept = sorted(by_use[:count])
        text = "  ".join(parts[at] for at in kept if parts[at])
        if len(text) <= width:
            return text
    return parts[0][: max(0, width)]


def _time_text(seconds: float) -> str:
    """In whole seconds, so that it does not flicker."""
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else seconds_text(whole)
