"""Numbers, sizes and times as people read them.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime

_SIZES = ("B", "kB", "MB", "GB", "TB")
_UNITS_S = ((86_400, "d"), (3_600, "h"), (60, "m"))


def count_text(count: int) -> str:
    """``1,234``."""
    return f"{count:,}"


def bytes_text(count: int) -> str:
    """``1.2 MB``: three digits at most, and the unit."""
    value, unit = float(count), 0
    while round(value) >= 1000 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 9.95 else 1
    return f"{value:.{digits}f} {_SIZES[unit]}"


def seconds_text(seconds: float | None) -> str:
    """``2d 3h``, ``4m 5s``, ``1.5s``, ``30ms``; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds else "0s"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    for at, (unit_s, name) in enumerate(_UNITS_S):
        if whole >= unit_s:
            rest = whole % unit_s
            below_s, below = (*_UNITS_S, (1, "s"))[at + 1]
            more = rest // below_s
            return f"{whole // unit_s}{name}" + (f" {more}{below}" if more else "")
    return f"{whole}s"


def moment_text(unix_ms: int) -> str:
    """An RFC 3339 time in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def share_text(part: int, whole: int) -> str:
    """``12%`` of a bound."""
    return f"{100 * part / whole:.0f}%" if whole else ""
