"""What a gateway posts, turned into canonical records: all of it, or an error.

A body is one notification message, or one in each line.  Either every event in it
is in order, and ``Parsed`` holds them in canonical form with what routing needs to
know, or the first thing wrong is named and nothing comes out.

Two paths lead there (decision 0006): ``fast_path`` for notifications that are
plainly written, and the strict one in here, which looks at every value, decides all
that is not plain, and is the only one that words an error.
"""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from dispatcher import limits, model
from dispatcher.errors import BadRequest, FieldError, ValidationError
from dispatcher.model import KIND_NAMES, AsyncAnswer, DeviceChange, Kind
from dispatcher.wire import canonical, event_fields, fast_path, strict_json
from dispatcher.wire.event_fields import BadField

MESSAGE_ID = "message-id"
"""The member by which a message on a gateway's socket is named, like ``Idempotency-Key``."""

_RUN_LINES_MAX = 500  # looked at together; what follows an odd line is looked at again
_BLANKS = b" \t\r"  # JSON's white space within a line
_KIND_BY_NAME = {name: Kind(number) for number, name in enumerate(KIND_NAMES)}


class BodyForm(Enum):
    """How messages stand in a body."""

    JSON = "application/json"  # one message
    NDJSON = "application/x-ndjson"  # one in each line
    SOCKET = "socket"  # one message, which may have a ``message-id``


class Parsed(msgspec.Struct, frozen=True):
    """The events of one request, checked and canonical, in order.

    ``lasting`` has the indices of the notifications whose max-age is not 0, or was not given.
    ``block`` and ``meta`` are what ``queue.interface.Records`` is made of.  ``eps`` and
    ``paths`` have an entry for each event: a notification has both, a life-cycle event
    no path, an async response neither.
    """

    block: bytes
    meta: array[int]
    eps: list[str | None]
    paths: list[str | None]
    device_changes: tuple[DeviceChange, ...] = ()
    async_answers: tuple[AsyncAnswer, ...] = ()
    lasting: Sequence[int] = ()
    message_id: str | None = None

    @property
    def events(self) -> int:
        """How many events there are."""
        return len(self.meta)


class Parsing:
    """The parsing of one body, in steps, so that a large one does not stop everybody else.

    A step takes about ``limits.INGEST_STEP_BYTES`` of an NDJSON body; a JSON message is
    one step.
    """

    def __init__(self, body: bytes, form: BodyForm) -> None:
        self._body = body
        self._form = form
        self._next_byte = 0  # of the body: those before are in ``_lines`` or behind us
        self._lines: list[bytes] = []
        self._first_number = 1  # of ``_lines[0]`` in the body
        self._at = 0  # of ``_lines``: those before are behind us
        self._has_message = False
        self._collected = _Collected()

    def step(self) -> Parsed | None:
        """Go on; return the result when the body is done.

        Raises ``ValidationError`` for a wrong field, ``BadRequest`` for what is not a
        message at all.
        """
        if self._form is not BodyForm.NDJSON:
            _take_message(self._body, None, self._collected, may_be_named=self._form is BodyForm.SOCKET)
            return self._collected.parsed()
        if self._at == len(self._lines):
            self._split_more()
        self._take_lines(min(self._at + limits.INGEST_STEP_LINES, len(self._lines)))
        if self._at < len(self._lines) or self._next_byte < len(self._body):
            return None
        if not self._has_message:
            raise BadRequest("the body is empty; at least one line with a notification message is expected")
        return self._collected.parsed()

    def _split_more(self) -> None:
        self._first_number += len(self._lines)
        self._at = 0
        end = self._body.find(b"\n", self._next_byte + limits.INGEST_STEP_BYTES - 1) + 1 or len(self._body)
        self._lines = self._body[self._next_byte : end].split(b"\n")
        self._next_byte = end
        if not self._lines[-1]:
            self._lines.pop()  # the text ended in a newline, or was empty
        if self._first_number + len(self._lines) - 1 > limits.EVENTS_PER_REQUEST_MAX:
            raise BadRequest(f"the body has over {limits.EVENTS_PER_REQUEST_MAX} lines; post it in parts")

    def _take_lines(self, end: int) -> None:
        while self._at < end:
            lines = self._lines[self._at : min(end, self._at + _RUN_LINES_MAX)]
            run, vouched = fast_path.vouch(lines)
            if vouched is not None:
                self._collected.add_vouched(vouched)
                self._has_message = True
            else:
                run = max(run, 1)
                self._take_one_by_one(lines[:run])
            self._at += run

    def _take_one_by_one(self, lines: list[bytes]) -> None:
        """Lines that cannot be vouched for together; of several, some may be alone."""
        take = _take_message if len(lines) > 1 else _take_strictly
        for number, line in enumerate(lines, self._first_number + self._at):
            if line.strip(_BLANKS):
                self._has_message = True
                take(line, number, self._collected)


