"""Percent-decoding that refuses what it cannot read, instead of guessing."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from dispatcher.errors import BadRequest

_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def percent_decode(text: str) -> str:
    """Decode ``%XX`` escapes; what they spell must be UTF-8.

    Raises ``BadRequest`` for a ``%`` without two hex digits and for bytes that are not UTF-8.
    """
    if "%" not in text:
        return text
    if _BROKEN_ESCAPE.search(text):
        raise BadRequest("the URL has a % that is not followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BadRequest("the URL has percent-escapes that are not UTF-8") from None
