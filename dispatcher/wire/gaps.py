"""Gaps as they stand in a notification message.  WIRE.md describes them for receivers."""

from __future__ import annotations

from collections.abc import Iterable

from dispatcher.model import Gap


def gaps_array(gaps: Iterable[Gap]) -> list[bytes]:
    """``"gaps":[GAP,GAP]`` in its pieces: the head, each gap, the end."""
    texts = [gap_text(gap) for gap in gaps]
    return [b'"gaps":[', *texts[:1], *(b"," + text for text in texts[1:]), b"]"]


def gap_text(gap: Gap) -> bytes:
    """One gap as a JSON object; times that are not known are left out."""
    text = (
        f'{{"first_seq":{gap.first_seq},"last_seq":{gap.end_seq},"count":{gap.count},"reason":"{gap.reason}"'
    )
    if gap.from_unix_ms:
        text += f',"from_timestamp":{gap.from_unix_ms}'
    if gap.to_unix_ms:
        text += f',"to_timestamp":{gap.to_unix_ms}'
    return text.encode() + b"}"
