"""Log lines: one stable event name each, then fields; never a key, a header value or a payload."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from enum import StrEnum

logger = logging.getLogger("dispatcher")


class LogEvent(StrEnum):
    """Every event name, so that an operator can search for what can happen."""

    STARTED = "dispatcher.started"
    STOPPING = "dispatcher.stopping"
    JOURNAL_RECOVERED = "journal.recovered"
    CHANNEL_REGISTERED = "channel.registered"
    CHANNEL_DELETED = "channel.deleted"
    CHANNEL_NOT_REMOVED = "channel.not-removed"
    CHANNEL_LOST_EVENTS = "channel.lost-events"
    CHANNEL_FILLING = "channel.filling"
    CHANNEL_ENDING = "channel.ending"
    CHANNEL_TASK_FAILED = "channel.task-failed"
    DELIVERY_FAILED = "delivery.failed"
    EVENT_PARKED = "event.parked"
    EVENT_NOT_PARKED = "event.not-parked"
    SOCKET_OPENED = "socket.opened"
    SOCKET_CLOSED = "socket.closed"
    GATEWAY_CONNECTED = "gateway.connected"
    GATEWAY_DISCONNECTED = "gateway.disconnected"
    CERTIFICATES_RELOADED = "certificates.reloaded"
    CERTIFICATES_KEPT = "certificates.kept"
    ADMIN_ACTED = "admin.acted"
    SETTINGS_NOT_RELOADED = "settings.not-reloaded"
    TIER_UNKNOWN = "tier.unknown"
    KEYS_UNREAD = "keys.unread"
    DEVICES_UNSAVED = "devices.unsaved"
    DEVICE_REQUESTS_UNSAVED = "device-requests.unsaved"
    LIFE_TIMES_UNSAVED = "life-times.unsaved"


def log(level: int, event: LogEvent, **fields: object) -> None:
    """Write one line; ``fields`` are numbers, our own words and public names only."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": fields})


class LineFormatter(logging.Formatter):
    """``TIME LEVEL event field=value ...``, fit for a terminal and for grep."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; an exception's traceback follows on lines of its own."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = getattr(record, "fields", {})
        words = [when.replace("+00:00", "Z"), record.levelname, record.getMessage()]
        words += [f"{name}={_quoted(value)}" for name, value in fields.items()]
        line = " ".join(words)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c in text for c in ' "=\n\r\t') else text
