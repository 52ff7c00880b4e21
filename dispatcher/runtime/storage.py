"""The queue that the settings ask for, and what it found on the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dispatcher import limits
from dispatcher.core import batching
from dispatcher.errors import DataFolderError
from dispatcher.model import Channel, Durability
from dispatcher.observe.log import LogEvent, log
from dispatcher.queue.disk import Disk
from dispatcher.queue.interface import ChannelQueue, QueueOptions
from dispatcher.queue.native import NativeQueue
from dispatcher.queue.native_recovery import LostRecords, RecoveryReport, open_durable_queue
from dispatcher.registry.folder import JOURNAL_FOLDER, DataFolder
from dispatcher.registry.interface import Registry
from dispatcher.runtime.directory import Directory
from dispatcher.runtime.observer import FoundAtStart, loss_subject
from dispatcher.runtime.supervisor import Supervisor


def queue_options(row: Channel) -> QueueOptions:
    """What a registration says about its queue."""
    return QueueOptions(
        incarnation=row.incarnation,
        owner=row.account_id,
        queue_bytes=row.limits.queue_bytes,
        overflow=row.limits.overflow,
        keeps_gaps=batching.form_of(row).include_gaps,
    )


async def open_memory_queue(
    folder: DataFolder | None,
    registry: Registry,
    memory_bytes_max: int,
    make: Callable[[int, int], ChannelQueue],
) -> ChannelQueue:
    """A queue that survives nothing.

    Raises ``DataFolderError`` when the folder holds a journal: its events would be left
    behind now, and come back long after their time.
    """
    if folder is not None and any((folder.path / JOURNAL_FOLDER).glob("*.seg")):
        raise DataFolderError(
            f"{folder.path / JOURNAL_FOLDER} holds queues that were kept on disk: start with "
            "storage.durability disk or process, or move that folder away to give them up"
        )
    return make(await registry.next_epoch(), memory_bytes_max)


async def open_journal_queue(
    path: Path,
    registry: Registry,
    channels: Sequence[Channel],
    durability: Durability,
    memory_bytes_max: int,
    *,
    disk_bytes_max: int,
    disk: Disk,
    random_bytes: Callable[[int], bytes],
    now_unix_ms: Callable[[], int],
) -> tuple[NativeQueue, list[FoundAtStart]]:
    """A queue that is kept in the journal in a folder, with what an earlier run left there.

    Also what the log was warned of, for those who cannot be told before all is open.  Raises
    ``DataFolderError`` when the disk does not give it back.
    """
    queue, report = await open_durable_queue(
        path,
        durability,
        memory_bytes_max,
        {row.id: queue_options(row) for row in channels},
        disk_bytes_max=disk_bytes_max,
        disk=disk,
        next_epoch=registry.next_epoch,
        new_journal_id=lambda: int.from_bytes(random_bytes(8), "big"),
        now_unix_ms=now_unix_ms,
    )
    return queue, _tell(report)


def deliver_recovered(queue: ChannelQueue, directory: Directory, supervisor: Supervisor) -> None:
    """Start the tasks of channels that have something to send from the start."""
    for channel in directory.channels():
        stats = queue.stats(channel.row.id)
        if stats.records or stats.gaps:
            channel.frozen = queue.frozen(channel.row.id)
            supervisor.wake(channel)


def journal_folder(folder: DataFolder) -> Path:
    """The folder of the journal within the data folder; made when it is not there."""
    path = folder.path / JOURNAL_FOLDER
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise DataFolderError(f"{path}: {error.strerror}") from error
    return path


def _tell(report: RecoveryReport) -> list[FoundAtStart]:
    """One line on what was found, and one on each loss; returns those that are warnings.

    Warned of is what was durable and is missing.  Where the log cannot say what a channel lost,
    ``silent_channels`` counts it.
    """
    journal = report.journal
    listed = report.lost[: limits.RECOVERY_LOSSES_LOGGED_MAX]
    is_missing = journal.is_damaged or bool(report.lost)
    found = {
        "records": report.records,
        "groups": journal.groups,
        "segments": journal.segments,
        "unknown_channels": report.unknown_channels,
        "lost_to_damage": report.lost_records("corrupt"),
        "lost_to_overflow": report.lost_records("overflow"),
        "losses_not_listed": len(report.lost) - len(listed),
        "silent_channels": report.silent_channels,
        "damaged_groups": journal.damaged_groups,
        "damaged_segments": journal.damaged_segments,
        "first_damaged": f"{journal.damaged_segment}/{journal.damaged_group}",
    }
    log(logging.WARNING if is_missing else logging.INFO, LogEvent.JOURNAL_RECOVERED, **found)
    warnings: list[FoundAtStart] = [(LogEvent.JOURNAL_RECOVERED, "", found)] if is_missing else []
    for one in listed:
        fields = _fields(one)
        log(logging.WARNING, LogEvent.CHANNEL_LOST_EVENTS, **fields)
        warnings.append((LogEvent.CHANNEL_LOST_EVENTS, loss_subject(one.loss), fields))
    return warnings


def _fields(one: LostRecords) -> dict[str, object]:
    return {
        "channel": one.loss.channel,
        "reason": one.loss.reason,
        "count": one.loss.count,
        "first_seq": one.loss.first_seq,
        "last_seq": one.loss.last_seq,
        "is_exact": one.is_exact,
    }
