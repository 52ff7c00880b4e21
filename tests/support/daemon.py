"""A real ``dispatcher serve`` in a process of its own, and users of its API.

    with open_daemon(tmp_path, "--allow-private-callbacks") as daemon:
        tenant = await new_tenant(daemon)
        reply = await tenant.application.send("PUT", "/v2/notification/websocket")
        assert reply.status == 201

The daemon gets a data folder of its own and a free port.  Everything waited for has
a bound, and only this process is ever stopped, by its handle.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import select
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import msgspec
import trio

READY_S = 20.0
STOP_S = 15.0
REPLY_S = 30.0
KEYS_S = 30.0
LOG_LINES = 60

DISPATCHER = (sys.executable, "-P", "-m", "dispatcher")
"""The command; with -P it is the installed package and not the source tree one stands in."""

_numbers = itertools.count(1)
COMMAND_S = 30.0


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What ``keys create --json`` printed."""

    key: str
    id: str
    role: str
    account: str | None
    application: str | None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A response.  Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def content(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)


class User:
    """Someone who calls the daemon's API with one key, or with none."""

    def __init__(self, port: int, key: Key | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.key = key
        self.tls = tls

    async def send(
        self,
        method: str,
        path: str,
        content: object = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own; ``content`` goes as JSON, ``body`` as it is."""
        sent = json.dumps(content).encode() if content is not None else body
        fields = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(sent)), "Connection": "close"}
        if content is not None:
            fields["Content-Type"] = "application/json"
        if self.key is not None:
            fields["Authorization"] = f"Bearer {self.key.key}"
        with trio.fail_after(REPLY_S):
            return await _exchange(self.port, self.tls, method, path, {**fields, **(headers or {})}, sent)

    async def post_events(self, events: Sequence[object], *, kind: str = "notifications") -> Any:
        """Post events of one kind as a gateway, in one message; they must be accepted."""
        reply = await self.send("POST", "/gateway/v1/events", {kind: events})
        assert reply.status == 202, reply.body
        return reply.content()


class Tenant(msgspec.Struct, frozen=True):
    """An account with a gateway and an application."""

    gateway: User
    application: User
    account: str


class Daemon:
    """A running daemon; made by ``open_daemon``."""

    def __init__(
        self,
        process: subprocess.Popen[str],
        port: int,
        data: Path,
        log: Path,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        self.data = data
        self.log = log
        self.tls = tls
        self.anyone = User(port, tls=tls)
        self._process = process

    async def create_key(
        self, role: str, *, account: str | None = None, application: str | None = None
    ) -> Key:
        """A key made by the command line while the daemon runs; of a new account, if none is named."""
        options = [] if role == "admin" else [f"--account={account or new_account()}"]
        options += [f"--application={application}"] if application else []
        made = await self._run_keys("create", "--json", f"--role={role}", *options)
        return msgspec.json.decode(made, type=Key)

    async def revoke_key(self, key: Key) -> None:
        """Revoke a key by the command line."""
        await self.revoke_id(key.id)

    async def revoke_id(self, key_id: str) -> None:
        """Revoke the key of this id by the command line."""
        await self._run_keys("revoke", key_id)

    async def user(self, role: str, *, account: str | None = None, application: str | None = None) -> User:
        """Someone with a new key."""
        key = await self.create_key(role, account=account, application=application)
        return User(self.port, key, self.tls)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the daemon."""
        self._process.send_signal(number)

    def limit_files(self, bytes_max: int | None) -> None:
        """Let the daemon's files grow to this size and no further, as a full disk would; None: to any."""
        _, most = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        now = most if bytes_max is None else bytes_max
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (now, most))

    async def wait(self) -> int:
        """The exit status of a daemon that was told to stop."""
        return await trio.to_thread.run_sync(self._process.wait, STOP_S)

    async def _run_keys(self, command: str, *arguments: str) -> bytes:
        line = [*DISPATCHER, "keys", command, f"--data={self.data}", *arguments]
        with trio.fail_after(KEYS_S):
            done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return bytes(done.stdout)


def new_account() -> str:
    """A name that no account has yet."""
    return f"account-{next(_numbers)}"


async def new_tenant(daemon: Daemon) -> Tenant:
    """A new account with a gateway key and the key of a new application."""
    account = new_account()
    users: dict[str, User] = {}

    async def make(role: str) -> None:
        users[role] = await daemon.user(role, account=account)

    async with trio.open_nursery() as nursery:
        for role in ("gateway", "application"):
            nursery.start_soon(make, role)
    return Tenant(users["gateway"], users["application"], account)


@contextmanager
def open_daemon(
    folder: Path,
    *flags: str,
    config: str = "",
    exit_status: int = 0,
    sockets: Sequence[socket.socket] = (),
    names: str = "",
    tls: ssl.SSLContext | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """Start a daemon, wait until it is ready, stop it at the end; it must then exit with 0.

    With another ``exit_status`` the block has to see to that itself, with a signal.
    ``sockets`` are passed as systemd does, with their ``names`` (``LISTEN_FDNAMES``).
    ``tls`` is how its users connect when the ``config`` gives it a certificate for localhost.
    ``environment`` comes on top of this process's own.

    ``folder`` holds its data, and a second daemon on the same folder finds them again.
    """
    data, log, file = folder / "data", folder / "log", folder / "config.toml"
    file.write_text(config)
    line = [*DISPATCHER, "serve", "--listen=127.0.0.1:0", f"--data={data}"]
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [*passing(sockets, names), *line, f"--config={file}", *flags],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            pass_fds=[sock.fileno() for sock in sockets],
            env={**os.environ, **(environment or {})},
        )
    try:
        yield Daemon(process, _wait_ready(process, log), data, log, tls)
    finally:
        status = _stop(process)
    assert status == exit_status, f"the daemon ended with {status}:\n{_tail(log)}"


def passing(sockets: Sequence[socket.socket], names: str = "") -> list[str]:
    """What to write before a command so that it finds the sockets from descriptor 3 on.

    The sockets must be among the ``pass_fds`` of the process.
    """
    if not sockets:
        return []
    numbers = [str(sock.fileno()) for sock in sockets]
    return [sys.executable, "-c", _PASS, names, ",".join(numbers)]


_PASS = """
import os, sys
names, numbers, *command = sys.argv[1:]
given = [os.dup(int(number)) for number in numbers.split(",")]
high = [os.dup2(number, 100 + at) for at, number in enumerate(given)]
for at, number in enumerate(high):
    os.dup2(number, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


@contextmanager
def log_shown(daemon: Daemon) -> Iterator[Daemon]:
    """Print what the daemon logs meanwhile: pytest shows it when the test fails."""
    before = daemon.log.stat().st_size
    yield daemon
    with daemon.log.open("rb") as file:
        file.seek(before)
        print(file.read().decode(errors="replace"))


def _wait_ready(process: subprocess.Popen[str], log: Path) -> int:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], READY_S)
    line = process.stdout.readline() if readable else ""
    assert re.match("ready https?://127.0.0.1:", line), f"the daemon is not ready: {line!r}\n{_tail(log)}"
    return int(line.rpartition(":")[2])


def _stop(process: subprocess.Popen[str]) -> int:
    """Stop this process, if it still runs; its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return process.returncode


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])


async def _connect(port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    if tls is None:
        return stream
    return trio.SSLStream(stream, tls, server_hostname="localhost", https_compatible=True)


async def _exchange(
    port: int, tls: ssl.SSLContext | None, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> Reply:
    connection = h11.Connection(h11.CLIENT)
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = h11.Request(method=method.encode(), target=path.encode(), headers=fields)
    async with await _connect(port, tls) as stream:
        await stream.send_all((connection.send(request) or b"") + body)
        head: h11.Response | None = None
        received = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                received += event.data
            else:
                break
    assert head is not None
    return Reply(
        status=head.status_code,
        headers={name.decode(): value.decode() for name, value in head.headers},
        body=bytes(received),
    )


async def command(daemon: Daemon, user: User, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A command of an operator, who has this key."""
    assert user.key is not None
    env = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    env |= {"DISPATCHER_URL": f"http://127.0.0.1:{daemon.port}", "DISPATCHER_KEY": user.key.key}
    with trio.fail_after(COMMAND_S):
        done = await trio.run_process(
            [*DISPATCHER, *arguments],
            stdin=b"",
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=env,
        )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done
