"""Disks for what is said of space: one that is looked at whenever it changed, and one with a limit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from dispatcher.queue._core import ffi, lib

from dispatcher.queue.disk import Disk, JournalSizes

T = TypeVar("T")


def disk_bytes(folder: Path) -> int:
    """Of all segments; the cleaner may unlink one while we look."""
    total = 0
    for path in folder.glob("*.seg"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


class WatchedDisk(Disk):
    """This system's files; ``look`` is called after all that the journal does to them."""

    def __init__(self, sizes: JournalSizes) -> None:
        super().__init__(sizes)
        self.look: Callable[[], None] = _look_away

    async def run(self, work: Callable[[], T]) -> T:
        result = await super().run(work)
        self.look()
        return result


class SmallDisk(Disk):
    """This system's files, with room for so many segments in one folder, until that is raised."""

    def __init__(self, sizes: JournalSizes, folder: Path, segments_max: int) -> None:
        super().__init__(sizes)
        self.segments_max = segments_max
        self._folder = folder
        self._real = lib.nd_files_posix()
        types = {name: field.type for name, field in ffi.typeof("nd_files").fields}
        table = {name: getattr(self._real, name) for name in types if name != "context"}
        self._preallocate_callback = ffi.callback(types["preallocate"], self._preallocate)
        self.files = ffi.new("nd_files *", {**table, "preallocate": self._preallocate_callback})

    def _preallocate(self, _: Any, file: int, offset: int, count: int) -> int:
        if disk_bytes(self._folder) + count > self.segments_max * self.sizes.segment_bytes:
            return int(lib.ND_ERR_NOSPACE)
        status: int = self._real.preallocate(ffi.NULL, file, offset, count)
        return status


def _look_away() -> None:
    """Nobody looks yet."""
