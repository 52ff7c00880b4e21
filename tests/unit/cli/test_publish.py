from __future__ import annotations

import io
import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.receiver import Answer, Receiver, answer, open_receiver

from dispatcher import limits
from dispatcher.cli.api_client import ApiClient
from dispatcher.cli.progress import Bar
from dispatcher.cli.publish import Posting, form_by_content, publish
from dispatcher.cli.server_address import ServerAddress
from dispatcher.errors import BodyTooLarge, RequestRefused
from dispatcher.wire.ingest import BodyForm

LINE = b'{"notifications":[{"ep":"a","path":"/1"}]}\n'
KEY = "ak_1notarealkey"


class Pipe(io.BytesIO):
    """An input that gives what was written at once, chunk by chunk, as a pipe does."""

    def __init__(self, *chunks: bytes) -> None:
        super().__init__()
        self._chunks = list(chunks)

    def read1(self, size: int | None = -1) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""


def accepted(count: int, unrouted: int = 0, rejected: int = 0) -> Answer:
    body = {"accepted": count, "queued": count, "unrouted": unrouted, "rejected": rejected}
    return answer(202, json.dumps({**body, "durability": "memory"}).encode())


def refused(*fields: dict[str, object]) -> Answer:
    body = {"object": "error", "code": 400, "type": "validation_error", "message": "no", "request_id": "r"}
    return answer(400, json.dumps({**body, "fields": fields}).encode())


def posting(receiver: Receiver) -> Posting:
    return Posting(
        ApiClient(ServerAddress(is_tls=False, host="127.0.0.1", port=receiver.port), KEY), None, Bar()
    )


def run(*arguments: str, input_: bytes | None = None) -> Result:
    result = CliRunner().invoke(publish, arguments, input=input_)
    assert KEY not in result.output
    assert "Traceback" not in result.output
    return result


@pytest.mark.parametrize(
    ("start", "form"),
    [
        (LINE, BodyForm.NDJSON),
        (LINE.rstrip(), BodyForm.NDJSON),
        (b"\n \n" + LINE, BodyForm.NDJSON),
        (LINE + b"not json\n", BodyForm.NDJSON),
        (b'{\n "notifications": []\n}\n', BodyForm.JSON),
        (b"{", BodyForm.JSON),
        (b"", BodyForm.JSON),
    ],
)
def test_the_form_is_told_from_the_first_line(start: bytes, form: BodyForm) -> None:
    assert form_by_content(start) is form


async def test_lines_go_out_as_they_come_and_the_answers_add_up() -> None:
    async with open_receiver(accepted(2), accepted(1, unrouted=1)) as receiver:
        run = posting(receiver)
        await run.run(Pipe(LINE * 2 + LINE[:10], LINE[10:]), None)
    assert [request.body for request in receiver.requests] == [LINE * 2, LINE]
    assert (run.total.accepted, run.total.unrouted, run.total.durability) == (3, 1, "memory")


async def test_each_request_has_an_idempotency_key_of_its_own() -> None:
    async with open_receiver(otherwise=accepted(1)) as receiver:
        await posting(receiver).run(Pipe(LINE, LINE), None)
        await posting(receiver).run(Pipe(LINE), None)
    keys = [request.values("idempotency-key")[0] for request in receiver.requests]
    assert len(set(keys)) == 3


async def test_a_message_over_several_lines_goes_in_one_piece() -> None:
    message = b'{\n"notifications":\n[]}\n'
    async with open_receiver(accepted(0)) as receiver:
        await posting(receiver).run(Pipe(message[:2], message[2:9], message[9:]), None)
    assert [request.body for request in receiver.requests] == [message]
    assert receiver.requests[0].values("content-type") == [b"application/json"]


async def test_a_message_over_what_a_request_may_have_is_refused_unsent() -> None:
    async with open_receiver() as receiver:
        with pytest.raises(BodyTooLarge, match="write it as NDJSON"):
            await posting(receiver).run(Pipe(b"{\n", b" " * limits.REQUEST_BODY_BYTES_MAX), None)
    assert receiver.requests == []


async def test_a_refused_line_is_named_by_its_number_in_the_whole_input() -> None:
    wrong = refused(
        {"name": "notifications[0].ep", "message": "is missing", "line": 2},
        {"name": "body", "message": "is odd"},
    )
    async with open_receiver(accepted(3), wrong) as receiver:
        run = posting(receiver)
        with pytest.raises(RequestRefused, match=r"line 5, notifications\[0\]\.ep: is missing; body: is odd"):
            await run.run(Pipe(LINE * 3, LINE * 3), None)
    assert run.total.accepted == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--key", KEY], "Missing argument"),
        (["-"], "--key or DISPATCHER_KEY"),
        (["-", "--key", "has space"], "no access key"),
        (["-", "--key", KEY, "--url", "nowhere"], "want http://HOST:PORT"),
        (["/nonexistent/file", "--key", KEY], "does not exist"),
        (["-", "--key", KEY, "--form", "xml"], "xml"),
    ],
)
def test_usage_errors_exit_2_and_say_what_is_wanted(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPATCHER_KEY", raising=False)
    result = run(*arguments, input_=LINE)
    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a port where nobody listens."""
    monkeypatch.setattr(limits, "CLIENT_RETRY_INITIAL_S", 0.0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_failure_exits_1_and_says_how_many_events_were_accepted(nowhere: str, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(LINE)
    result = run(str(file), "--url", nowhere, "--key", KEY)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "connection refused" in result.stderr
    assert "0 events were accepted before" in result.stderr
    assert result.stdout == ""


def test_an_empty_input_is_nothing_to_post(nowhere: str) -> None:
    result = run("-", "--form", "ndjson", "--url", nowhere, "--key", KEY, "--json", input_=b"\n")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["accepted"] == 0
