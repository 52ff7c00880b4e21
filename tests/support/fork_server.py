"""A program that has imported the daemon, and forks a process for each of its lives.

A start of the command costs half a second of imports; a fork of what is imported costs
milliseconds, and what runs then is the same code in a process of its own.  One life at a
time: a line of JSON asks for it, and these lines answer:

    pid 1234                      it was born
    ready http://127.0.0.1:4567   what the daemon itself says, unless it dies before
    ended -9                      its exit status; a signal is negative

Forking is safe here, because there is one thread and no event loop yet.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import NoReturn

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for support, wherever this was started

from support.kill_points import Death, MortalDisk

from dispatcher.cli.running import run
from dispatcher.cli.serve import run_daemon
from dispatcher.config import Settings
from dispatcher.observe.log import log_to_stderr
from dispatcher.queue.disk import JournalSizes
from dispatcher.runtime.world import World


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """What one life is to be."""

    settings: Settings
    sizes: JournalSizes
    log: str
    seconds_max: int  # then it dies, even if everyone else has died before
    death: Death | None = None  # None: it lives until it gets a signal


def main() -> None:
    """Serve births until stdin ends."""
    while line := sys.stdin.buffer.readline():
        birth = msgspec.json.decode(line, type=Birth)
        pid = os.fork()
        if pid == 0:
            _live(birth)
        _say(f"pid {pid}")
        _, status = os.waitpid(pid, 0)
        _say(f"ended {os.waitstatus_to_exitcode(status)}")


def _say(line: str) -> None:
    """Write a line at once: two processes write to this pipe."""
    print(f"{line}\n", end="", flush=True)


def _live(birth: Birth) -> NoReturn:
    status = 1
    try:
        signal.alarm(birth.seconds_max)
        os.dup2(os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log_to_stderr()
        world = World(disk=MortalDisk(birth.sizes, birth.death))
        run(partial(run_daemon, lambda: birth.settings, world=world))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
