"""The loop that makes what was gathered durable, a group at a time.

    append, settle ... gather        group n+1        group n+1 | n+2
    this task          ------- [write and sync n] --- [write and sync n+1] ---

While one group is written and synced on a worker thread the next one gathers, so one
sync serves everyone whose records stand in a group, and a busy disk makes groups larger
instead of waits longer.  Nothing lingers: a publisher's group is sealed as soon as the
writer is free.  Acks alone wait up to ``limits.ACK_FLUSH_S`` for company.

A large group is begun in the step of its first publisher, and a group that was asked for
while another was written in the step that sees the other's end: the disk is at work before
anybody else keeps the loop busy.  A small group takes the turn in which this task wakes up,
and with it whoever publishes in that turn.  Where much comes after much, this task waits for
the end of a write before one is begun, and is not woken to learn that one was.

Invariant: ``seal`` is called while this task waits to be asked, or by itself, and ``done`` by
itself; so neither while a thread is in the journal, as ``nd_journal.h`` demands.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from dispatcher import limits
from dispatcher.core.idempotency import KeptAnswer, KeyScope
from dispatcher.errors import DispatcherError, JournalFailed, StorageFull
from dispatcher.queue.disk import Disk, SealedGroup
from dispatcher.queue.native_journal import GroupOutcome, JournalStats


class GroupWriter(SealedGroup, Protocol):
    """What the loop needs of a journal (``native_journal.NativeJournal``)."""

    def gathered_bytes(self) -> int:
        """How much stands in the group that is being gathered."""
        ...

    def seal(self) -> bool:
        """Hand what was gathered to the writer."""
        ...

    def prepare(self) -> bool:
        """Preallocate the next segment.  *Blocks.*"""
        ...

    def done(self) -> GroupOutcome:
        """What became of it."""
        ...

    def stats(self) -> JournalStats:
        """The figures."""
        ...


class Books(Protocol):
    """What the queue does around a group."""

    def collect(self) -> bool:
        """Gather what became known since the last group; False when not all of it had room."""
        ...

    def show(self, group: Group, segment: int) -> None:
        """A group is durable, and stands in this segment."""
        ...

    async def keep_space(self, write: Callable[[], Awaitable[None]]) -> None:
        """Give segments back that are not needed; ``write`` writes a group meanwhile."""
        ...

    async def free_dead(self) -> bool:
        """Give the oldest one back if nothing in it is needed; whether one went."""
        ...


class Group:
    """Who waits for a group, and what of which channels stands in it."""

    __slots__ = (
        "_begin",
        "_ended",
        "_error",
        "answers",
        "is_durable",
        "last_seqs",
        "moved_bytes",
        "moved_from",
        "states",
    )

    def __init__(self, begin: Callable[[Group], None]) -> None:
        """``begin`` is told of everyone who waits; it may have the group written at once."""
        self._begin = begin
        self.last_seqs: dict[int, int] = {}  # of channels with records in it, which become visible with it
        self.states: dict[
            int, int
        ] = {}  # of channels whose state stands in it, the last seq; 0: holds nothing
        self.answers: list[tuple[KeyScope, KeptAnswer]] = []  # kept with it
        self.moved_from = 0  # the segment of which live contents are written again in it; 0: none
        self.moved_bytes = 0  # of it
        self.is_durable = False
        self._ended = trio.Event()
        self._error: Callable[[], DispatcherError] | None = None

    def end(self, error: Callable[[], DispatcherError] | None = None) -> None:
        """Let everyone go who waits: with success, or with an error that each is given anew."""
        self.is_durable = error is None
        self._error = error
        self._ended.set()

    async def durable(self) -> None:
        """Return when the group is durable (``interface.Ticket``)."""
        self._begin(self)
        await self._ended.wait()
        if self._error is not None:
            raise self._error()


class GroupCommit:
    """Owns the journal's writing side.  ``run`` is its task; the other methods never wait."""

    def __init__(
        self, writer: GroupWriter, books: Books, disk: Disk, observe_sync_s: Callable[[float], None]
    ) -> None:
        self._writer = writer
        self._books = books
        self._disk = disk
        self._observe_sync_s = observe_sync_s
        self.group = Group(self._begin_much)  # that is gathering now
        self._sealed: Group | None = None
        self._is_under_way = False  # the sealed group's write was begun, and not waited for
        self._is_asked = False  # for the open group
        self._awaits_end = False  # of a write that is begun while it waits, as much will come after much
        self._asked = trio.lowlevel.ParkingLot()
        self._flush_at_s = math.inf
        self._waiting: trio.CancelScope | None = None  # while the writer is free
        self._began_s = 0.0  # the last write
        self.has_failed = False  # nothing can become durable any more
        self.is_full = False  # the disk had no room when it was last asked for a segment

    def __repr__(self) -> str:
        state = "failed" if self.has_failed else "full" if self.is_full else "ready"
        return f"<GroupCommit {state}: {self._writer.stats()}>"

    @property
    def failure(self) -> DispatcherError | None:
        """Why nothing can be accepted now, or None."""
        if self.has_failed:
            return _journal_failed()
        return _storage_full() if self.is_full else None

    def request(self) -> None:
        """Someone waits: write as soon as the writer is free."""
        self._is_asked = True
        if self._sealed is not None:
            return  # its end is when to look
        if self._awaits_end:
            self._flush_by(trio.current_time())
        else:
            self._asked.unpark()

    def request_soon(self) -> None:
        """There is something to write that nobody waits for."""
        self._flush_by(trio.current_time() + limits.ACK_FLUSH_S)

    async def drain(self) -> None:
        """Return when all that was gathered before is durable, or cannot become so.

        The task must be running.
        """
        if self.has_failed:
            return
        group = self.group
        self.request()
        try:
            await group.durable()
        except (StorageFull, JournalFailed):
            return

    async def run(self) -> None:
        """Write groups until cancelled.

        Cancellation: a group that is being written is written to its end; what gathers
        then is lost (``drain`` before).
        """
        while not self.has_failed:
            await self._wait()
            await self._write_group()
            if not self.has_failed:
                await self._books.keep_space(self._write_group)

    async def _wait(self) -> None:
        """Wait until a group is asked for, or was begun.

        When one is asked for already it is begun in the step in which the last one ended.
        Cancellation: a write that has begun is waited for.
        """
        if self._is_asked:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        try:
            with trio.CancelScope(deadline=self._flush_at_s) as self._waiting:
                if self._awaits_end:
                    await self._disk.wait_end(self._writer)
                else:
                    await self._asked.park()
        except trio.Cancelled:
            if self._sealed is not None:
                await self._commit()
            raise
        finally:
            self._waiting = None

    def _flush_by(self, at_s: float) -> None:
        self._flush_at_s = min(self._flush_at_s, at_s)
        if self._waiting is not None:
            self._waiting.deadline = self._flush_at_s

    async def _write_group(self) -> None:
        await self._commit()
        await self._prepare()

    async def _commit(self) -> None:
        """Seal what was gathered, unless a publisher did, and see it onto the disk."""
        if self._sealed is None:
            self._seal()
        group = self._sealed
        if group is None:
            await trio.lowlevel.checkpoint()
            return
        while (outcome := await self._write()) is GroupOutcome.NO_SPACE:
            self.is_full = True
            group.end(_storage_full)
            if not await self._books.free_dead():
                await trio.sleep(limits.JOURNAL_RETRY_S)
        self._sealed = None
        if outcome is GroupOutcome.POISONED:
            self._fail(group)
            return
        self._books.show(group, self._writer.stats().durable_segment)
        group.end()

    def _begin_much(self, group: Group) -> None:
        """Someone waits for a group: begin to write it in this step if it is large, and the writer free.

        Whatever belongs to the waiter's request stands in it by now, its answer included.
        """
        if group is not self.group or self._waiting is None or self._sealed is not None:
            return
        if self._is_much():
            self._seal()
            self._asked.unpark()

    def _seal(self) -> None:
        """Seal what was gathered, and begin to write it if this disk needs no task for that."""
        self._flush_at_s = math.inf
        if self._waiting is not None:
            self._waiting.deadline = math.inf
        is_much = self._is_much()
        self._is_asked = not self._books.collect()
        group, self.group = self.group, Group(self._begin_much)
        if self._writer.seal():
            self._sealed = group
            self._begin_write()
        elif self._writer.stats().is_poisoned:  # since the last group, as a segment was given back
            self._fail(group)
        else:
            group.end()
        self._awaits_end = is_much and self._is_under_way

    def _is_much(self) -> bool:
        return self._writer.gathered_bytes() >= self._disk.sizes.begun_at_once_bytes

    def _begin_write(self) -> None:
        self._began_s = trio.current_time()
        self._is_under_way = self._disk.begin(self._writer)

    async def _write(self) -> GroupOutcome:
        if not self._is_under_way:
            self._begin_write()
        if self._is_under_way:
            await self._disk.end(self._writer)
            self._is_under_way = False
        else:
            await self._disk.write(self._writer)
        self._observe_sync_s(trio.current_time() - self._began_s)
        return self._writer.done()

    async def _prepare(self) -> None:
        """Keep one segment ready, so that publishers hear of a full disk before they are answered."""
        if self.has_failed:
            return
        if self._writer.stats().has_spare:
            self.is_full = False
            return
        has_space = await self._disk.run(self._writer.prepare)
        if self._writer.done() is GroupOutcome.POISONED:
            self._fail(None)
            return
        self.is_full = not has_space
        if not has_space:
            self._flush_by(trio.current_time() + limits.JOURNAL_RETRY_S)

    def _fail(self, group: Group | None) -> None:
        """Nothing more can become durable; what is durable can still be delivered."""
        self.has_failed = True
        if group is not None:
            group.end(_journal_failed)
        self.group.end(_journal_failed)


def _storage_full() -> DispatcherError:
    return StorageFull(
        "the disk of the data folder is full: make room on it, and post again",
        retry_after_s=limits.JOURNAL_RETRY_S,
    )


def _journal_failed() -> DispatcherError:
    return JournalFailed(
        "writing to the data folder failed, and nothing more is accepted until the dispatcher was started "
        "again; check the disk first"
    )
