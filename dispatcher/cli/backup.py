"""``dispatcher backup`` and ``dispatcher restore``: a data folder, copied while it is in use, and back.

The registry goes first and the journal after it.  What the registry no longer holds may then
stand in the journal, but nothing falls between them: a device's request leaves the registry
when its answer is durable in the journal, so that the other way round both could be missing.
A channel that was made in between is in the journal alone, and is left out by the restore as one
that was deleted is; one that was deleted in between comes back, with an empty queue.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from dispatcher.cli.fsck import REGISTRY_FILE, SECRET_FILE, folder_findings
from dispatcher.cli.identities import DATA_OPTION, JSON_OPTION
from dispatcher.cli.progress import Bar, progress
from dispatcher.cli.quantities import bytes_text, moment_text
from dispatcher.errors import DataFolderError
from dispatcher.queue.journal_copy import HeldJournal, copy_bytes
from dispatcher.registry.backup import (
    copy_registry,
    raise_epoch,
    read_manifest,
    restored_epoch,
    write_manifest,
)
from dispatcher.registry.folder import JOURNAL_FOLDER, create_private, open_folder, sync_folder

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@DATA_OPTION
@click.option("--to", "target", type=_FOLDER, required=True, metavar="DIR", help="A new or an empty folder.")
@JSON_OPTION
def backup(data: Path, target: Path, is_json: bool) -> None:
    """Copy a data folder while its daemon runs, or when none does.

    \b
    dispatcher backup --data ./data --to ./backup

    What was answered 202 before this began, and was not delivered by then, is in the copy. It
    has the server's secret and what callbacks are signed with: keep it as safe as the data folder.
    'dispatcher restore' makes a data folder of it again.
    """
    folder = open_folder(data, may_create=False)
    began_unix_ms = time.time_ns() // 1_000_000
    with _errors_in_words(target), progress(is_wanted=not is_json) as bar:
        _make_empty(target)
        with bar.step("copying the registry"):
            copy_registry(folder.registry_path, target / REGISTRY_FILE)
        segments, copied = _copy_journal(folder.path / JOURNAL_FOLDER, target / JOURNAL_FOLDER, bar)
        _copy_file(folder.path / SECRET_FILE, target / SECRET_FILE)
        manifest = write_manifest(target, created_unix_ms=began_unix_ms, segments=segments)
    if is_json:
        click.echo(msgspec.json.encode(manifest))
    click.echo(
        f"{target}: the registry and {segments} segments of the journal, {bytes_text(copied)}", err=True
    )


@click.command()
@click.option("--from", "source", type=_FOLDER, required=True, metavar="DIR", help="The backup.")
@click.option("--data", type=_FOLDER, required=True, metavar="DIR", help="A new or an empty folder.")
@click.option(
    "--accept-damage", is_flag=True, help="Also from a backup in which 'fsck' finds something wrong."
)
@JSON_OPTION
def restore(source: Path, data: Path, accept_damage: bool, is_json: bool) -> None:
    """Make a data folder of a backup, ready for 'dispatcher serve'.

    \b
    dispatcher restore --from ./backup --data ./restored

    The backup is checked first, and stays as it is.  What was delivered after it was made is
    delivered again, with the same uids; events that are past their time meanwhile go.  Stop the
    daemon that it was made of for good: two that serve the same channels send everything twice.
    """
    manifest = read_manifest(source)
    epoch = restored_epoch(manifest, time.time_ns() // 1_000_000)
    with progress(is_wanted=not is_json) as bar:
        wrong = [finding.text for finding in folder_findings(source, bar) if finding.is_wrong]
    if wrong and not accept_damage:
        raise click.ClickException(
            f"{source}: {wrong[0]}; 'dispatcher fsck --data {source}' says all, "
            "and --accept-damage restores what is whole"
        )
    with _errors_in_words(data), progress(is_wanted=not is_json) as bar:
        _make_empty(data)
        # Until the secret is there, which goes last, no dispatcher starts on this folder.
        copy_registry(source / REGISTRY_FILE, data / REGISTRY_FILE)
        raise_epoch(data / REGISTRY_FILE, epoch)
        segments, copied = _copy_journal(source / JOURNAL_FOLDER, data / JOURNAL_FOLDER, bar)
        sync_folder(data)
        _copy_file(source / SECRET_FILE, data / SECRET_FILE)
        sync_folder(data)
    made = moment_text(manifest.created_unix_ms)
    if is_json:
        click.echo(msgspec.json.encode(manifest))
    click.echo(f"{data}: as it was at {made}; {segments} segments, {bytes_text(copied)}", err=True)


def _make_empty(folder: Path) -> None:
    """Make a folder, or find one with nothing in it; also its owner's alone."""
    if folder.is_dir() and any(folder.iterdir()):
        raise DataFolderError(f"{folder} is not empty; name a new folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def _copy_journal(source: Path, target: Path, bar: Bar) -> tuple[int, int]:
    """How many segments, and bytes, were copied; none without a journal."""
    if not any(source.glob("*.seg")):
        return 0, 0
    target.mkdir(mode=0o700)
    if os.geteuid() == 0:
        owner = target.parent.stat()
        os.chown(target, owner.st_uid, owner.st_gid)
    _allow_many_files()
    with HeldJournal(source) as held, bar.step("copying the journal", held.bytes_count):
        copied = 0

        def note(count: int) -> None:
            nonlocal copied
            copied += count
            bar.advance(count)

        segments = held.copy_to(target, create_private, note)
    sync_folder(target)
    return segments, copied


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as file, os.fdopen(create_private(target), "wb") as copy:
        copy_bytes(file.fileno(), copy.fileno(), source.stat().st_size, lambda count: None)
        os.fsync(copy.fileno())


def _allow_many_files() -> None:
    """A journal's segments are all open at once, 16 for each GB."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataFolderError(
            f"{error.filename or path}: {error.strerror}; remove what was written, and try again"
        ) from error
