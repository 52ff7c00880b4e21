"""Channels, records and a scripted sink for tests of what drives a delivery."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence

import trio

from dispatcher.config import TierSettings, channel_limits
from dispatcher.deliver.sink import DeliveryFailed, OutgoingBatch, SinkStatistics
from dispatcher.model import Channel, ChannelType, Kind, Position, Serialization
from dispatcher.observe.metrics import RecordTotals
from dispatcher.queue.interface import ChannelQueue, Records, Route
from dispatcher.queue.whole_messages import read_messages
from dispatcher.runtime.active_channel import ActiveChannel
from dispatcher.runtime.storage import queue_options
from dispatcher.wire.canonical import pack_meta

NO_TOTALS = RecordTotals(
    accepted=0, unrouted=0,
    queued=0,
    recovered=0, acked=0, expired=0, deleted=0, dropped={}, superseded=0, parked=0, rejected=0,
    records=0, record_bytes=0, memory_bytes=0, scratch_bytes=0, journal_bytes=0, channels={}, oldest_age_s=0,
)  # fmt: skip


def channel_row(
    type_: ChannelType = ChannelType.CALLBACK,
    number: int = 1,
    serialization: Serialization | None = None,
    **tier: object,
) -> Channel:
    """A registration under the default tier, but for what is given."""
    return Channel(
        id=number,
        application_id=number,
        account_id=1,
        type=type_,
        incarnation=7,
        limits=channel_limits(TierSettings(**tier)),  # type: ignore[arg-type]
        serialization=serialization,
    )


def open_channel(queue: ChannelQueue, row: Channel) -> ActiveChannel:
    """The channel, with an empty queue."""
    queue.open_channel(row.id, queue_options(row))
    return ActiveChannel(row)


def put(queue: ChannelQueue, channel: ActiveChannel, eps: Sequence[str], unix_ms: int = 1_000) -> None:
    """Append one notification per device ID."""
    bodies = [
        json.dumps(
            {"ep": ep, "path": "/1", "ct": "", "payload": "", "max-age": 0}, separators=(",", ":")
        ).encode()
        for ep in eps
    ]
    meta = array(
        "Q", [pack_meta(Kind.NOTIFICATION, len(b), 0, len(ep)) for b, ep in zip(bodies, eps, strict=True)]
    )
    queue.append(Records(b"".join(bodies), meta), [Route(channel.row.id)], unix_ms)


class ScriptedSink:
    """Takes batches, answers by script, and remembers every attempt byte for byte.

    A script entry is None (taken) or the failure to raise; behind its end all is taken.
    """

    def __init__(
        self,
        confirmed: Callable[[Position], object],
        script: Sequence[DeliveryFailed | Exception | None] = (),
        *,
        confirms: bool = True,
    ) -> None:
        self.attempts: list[list[bytes]] = []
        self.times_s: list[float] = []
        self.is_closed = False
        self._confirmed = confirmed
        self._confirms = confirms
        self._script = list(script)

    async def send(self, batch: OutgoingBatch) -> None:
        """One attempt."""
        self.attempts.append(await read_messages(batch))  # type: ignore[attr-defined]
        self.times_s.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        outcome = self._script.pop(0) if self._script else None
        if outcome is not None:
            raise outcome
        if self._confirms:
            self._confirmed(batch.last)

    async def drained(self) -> None:
        """Everything is confirmed in ``send``."""

    def statistics(self) -> SinkStatistics:
        """Nothing is ever open."""
        return SinkStatistics(unconfirmed_events=0, unconfirmed_bytes=0)

    async def aclose(self) -> None:
        """Remember it."""
        self.is_closed = True

    def eps(self) -> list[list[str]]:
        """The device IDs of each attempt, in order."""
        return [
            [event["ep"] for message in attempt for event in json.loads(message)["notifications"]]
            for attempt in self.attempts
        ]
