"""How long a certificate holds, and when its operator is told that it ends.  Pure.

Of X.509 only as much is read as it takes to find the two times (RFC 5280, 4.1).
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

WARN_DAYS = (14, 7, 1, 0)
_DAY_S = 86_400
_SEQUENCE, _INTEGER, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0x02, 0xA0, 0x17, 0x18


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """From when until when, in Unix seconds."""

    begin_s: float
    end_s: float

    def days_told(self, now_s: float) -> int | None:
        """The level of ``WARN_DAYS`` that is reached; None: there is time.

        A level counts only in the last third of the certificate's life: one made for six days
        would otherwise be warned of from its first on.
        """
        left_s = self.end_s - now_s
        life_s = self.end_s - self.begin_s
        reached = [days for days in WARN_DAYS if left_s <= days * _DAY_S and 3 * days * _DAY_S <= life_s]
        return min(reached, default=None)


def validity(der: bytes) -> Validity:
    """The validity of a certificate in DER.  Raises ``ValueError`` for what is none."""
    try:
        certificate = _Reader(_Reader(der).take(_SEQUENCE))
        fields = _Reader(certificate.take(_SEQUENCE))
        if fields.next_tag() == _VERSION:
            fields.take(_VERSION)
        for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):  # serial number, algorithm, issuer
            fields.take(tag)
        times = _Reader(fields.take(_SEQUENCE))
        return Validity(begin_s=_time(times), end_s=_time(times))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("not a certificate") from error


class _Reader:
    """Values with a tag and a length, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def next_tag(self) -> int:
        return self._content[self._at]

    def take(self, *tags: int) -> bytes:
        """The next value, which must have one of these tags."""
        if self.next_tag() not in tags:
            raise ValueError("not a certificate")
        length, start = self._content[self._at + 1], self._at + 2
        if length & 0x80:
            start, length = (
                start + (length & 0x7F),
                int.from_bytes(self._content[start : start + (length & 0x7F)], "big"),
            )
        self._at = start + length
        if self._at > len(self._content):
            raise ValueError("not a certificate")
        return self._content[start : self._at]


def _time(reader: _Reader) -> float:
    is_short = reader.next_tag() == _UTC_TIME
    text = reader.take(_UTC_TIME, _GENERALIZED_TIME).decode("ascii")
    if is_short:
        text = ("20" if text[:2] < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
