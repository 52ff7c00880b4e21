from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import trio
import trio.testing
from click.testing import CliRunner

from dispatcher import limits
from dispatcher.cli import tail as tail_module
from dispatcher.cli.application_socket import CLOSE_ABNORMAL, SocketEnd
from dispatcher.cli.server_address import ServerAddress
from dispatcher.cli.tail import Printer, events_of, reconnect_pause_s, tail
from dispatcher.errors import CloseCode, ServerUnreachable
from dispatcher.wire.ingest import BodyForm, parse

ADDRESS = ServerAddress(is_tls=False, host="127.0.0.1", port=1)
MESSAGE = '{"registrations":[{"ep":"a"},{"ep":"b"}],"notifications":[{"ep":"a","path":"/1","max-age":0}]}'
GONE = SocketEnd(CLOSE_ABNORMAL, "")


Printed = Callable[[], list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return lambda: capsys.readouterr().out.splitlines()


def test_a_message_is_one_line_as_it_came(printed: Printed) -> None:
    assert Printer(is_by_event=False, lines_max=None).take(MESSAGE)
    assert printed() == [MESSAGE]


def test_events_are_a_line_each_in_their_order_and_can_be_posted_again() -> None:
    lines = list(events_of(MESSAGE))
    assert [list(json.loads(line)) for line in lines] == [["registrations"]] * 2 + [["notifications"]]
    assert [json.loads(line)["registrations"][0]["ep"] for line in lines[:2]] == ["a", "b"]
    assert parse(b"\n".join(lines), BodyForm.NDJSON).events == 3


def test_printing_stops_after_so_many_lines(printed: Printed) -> None:
    printer = Printer(is_by_event=True, lines_max=2)
    assert not printer.take(MESSAGE)
    assert printer.is_done
    assert len(printed()) == 2


class Server:
    """Stands for the sockets that ``tail`` opens: each ends as the script says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *script: SocketEnd | Exception | str) -> None:
        self.opened_at_s: list[float] = []
        self._script = list(script)
        monkeypatch.setattr(tail_module, "receive_messages", self.receive)

    async def receive(self, address: ServerAddress, key: str, take: Callable[[str], bool]) -> SocketEnd:
        self.opened_at_s.append(trio.current_time())
        while isinstance(step := self._script.pop(0), str):
            if not take(step):
                return SocketEnd(CloseCode.NORMAL, "")
        if isinstance(step, Exception):
            raise step
        return step


async def follow(*, may_reconnect: bool = True, lines_max: int | None = None) -> SocketEnd:
    printer = Printer(is_by_event=False, lines_max=lines_max)
    return await tail_module._tail(
        ADDRESS, "ak_1key", printer, may_register=False, may_reconnect=may_reconnect
    )


@pytest.mark.parametrize("end", [GONE, SocketEnd(CloseCode.RESTART, "restarting")])
async def test_a_lost_connection_and_a_restart_are_followed_by_a_new_socket(
    end: SocketEnd,
    monkeypatch: pytest.MonkeyPatch,
    printed: Printed,
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server(monkeypatch, "{}", end, "[]")
    await follow(lines_max=2)
    assert printed() == ["{}", "[]"]
    assert server.opened_at_s == [0.0, reconnect_pause_s(1)]


@pytest.mark.parametrize(
    "code", [CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.POLICY, CloseCode.INTERNAL, CloseCode.TOO_BIG]
)
async def test_any_other_close_is_the_end(code: CloseCode, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, SocketEnd(code, "because"))
    assert await follow() == SocketEnd(code, "because")
    assert len(server.opened_at_s) == 1


async def test_no_reconnect_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, GONE)
    assert await follow(may_reconnect=False) == GONE
    assert len(server.opened_at_s) == 1


async def test_a_server_that_is_not_there_at_first_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, ServerUnreachable("cannot reach it"))
    with pytest.raises(ServerUnreachable):
        await follow()


async def test_a_server_that_does_not_come_back_is_given_up_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    away = ServerUnreachable("cannot reach it")
    server = Server(monkeypatch, GONE, *[away] * limits.TAIL_RECONNECTS_MAX)
    assert await follow() == GONE
    pauses = [b - a for a, b in zip(server.opened_at_s, server.opened_at_s[1:], strict=False)]
    assert pauses == [reconnect_pause_s(n) for n in range(1, limits.TAIL_RECONNECTS_MAX + 1)]
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert max(pauses) == limits.TAIL_RECONNECT_S_MAX


async def test_a_message_makes_the_pauses_short_again(
    monkeypatch: pytest.MonkeyPatch,
    printed: Printed,
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server(monkeypatch, GONE, GONE, "{}", GONE, "{}")
    await follow(lines_max=2)
    assert server.opened_at_s == [0.0, 1.0, 3.0, 4.0]


@pytest.mark.parametrize("arguments", [[], ["--key", "has space"], ["--key", "ak_1", "--count", "0"]])
def test_usage_errors_exit_2(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPATCHER_KEY", raising=False)
    assert CliRunner().invoke(tail, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1000, "deleted"),
        (1001, "newer socket"),
        (1006, "lost"),
        (1008, "revoked"),
        (1011, "no WebSocket channel"),
        (1012, "restarting"),
        (4000, "closed"),
    ],
)
def test_the_end_is_told_in_words_and_is_a_failure(
    code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Server(monkeypatch, SocketEnd(code, "its reason"))
    result = CliRunner().invoke(tail, ["--key", "ak_1key", "--no-register", "--no-reconnect"])
    assert result.exit_code == 1
    assert f"{code}: " in result.stderr
    assert words in result.stderr
    assert "(its reason)" in result.stderr
    assert "ak_1key" not in result.output
