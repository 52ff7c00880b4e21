"""Storage that refuses and certificates that end: told once each, and when it is over."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from support.certificates import Authority, Files
from support.metrics import totals_of
from trio.testing import MockClock

from dispatcher import limits
from dispatcher.errors import DispatcherError, JournalFailed, StorageFull
from dispatcher.observe.metrics import Metrics
from dispatcher.queue.interface import ChannelQueue
from dispatcher.runtime.attempts import AttemptLogs
from dispatcher.runtime.observer import Observer
from dispatcher.runtime.watch import Watch

DAY_S = 86_400
END = datetime(2040, 1, 1, tzinfo=UTC)


class Storage:
    """A queue that accepts, or does not."""

    refusal: DispatcherError | None = None

    def check_accepting(self) -> None:
        if self.refusal is not None:
            raise self.refusal


class Watched:
    """A watch under test."""

    def __init__(self, certificate: str = "") -> None:
        self.storage = Storage()
        self.metrics = Metrics(lambda: totals_of(0))
        self.now_s = END.timestamp() - 20 * DAY_S
        self.watch = Watch(
            queue=cast(ChannelQueue, self.storage),
            observer=Observer(self.metrics, AttemptLogs(lambda: 0)),
            certificates={"server": certificate, "callbacks": ""},
            wall_unix_s=lambda: self.now_s,
        )

    async def look(self) -> None:
        await trio.sleep(2 * limits.WATCH_S)
        await trio.testing.wait_all_tasks_blocked()


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    found = [(record.message, record.fields) for record in caplog.records]  # type: ignore[attr-defined]
    caplog.clear()
    return found


async def test_storage_that_refuses_is_told_of_once_and_when_it_accepts_again(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched = Watched()
    nursery.start_soon(watched.watch.run)
    await watched.look()
    assert told(caplog) == []
    watched.storage.refusal = StorageFull("the disk is full")
    for _ in range(3):
        await watched.look()
    assert told(caplog) == [
        ("storage.refuses", {"error_class": StorageFull.code, "reason": "the disk is full"})
    ]
    assert accepting(watched) == 0
    watched.storage.refusal = JournalFailed("a sync failed")
    await watched.look()
    assert told(caplog) == [
        ("storage.refuses", {"error_class": JournalFailed.code, "reason": "a sync failed"})
    ]
    watched.storage.refusal = None
    await watched.look()
    assert told(caplog) == [("storage.accepts", {})]
    assert accepting(watched) == 1
    nursery.cancel_scope.cancel()


def accepting(watched: Watched) -> float | None:
    return watched.metrics.registry.get_sample_value("dispatcher_accepting")


async def test_a_certificate_is_told_of_at_each_level_and_its_successor_from_the_beginning(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.INFO)
    files = Files(tmp_path / "chain.pem", tmp_path / "key.pem")
    authority = Authority()
    files.write(authority.issue("localhost", until=END))
    watched = Watched(str(files.certificate))
    nursery.start_soon(watched.watch.run)

    def end() -> float | None:
        name = "dispatcher_certificate_end_timestamp_seconds"
        return watched.metrics.registry.get_sample_value(name, {"of": "server"})

    while end() is None:  # a thread reads it, in real time
        await trio.to_thread.run_sync(time.sleep, 0.005)
    await watched.look()
    assert told(caplog) == []
    assert end() == END.timestamp()
    for left_days in (13, 12, 6, 0.5, 0.4, -1, -2):
        watched.now_s = END.timestamp() - left_days * DAY_S
        await watched.look()
    said = told(caplog)
    assert {name for name, _ in said} == {"certificate.ends"}
    assert [fields for _, fields in said] == [
        {"of": "server", "in_days": days} for days in (13.0, 6.0, 0.5, -1.0)
    ]
    files.write(authority.issue("localhost", until=datetime(2041, 1, 1, tzinfo=UTC)))
    await watched.look()
    assert end() == END.timestamp()  # what is in use, not what lies on the disk
    await watched.watch.renewed("server")
    await watched.look()
    assert told(caplog) == []
    files.certificate.write_text("nothing of the kind")
    await watched.watch.renewed("server")
    assert [name for name, _ in told(caplog)] == ["certificate.unread"]
    assert end() == datetime(2041, 1, 1, tzinfo=UTC).timestamp()
    nursery.cancel_scope.cancel()
