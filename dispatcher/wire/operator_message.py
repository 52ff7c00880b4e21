"""What the operator's webhook is sent: ``type``, ``timestamp`` and ``data``, as Standard Webhooks has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from dispatcher.model import OperatorWarning

TYPE = "dispatcher.warnings"


def encode_warnings(entries: Sequence[OperatorWarning], untold: Mapping[str, int], unix_ms: int) -> bytes:
    """The message: each entry as in the log, with how often and when; and how many there was no place for."""
    warnings = [
        {
            "event": entry.event,
            "first": _moment(entry.first_unix_ms),
            "last": _moment(entry.last_unix_ms),
            "times": entry.times,
            **entry.fields,
        }
        for entry in entries
    ]
    data = {"warnings": warnings, "untold": untold}
    message = {"type": TYPE, "timestamp": _moment(unix_ms), "data": data}
    return msgspec.json.encode(message, enc_hook=str)


def _moment(unix_ms: int) -> str:
    when = datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return when.replace("+00:00", "Z")
