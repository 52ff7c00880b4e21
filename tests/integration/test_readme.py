"""Runs what the README tells its readers to run, as it stands there, but for ports and folders."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from support.daemon import Daemon, open_daemon

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
STEP_S = 30.0


def block(language: str, mark: str) -> str:
    """The one block in this language with this text in it."""
    (found,) = [text for tag, text in BLOCK.findall(README) if tag == language and mark in text]
    return str(found)


class Reader(msgspec.Struct, kw_only=True):
    """One who follows the README, on another port and in another folder."""

    daemon: Daemon
    callback_port: int
    environment: dict[str, str]

    def adapted(self, text: str) -> str:
        """A block for where we really are."""
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.daemon.port}")
        text = text.replace("9000", str(self.callback_port))
        return text.replace("./data", str(self.daemon.data))

    async def shell(self, text: str) -> str:
        """Run a block of shell; what it says on stdout."""
        with trio.fail_after(STEP_S):
            done = await trio.run_process(
                ["bash", "-euc", self.adapted(text)],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=self.environment,
            )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    @asynccontextmanager
    async def running(self, program: str) -> AsyncIterator[trio.Process]:
        """A Python block as a program; it is stopped when the block ends."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-c", self.adapted(program)],
            stdout=subprocess.PIPE,
            env=self.environment,
        )
        try:
            yield process
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def read_until(process: trio.Process, text: str) -> str:
    """What a program says up to this text."""
    assert process.stdout is not None
    said = b""
    with trio.fail_after(STEP_S):
        while text.encode() not in said:
            more = await process.stdout.receive_some()
            assert more, said.decode()
            said += more
    return said.decode()


async def wait_for_port(port: int) -> None:
    with trio.fail_after(STEP_S):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.05)
            else:
                await stream.aclose()
                return


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        callback_port: int = probe.getsockname()[1]
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with open_daemon(tmp_path, "--allow-private-callbacks") as daemon:
        found = Reader(
            daemon=daemon, callback_port=callback_port, environment={**os.environ, "PATH": commands}
        )
        printed = await found.shell(block("sh", "export APP_KEY") + 'echo "$GATEWAY_KEY $APP_KEY"')
        gateway_key, application_key = printed.splitlines()[-1].split()
        found.environment.update(GATEWAY_KEY=gateway_key, APP_KEY=application_key)
        yield found


async def test_a_reader_gets_events_by_callback_by_websocket_and_by_long_poll(
    reader: Reader,
) -> None:
    answer = await reader.shell(block("sh", '{"registrations"'))
    assert answer in README
    assert json.loads(answer)["unrouted"] == 1

    await reader.shell(block("sh", "/v2/subscriptions"))
    callback = block("sh", "-X PUT http://127.0.0.1:8080/v2/notification/callback")
    async with reader.running(block("python", "HTTPServer")) as receiver:
        await wait_for_port(reader.callback_port)
        answer = await reader.shell(callback)
        assert json.loads(answer)["queued"] == 1
        said = await read_until(receiver, "5700")
    lines = said.splitlines()
    assert lines[0] == "{}"
    (event,) = json.loads(lines[1])["notifications"]
    assert (event["ep"], event["payload"]) == ("dev-1", "MjEuNQ==")
    assert event["uid"]

    await reader.shell(block("sh", "-X DELETE http://127.0.0.1:8080/v2/notification/callback"))
    post = callback[callback.index("curl -sS http://127.0.0.1:8080/gateway") :]
    assert json.loads(await reader.shell(post))["queued"] == 1
    async with reader.running(block("python", "websockets.connect")) as client:
        assert await read_until(client, "\n") == "dev-1 /3303/0/5700 MjEuNQ==\n"

    answer = await reader.shell(block("sh", "/v2/notification/pull"))
    (event,) = json.loads(answer)["notifications"]
    assert (event["ep"], event["payload"]) == ("dev-1", "MjEuNQ==")
    assert event["uid"]


async def test_the_operator_sees_the_channels_and_the_totals(reader: Reader) -> None:
    reader.environment["DISPATCHER_URL"] = f"http://127.0.0.1:{reader.daemon.port}"
    put = "curl -sS -X PUT http://127.0.0.1:8080/v2/notification/websocket -H"
    await reader.shell(f'{put} "Authorization: Bearer $APP_KEY"')
    said = await reader.shell(block("sh", "export ADMIN_KEY"))
    assert "default/greenhouse" in said
    assert "in queues" in said


async def test_the_program_that_embeds_it_runs_as_it_stands() -> None:
    with trio.fail_after(STEP_S):
        done = await trio.run_process(
            [sys.executable, "-P", "-c", block("python", "open_dispatcher")], capture_stdout=True
        )
    assert b'"ep":"dev-1"' in done.stdout
    assert b'"payload":"MjEuNQ=="' in done.stdout
