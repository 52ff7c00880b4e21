"""Which chunks of the queues lie in memory and which in the scratch file, and who moves them.

    append ------- memory is short? --> run:    begin, write on a worker thread, end
    slice, read -- is it cold? -------> fetch:  begin, read on a worker thread, end

What moves is decided on the Trio thread, in the core (``nd_residency.h``, ``nd_fetch.h``); worker
threads see addresses and files, never a ring.  So nothing on the Trio thread waits for the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from dispatcher import limits
from dispatcher.errors import (
    ChannelGone,
    DataFolderError,
    DispatcherError,
    JournalBehind,
    MemoryFull,
    StorageFull,
    StorageUnreadable,
)
from dispatcher.queue._core import ffi, lib
from dispatcher.queue.disk import Disk
from dispatcher.queue.native_journal import files_of
from dispatcher.queue.native_ring import ChannelRing

SCRATCH_NAME = "scratch"
_NO_BOUND = 2**64 - 1


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are wanted in memory: as far as the first of these bounds, and whole chunks."""

    first_seq: int
    last_seq: int = _NO_BOUND
    bytes_max: int = _NO_BOUND
    records_max: int = _NO_BOUND
    is_for_slice: bool = False  # see nd_fetch.h


class Residency:
    """Keeps the memory of one pool within its bound.  ``run`` is its task; only ``fetch`` waits besides."""

    def __init__(
        self,
        pool: Any,
        folder: Path,
        disk: Disk,
        disk_bytes_max: int,
        on_fetched: Callable[[ChannelRing, int, int], None],
    ) -> None:
        """Remove what an earlier run left.  *Blocks.*  ``disk_bytes_max`` 0: no bound but the disk's.

        ``on_fetched`` is told what could not be done to a channel while records of it were cold:
        to count the bytes of some that are gone, and to expire what was received before a time.
        """
        out = ffi.new("nd_residency **")
        path = folder / SCRATCH_NAME
        files = files_of(disk)
        status = lib.nd_residency_open(
            lib.nd_io_posix(), files, pool, bytes(path), disk_bytes_max or _NO_BOUND, out
        )
        if status == lib.ND_ERR_FULL:
            raise MemoryFull("the machine has no memory left for the queue's books")
        if status != lib.ND_OK:
            raise DataFolderError(f"{path}: cannot be removed; it holds nothing that is needed")
        self._raw: Any = out[0]
        self._disk = disk
        self._on_fetched = on_fetched
        self._stats = ffi.new("nd_residency_stats_t *")
        self._reach = ffi.new("nd_reach *")
        self._fetched = ffi.new("nd_fetched *")
        self._fetching = trio.CapacityLimiter(limits.FETCHES_MAX)
        self._wakeup = trio.Event()
        self._room: trio.Event | None = None  # somebody waits for memory
        self._demand_bytes = 0  # beside the reserve, for someone who found no memory
        self._is_full = False
        self._is_known_full = False

    def __repr__(self) -> str:
        stats = self._read_stats()
        state = "full" if self._is_full else "ready"
        return f"<Residency {state}: {stats.free_bytes} bytes free, {stats.disk_bytes} on disk>"

    def close(self) -> None:
        """Remove the scratch file.  No task is left that moves anything, and no ring."""
        lib.nd_residency_close(self._raw)
        self._raw = ffi.NULL

    @property
    def disk_bytes(self) -> int:
        """The scratch file's place on the disk."""
        size: int = self._read_stats().disk_bytes
        return size

    @property
    def slice_bytes_max(self) -> int:
        """How much of a cold queue one slice may bring back."""
        share: int = self._read_stats().reserve_bytes // limits.FETCH_SHARE
        return share

    # --- memory for what comes ----------------------------------------------------------

    def check_accepting(self) -> None:
        """Raise ``StorageFull`` when memory is used up and nothing can be taken out of it."""
        stats = self._read_stats()
        if self._is_full and stats.free_bytes < stats.reserve_bytes + limits.RELIEF_STEP_BYTES_MIN:
            raise self._storage_full()

    def note(self) -> None:
        """Chunks were taken or given back."""
        if lib.nd_residency_is_wanted(self._raw):
            self._wakeup.set()
        self._tell_room()

    def relieve(self, wanted_bytes: int) -> None:
        """An append found no memory: take some back at once, or say why there is none.

        Raises ``JournalBehind`` (chunks are being written out), ``StorageFull`` and
        ``MemoryFull`` (so much can never be had).
        """
        if lib.nd_residency_drop_copies(self._raw, wanted_bytes):
            return
        stats = self._read_stats()
        is_all_moved = stats.free_bytes == stats.bytes_max
        if wanted_bytes > stats.bytes_max - stats.reserve_bytes or is_all_moved:
            raise _memory_full(wanted_bytes)
        self._demand(wanted_bytes)
        if self._is_full:
            raise self._storage_full()
        raise JournalBehind("more is being posted than the disk takes; try again", retry_after_s=1.0)

    def _demand(self, wanted_bytes: int) -> None:
        stats = self._read_stats()
        free_bytes = stats.free_bytes - stats.reserve_bytes
        if free_bytes >= wanted_bytes:  # in pieces too small for it
            wanted_bytes = 2 * free_bytes
        self._demand_bytes = max(self._demand_bytes, wanted_bytes)
        self._wakeup.set()

    # --- moving out ---------------------------------------------------------------------

    async def run(self) -> None:
        """Move the coldest chunks out whenever memory is short, until cancelled.

        Cancellation: what is being written is written to its end.
        """
        while True:
            await self._wakeup.wait()
            self._wakeup = trio.Event()
            while self._begin():
                try:
                    await self._disk.run_beside(lambda: lib.nd_out_carry_out(self._raw))
                finally:
                    self._is_full = lib.nd_out_end(self._raw) != lib.ND_OK
                self._tell_room()
                await self._pause_when_full()
            await self._pause_when_full()

    def _begin(self) -> bool:
        """Choose what goes next; False when enough is free, or when nothing can go."""
        stats = self._read_stats()
        wanted_bytes = min(stats.bytes_max, stats.reserve_bytes + self._demand_bytes)
        if stats.free_bytes >= wanted_bytes:
            self._demand_bytes = 0
        free_bytes = stats.free_bytes
        status = lib.nd_out_begin(self._raw, max(wanted_bytes, stats.target_bytes))
        stats = self._read_stats()
        if stats.free_bytes > free_bytes:
            self._tell_room()
        if status != lib.ND_OK:
            self._is_known_full = bool(stats.is_known_full) and stats.free_bytes < wanted_bytes
            self._is_full = status == lib.ND_ERR_NOSPACE or self._is_known_full
        return bool(status == lib.ND_OK)

    async def _pause_when_full(self) -> None:
        if self._is_full:
            self._wakeup.set()
            await trio.sleep(limits.JOURNAL_RETRY_S)

    def _tell_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    # --- bringing back ------------------------------------------------------------------

    async def fetch(
        self, channel: ChannelRing, reach: Reach, read: Callable[[Any], None] = lib.nd_fetch_read
    ) -> bool:
        """Bring records back into memory; no checkpoint when they are there.

        Returns with all of them in memory, where they stay until the next checkpoint; False
        when there is not so much memory.  Raises ``ChannelGone``, ``StorageUnreadable``.

        ``read`` reads an ``nd_fetch *``, on a worker thread; it may come more than once.
        """
        if not lib.nd_ring_has_cold(_ring(channel), self._raw_reach(reach)):
            return True
        async with self._fetching:
            while True:  # each turn is woken by memory that came free
                status, fetch = self._begin_fetch(channel, reach)
                if status == lib.ND_OK:
                    await self._read(channel, fetch, read)
                elif status == lib.ND_ERR_FULL:
                    await self._wait_for_room()
                else:
                    return bool(status == lib.ND_EMPTY)

    def _begin_fetch(self, channel: ChannelRing, reach: Reach) -> tuple[int, Any]:
        out = ffi.new("nd_fetch **")
        wanted = ffi.new("uint64_t *")
        status = lib.nd_fetch_begin(_ring(channel), self._raw_reach(reach), wanted, out)
        if status == lib.ND_ERR_FULL:
            self._demand(wanted[0])
        return status, out[0]

    def _raw_reach(self, reach: Reach) -> Any:
        raw = self._reach
        raw.first_seq, raw.last_seq = reach.first_seq, reach.last_seq
        raw.bytes_max, raw.records_max = reach.bytes_max, reach.records_max
        raw.is_for_slice = reach.is_for_slice
        return raw

    async def _read(self, channel: ChannelRing, fetch: Any, read: Callable[[Any], None]) -> None:
        try:
            await self._disk.run_beside(lambda: read(fetch))
        finally:  # what was read counts, also for who was cancelled meanwhile
            status = self._end_fetch(channel, fetch)
        _check_read(status, channel)

    def _end_fetch(self, channel: ChannelRing, fetch: Any) -> int:
        status: int = lib.nd_fetch_end(fetch, self._fetched)
        gone_bytes, expire_unix_ms = self._fetched.gone_bytes, self._fetched.expire_unix_ms
        if gone_bytes or expire_unix_ms:
            self._on_fetched(channel, gone_bytes, expire_unix_ms)
        self.note()
        return status

    async def _wait_for_room(self) -> None:
        if self._room is None:
            self._room = trio.Event()
        await self._room.wait()

    def _storage_full(self) -> DispatcherError:
        if self._is_known_full:
            return StorageFull(
                "what has to be known of the events on the disk that newer ones may supersede takes all the "
                "memory for it: raise storage.memory_bytes, or let fewer channels keep the latest",
                retry_after_s=limits.JOURNAL_RETRY_S,
            )
        return StorageFull(
            "memory is used up, and the disk takes nothing out of it: make room on the disk of the data "
            "folder, or raise storage.disk_bytes, and post again",
            retry_after_s=limits.JOURNAL_RETRY_S,
        )

    def _read_stats(self) -> Any:
        """The core's figures; overwritten by the next call."""
        lib.nd_residency_stats(self._raw, self._stats)
        return self._stats


def _ring(channel: ChannelRing) -> Any:
    if channel.ring is None:
        raise ChannelGone(f"channel {channel.number} was deleted")
    return channel.ring


def _check_read(status: int, channel: ChannelRing) -> None:
    if status != lib.ND_OK:
        raise StorageUnreadable(
            f"the disk does not give back what channel {channel.number} has in the scratch file; check "
            "it and start the dispatcher again: the journal still has the events"
        )


def _memory_full(wanted_bytes: int) -> DispatcherError:
    return MemoryFull(
        f"about {wanted_bytes} bytes of records at once are more than the memory of the queues can take; "
        "send less at once, or raise storage.memory_bytes"
    )
