"""What a gateway posts, turned into canonical records: all of it, or an error.

A body is one notification message, or one in each line.  Either every event in it
is in order, and ``Parsed`` holds them in canonical form with what routing needs to
know, or the first thing wrong is named and nothing comes out.

A ``Staging`` takes the messages that it vouches for (decision 0018).  All others are
judged in here, by looking at every value; only this path words an error.
"""

from __future__ import annotations

import difflib
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import Any

import msgspec

from dispatcher import limits, model
from dispatcher.errors import BadRequest, FieldError, ValidationError
from dispatcher.model import KIND_NAMES, AsyncAnswer, DeviceChange, Kind, RecordBlock, RecordMetas
from dispatcher.wire import canonical, event_fields, strict_json
from dispatcher.wire.event_fields import BadField
from dispatcher.wire.staging import NewStaging, Staged, Staging, StrictStaging, Text

MESSAGE_ID = "message-id"
"""The member by which a message on a gateway's socket is named, like ``Idempotency-Key``."""

_LINE_FEED = re.compile(rb"\n")
_BLANKS = b" \t\r"  # JSON's white space within a line
_LINE_COST_BYTES = 100  # of an odd line, however short: so many bytes of a long one cost as much
_encode = msgspec.json.Encoder().encode
_Notification = model.Notification
_KIND_BY_NAME = {name: Kind(number) for number, name in enumerate(KIND_NAMES)}


class BodyForm(Enum):
    """How messages stand in a body."""

    JSON = "application/json"  # one message
    NDJSON = "application/x-ndjson"  # one in each line
    SOCKET = "socket"  # one message, which may have a ``message-id``


class Parsed(msgspec.Struct, frozen=True, dict=True):
    """The events of one request, checked and canonical, in order.

    ``block`` and ``meta`` are what ``queue.interface.Records`` is made of.  ``lasting`` has
    the indices of the notifications whose max-age is not 0, or was not given.
    """

    block: RecordBlock
    meta: RecordMetas
    device_changes: tuple[DeviceChange, ...] = ()
    async_answers: tuple[AsyncAnswer, ...] = ()
    lasting: Sequence[int] = ()
    message_id: str | None = None

    @property
    def events(self) -> int:
        """How many events there are."""
        return len(self.meta)

    @cached_property
    def eps(self) -> list[str | None]:
        """The ep of each event; an async response has none.  Made when asked for, as ``paths`` are."""
        return [names.ep for names in self._names]

    @cached_property
    def paths(self) -> list[str | None]:
        """The path of each notification; other events have none."""
        return [names.path for names in self._names]

    @cached_property
    def _names(self) -> list[canonical.Names]:
        return canonical.read_names(self.block, self.meta)


