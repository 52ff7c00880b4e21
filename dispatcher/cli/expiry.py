"""When a key expires, as it is written on the command line and shown again."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

UNIX_MS_MAX = 253_402_300_799_000  # the last second of the year 9999, the last that RFC 3339 can write
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,12})([smhd])")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")


def parse_expiry(text: str, now_unix_ms: int) -> int:
    """``90d`` (``s``, ``m``, ``h``, ``d`` from now) or an RFC 3339 time, in milliseconds since 1970.

    Raises ``ValueError`` that says what is wanted, also for what is not in the future.
    """
    expires_unix_ms = _unix_ms(text, now_unix_ms)
    if expires_unix_ms is None or expires_unix_ms > UNIX_MS_MAX:
        raise ValueError(
            f"{text!r}: want a duration such as 90d or 12h, or a time such as 2030-01-31T00:00:00Z"
        )
    if expires_unix_ms <= now_unix_ms:
        raise ValueError(f"{text!r} is not in the future")
    return expires_unix_ms


def expiry_text(unix_ms: int) -> str:
    """The moment as an RFC 3339 time in UTC, to the second."""
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _unix_ms(text: str, now_unix_ms: int) -> int | None:
    duration = _DURATION.fullmatch(text)
    if duration is not None:
        return now_unix_ms + int(duration[1]) * _UNITS_S[duration[2]] * 1000
    if _TIME.fullmatch(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:  # a month of 32 days
        return None
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
