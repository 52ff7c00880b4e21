"""One event published alone by a program that embeds the dispatcher, beside the call of the core in it.

Run: ``python -m pytest bench/micro/test_publish.py --benchmark-only``.  Each round publishes 1,000
events into one channel, which is emptied in between, outside of the measured time.  Divide a time
by 1,000 for the cost of an event.

*bare* is the same call of the core, from a loop and with the same arguments, and nothing else:
what Python does besides is the difference.  *memory* has no data folder; with *process* each event
is gathered in the journal too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from dispatcher.queue._core import ffi, lib

import dispatcher
from dispatcher.config import Settings, StorageSettings
from dispatcher.model import Durability, Notification, Position
from dispatcher.queue.native_taker import NativeTaker
from dispatcher.runtime.hub import Hub

EVENTS = 1_000
EVENT = Notification("0190aa11bb2200000000000100100001", "/3303/0/5700", b"21.5" + b"x" * 24, "text/plain")
TEXT = json.dumps(
    {
        "notifications": [
            {
                "ep": EVENT.ep,
                "path": EVENT.path,
                "payload": base64.b64encode(EVENT.payload).decode(),
                "ct": EVENT.ct,
                "max-age": 0,
            }
        ]
    },
    separators=(",", ":"),
).encode()
FORMS: dict[str, Callable[[Hub], Any]] = {
    "prepared": lambda hub: hub.prepare([EVENT]),
    "bytes": lambda hub: TEXT,
    "event": lambda hub: EVENT,
}
Publish = Callable[[], None]


def publishing(hub: Hub, application: dispatcher.Application, form: str) -> Publish:
    """A round of ``publish``."""
    publish, event = hub.publish, FORMS[form](hub)

    def run() -> None:
        for _ in range(EVENTS):
            publish(application, event)

    return run


def bare(hub: Hub, application: dispatcher.Application, form: str) -> Publish:
    """A round of the core's call alone."""
    hub.publish(application, TEXT)
    taker, channel = hub.parts.publisher._taker, hub.parts.directory.channel_of(application.id)
    assert isinstance(taker, NativeTaker)
    assert channel is not None
    unix_ms, number, raw = hub.parts.now_unix_ms() + 1_000_000, channel.row.id, taker._raw
    if form == "prepared":
        held: Any = hub.prepare([EVENT]).held.records
        take_records = lib.nd_take_records

        def run_prepared() -> None:
            records = held.raw
            for _ in range(EVENTS):
                take_records(raw, number, records, unix_ms, 0)

        return run_prepared
    take_text, nowhere = lib.nd_take_text, ffi.cast("nd_addressees *", 0)
    text, text_bytes = TEXT, len(TEXT)

    def run() -> None:
        for _ in range(EVENTS):
            take_text(raw, nowhere, number, text, text_bytes, False, unix_ms, 0)

    return run


@pytest.fixture(params=[Durability.MEMORY, Durability.PROCESS], ids=str)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings | None]:
    if request.param is Durability.MEMORY:
        yield None
    else:
        yield Settings(storage=StorageSettings(data=str(tmp_path), durability=request.param))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", [publishing, bare], ids=["publish", "bare"])
@pytest.mark.benchmark(group="publish 1,000 events, one by one")
def test_publish(benchmark: Any, settings: Settings | None, what: Callable[..., Publish], form: str) -> None:
    if what is bare and (form == "event" or settings is not None):
        pytest.skip("the call is that of bytes, and leaves the journal's books to Python")
    trio.run(measure, benchmark, settings, what, form)


async def measure(benchmark: Any, settings: Settings | None, what: Callable[..., Publish], form: str) -> None:
    async with dispatcher.open_dispatcher(settings) as hub:
        application = await hub.ensure_application(await hub.ensure_account(), "bench")
        await hub.register_websocket(application)
        run, queue = what(hub, application, form), hub.parts.queue
        channel = hub.parts.directory.channel_of(application.id)
        assert channel is not None
        number = channel.row.id

        def empty() -> None:
            queue.settle(number, Position(queue.epoch, queue.stats(number).last_seq))

        before = queue.stats(number).last_seq
        if settings is None:
            benchmark.pedantic(run, setup=empty, rounds=200, warmup_rounds=5)
            assert (queue.stats(number).last_seq - before) % EVENTS == 0
            assert queue.stats(number).last_seq - before >= 200 * EVENTS
        else:  # the journal writes what a round gathered before the next begins
            benchmark.pedantic(run, rounds=8)
            assert queue.stats(number).last_seq - before == 8 * EVENTS