class Parsing:
    """The parsing of one body, in steps, so that a large one does not stop everybody else.

    A step takes about ``limits.INGEST_STEP_BYTES`` of an NDJSON body, and of odd lines
    ``limits.INGEST_STEP_ODD_BYTES``; a JSON message is one step.
    """

    def __init__(self, body: Text, form: BodyForm, new_staging: NewStaging = StrictStaging) -> None:
        self._body = body
        self._form = form
        self._next_byte = 0  # of the body: those before are behind us
        self._lines = 0  # behind us
        self._has_message = False
        self._collected = _Collected(new_staging())

    def step(self) -> Parsed | None:
        """Go on; return the result when the body is done.

        Raises ``ValidationError`` for a wrong field, ``BadRequest`` for what is not a
        message at all.
        """
        if self._form is not BodyForm.NDJSON:
            _take_message(self._body, self._collected, may_be_named=self._form is BodyForm.SOCKET)
            return self._collected.parsed()
        self._take_lines()
        if self._next_byte < len(self._body):
            return None
        if not self._has_message:
            raise BadRequest("the body is empty; at least one line with a notification message is expected")
        return self._collected.parsed()

    def _take_lines(self) -> None:
        end = self._line_end(self._next_byte + limits.INGEST_STEP_BYTES - 1, len(self._body))
        odd_bytes_left = limits.INGEST_STEP_ODD_BYTES
        while self._next_byte < end and odd_bytes_left > 0:
            lines_max = limits.EVENTS_PER_REQUEST_MAX - self._lines
            if lines_max == 0:
                raise BadRequest(f"the body has over {limits.EVENTS_PER_REQUEST_MAX} lines; post it in parts")
            taken = self._collected.staging.take_lines(
                self._body, self._next_byte, end, limits.EVENTS_PER_REQUEST_MAX, lines_max
            )
            self._next_byte = taken.next_byte
            self._lines += taken.lines
            self._has_message |= taken.messages > 0
            if taken.lines < lines_max and self._next_byte < end:
                odd_bytes_left -= self._take_odd_line(end) + _LINE_COST_BYTES

    def _take_odd_line(self, end: int) -> int:
        """One line by the strict path; returns its length."""
        start = self._next_byte
        self._next_byte = self._line_end(start, end)
        self._lines += 1
        line = bytes(self._body[start : self._next_byte]).removesuffix(b"\n")
        if line.strip(_BLANKS):
            self._has_message = True
            _take_strictly(line, self._lines, self._collected)
        return len(line)

    def _line_end(self, start: int, end: int) -> int:
        """Behind the first line feed from ``start`` on, or ``end``."""
        found = _LINE_FEED.search(self._body, start, end)
        return end if found is None else found.end()


def parse(body: Text, form: BodyForm, new_staging: NewStaging = StrictStaging) -> Parsed:
    """The events of a whole body; raises as ``Parsing.step`` does."""
    parsing = Parsing(body, form, new_staging)
    while (parsed := parsing.step()) is None:
        pass
    return parsed


def encode_events(events: Sequence[model.Event | bytes], new_staging: NewStaging = StrictStaging) -> Parsed:
    """Events made by a program, under the same rules as posted ones.

    Each is a typed event, or the bytes of one notification message.  Raises
    ``ValidationError`` or ``BadRequest``; fields are named ``events[3].ep``.
    """
    has_messages = any(isinstance(event, bytes) for event in events)
    collected = _Collected(new_staging() if has_messages else StrictStaging())  # which costs no call for each
    index = 0
    while index < len(events):
        lines = _lines_from(events, index)
        if lines:
            _take_run(lines, index, collected)
        else:
            _take_event(events[index], f"events[{index}]", collected)
        index += max(len(lines), 1)
    return collected.parsed()


def encode_event(event: model.Event | bytes) -> Parsed:
    """One typed event, or the events of one message; see ``encode_events``."""
    return encode_events((event,))


def notifications(staged: Staged) -> Parsed:
    """The events of a request that holds notifications alone."""
    return Parsed(staged.block, staged.meta, lasting=staged.lasting)


def text_of_events(events: Sequence[model.Event | bytes]) -> tuple[bytes, bool] | None:
    """A text, and whether it is lines, that says what these events say; None: see ``encode_events``.

    It is still to be checked, as what a gateway posts is.
    """
    if not events:
        return None
    if isinstance(events[0], bytes):
        if len(events) == 1:
            return events[0], False
        lines = _lines_from(events, 0)
        return (b"\n".join(lines), True) if len(lines) == len(events) else None
    try:
        return (b'{"notifications":%b}' % _encode(events), False) if all(map(_is_plain, events)) else None
    except UnicodeEncodeError:
        return None


def text_of_event(event: model.Event) -> bytes | None:
    """The same for one typed event, which is no lines."""
    try:
        return b'{"notifications":[%b]}' % _encode(event) if _is_plain(event) else None
    except UnicodeEncodeError:
        return None


def _is_plain(event: model.Event | bytes) -> bool:
    """Whether it is a notification of the types that it should have.

    Some others have a form in JSON too, as another type: what is bytes comes out as base64.
    """
    return (
        type(event) is _Notification
        and type(event.ep) is str
        and type(event.path) is str
        and type(event.payload) is bytes
        and type(event.ct) is str
        and type(event.max_age) is int
        and (event.original_ep is None or type(event.original_ep) is str)
    )


