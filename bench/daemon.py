"""A real daemon as a process of its own, on one core."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from .process import ServerProcess, open_server

_COMMAND_S = 30.0
_DISPATCHER = (sys.executable, "-P", "-m", "dispatcher")
_CONFIG = """\
[callbacks]
allow_private = true
[tiers.commercial]
queue_bytes = {queue_bytes}
"""


class Daemon(msgspec.Struct, frozen=True):
    """A running ``dispatcher serve`` and its data folder; made by ``open_daemon``."""

    server: ServerProcess
    data: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def create_key(self, role: str, *options: str) -> str:
        """A new access key, made by the command line."""
        return create_key(self.data, role, *options)


def create_key(data: Path, role: str, *options: str) -> str:
    """A new access key of a data folder, which is made when it is not there."""
    command = [*_DISPATCHER, "keys", "create", "--json", "--data", str(data), "--role", role, *options]
    made = subprocess.run(command, check=True, capture_output=True, timeout=_COMMAND_S)
    return str(msgspec.json.decode(made.stdout)["key"])


@contextmanager
def open_daemon(
    *, queue_bytes: int = 50_000_000, durability: str = "disk", data: Path | None = None
) -> Iterator[Daemon]:
    """A daemon on a data folder (None: a temporary one) and a free port, on ``SERVER_CORE``."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder:
        config = Path(folder, "config.toml")
        config.write_text(_CONFIG.format(queue_bytes=queue_bytes))
        data = data or Path(folder, "data")
        command = [*_DISPATCHER, "serve", "--config", config, "--listen", "127.0.0.1:0"]
        command += ["--data", data, "--durability", durability]
        with open_server(command, Path(folder, "log")) as server:
            yield Daemon(server, data)
