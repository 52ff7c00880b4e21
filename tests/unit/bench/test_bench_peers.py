"""What stands between a peer and the proof: NATS' stream taken apart, and what is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from bench.load.arrivals import LONE_EVENT_BYTES, Arrivals
from bench.load.fleet import BodyForm, Fleet, NotProven
from bench.load.websocket_sink import SinkFailed
from bench.peers import nats, nchan, node
from bench.process import Absent

FLEET = Fleet(events=200, devices=10, lanes=1)
INFO = b'INFO {"server_id":"x"}\r\n'


def lines() -> list[bytes]:
    return [body.content for body in FLEET.bodies(0, BodyForm.JSON, 1)]


def delivery(message: bytes) -> bytes:
    return b"MSG events 1 %d\r\n%s\r\n" % (len(message), message)


def frames(stream: bytes, cut: int) -> Iterator[bytes]:
    """The stream in binary frames of so many bytes, which cut messages anywhere."""
    for start in range(0, len(stream), cut):
        piece = stream[start : start + cut]
        yield b"\x82\x7e" + len(piece).to_bytes(2) + piece


async def receive(messages: list[bytes], *, cut: int = 1_000, between: bytes = b"") -> Arrivals:
    """What a sink makes of a server that delivers these, until the connection ends."""
    stream = b"".join(map(delivery, messages[:50])) + between + b"".join(map(delivery, messages[50:]))

    async def serve(connection: trio.SocketStream) -> None:
        await connection.receive_some(10_000)
        await connection.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        await connection.send_all(b"".join(frames(INFO, 100)))
        asked = b""
        while b"PING\r\n" not in asked:
            asked += await connection.receive_some(10_000)
        assert b"SUB events 1\r\n" in asked
        await connection.send_all(b"".join(frames(b"PONG\r\n", 100)))
        await trio.sleep(0.01)
        await connection.send_all(b"".join(frames(stream, cut)))

    arrivals = Arrivals(2 * FLEET.events, LONE_EVENT_BYTES)
    arrivals.begin(FLEET.events)
    sink = nats.NatsSink(arrivals)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, serve, 0)
            with pytest.raises(SinkFailed, match="ended"):
                await sink.run(listeners[0].socket.getsockname()[1], task_status=trio.TASK_STATUS_IGNORED)
            nursery.cancel_scope.cancel()
    sink.finish()
    return arrivals


@pytest.mark.parametrize("cut", [37, 1_000, 60_000])
async def test_messages_are_found_however_the_frames_cut_them(cut: int) -> None:
    arrivals = await receive(lines(), cut=cut)
    assert arrivals.events == FLEET.events
    assert arrivals.last_at_s > 0
    arrivals.prove(FLEET)


async def test_what_the_server_says_between_messages_is_no_event() -> None:
    arrivals = await receive(lines(), between=b"PING\r\n+OK\r\n")
    assert arrivals.events == FLEET.events
    arrivals.prove(FLEET)


async def test_each_message_has_the_time_at_which_it_was_whole() -> None:
    arrivals = await receive(lines())
    late = arrivals.latencies_s(FLEET, [0.0] * FLEET.events)
    assert len(late) == FLEET.events
    assert 0 < late[0] <= late[-1] <= arrivals.last_at_s


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        (lambda lines: lines[:70] + lines[71:], "lost"),
        (lambda lines: [*lines, lines[-1]], "came again"),
        (lambda lines: [lines[10], *lines[1:10], lines[0], *lines[11:]], "out of order"),
        (lambda lines: lines[:-1], "19 of 20"),
    ],
    ids=["a loss", "a duplicate", "disorder", "the last one lost"],
)
async def test_what_a_peer_does_wrong_is_noticed(planted: object, said: str) -> None:
    assert callable(planted)
    arrivals = await receive(planted(lines()))
    with pytest.raises(NotProven, match=said):
        arrivals.prove(FLEET)


def test_a_publication_is_the_message_with_its_length() -> None:
    assert nats.publication(b"abc") == b"PUB events 3\r\nabc\r\n"


def test_peers_that_are_not_installed_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    for opened, said in (
        (node.open_node(), "nodejs"),
        (nats.open_nats(), "nats-server"),
        (nchan.open_nchan(), "libnginx-mod-nchan"),
    ):
        with pytest.raises(Absent, match=f"apt-get install {said}"), opened:
            pass


def test_node_without_its_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: "/usr/bin/node")
    monkeypatch.setattr(node, "_FOLDER", tmp_path)
    with pytest.raises(Absent, match="npm install --prefix bench/peers"), node.open_node():
        pass
