"""A disk in memory that does to files what real ones do, and worse.

    Platter     what a machine's disk holds: what was written, and how much of it was synced
    Mount       the system calls of one life of the dispatcher (``dispatcher.queue.disk.Disk``)

What was written and not synced is kept or lost in sectors, each for itself, when the
power is cut; names that were made or unlinked without a sync of the folder likewise.  A
killed process loses nothing that was written.

A mount can end the world at one of its calls: before it, after it, or in the middle, a
write written in part or a sync synced in part.  A dead mount's calls change nothing.

What these faults may do is what disks are known to do: they never change bytes that were
synced, nor keep a later sync's bytes and lose an earlier one's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from random import Random
from typing import Any, TypeVar

import msgspec
import trio
from dispatcher.queue._core import ffi, lib

from dispatcher.queue.disk import Disk, JournalSizes, SealedGroup
from dispatcher.queue.native_residency import SCRATCH_NAME

T = TypeVar("T")

SECTOR = 512
BEFORE, DURING, AFTER = "before", "during", "after"

_FUNCTIONS = {
    "create": "nd_status(void *, const char *, int32_t *)",
    "open": "nd_status(void *, const char *, int32_t *, uint64_t *)",
    "reopen": "nd_status(void *, const char *, int32_t *)",
    "close": "void(void *, int32_t)",
    "preallocate": "nd_status(void *, int32_t, uint64_t, uint64_t)",
    "give_back": "nd_status(void *, int32_t, uint64_t, uint64_t)",
    "write": "nd_status(void *, int32_t, const uint8_t *, uint64_t, uint64_t, uint64_t *)",
    "write_past_cache": "nd_status(void *, int32_t, const uint8_t *, uint64_t, uint64_t, uint64_t *)",
    "read": "nd_status(void *, int32_t, uint8_t *, uint64_t, uint64_t, uint64_t *)",
    "read_ahead": "void(void *, const char *)",
    "sync": "nd_status(void *, int32_t)",
    "sync_folder": "nd_status(void *, const char *)",
    "unlink": "nd_status(void *, const char *)",
    "list": "nd_status(void *, const char *, void (*)(void *, const char *), void *)",
}

Learn = Callable[[bytearray, int, int], None]
"""Told of a file's bytes from one offset to another that have become safe, for good."""


class DiskTrouble(msgspec.Struct):
    """What the disk does to its callers now; the story changes it."""

    wait_s: tuple[float, float] = (0.0005, 0.01)  # of one piece of blocking work, from and to
    short_writes: float = 0.0  # share of writes that take only a part
    is_full: bool = False  # when a file is preallocated
    failing: str = ""  # the next call of this name fails, once


