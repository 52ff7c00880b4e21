"""``dispatcher fsck``: look through a data folder without changing it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from dispatcher.cli.identities import DATA_OPTION, JSON_OPTION
from dispatcher.cli.progress import Bar, progress
from dispatcher.errors import DataFolderError
from dispatcher.queue.disk import Disk
from dispatcher.queue.native_recovery import FoundChannel, JournalReader, JournalReport, LostRecords
from dispatcher.registry.folder import JOURNAL_FOLDER

REGISTRY_FILE = "registry.sqlite"
SECRET_FILE = "secret"


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    text: str
    is_wrong: bool = False


@click.command()
@DATA_OPTION
@JSON_OPTION
def fsck(data: Path, is_json: bool) -> None:
    """Check a data folder, and say what is wrong with it.

    \b
    dispatcher fsck --data ./data

    Changes nothing.  Exit 0 when all is well, 1 when something is damaged.  Beside a running
    dispatcher the journal may seem to end in the middle of a group: that is no damage.
    A backup can be checked as well.
    """
    if not data.is_dir():
        raise DataFolderError(f"there is no folder {data}; name a data folder with --data")
    for path in (data / REGISTRY_FILE, data / JOURNAL_FOLDER, *data.glob(f"{JOURNAL_FOLDER}/*.seg")):
        if path.exists() and not os.access(path, os.R_OK):  # which is no damage
            raise DataFolderError(f"{path}: not for this user to read; run this as its owner, or as root")
    with progress(is_wanted=not is_json) as bar:
        findings = folder_findings(data, bar)
    if is_json:
        click.echo(msgspec.json.encode(findings))
    for finding in () if is_json else findings:
        click.echo(f"{'WRONG' if finding.is_wrong else 'ok':<6}{finding.text}")
    wrong = sum(finding.is_wrong for finding in findings)
    if wrong:
        raise click.ClickException(f"{data}: {wrong} of {len(findings)} checks found something wrong")


def folder_findings(folder: Path, bar: Bar) -> list[Finding]:
    """All that is found in a data folder, or in a backup of one."""
    with bar.step("checking the registry"):
        found = [*secret_findings(folder), *registry_findings(folder / REGISTRY_FILE)]
    return [*found, *journal_findings(folder / JOURNAL_FOLDER, bar)]


def secret_findings(folder: Path) -> Iterator[Finding]:
    """Without the secret nobody's key works."""
    if (folder / REGISTRY_FILE).exists() and not (folder / SECRET_FILE).exists():
        yield Finding("secret: it is missing; restore it from a backup: no key works without", is_wrong=True)


def registry_findings(path: Path) -> Iterator[Finding]:
    """What SQLite says of its own file."""
    if not path.exists():
        is_lost = any((path.parent / JOURNAL_FOLDER).glob("*.seg"))
        reason = (
            "the journal speaks of channels that it alone knows"
            if is_lost
            else "no dispatcher has used this folder yet"
        )
        yield Finding(f"registry: there is no {path.name}; {reason}", is_wrong=is_lost)
        return
    try:
        # immutable would be wrong beside a daemon; ro alone may still read its log of changes.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            said = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
            channels = connection.execute("SELECT count(*) FROM channels").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        yield Finding(f"registry: {error}; restore {path.name} from a backup", is_wrong=True)
        return
    if said == ["ok"]:
        yield Finding(f"registry: whole, {channels} channels")
    for line in said if said != ["ok"] else ():
        yield Finding(f"registry: {line}", is_wrong=True)


def journal_findings(folder: Path, bar: Bar) -> Iterator[Finding]:
    """What recovery would find, and make of it."""
    segments = list(folder.glob("*.seg"))
    if not segments:
        yield Finding("journal: there is none; queues were kept in memory, or nothing was ever queued")
        return
    try:
        reader = JournalReader(folder, Disk())
        try:
            with bar.step("checking the journal", _bytes(segments), reader.passed_bytes):
                channels = reader.scan()
            report = reader.report()
            lost = reader.lost()
            silent_channels = reader.silent_channels()
        finally:
            reader.close()
    except DataFolderError as error:
        yield Finding(f"journal: {error.message}", is_wrong=True)
        return
    yield Finding(_summary(report, channels))
    if report.damaged_segments:
        yield Finding(
            f"journal: the header or the file of {report.damaged_segments} segments is gone", is_wrong=True
        )
    if report.damaged_groups:
        yield Finding(
            f"journal: {report.damaged_groups} groups that were durable are damaged, the first of them group "
            f"{report.damaged_group} in segment {report.damaged_segment}; their records are lost, all others "
            "are found again",
            is_wrong=True,
        )
    yield from _losses(lost, silent_channels)
    if not report.is_clean_end:
        yield Finding(
            f"journal: the last write was cut short after group {report.last_group}, and nobody was told "
            "that it had succeeded"
        )


def _bytes(files: Sequence[Path]) -> int:
    """Of those that are still there: a daemon may be cleaning up."""
    count = 0
    for file in files:
        with suppress(FileNotFoundError):
            count += file.stat().st_size
    return count


def _losses(lost: Sequence[LostRecords], silent_channels: int) -> Iterator[Finding]:
    """What the damage took, as far as the journal can say."""
    for one in lost:
        loss = one.loss
        yield Finding(
            f"journal: channel {loss.channel} lost {'' if one.is_exact else 'at most '}{loss.count} records, "
            f"{loss.first_seq} to {loss.last_seq}",
            is_wrong=True,
        )
    if silent_channels:
        yield Finding(
            f"journal: nothing behind the damage speaks of {silent_channels} channels: whether they lost "
            "records is not known",
            is_wrong=True,
        )


def _summary(report: JournalReport, channels: list[FoundChannel]) -> str:
    alive = [channel for channel in channels if not channel.is_deleted]
    unsettled = sum(channel.last_seq - channel.settled_seq for channel in alive)
    mode = "disk" if report.is_synced else "process"
    return (
        f"journal: {report.segments} segments, {report.groups} groups, {report.units} units, last written "
        f"with durability {mode} in epoch {report.last_epoch}; {len(alive)} channels, "
        f"at most {unsettled} records queued"
    )
