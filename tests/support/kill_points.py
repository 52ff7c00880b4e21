"""A disk that kills its process: at the n-th passing of a named point, between two system calls.

The table wraps this system's (``native/include/nd_files.h``).  Points are named for the
step of the journal that a call belongs to, so that a test can ask for "the second time
that copies are durable and their segment is about to go" and not for the 37th system call.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import msgspec
from dispatcher.queue._core import ffi, lib

from dispatcher.queue.disk import Disk, JournalSizes
from dispatcher.queue.native_residency import SCRATCH_NAME

STEPS: dict[str, str] = {
    "recovery.list": "the journal's folder is read at the start",
    "recovery.open": "a segment is opened at the start",
    "recovery.read": "a part of it is read",
    "secure.reopen": "the newest segment is opened again, to write",
    "secure.write": "its last group is written once more, in its place",
    "secure.sync": "it is synced: what was found is durable, and may be seen",
    "prepare.create": "the file of the next segment is made",
    "prepare.preallocate": "its place on the disk is taken",
    "prepare.sync": "it is synced, all zeros",
    "prepare.sync_folder": "so is its name",
    "header.write": "a segment is begun",
    "group.write": "a group is written",
    "group.sync": "a group is synced; after it, and before anyone is answered, it is durable",
    "clean.open": "the oldest segment is opened, for what is live in it",
    "clean.read": "a part of it is read",
    "clean.unlink": "it goes; copies of what is live are durable",
    "clean.sync_folder": "its name goes too",
}
"""What happens at each step.  ``tests/README.md`` has the same names."""

TORN = ("secure.write", "header.write", "group.write")  # steps that may be done by half

KILL_POINTS = tuple(
    f"{step}.{moment}"
    for step in STEPS
    for moment in ("before", "half", "after")
    if moment != "half" or step in TORN
)


class Death(msgspec.Struct, frozen=True):
    """Where a process ends: as it passes this point for the n-th time, from 1."""

    point: str
    nth: int = 1

    def __post_init__(self) -> None:
        assert self.point in KILL_POINTS, self.point


class MortalDisk(Disk):
    """This system's files, until the process dies among them."""

    def __init__(self, sizes: JournalSizes, death: Death | None) -> None:
        super().__init__(sizes)
        if death is not None:
            self._calls = _MortalCalls(death)
            self.files = self._calls.table


class _MortalCalls:
    """The table, and where in the journal's life it stands.

    Called by one thread at a time, as the journal does.
    """

    def __init__(self, death: Death) -> None:
        self._death = death
        self._passed = 0
        self._real = lib.nd_files_posix()
        self._is_writing = False  # recovery is over
        self._secured = -1  # the file that is written again before that
        self._new_files: set[int] = set()  # not synced yet
        self._is_cleaning = False  # a name went, and the folder was not synced since
        types = {name: field.type for name, field in ffi.typeof("nd_files").fields}
        calls = {name: getattr(self, f"_{name}") for name in types if name not in ("context", "close")}
        self._callbacks = {name: ffi.callback(types[name], call) for name, call in calls.items()}
        self.table = ffi.new("nd_files *", {"close": self._real.close, **self._callbacks})

    def _pass(self, point: str) -> None:
        if point == self._death.point:
            self._passed += 1
            if self._passed == self._death.nth:
                os.kill(os.getpid(), signal.SIGKILL)

    def _take_step(self, step: str, call: Any, *arguments: Any) -> int:
        self._pass(f"{step}.before")
        status: int = call(ffi.NULL, *arguments)
        self._pass(f"{step}.after")
        return status

    def _list(self, _: Any, folder: Any, visit: Any, visitor: Any) -> int:
        return self._take_step("recovery.list", self._real.list, folder, visit, visitor)

    def _open(self, _: Any, path: Any, file_out: Any, bytes_out: Any) -> int:
        step = "clean.open" if self._is_writing else "recovery.open"
        return self._take_step(step, self._real.open, path, file_out, bytes_out)

    def _reopen(self, _: Any, path: Any, file_out: Any) -> int:
        status = self._take_step("secure.reopen", self._real.reopen, path, file_out)
        self._secured = file_out[0]
        return status

    def _read(self, _: Any, file: int, into: Any, count: int, offset: int, read_out: Any) -> int:
        step = "clean.read" if self._is_writing else "recovery.read"
        return self._take_step(step, self._real.read, file, into, count, offset, read_out)

    def _read_ahead(self, _: Any, path: Any) -> None:
        self._real.read_ahead(ffi.NULL, path)

    def _create(self, _: Any, path: Any, file_out: Any) -> int:
        self._is_writing = True
        self._secured = -1
        status = self._take_step("prepare.create", self._real.create, path, file_out)
        self._new_files.add(file_out[0])
        return status

    def _preallocate(self, _: Any, file: int, offset: int, count: int) -> int:
        return self._take_step("prepare.preallocate", self._real.preallocate, file, offset, count)

    def _give_back(self, _: Any, file: int, offset: int, count: int) -> int:
        return int(self._real.give_back(ffi.NULL, file, offset, count))

    def _write(self, _: Any, *arguments: Any) -> int:
        return self._take_write(self._real.write, *arguments)

    def _write_past_cache(self, _: Any, *arguments: Any) -> int:
        return self._take_write(self._real.write_past_cache, *arguments)

    def _take_write(self, write: Any, file: int, data: Any, count: int, offset: int, written_out: Any) -> int:
        step = "secure.write" if file == self._secured else "group.write" if offset else "header.write"
        if self._death.point == f"{step}.half":
            if self._passed + 1 == self._death.nth:
                write(ffi.NULL, file, data, count // 2, offset, written_out)
            self._pass(f"{step}.half")
        return self._take_step(step, write, file, data, count, offset, written_out)

    def _sync(self, _: Any, file: int) -> int:
        step = "group.sync"
        if file == self._secured:
            step = "secure.sync"
        elif file in self._new_files:
            step = "prepare.sync"
        self._new_files.discard(file)
        return self._take_step(step, self._real.sync, file)

    def _sync_folder(self, _: Any, folder: Any) -> int:
        step = "clean.sync_folder" if self._is_cleaning else "prepare.sync_folder"
        self._is_cleaning = False
        return self._take_step(step, self._real.sync_folder, folder)

    def _unlink(self, _: Any, path: Any) -> int:
        if ffi.string(path).endswith(SCRATCH_NAME.encode()):  # at a start: no part of the journal's life
            return int(self._real.unlink(ffi.NULL, path))
        self._is_cleaning = True
        return self._take_step("clean.unlink", self._real.unlink, path)
