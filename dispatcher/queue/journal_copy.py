"""A copy of a journal that may be in use: what was durable when the copying began stands in it.

Nothing is asked of the writer, because of how it treats its files (FORMAT.md):

* A segment is unlinked only when what is needed of it stands in a later one.  So it is
  enough to hold open at once all that exist.  They are opened newest first, and listed
  again until no newer one has come: whatever was gone by then stands in what is held.
* A segment with a successor that was begun is never written to again.
* In the newest, a group is begun when the one before it is complete.  Its end is looked for
  *before* anything of it is copied, so that at most the last group of the copy is cut short: nobody had
  been told of that one, and recovery leaves it out.

Plain files alone: neither the extension nor Trio.  Everything here *blocks*.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from dispatcher import limits
from dispatcher.errors import DataFolderError

_SEGMENT_MAGIC = 0x4753444E
_GROUP_MAGIC = 0x5247444E
_PAGE = 4096
_SEGMENT_HEADER = struct.Struct("<IIIIQQQ")  # magic, crc, version, is_synced, journal, segment, bytes
_GROUP_HEADER = struct.Struct("<IIQQQQII")  # magic, crc, journal, segment, number, durable, bytes, units


class HeldJournal:
    """The segments of a journal, held open: cleaning may unlink them, and they can still be read.

    A context manager.  While it is open the disk does not get their space back.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._files: dict[int, int] = {}  # descriptors, by the segment's number
        try:
            while newer := [number for number in _numbers(folder) if number > max(self._files, default=0)]:
                for number in sorted(newer, reverse=True):
                    if not self._hold(folder, number):
                        # It went, and all before it.
                        self._files = {held: file for held, file in self._files.items() if held > number}
                        break
            self._drop_unused()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> HeldJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def bytes_count(self) -> int:
        """About how much there is to copy."""
        return sum(os.fstat(file).st_size for file in self._files.values())

    def copy_to(self, folder: Path, create: Callable[[Path], int], copied: Callable[[int], None]) -> int:
        """Write the copy into a folder, and see it onto the disk; how many segments it has.

        ``create`` makes a file and opens it; ``copied`` is told of each step's bytes.
        """
        newest = max(self._files, default=0)
        for number, source in sorted(self._files.items()):
            size = os.fstat(source).st_size
            end = self._ends[newest] if number == newest else size
            target = create(folder / f"{number:08d}.seg")
            try:
                copy_bytes(source, target, end, copied)
                os.ftruncate(target, size)
                os.fsync(target)
            finally:
                os.close(target)
        return len(self._files)

    def _hold(self, folder: Path, number: int) -> bool:
        try:
            file = os.open(folder / f"{number:08d}.seg", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self._stack.callback(os.close, file)
        self._files[number] = file
        return True

    def _drop_unused(self) -> None:
        """Leave out spares that were not begun, and find where the newest of the others ends."""
        self._ends: dict[int, int] = {}
        for number in sorted(self._files, reverse=True):
            ids = _ids(self._files[number], number)
            if ids is None and not self._ends and not any(os.pread(self._files[number], 64, 0)):
                del self._files[number]
                continue
            self._ends[number] = _end(self._files[number], ids)
            return


def copy_bytes(source: int, target: int, count: int, copied: Callable[[int], None]) -> None:
    """Copy so many bytes from the start of one file to another, or up to the end when that comes first."""
    at = 0
    while at < count:
        piece = os.pread(source, min(limits.BACKUP_STEP_BYTES, count - at), at)
        if not piece:
            return
        written = 0
        while written < len(piece):
            written += os.pwrite(target, piece[written:], at + written)
        at += len(piece)
        copied(len(piece))


def _numbers(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.seg") if path.stem.isdigit()]


def _ids(file: int, number: int) -> tuple[int, int] | None:
    """The ids that the segment's groups carry, or None without a header that can be read."""
    head = os.pread(file, _SEGMENT_HEADER.size, 0)
    if len(head) < _SEGMENT_HEADER.size:
        raise DataFolderError(f"segment {number} of the journal is cut short; 'dispatcher fsck' says more")
    magic, _, _, _, journal_id, segment_id, _ = _SEGMENT_HEADER.unpack(head)
    return (journal_id, segment_id) if magic == _SEGMENT_MAGIC and segment_id == number else None


def _end(file: int, ids: tuple[int, int] | None) -> int:
    """Behind the last group that was begun; all of the segment when its header does not read."""
    size = os.fstat(file).st_size
    if ids is None:
        return size
    end = _PAGE
    for at in range(_PAGE, size, _PAGE):
        head = os.pread(file, _GROUP_HEADER.size, at)
        if len(head) < _GROUP_HEADER.size:
            break
        magic, _, journal_id, segment_id, _, _, group_bytes, _ = _GROUP_HEADER.unpack(head)
        if magic == _GROUP_MAGIC and (journal_id, segment_id) == ids:
            end = max(end, min(size, at + group_bytes))
    return end
