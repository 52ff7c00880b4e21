"""Records as the queue takes them, made by hand from events with recognisable numbers."""

from __future__ import annotations

from array import array
from collections.abc import Coroutine, Iterable
from typing import Any

import msgspec

from dispatcher.model import Kind
from dispatcher.queue.interface import Records


class Item(msgspec.Struct, frozen=True):
    """One event: ``number`` is found again in what is delivered, except in plain de-registrations."""

    kind: Kind
    ep: str
    number: int
    padding: int = 0  # more bytes
    original_ep: str = ""


def body_of(item: Item) -> bytes:
    """The canonical form."""
    tail = tail_of(item)
    if item.kind is Kind.NOTIFICATION:
        text = (
            f'{{"ep":"{item.ep}","path":"/3303/0/{item.number}","ct":"text/plain",'
            f'"payload":"{"A" * item.padding}","max-age":0{tail}}}'
        )
    elif item.kind in (Kind.REGISTRATION, Kind.REG_UPDATE):
        text = f'{{"ep":"{item.ep}","ept":"{item.number}","q":false,"resources":[]{tail}}}'
    elif item.kind is Kind.ASYNC_RESPONSE:
        text = f'{{"id":"{item.number}","status":200,"payload":"{"A" * item.padding}"}}'
    else:
        text = f'{{"ep":"{item.ep}"{tail}}}'
    return text.encode()


def tail_of(item: Item) -> str:
    """What stands before the closing brace when another original-ep is known."""
    if item.kind is Kind.ASYNC_RESPONSE or not item.original_ep:
        return ""
    return f',"original-ep":"{item.original_ep}"'


def records_of(items: Iterable[Item]) -> Records:
    """A request's records."""
    block = bytearray()
    meta = array("Q")
    for item in items:
        body = body_of(item)
        ep_bytes = 0 if item.kind is Kind.ASYNC_RESPONSE else len(item.ep.encode())
        block += body
        meta.append(len(body) | len(tail_of(item).encode()) << 24 | ep_bytes << 40 | item.kind << 56)
    return Records(bytes(block), meta)


def stored_bytes(item: Item) -> int:
    """What a record takes in a queue."""
    return 32 + (len(body_of(item)) + 7) // 8 * 8


def notifications(count: int, *, ep: str = "device", padding: int = 0, first: int = 0) -> list[Item]:
    """Numbered notifications of one device."""
    return [Item(Kind.NOTIFICATION, ep, number, padding) for number in range(first, first + count)]


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError("it waited")


def number_of(kind: Kind, event: Any) -> tuple[str, int | None]:
    """The device of a delivered event and its number; a plain de-registration has none."""
    if isinstance(event, str):
        return event, None
    match kind:
        case Kind.NOTIFICATION:
            return event["ep"], int(event["path"].rsplit("/", 1)[1])
        case Kind.REGISTRATION | Kind.REG_UPDATE:
            return event["ep"], int(event["ept"])
        case Kind.ASYNC_RESPONSE:
            return "", int(event["id"])
        case _:
            return event["ep"], None
