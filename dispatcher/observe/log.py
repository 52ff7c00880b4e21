"""Log lines: one stable event name each, then fields; never a key, a header value or a payload.

As text for people, or as one JSON object a line for programs (``server.log_format``).
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from dispatcher.config import LogFormat, LogLevel

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
    ACCOUNT_LIMITED = "account.limited"
    CONNECTIONS_SHED = "connections.shed"
    CONNECTIONS_FULL = "connections.full"
    CERTIFICATES_RELOADED = "certificates.reloaded"
    CERTIFICATES_KEPT = "certificates.kept"
    CERTIFICATE_ENDS = "certificate.ends"
    CERTIFICATE_UNREAD = "certificate.unread"
    STORAGE_REFUSES = "storage.refuses"
    STORAGE_ACCEPTS = "storage.accepts"
    OPERATOR_WEBHOOK_FAILED = "operator.webhook-failed"
    OPERATOR_WARNINGS_DROPPED = "operator.warnings-dropped"
    ADMIN_ACTED = "admin.acted"
    SETTINGS_NOT_RELOADED = "settings.not-reloaded"
    TIER_UNKNOWN = "tier.unknown"
    KEYS_UNREAD = "keys.unread"
    DEVICES_UNSAVED = "devices.unsaved"
    DEVICE_REQUESTS_UNSAVED = "device-requests.unsaved"
    LIFE_TIMES_UNSAVED = "life-times.unsaved"
    REQUEST_FAILED = "request.failed"
    CONNECTION_FAILED = "connection.failed"
    TRACES_UNSENT = "traces.unsent"
    LIBRARY_SAID = "library.said"  # a line of a package that the dispatcher uses


_TOLD_BY_US = "opentelemetry.exporter"  # it says each time what TRACES_UNSENT says once a minute, with URLs

RESERVED_FIELDS = frozenset({"time", "level", "event", "exception"})
"""What every JSON line may have of its own; no field of an event has such a name."""


def log(level: int, event: LogEvent, **fields: object) -> None:
    """Write one line; ``fields`` are numbers, our own words and public names only."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": fields})


def log_failure(event: LogEvent, error: BaseException, **fields: object) -> None:
    """Write one line on an exception that nobody expected, with its class and places."""
    record = logger.makeRecord(logger.name, logging.ERROR, "", 0, event, (), None, extra={"fields": fields})
    record.exc_text = describe(error)  # what any formatter shows, an embedder's too, in place of its words
    logger.handle(record)


def log_to_stderr(form: LogFormat = "text", level: LogLevel = "info") -> None:
    """Write log lines to stderr from now on; a second call changes how."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter())
    handler.addFilter(lambda record: not record.name.startswith(_TOLD_BY_US))
    root = logging.getLogger()
    for ours in [one for one in root.handlers if isinstance(one.formatter, LineFormatter | JsonFormatter)]:
        root.removeHandler(ours)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)


def describe(error: BaseException) -> str:
    """Type and places of an exception, one leaf of a group after the other.

    Never its words: they may quote what a client sent.
    """
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(describe(leaf) for leaf in error.exceptions)
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__qualname__}\n{places}".rstrip()


class LineFormatter(logging.Formatter):
    """``TIME LEVEL event field=value ...``, fit for a terminal and for grep."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; where an exception comes from follows on lines of its own."""
        event, fields = _said(record)
        words = [_time(record), record.levelname, event]
        words += [f"{name}={_quoted(value)}" for name, value in fields.items()]
        line = " ".join(words)
        failure = _failure(record)
        return f"{line}\n{failure}" if failure else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``event``, then the fields with their types."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; an exception is the field ``exception``."""
        event, fields = _said(record)
        line = {"time": _time(record), "level": record.levelname.lower(), "event": event, **fields}
        failure = _failure(record)
        if failure:
            line["exception"] = failure
        return msgspec.json.encode(line, enc_hook=str).decode()


def _said(record: logging.LogRecord) -> tuple[str, Mapping[str, object]]:
    fields: Mapping[str, object] | None = getattr(record, "fields", None)
    if fields is None:
        return LogEvent.LIBRARY_SAID, {"library": record.name, "words": record.getMessage()}
    return str(record.msg), fields


def _time(record: logging.LogRecord) -> str:
    when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return when.replace("+00:00", "Z")


def _failure(record: logging.LogRecord) -> str | None:
    error = record.exc_info[1] if record.exc_info else None
    return record.exc_text if error is None else describe(error)


def _quoted(value: object) -> str:
    text = str(value)
    is_plain = text.isprintable() and text and not any(c in text for c in ' "=')
    return text if is_plain else repr(text)
