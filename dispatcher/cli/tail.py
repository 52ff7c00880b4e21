"""``dispatcher tail``: receive as an application does, and print what comes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import click
import msgspec
import trio

from dispatcher import limits
from dispatcher.cli.api_client import ApiClient
from dispatcher.cli.application_socket import CLOSE_ABNORMAL, SocketEnd, receive_messages
from dispatcher.cli.running import run
from dispatcher.cli.server_address import ServerAddress
from dispatcher.cli.server_options import server_options
from dispatcher.errors import CloseCode, ServerUnreachable
from dispatcher.model import Role

_WEBSOCKET = "/v2/notification/websocket"
_MEANINGS = {
    CloseCode.NORMAL: "the channel was deleted",
    CloseCode.GOING_AWAY: "a newer socket replaced this one, or it did not answer in time",
    CLOSE_ABNORMAL: "the connection was lost",
    CloseCode.POLICY: "the access key was revoked",
    CloseCode.TOO_BIG: "a message was larger than this command takes",
    CloseCode.INTERNAL: "no WebSocket channel is registered, or the dispatcher failed",
    CloseCode.RESTART: "the dispatcher is restarting",
}
_WORTH_RECONNECTING = frozenset({CLOSE_ABNORMAL, CloseCode.RESTART})


class Printer:
    """Prints messages, one line each, until ``lines_max`` are out (None: without end)."""

    def __init__(self, *, is_by_event: bool, lines_max: int | None) -> None:
        self.lines = 0
        self._is_by_event = is_by_event
        self._lines_max = lines_max

    @property
    def is_done(self) -> bool:
        """Whether enough was printed."""
        return self._lines_max is not None and self.lines >= self._lines_max

    def take(self, message: str) -> bool:
        """Print a message and flush, so that it is out before its pong; False when that was enough."""
        for line in events_of(message) if self._is_by_event else (message.encode(),):
            sys.stdout.buffer.write(line + b"\n")
            self.lines += 1
            if self.is_done:
                break
        sys.stdout.buffer.flush()
        return not self.is_done


@click.command()
@server_options(Role.APPLICATION)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N lines.")
@click.option("--events", "is_by_event", is_flag=True, help="One event in each line, each still a message.")
@click.option(
    "--register/--no-register",
    "may_register",
    default=True,
    help="Register a WebSocket channel when the application has none.  [default: register]",
)
@click.option("--no-reconnect", is_flag=True, help="End when the connection is lost or the server restarts.")
def tail(
    address: ServerAddress,
    key: str,
    count: int | None,
    is_by_event: bool,
    may_register: bool,
    no_reconnect: bool,
) -> None:
    """Print what comes on an application's WebSocket.

    \b
    dispatcher tail --count 1
    dispatcher tail --events > events.ndjson

    Each message is one line of JSON.  What is printed counts as received; only the last message
    before the end of this command may come again.  A notification comes when the application has
    subscribed to it (PUT /v2/subscriptions) or when it is posted straight to it ('dispatcher publish
    --application'); life-cycle events come anyway.  With --events the output can be posted again:
    'dispatcher publish -' takes it.
    """
    printer = Printer(is_by_event=is_by_event, lines_max=count)
    try:
        end = run(
            partial(_tail, address, key, printer, may_register=may_register, may_reconnect=not no_reconnect)
        )
    except KeyboardInterrupt:
        sys.exit(130)
    if not printer.is_done:
        click.echo(f"dispatcher: {_meaning(end)}", err=True)
        sys.exit(1)


async def _tail(
    address: ServerAddress, key: str, printer: Printer, *, may_register: bool, may_reconnect: bool
) -> SocketEnd:
    if may_register:
        await _ensure_channel(address, key)
    failures = 0
    while True:
        lines = printer.lines
        try:
            end = await receive_messages(address, key, printer.take)
        except ServerUnreachable:
            if failures == 0:
                raise
            end = SocketEnd(CLOSE_ABNORMAL, "")
        if printer.is_done or not may_reconnect or end.code not in _WORTH_RECONNECTING:
            return end
        failures = 1 if printer.lines > lines else failures + 1
        if failures > limits.TAIL_RECONNECTS_MAX:
            return end
        pause_s = reconnect_pause_s(failures)
        click.echo(f"{_meaning(end)}; connecting again in {pause_s:g} s", err=True)
        await trio.sleep(pause_s)


async def _ensure_channel(address: ServerAddress, key: str) -> None:
    """Register a WebSocket channel when there is none; one that is there stays as it is."""
    async with ApiClient(address, key, role=Role.APPLICATION) as api:
        found = await api.ask("GET", _WEBSOCKET, expect=(200, 404))
        if found.status == 404:
            await api.ask("PUT", _WEBSOCKET, expect=(200, 201))


def events_of(message: str) -> Iterator[bytes]:
    """A message cut into messages of one event, in order."""
    arrays = msgspec.json.decode(message, type=dict[str, list[msgspec.Raw]])
    for kind, events in arrays.items():
        for event in events:
            yield msgspec.json.encode({kind: [event]})


def reconnect_pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row, from 1."""
    return min(limits.TAIL_RECONNECT_S_MAX, limits.TAIL_RECONNECT_INITIAL_S * 2.0 ** (failures - 1))


def _meaning(end: SocketEnd) -> str:
    meaning = _MEANINGS.get(end.code, "the socket was closed")
    said = f" ({end.reason})" if end.reason else ""
    return f"{end.code}: {meaning}{said}"
