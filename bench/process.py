"""A server under measurement: a process of its own on one core, and what it costs.

Figures are read from ``/proc``: Linux only, like the rest of the measuring.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1
_CORES = os.sched_getaffinity(0)  # that are ours, whatever one of them is pinned to meanwhile
_READY_S = 60.0
_LOOK_S = 0.02
_STOP_S = 60.0  # the daemon grants itself 10; thousands of sockets on a busy core take longer
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server did not start, or did not stop as it must; the message ends with its log."""


class Absent(Exception):
    """What would be measured beside is not installed here; the message says what is missing."""


class ServerProcess:
    """A running server; made by ``open_server``."""

    def __init__(self, process: subprocess.Popen[str], port: int, start_s: float) -> None:
        self._process = process
        self.port = port
        self.start_s = start_s  # from its birth until it was ready

    @property
    def pid(self) -> int:
        """Of the process; for a profiler."""
        return self._process.pid

    def cpu_s(self) -> float:
        """CPU time used until now, by all its threads and children and the kernel for it; in steps of 10 ms.

        The sum is exact.  How it divides into user and system time is not: there the
        kernel may be guessing from its ticks.
        """
        return sum(map(_cpu_s, self._pids()))

    def rss_bytes(self) -> int:
        """The memory it holds now, its children's too."""
        return sum(_kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Rss:") for pid in self._pids()) * 1024

    def peak_rss_bytes(self) -> int:
        """The most memory the process itself ever held."""
        return _kilobytes(Path(f"/proc/{self.pid}/status"), "VmHWM:") * 1024

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """The next line of its standard output.  Blocks."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]


@contextmanager
def open_server(
    command: Sequence[str | Path],
    log: Path,
    *,
    port: int = 0,
    core: int = SERVER_CORE,
    statuses: Sequence[int] = (0,),
) -> Iterator[ServerProcess]:
    """Start a server on ``core``; end it with SIGTERM, upon which it must exit with one of ``statuses``.

    It says ``ready http://HOST:PORT`` on its standard output; or, when it was told on
    which port to listen and has no such words, it is ready when it does.  Blocks until
    then.  Raises ``ServerFailed``.
    """
    with log.open("w") as stderr, pinned(core):
        began_s = time.perf_counter()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
        process = subprocess.Popen(list(map(str, command)), text=True, **pipes)  # type: ignore[call-overload]
    try:
        found = port if port and _wait_listening(process, port) else _wait_ready(process)
        if not found:
            raise ServerFailed(f"{command[0]} did not start:\n{_tail(log)}")
        yield ServerProcess(process, found, time.perf_counter() - began_s)
    finally:
        _stop(process, log, statuses)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this thread, and what it starts meanwhile, on one core; does nothing without that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} & _CORES or _CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_ready(process: subprocess.Popen[str]) -> int:
    """The port in the server's one line, 0 when it has ended; it ends by itself when it cannot start."""
    assert process.stdout is not None
    line = process.stdout.readline()
    return int(line.rpartition(":")[2]) if line.startswith("ready http://") else 0


def _wait_listening(process: subprocess.Popen[str], port: int) -> bool:
    deadline_s = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        except OSError:
            time.sleep(_LOOK_S)
    return False


def _stop(process: subprocess.Popen[str], log: Path, statuses: Sequence[int]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        status = None
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if status not in statuses and sys.exc_info()[0] is None:
        raise ServerFailed(f"{process.args[0]} ended with {status}:\n{_tail(log)}")  # type: ignore[index]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _kilobytes(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ServerFailed(f"the kernel does not tell {name} in {file}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