def parse(body: bytes, form: BodyForm) -> Parsed:
    """The events of a whole body; raises as ``Parsing.step`` does."""
    parsing = Parsing(body, form)
    while (parsed := parsing.step()) is None:
        pass
    return parsed


def encode_events(events: Sequence[model.Event | bytes]) -> Parsed:
    """Events made by a program, under the same rules as posted ones.

    Each is a typed event, or the bytes of one notification message.  Raises
    ``ValidationError`` or ``BadRequest``; fields are named ``events[3].ep``.
    """
    collected = _Collected()
    for index, event in enumerate(events):
        place = f"events[{index}]"
        if isinstance(event, bytes):
            _take_message(event, None, collected, place)
            continue
        try:
            event_fields.check(event, place)
            collected.add(event, place)
        except BadField as bad:
            raise _wrong_field(bad.name, bad.message, None) from None
    return collected.parsed()


def encode_event(event: model.Event | bytes) -> Parsed:
    """One typed event, or the events of one message; see ``encode_events``."""
    return encode_events((event,))


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
    metas = parsed.meta[:]
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
    """Canonical events as they come in."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self._meta = array("Q")
        self._eps: list[str | None] = []
        self._paths: list[str | None] = []
        self._device_changes: list[DeviceChange] = []
        self._async_answers: list[AsyncAnswer] = []
        self._lasting: list[int] = []
        self.message_id: str | None = None

    def add_vouched(self, vouched: fast_path.Vouched) -> None:
        if vouched.lasting:
            before = len(self._meta)
            self._lasting += [before + index for index in vouched.lasting]
        self._bodies += vouched.bodies
        self._meta += vouched.meta
        self._eps += vouched.eps
        self._paths += vouched.paths
        self.message_id = vouched.message_id
        self._check_count()

    def add(self, event: model.Event, name: str, *, has_age: bool = True) -> None:
        """Add a checked event.  Raises ``BadField`` when its record is too large.

        ``has_age`` False: its max-age was not given, and is 0 for want of one.
        """
        record = canonical.record_of(event)
        if len(record.body) > limits.RECORD_BYTES_MAX:
            raise BadField(name, "", f"is longer than {limits.RECORD_BYTES_MAX} bytes when written plainly")
        if isinstance(event, model.Notification) and (event.max_age or not has_age):
            self._lasting.append(len(self._meta))
        self._note(event)
        self._bodies.append(record.body)
        self._meta.append(record.meta)
        self._check_count()

    def _note(self, event: model.Event) -> None:
        index = len(self._meta)
        if isinstance(event, model.AsyncResponse):
            self._async_answers.append(AsyncAnswer(index, event))
            self._eps.append(None)
            self._paths.append(None)
            return
        self._eps.append(event.ep)
        if isinstance(event, model.Notification):
            self._paths.append(event.path)
            return
        self._paths.append(None)
        told = event if isinstance(event, model.Registration | model.RegistrationUpdate) else None
        ept = None if told is None else told.ept
        self._device_changes.append(DeviceChange(index, canonical.kind_of(event), event.ep, ept, told))

    def _check_count(self) -> None:
        if len(self._meta) > limits.EVENTS_PER_REQUEST_MAX:
            raise BadRequest(
                f"the request holds more than {limits.EVENTS_PER_REQUEST_MAX} events; post them in parts"
            )

    def parsed(self) -> Parsed:
        return Parsed(
            b"".join(self._bodies),
            self._meta,
            self._eps,
            self._paths,
            tuple(self._device_changes),
            tuple(self._async_answers),
            self._lasting,
            self.message_id,
        )


def _take_message(
    text: bytes,
    line: int | None,
    collected: _Collected,
    place: str = "",
    *,
    may_be_named: bool = False,
) -> None:
    _, vouched = fast_path.vouch([text], may_be_named=may_be_named)
    if vouched is not None:
        collected.add_vouched(vouched)
    else:
        _take_strictly(text, line, collected, place, may_be_named=may_be_named)


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