def lasting_values(parsed: Parsed) -> Iterator[tuple[int, bytes, str, int | None]]:
    """Index, payload, ct and max-age of each notification in ``lasting``; None: it was not given."""
    wanted = iter(parsed.lasting)
    following = next(wanted, None)
    at = 0
    for index, meta in enumerate(parsed.meta):
        end = at + canonical.unpack_meta(meta).body_bytes
        if index == following:
            event = canonical.read_notification(parsed.block[at:end])
            yield index, event.payload, event.ct, event.max_age or None
            following = next(wanted, None)
            if following is None:
                return
        at = end


def rename_answers(parsed: Parsed, names: Mapping[int, str]) -> Parsed:
    """The same events with other ids in the async responses at these indices."""
    bodies: list[bytes] = []
    metas = array("Q", parsed.meta)
    at = 0
    renamed = {answer.index: answer for answer in parsed.async_answers if answer.index in names}
    for index, meta in enumerate(parsed.meta):
        end = at + canonical.unpack_meta(meta).body_bytes
        if index in renamed:
            response = msgspec.structs.replace(renamed[index].response, id=names[index])
            record = canonical.record_of(response)
            bodies.append(record.body)
            metas[index] = record.meta
        else:
            bodies.append(bytes(parsed.block[at:end]))
        at = end
    return msgspec.structs.replace(parsed, block=b"".join(bodies), meta=metas)


