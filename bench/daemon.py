"""A real daemon as a process of its own, on one core, and what it costs.

Figures are read from ``/proc``: Linux only, like the rest of the measuring.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

SERVER_CORE = 0
LOAD_CORE = 1
_READY_S = 30.0
_STOP_S = 20.0
_CONFIG = """\
[callbacks]
allow_private = true
[tiers.commercial]
queue_bytes = {queue_bytes}
"""


class DaemonFailed(Exception):
    """The daemon did not start, or did not stop as it must; the message ends with its log."""


class Daemon:
    """A running ``dispatcher serve``; made by ``open_daemon``."""

    def __init__(self, process: subprocess.Popen[str], port: int, data: Path) -> None:
        self._process = process
        self.port = port
        self._data = data

    @property
    def pid(self) -> int:
        """Of the process; for a profiler."""
        return self._process.pid

    def create_key(self, role: str, *options: str) -> str:
        """A new access key, made by the command line."""
        command = [sys.executable, "-P", "-m", "dispatcher", "keys", "create", "--json"]
        command += ["--data", str(self._data), "--role", role, *options]
        made = subprocess.run(command, check=True, capture_output=True, timeout=_READY_S)
        return str(msgspec.json.decode(made.stdout)["key"])

    def cpu_s(self) -> float:
        """CPU time used until now, by all its threads and the kernel for it; in steps of 10 ms.

        The sum is exact.  How it divides into user and system time is not: there the
        kernel may be guessing from its ticks.
        """
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_rss_bytes(self) -> int:
        """The most memory it ever held."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise DaemonFailed("the kernel does not tell the daemon's memory")


@contextmanager
def open_daemon(*, queue_bytes: int, arguments: tuple[str, ...] = ()) -> Iterator[Daemon]:
    """A daemon on a temporary data folder and a free port, pinned to ``SERVER_CORE``."""
    with tempfile.TemporaryDirectory(prefix="dispatcher-bench-") as folder:
        data, config, log = Path(folder, "data"), Path(folder, "config.toml"), Path(folder, "log")
        config.write_text(_CONFIG.format(queue_bytes=queue_bytes))
        command = [sys.executable, "-P", "-m", "dispatcher", "serve", "--config", str(config)]
        command += ["--listen", "127.0.0.1:0", "--data", str(data), *arguments]
        with log.open("w") as stderr, pinned(SERVER_CORE):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        try:
            yield Daemon(process, _wait_ready(process, log), data)
        finally:
            _stop(process, log)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process, and what it starts meanwhile, on one core; does nothing without that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait_ready(process: subprocess.Popen[str], log: Path) -> int:
    """The port in the daemon's one line; it ends by itself when it cannot start."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("ready http://"):
        raise DaemonFailed(f"the daemon did not start:\n{_tail(log)}")
    return int(line.rpartition(":")[2])


def _stop(process: subprocess.Popen[str], log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        status = None
    finally:
        if process.stdout is not None:
            process.stdout.close()
    if status != 0 and sys.exc_info()[0] is None:
        raise DaemonFailed(f"the daemon ended with {status}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
