"""What the commands that change accounts and keys in a data folder have in common."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
import trio

from dispatcher.errors import BadRequest, ConfigError, DispatcherError
from dispatcher.registry.folder import DataFolder
from dispatcher.registry.interface import Identities
from dispatcher.registry.sqlite import SqliteRegistry, open_registry

T = TypeVar("T")

DATA_OPTION = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    envvar="DISPATCHER_STORAGE__DATA",
    show_envvar=True,
    help="The data folder.",
)
JSON_OPTION = click.option("--json", "is_json", is_flag=True, help="Print JSON, on one line.")
TIERS_OPTION = click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The daemon's settings, for tiers that are not built in.",
)


def unix_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def with_registry(folder: DataFolder, work: Callable[[SqliteRegistry], Awaitable[T]]) -> T:
    """Do some work on the folder's registry, which a daemon may have open too."""

    async def run() -> T:
        async with open_registry(folder, unix_ms=unix_ms) as registry:
            return await work(registry)

    return trio.run(run)


async def identities_of(registry: SqliteRegistry) -> Identities:
    """Who exists; asked once on each registry."""
    identities = await registry.identities_if_changed()
    assert identities is not None  # the first answer has them all
    return identities


@contextmanager
def failures_in_words() -> Iterator[None]:
    """One line on stderr and exit 1, or 2 for what the caller wrote; never a traceback."""
    try:
        yield
    except (BadRequest, ConfigError) as error:
        raise click.UsageError(error.message) from error
    except DispatcherError as error:
        raise click.ClickException(error.message) from error


def echo_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their head, in columns."""
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        words = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(words).rstrip())