class _Collected:
    """A staging, and what is known of its events besides."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self._device_changes: list[DeviceChange] = []
        self._async_answers: list[AsyncAnswer] = []
        self.message_id: str | None = None

    def add(self, event: model.Event, name: str, *, has_age: bool = True) -> None:
        """Add a checked event.  Raises ``BadField`` when its record is too large.

        ``has_age`` False: its max-age was not given, and is 0 for want of one.
        """
        record = canonical.record_of(event)
        if len(record.body) > limits.RECORD_BYTES_MAX:
            raise BadField(name, "", f"is longer than {limits.RECORD_BYTES_MAX} bytes when written plainly")
        if not isinstance(event, model.Notification):
            self._note(event)
        is_lasting = isinstance(event, model.Notification) and (event.max_age > 0 or not has_age)
        self.staging.add(record, is_lasting=is_lasting)
        if self.staging.records > limits.EVENTS_PER_REQUEST_MAX:
            raise BadRequest(
                f"the request holds more than {limits.EVENTS_PER_REQUEST_MAX} events; post them in parts"
            )

    def _note(self, event: model.Event) -> None:
        index = self.staging.records
        if isinstance(event, model.AsyncResponse):
            self._async_answers.append(AsyncAnswer(index, event))
            return
        told = event if isinstance(event, model.Registration | model.RegistrationUpdate) else None
        ept = None if told is None else told.ept
        self._device_changes.append(DeviceChange(index, canonical.kind_of(event), event.ep, ept, told))

    def parsed(self) -> Parsed:
        staged = self.staging.hand_over()
        return Parsed(
            staged.block,
            staged.meta,
            tuple(self._device_changes),
            tuple(self._async_answers),
            staged.lasting,
            self.message_id,
        )


def _take_event(event: model.Event | bytes, place: str, collected: _Collected) -> None:
    if isinstance(event, bytes):
        _take_message(event, collected, place)
        return
    try:
        event_fields.check(event, place)
        collected.add(event, place)
    except BadField as bad:
        raise _wrong_field(bad.name, bad.message, None) from None


def _lines_from(events: Sequence[model.Event | bytes], index: int) -> list[bytes]:
    """The messages from an index on that can be lines of one text: a blank one would be passed over."""
    lines: list[bytes] = []
    for at in range(index, len(events)):
        event = events[at]
        if not isinstance(event, bytes) or not event.startswith(b"{") or b"\n" in event:
            break
        lines.append(event)
    return lines


def _take_run(lines: list[bytes], first_index: int, collected: _Collected) -> None:
    """Messages of a program, as the lines of one text: so they cost no call each."""
    text = b"\n".join(lines)
    start = at = 0
    while at < len(lines):
        taken = collected.staging.take_lines(
            text, start, len(text), limits.EVENTS_PER_REQUEST_MAX, len(lines) - at
        )
        start, at = taken.next_byte, at + taken.lines
        if at < len(lines):
            _take_strictly(lines[at], None, collected, f"events[{first_index + at}]")
            start, at = start + len(lines[at]) + 1, at + 1


def _take_message(text: Text, collected: _Collected, place: str = "", *, may_be_named: bool = False) -> None:
    taken = collected.staging.take_message(text, limits.EVENTS_PER_REQUEST_MAX, may_be_named=may_be_named)
    if not taken.messages:
        _take_strictly(bytes(text), None, collected, place, may_be_named=may_be_named)
    elif taken.name is not None:
        try:
            collected.message_id = _message_id(json.loads(taken.name))
        except BadField as bad:
            raise _wrong_field(bad.name, bad.message, None) from None


def _take_strictly(
    text: bytes,
    line: int | None,
    collected: _Collected,
    place: str = "",
    *,
    may_be_named: bool = False,
) -> None:
    """One message by the strict path: what it lets through is right, what it refuses is named."""
    try:
        message = strict_json.loads(text)
        if not isinstance(message, dict):
            raise strict_json.NotStrict("", "a notification message is a JSON object")
    except strict_json.NotStrict as refused:
        raise _not_a_message(_join(place, refused.name), refused.message, line) from None
    try:
        for key, value in message.items():
            if key == MESSAGE_ID and may_be_named:
                collected.message_id = _message_id(value)
            else:
                _take_array(key, value, collected, place)
    except BadField as bad:
        raise _wrong_field(bad.name, bad.message, line) from None


def _take_array(key: str, value: Any, collected: _Collected, place: str) -> None:
    name = _join(place, key)
    kind = _KIND_BY_NAME.get(key)
    if kind is None:
        raise BadField(place, strict_json.member_name("", key), _unknown_array_message(key))
    if value is None:
        return
    if not isinstance(value, list):
        raise BadField(place, key, "an array of events is expected")
    for index, item in enumerate(value):
        item_name = f"{name}[{index}]"
        event = event_fields.read(kind, item, item_name)
        has_age = isinstance(item, dict) and item.get("max-age") is not None
        collected.add(event, item_name, has_age=has_age)


def _message_id(value: Any) -> str:
    bytes_max = limits.IDEMPOTENCY_KEY_BYTES_MAX
    if not isinstance(value, str) or not 0 < len(value.encode()) <= bytes_max:
        raise BadField("", MESSAGE_ID, f"a string of 1 to {bytes_max} bytes is expected")
    return value


def _unknown_array_message(key: str) -> str:
    if key == MESSAGE_ID:
        return "is for messages on a socket; in a request it is the Idempotency-Key header"
    nearest = difflib.get_close_matches(key[:64], KIND_NAMES, n=1, cutoff=0.0)
    return f"is not part of a notification message; did you mean {nearest[0]!r}?"


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place and name else place or name


def _wrong_field(name: str, message: str, line: int | None) -> ValidationError:
    where = "" if line is None else f"line {line}: "
    return ValidationError(
        f"{where}{name}: {message}", fields=(FieldError(name=name, message=message, line=line),)
    )


def _not_a_message(name: str, message: str, line: int | None) -> BadRequest:
    """What is wrong with a text that is no JSON, or not strict; "" names the whole body."""
    if name:
        return _wrong_field(name, message, line)
    where = "the body" if line is None else f"line {line}"
    return BadRequest(
        f"{where} is refused: {message}", fields=(FieldError(name="body", message=message, line=line),)
    )
