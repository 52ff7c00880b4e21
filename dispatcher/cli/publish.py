"""``dispatcher publish``: post events as a gateway does."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from dispatcher import limits
from dispatcher.cli.api_client import ApiClient
from dispatcher.cli.gateway_client import GatewayClient, add
from dispatcher.cli.line_blocks import Block, LineBlocks
from dispatcher.cli.progress import Bar, progress
from dispatcher.cli.running import run
from dispatcher.cli.server_address import ServerAddress
from dispatcher.cli.server_options import server_options
from dispatcher.errors import BodyTooLarge, DispatcherError, FieldError, RequestRefused
from dispatcher.model import Role
from dispatcher.wire.gateway_api import Accepted
from dispatcher.wire.ingest import BodyForm

_FORMS_BY_SUFFIX = {".json": BodyForm.JSON, ".ndjson": BodyForm.NDJSON, ".jsonl": BodyForm.NDJSON}
_FORMS_BY_NAME = {"json": BodyForm.JSON, "ndjson": BodyForm.NDJSON}


class Posting:
    """The requests of one run, and what was accepted so far."""

    def __init__(self, api: ApiClient, application: str | None, bar: Bar) -> None:
        self.total = Accepted(accepted=0, queued=0, unrouted=0, rejected=0, durability="")
        self._api = api
        self._client = GatewayClient(
            api, application=application, retries_max=limits.CLIENT_RETRIES_MAX, pausing=self._say_pause
        )
        self._bar = bar
        self._run_id = secrets.token_hex(12)

    async def run(self, source: BinaryIO, form: BodyForm | None) -> None:
        """Post everything in ``source``; ``form`` None is told from how it begins.

        Reading blocks the loop, on purpose: nothing else runs until there is more to post.
        """
        with self._bar.step("publishing", _size(source)):
            chunks = _chunks(source)
            first = next(chunks, b"")
            form = form or form_by_content(first)
            async with self._api:
                for block in _blocks(first, chunks, form):
                    await self._post(block, form)
                    self._bar.advance(len(block.body))
                    self._bar.label = f"accepted {self.total.accepted:,} events"

    async def _post(self, block: Block, form: BodyForm) -> None:
        """Post one block; sent again after a lost answer, it is stored once all the same."""
        key = f"publish-{self._run_id}-{block.first_line}"
        try:
            answer = await self._client.post(block.body, form, idempotency_key=key)
        except RequestRefused as error:
            raise _located(error, block) from None
        self.total = add(self.total, answer)

    def _say_pause(self, reason: str, pause_s: float) -> None:
        self._bar.say(f"{reason}; trying again in {pause_s:g} s")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--form",
    "form_name",
    type=click.Choice(list(_FORMS_BY_NAME)),
    help="One JSON message, or one in each line.  [default: by the file's suffix, else its first line]",
)
@click.option("--application", metavar="NAME", help="Straight to this application, subscriptions or not.")
@server_options(Role.GATEWAY)
@click.option("--json", "is_json", is_flag=True, help="Print JSON, on one line.")
def publish(
    file: Path,
    form_name: str | None,
    application: str | None,
    address: ServerAddress,
    key: str,
    is_json: bool,
) -> None:
    """Post events from a file or a pipe, as a gateway does.

    \b
    dispatcher publish events.ndjson
    dispatcher publish - < events.ndjson

    FILE ('-': standard input) holds one notification message, or one in each line (NDJSON):

    \b
      {"notifications": [{"ep": "dev-1", "path": "/3303/0/5700", "payload": "MjEuNQ=="}]}

    NDJSON goes out in requests of at most 8 MiB or 50,000 lines, in order, and from a pipe
    as it comes.  A request is stored whole or not at all, and once even when it has to be
    sent again.  Prints how many events were accepted, how many records that made in
    channels, how many events reached no channel, and what survives a crash.
    """
    form = _FORMS_BY_SUFFIX.get(file.suffix.lower()) if form_name is None else _FORMS_BY_NAME[form_name]
    with _opened(file) as source:
        try:
            with progress(is_wanted=not is_json) as bar:
                posting = Posting(ApiClient(address, key, role=Role.GATEWAY), application, bar)
                run(partial(posting.run, source, form))
        except DispatcherError as error:
            accepted = posting.total.accepted
            raise click.ClickException(f"{error.message}; {accepted} events were accepted before") from error
        except KeyboardInterrupt:
            click.echo(f"interrupted; {posting.total.accepted} events were accepted", err=True)
            sys.exit(130)
    _report(posting.total, application, is_json)


def form_by_content(start: bytes) -> BodyForm:
    """NDJSON when the first line that is not blank is JSON by itself, else one JSON message."""
    first = start.lstrip().split(b"\n", 1)[0]
    try:
        msgspec.json.decode(first, type=msgspec.Raw)
    except msgspec.DecodeError:
        return BodyForm.JSON
    return BodyForm.NDJSON


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    """The input as it comes: from a pipe what is there, from a file a request's worth.

    The first one has a whole line, or all there is, so that the form can be told from it.
    """
    first = bytearray()
    while b"\n" not in first.lstrip() and len(first) <= limits.REQUEST_BODY_BYTES_MAX:
        chunk = source.read1(limits.PUBLISH_REQUEST_BYTES)  # type: ignore[attr-defined]
        if not chunk:
            break
        first += chunk
    yield bytes(first)
    while chunk := source.read1(limits.PUBLISH_REQUEST_BYTES):  # type: ignore[attr-defined]
        yield chunk


def _blocks(first: bytes, rest: Iterator[bytes], form: BodyForm) -> Iterator[Block]:
    if form is BodyForm.NDJSON:
        lines = LineBlocks()
        yield from lines.feed(first)
        for chunk in rest:
            yield from lines.feed(chunk)
        yield from lines.end()
        return
    body = bytearray(first)
    for chunk in rest:
        body += chunk
        if len(body) > limits.REQUEST_BODY_BYTES_MAX:
            raise BodyTooLarge(
                f"the message is over {limits.REQUEST_BODY_BYTES_MAX} bytes, which is more than one "
                "request may have; write it as NDJSON, one smaller message in each line"
            )
    yield Block(bytes(body), 1)


def _located(error: RequestRefused, block: Block) -> RequestRefused:
    """The same error with its line numbers counted over the whole input."""
    if not error.fields:
        return error
    places = "; ".join(_place(field, block) for field in error.fields)
    return RequestRefused(f"the events were refused: {places}", status=error.status, fields=error.fields)


def _place(field: FieldError, block: Block) -> str:
    line = "" if field.line is None else f"line {field.line + block.first_line - 1}, "
    return f"{line}{field.name}: {field.message}"


def _report(total: Accepted, application: str | None, is_json: bool) -> None:
    if is_json:
        click.echo(msgspec.json.encode(total))
    else:
        click.echo(
            f"accepted {total.accepted} events: queued {total.queued} records, "
            f"unrouted {total.unrouted}, rejected {total.rejected}; durability {total.durability or 'none'}"
        )
    if total.unrouted:
        why = "it has no channel" if application else "no application with a channel has subscribed to them"
        click.echo(f"{total.unrouted} events reached nobody: {why}", err=True)
    if total.rejected:
        click.echo(f"{total.rejected} records were refused by full channels", err=True)


def _size(source: BinaryIO) -> int | None:
    """Of a file; a pipe's end is not known."""
    try:
        status = os.fstat(source.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        source = file.open("rb")
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    with source:
        yield source