class File:
    """A file, as it is now and as it would be after a power cut."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.synced = bytearray()
        self.dirty: list[tuple[int, int]] = []  # written since the last sync
        self.given_up: list[tuple[int, int]] = []  # a sync of these failed: no later one writes them
        self.is_named = False
        self.is_named_for_good = False

    def sectors(self) -> list[tuple[int, int]]:
        """The parts of ``dirty``, each within one sector."""
        return [
            (max(first, at), min(end, at + SECTOR))
            for first, end in self.dirty
            for at in range(first - first % SECTOR, end, SECTOR)
        ]


class Platter:
    """What is left when a process, or the power, is gone."""

    def __init__(self, dice: Random, trouble: DiskTrouble) -> None:
        self.dice = dice
        self.trouble = trouble
        self.files: dict[str, File] = {}
        self.written: Learn = _nobody
        self.torn: Learn = _nobody  # written in part
        self.synced: Learn = _nobody
        self.survived: Learn = _nobody  # without having been synced; the bytes may be torn

    @property
    def used_bytes(self) -> int:
        """What the journal takes; the scratch file goes with the life that made it."""
        return sum(
            len(file.bytes) for name, file in self.files.items() if file.is_named and name != SCRATCH_NAME
        )

    @property
    def has_scratch(self) -> bool:
        """Whether a scratch file is there."""
        return SCRATCH_NAME in self.files and self.files[SCRATCH_NAME].is_named

    def power_cut(self) -> None:
        """Lose what may be lost."""
        for file in self.files.values():
            if file.is_named != file.is_named_for_good:
                file.is_named = file.is_named_for_good = self.dice.random() < 0.5
            for first, end in file.sectors():
                if self.dice.random() < 0.5:
                    file.bytes[first:end] = file.synced[first:end]
            for first, end in file.given_up:
                file.bytes[first:end] = file.synced[first:end]
            touched, file.dirty, file.given_up = file.dirty, [], []
            file.synced[:] = file.bytes
            if file.is_named:
                for first, end in touched:
                    self.survived(file.bytes, first, end)
        self.files = {name: file for name, file in self.files.items() if file.is_named}


class Mount(Disk):
    """The disk of one life.  ``end_world`` is called at most once, from within a system call."""

    def __init__(self, platter: Platter, sizes: JournalSizes, end_world: Callable[[], None]) -> None:
        super().__init__(sizes)
        self.platter = platter
        self.calls = 0
        self.ends_at: int | None = None  # of ``calls``
        self.ends_when = BEFORE
        self.is_dead = False
        self.has_failed = False  # a call, by the story's will
        self.was_full = False
        self.waited_s = 0.0  # longest wait of one piece of work
        self._end_world = end_world
        self._dice = platter.dice
        self._trouble = platter.trouble
        self._handles: dict[int, File] = {}
        self._opened = 0
        self._begun = trio.Event()  # a write
        self.broken: BaseException | None = None  # a bug of this module
        self._callbacks = {
            name: ffi.callback(kind, getattr(self, f"_{name}"), onerror=self._on_error)
            for name, kind in _FUNCTIONS.items()
        }
        self.files: Any = ffi.new("nd_files *", {"context": ffi.NULL, **self._callbacks})

    @property
    def open_files(self) -> int:
        """Files that were opened and not closed."""
        return len(self._handles)

    @property
    def is_full(self) -> bool:
        """Whether it has no room now for a segment more."""
        return self._trouble.is_full

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work at one moment between two waits, all of which others take their turns in."""
        wait_s = self._dice.uniform(*self._trouble.wait_s)
        self.waited_s = max(self.waited_s, wait_s)
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):  # a system call that has begun is not called back
            await trio.sleep(wait_s / 2)
            result = work()
            await trio.sleep(wait_s / 2)
        return result

    def begin(self, group: SealedGroup) -> bool:
        """As this system's disk; the write itself comes when some of its time has gone by."""
        self._begun.set()
        return True

    async def wait_end(self, group: SealedGroup) -> None:
        """Its time goes by in ``end``."""
        await self._begun.wait()

    async def end(self, group: SealedGroup) -> None:
        """Nothing is called back."""
        self._begun = trio.Event()
        with trio.CancelScope(shield=True):
            await self.run(group.write_sync)

    async def run_beside(self, work: Callable[[], T]) -> T:
        """There are no threads here that could wait for each other."""
        return await self.run(work)

    # --- calls --------------------------------------------------------------------------

    def _begin(self, name: str, file: File | None = None) -> int:
        """Count a call; what it must return at once, or ND_OK."""
        if self.is_dead:
            return int(lib.ND_ERR_IO)
        self.calls += 1
        if self.calls == self.ends_at and self.ends_when == BEFORE:
            self._die()
            return int(lib.ND_ERR_IO)
        if self._trouble.failing == name:
            self._trouble.failing = ""
            self.has_failed = True
            if file is not None:
                self._sync_in_part(file)
                file.given_up += file.sectors()
                file.dirty.clear()
            return int(lib.ND_ERR_IO)
        return int(lib.ND_OK)

    def _is_last(self) -> bool:
        return self.calls == self.ends_at and not self.is_dead

    def _end(self) -> int:
        """A call was carried out; if it was the last, nobody hears of it."""
        if self._is_last():
            self._die()
        return int(lib.ND_ERR_IO if self.is_dead else lib.ND_OK)

    def _die(self) -> None:
        self.is_dead = True
        self._end_world()

    def _on_error(self, kind: Any, error: BaseException, traceback: Any) -> None:
        self.broken = error

    def _create(self, _: Any, path: Any, out: Any) -> int:
        if status := self._begin("create"):
            return status
        before = self.platter.files.get(_name(path))
        file = self.platter.files[_name(path)] = File()
        file.is_named = True
        file.is_named_for_good = before is not None and before.is_named_for_good
        out[0] = self._handle(file)
        return self._end()

    def _open(self, _: Any, path: Any, out: Any, bytes_out: Any) -> int:
        if status := self._begin("open"):
            return status
        file = self._named(path)
        if file is None:
            return int(lib.ND_EMPTY)
        out[0] = self._handle(file)
        bytes_out[0] = len(file.bytes)
        return self._end()

    def _reopen(self, _: Any, path: Any, out: Any) -> int:
        if status := self._begin("reopen"):
            return status
        file = self._named(path)
        if file is None:
            return int(lib.ND_EMPTY)
        out[0] = self._handle(file)
        return self._end()

    def _named(self, path: Any) -> File | None:
        file = self.platter.files.get(_name(path))
        return file if file is not None and file.is_named else None

    def _handle(self, file: File) -> int:
        self._opened += 1
        self._handles[self._opened] = file
        return self._opened

    def _close(self, _: Any, number: int) -> None:
        del self._handles[number]

    def _preallocate(self, _: Any, number: int, offset: int, count: int) -> int:
        if status := self._begin("preallocate"):
            return status
        if self._trouble.is_full:
            self.was_full = True
            return int(lib.ND_ERR_NOSPACE)
        file = self._handles[number]
        end = offset + count
        file.bytes.extend(bytes(max(0, end - len(file.bytes))))
        file.synced.extend(bytes(max(0, end - len(file.synced))))
        file.dirty.append((offset, end))
        return self._end()

    def _give_back(self, _: Any, number: int, offset: int, count: int) -> int:
        if status := self._begin("give_back"):
            return status
        self._handles[number].bytes[offset : offset + count] = bytes(count)
        return self._end()

    def _write(self, _: Any, number: int, data: Any, count: int, offset: int, written: Any) -> int:
        if status := self._begin("write"):
            return status
        is_torn = self._is_last() and self.ends_when == DURING
        if count > 1 and (is_torn or self._dice.random() < self._trouble.short_writes):
            count = self._dice.randrange(1, count)
        file = self._handles[number]
        assert offset + count <= len(file.bytes), "the journal stays in its segment"
        file.bytes[offset : offset + count] = ffi.buffer(data, count)
        if file.dirty and file.dirty[-1][1] == offset:
            file.dirty[-1] = (file.dirty[-1][0], offset + count)
        else:
            file.dirty.append((offset, offset + count))
        written[0] = count
        (self.platter.torn if is_torn else self.platter.written)(file.bytes, *file.dirty[-1])
        return self._end()

    def _write_past_cache(self, _: Any, *arguments: Any) -> int:
        """Caches are all the same here: what was not synced may be lost."""
        return self._write(_, *arguments)

    def _read(self, _: Any, number: int, out: Any, count: int, offset: int, got: Any) -> int:
        if status := self._begin("read"):
            return status
        data = self._handles[number].bytes[offset : offset + count]
        if len(data) > 1 and self._dice.random() < self._trouble.short_writes:
            del data[self._dice.randrange(1, len(data)) :]
        ffi.memmove(out, data, len(data))
        got[0] = len(data)
        return self._end()

    def _read_ahead(self, _: Any, path: Any) -> None:
        """Everything is near here."""

    def _sync(self, _: Any, number: int) -> int:
        file = self._handles[number]
        if status := self._begin("sync", file):
            return status
        if self._is_last() and self.ends_when == DURING:
            self._sync_in_part(file)
            return self._end()
        self.make_safe(file)
        return self._end()

    def _sync_in_part(self, file: File) -> None:
        for first, end in file.sectors():
            if self._dice.random() < 0.5:
                file.synced[first:end] = file.bytes[first:end]

    def make_safe(self, file: File) -> None:
        """What was written to a file survives a power cut."""
        for first, end in file.dirty:
            file.synced[first:end] = file.bytes[first:end]
            self.platter.synced(file.bytes, first, end)
        file.dirty.clear()

    def _sync_folder(self, _: Any, folder: Any) -> int:
        if status := self._begin("sync_folder"):
            return status
        for file in self.platter.files.values():
            file.is_named_for_good = file.is_named
        return self._end()

    def _unlink(self, _: Any, path: Any) -> int:
        if status := self._begin("unlink"):
            return status
        file = self._named(path)
        if file is None:
            return int(lib.ND_EMPTY)
        file.is_named = False
        return self._end()

    def _list(self, _: Any, folder: Any, visit: Any, visitor: Any) -> int:
        if status := self._begin("list"):
            return status
        names = [name for name, file in self.platter.files.items() if file.is_named]
        self._dice.shuffle(names)
        for name in [*names, "not-a-segment"]:
            visit(visitor, ffi.new("char[]", name.encode()))
        return self._end()


def _name(path: Any) -> str:
    return PurePosixPath(ffi.string(path).decode()).name


def _nobody(data: bytearray, first: int, end: int) -> None:
    """Nobody asked to be told."""
