"""The queue seam: what a channel's queue promises, whoever keeps it.

``native`` (the C core) and ``memory`` (the slow, obviously right model) fill it
in; one conformance suite runs over both.

A queue knows channels by number only: who owns them, who may read them and how
they are delivered is other people's business.

    trimmed        settled         in flight        waiting          last
    ...............|===============|----------------|=================|
     space given    acked, expired   handed out by    not yet sliced
     back           or dropped       slice, kept

INV-1  per channel: trimmed <= settled <= durable <= last.
INV-2  a slice never reaches past durable.
INV-3  a (epoch, seq) is given once in the life of an incarnation.
INV-8  queued + recovered = acked + expired + dropped + superseded + parked + deleted + in queue, at every
       return.

Threads: all methods are called from one thread.  None of the plain methods
blocks or awaits; state never changes across an ``await`` of a caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from dispatcher.core.idempotency import IdempotencyTable, KeyScope
from dispatcher.core.route_table import Way
from dispatcher.core.routes import Route as Route
from dispatcher.model import Form as Form
from dispatcher.model import Kind, Overflow, Position, RecordBlock, RecordMetas
from dispatcher.model import SliceLimits as SliceLimits
from dispatcher.model import Ticket as Ticket
from dispatcher.wire.staging import Staged, Text


class QueueOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel's queue is made with."""

    incarnation: int  # random, 64 bits
    owner: int  # whose memory it is: when all memory is used, the largest owner loses its oldest
    queue_bytes: int  # bound of stored bytes, record headers included
    overflow: Overflow
    keeps_gaps: bool = False  # its receiver wants to be told of what it does not get


class FrozenBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that failed: the same records in the same form go again, byte for byte."""

    first: Position
    last: Position
    events: int  # 0: it holds gaps alone
    form: Form


class Records(msgspec.Struct, frozen=True):
    """The canonical records of one request, in order.

    ``block`` holds their bodies end to end.  ``meta`` has one number each:

        bits  0..23  body_bytes   length of the body in ``block``
        bits 24..39  tail_bytes   length of ``,"original-ep":"..."`` before the closing brace
        bits 40..55  ep_bytes     length of the ep as it stands in the JSON; 0: no device
        bits 56..63  kind         model.Kind

    A body is one JSON object without white space.  With a device it starts with
    ``{"ep":"`` and the ep; ``tail_bytes`` is 0 when no other original-ep is known.
    The bytes are trusted: whoever makes ``Records`` has checked and canonicalised them.
    """

    block: RecordBlock
    meta: RecordMetas


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one channel that left it without being delivered, by one cause."""

    channel: int
    reason: str  # one of model.GAP_REASONS
    count: int  # others may stand between first and last
    record_bytes: int  # stored bytes; 0 when nobody knows
    first_seq: int  # 0 for rejected ones, which never had a number
    last_seq: int
    from_unix_ms: int = 0  # when the first was received; 0: not known
    to_unix_ms: int = 0  # and the last


class Appended(msgspec.Struct, frozen=True):
    """What an append did."""

    queued: int  # records stored, over all channels
    rejected: int = 0  # records refused by full channels of policy reject
    losses: tuple[Loss, ...] = ()  # of any channel: overflow of these, memory of others, damage found since


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What became of a request that was taken: ``Appended``, and what it was."""

    events: int
    came_bytes: int  # that each of the channels got of them at most, as they are stored
    queued: int
    unrouted: int  # events that no channel gets
    channels: Sequence[int]  # that got any of its events, or refused them
    ticket: Ticket
    has_lasting: bool = False  # some events have a max-age that is not 0, or was not given
    rejected: int = 0
    losses: tuple[Loss, ...] = ()


class Taker(Protocol):
    """Takes a text to the channels at once, where nobody has to be asked anything.

    A text is one notification message, or (``is_lines``) one in each line.  What is not taken has
    changed nothing, and its publisher goes the same way step by step: it is parsed (None), or it is
    parsed and has to be routed and appended (``Staged``).  With ``has_answer`` room is left for
    ``ChannelQueue.keep``.  Never blocks; raises ``Unavailable`` once the queue is closed, and nothing else.
    What becomes of a request is often what became of the one before: it is the same object then.
    """

    def take(
        self,
        way: Way | None,
        channel: int,
        text: Text,
        is_lines: bool,
        received_unix_ms: int,
        has_answer: bool,
    ) -> Stored | Staged | None:
        """Notifications to whoever gets them by the routes, or, with ``way`` None, all to one channel
        unless that would refuse any.
        """
        ...

    def hold(self, records: Records) -> object:
        """Records in a form that can be taken any number of times.  Any thread may call it."""
        ...

    def take_held(self, channel: int, held: object, received_unix_ms: int) -> Stored | None:
        """All that ``hold`` was given to one channel, unless that would refuse any; None: not taken."""
        ...

    def staged(self) -> Staged:
        """The records that were just stored."""
        ...


class ChannelStats(msgspec.Struct, frozen=True, kw_only=True):
    """One channel's queue, at a moment."""

    records: int  # not settled
    record_bytes: int
    last_seq: int  # 0: none yet
    settled_seq: int  # all up to here is settled
    oldest_unix_ms: int | None  # received time of the oldest record not settled, or somewhat before
    gaps: int = 0  # that its receiver was not told of yet, or did not confirm


class Peeked(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was looked at and stays where it is."""

    position: Position
    kind: Kind
    message: bytes  # a notification message that holds it alone
    is_in_flight: bool


class QueueTotals(msgspec.Struct, frozen=True, kw_only=True):
    """All channels since the queue was opened; INV-8 is checked on these."""

    queued: int
    recovered: int  # found again when the queue was opened
    acked: int
    expired: int
    dropped: dict[str, int]  # by reason; refused records are not in here: they were never queued
    superseded: int  # notifications that newer ones of the same resource took the place of
    parked: int  # set aside, and kept by someone else
    rejected: int  # refused by full channels of policy reject
    deleted: int
    records: int
    record_bytes: int
    memory_bytes: int  # taken from the machine; what is cold is not in it
    memory_bytes_max: int
    scratch_bytes: int  # the place of cold queues on the disk
    journal_bytes: int  # and of the journal


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One notification message of a batch."""

    kinds: tuple[Kind, ...]  # in the order in which they stand in the message; none: it holds gaps alone
    events: int
    bytes_count: int  # exact length of the JSON


class Batch(Protocol):
    """A slice, ready to be written out as messages; the first begins with the gaps in front of it.

    Holds no copy of the events: ``read_into`` assembles them from the queue, so a
    batch of 8 MiB costs only the buffer it is read through.  The records stay in
    flight (never dropped by overflow) until ``settle`` or ``release`` says otherwise.
    Expiring, or deleting the channel, makes ``read_into`` raise.

    While a batch waits for its receiver its records may be moved out of memory; ``read_into``
    waits for them without holding up others.
    """

    first: Position
    last: Position
    events: int  # 0: gaps alone
    messages: tuple[Message, ...]
    bytes_count: int  # sum over messages

    async def read_into(self, buffer: bytearray, offset: int) -> int:
        """Write the next part of the current message at ``offset``; return its length.

        No checkpoint when it is in memory.  Else ``buffer`` is the reader's alone until it returns.

        Writes whole records while they fit and never past the end of a message:
        after ``messages[i].bytes_count`` bytes the next call begins message i + 1,
        and after the last message every call returns 0.

        Grows ``buffer`` when a single record does not fit behind ``offset``
        (at most ``limits.RECORD_BYTES_MAX`` and its added fields).

        Raises ``PositionLost`` when its records are gone, ``ChannelGone`` when the
        channel was deleted, ``CorruptRecord`` on a bad checksum, ``StorageUnreadable`` and
        ``MemoryFull`` when what is cold cannot be brought back.  What was read
        before is then a half message: the transport must be aborted.

        Cancellation: nothing was read.
        """
        ...

    def pour(
        self, socket: int, buffer: bytearray, filled: int, unread: int, tail: bytes
    ) -> tuple[int, int, int, int]:
        """Send the first ``filled`` bytes of ``buffer``, and then what follows in the message at hand.

        ``unread`` is how much of the message has not been read, of which something has; ``tail`` goes
        behind its end.  ``socket`` is a file number.  Ends when the socket takes no more, or is broken;
        when ``limits.SEND_PIECES_MAX`` buffers went; and before what is cold.

        Returns how many bytes went, where those that are read and did not go begin and end in
        ``buffer``, and how much is unread then: when nothing is, the tail is among these or went too.
        May do less of it, or nothing.  Never waits, never grows ``buffer``.  Raises as ``read_into`` does:
        the message may be half sent then.
        """
        ...

    def rewind(self) -> None:
        """Start over with the first message."""
        ...


class ChannelQueue(Protocol):
    """All channels' queues of one process."""

    epoch: int
    answers: IdempotencyTable  # those that were kept, by this run and earlier ones

    def check_accepting(self) -> None:
        """Raise what ``append`` would, while nothing can be stored: ``StorageFull``, ``JournalFailed``."""
        ...

    def open_channel(self, channel: int, options: QueueOptions) -> None:
        """Begin a channel with an empty queue, at seq 1 of this epoch, or with what was recovered of it."""
        ...

    def keep_gaps(self, channel: int, is_wanted: bool) -> None:
        """Whether gaps are kept from now on; those that were, are forgotten when they are not."""
        ...

    def delete_channel(self, channel: int) -> int:
        """Forget a channel; return how many records went with it (counted as deleted)."""
        ...

    def append(
        self, records: Records, routes: Sequence[Route], received_unix_ms: int, *, has_answer: bool = False
    ) -> tuple[Appended, Ticket]:
        """Store one request's records in every channel that it is routed to, at once.

        All or nothing: either every record is stored in every channel (or was
        refused by that channel's policy ``reject``), or an exception says why and nothing was
        stored.  Drop-oldest makes room behind what
        is in flight, never out of it; when a channel has nothing left to drop, the new
        record itself is the loss.

        With policy ``keep-latest`` a notification is old once a newer one of the same
        device and resource came.  A full queue first lets old ones go that are not in
        flight, those of the request among them: they are superseded, from the oldest on,
        until there is room, and leave holes.  Only if that is not enough the oldest of all
        are dropped; if it is, the next old ones of the queue go ahead of what comes later, up
        to ``limits.SUPERSEDED_AHEAD_SHARE`` and, in all channels of the request in the order
        of its routes, ``SUPERSEDED_AHEAD_BYTES_MAX``.

        ``received_unix_ms`` must not fall; a smaller value is replaced by the last.

        Without a journal the owner that uses most loses its oldest when memory is full;
        ``MemoryFull`` when nothing may be dropped to make room.  With one nothing is dropped
        for want of memory: raises ``JournalBehind`` while the coldest records are being moved
        to the disk, ``StorageFull`` and ``JournalFailed``, and ``MemoryFull`` when the
        request is larger than the memory can ever take.
        Never blocks.
        """
        ...

    def keep(self, scope: KeyScope, answer: bytes) -> Ticket:
        """Keep the answer to what was just stored, for a scope begun in ``answers``; the ticket for both.

        It is durable with the records, or neither is.  What was stored has left room for it
        (``has_answer``), and nobody has had a turn since.  At most
        ``limits.IDEMPOTENCY_ANSWER_BYTES_MAX`` bytes.
        """
        ...

    def take_losses(self) -> Sequence[Loss]:
        """What went and was told to nobody yet: of an append that failed, or found out by reading
        while nobody listened.

        The next append that succeeds tells the same, whichever comes first.
        """
        ...

    def has_room(self, channel: int, records: Records) -> bool:
        """Whether an append of all these to this channel would refuse none of them.

        Always true unless the channel's policy is ``reject``.
        """
        ...

    def may_have_more(self, channel: int, after: Position) -> bool:
        """False when a slice behind this position would find nothing.  True promises nothing.

        Cost: a small part of a slice's; for whoever has just sent what may have been the last.
        """
        ...

    async def slice(
        self, channel: int, after: Position | None, limits: SliceLimits, form: Form
    ) -> Batch | None:
        """Take the records after a position (None: from the oldest), or None if there are none.

        Grouped by kind in order of first occurrence, and cut before an event whose
        ep already stands in the slice under a kind that comes later in that order,
        so that per-device order never changes (INV-4).  The records become in flight.

        With ``form.include_gaps``, a slice also begins with the gaps in front of its first
        record, and is cut before a record that has another gap in front of it.  A gap with no
        record behind it makes a slice of its own.  What was told never changes, and is told
        again, like the records, until it is settled.

        May wait for cold data; never waits for records to come.  Raises ``StorageUnreadable``
        when the disk does not give them back.
        """
        ...

    async def peek(self, channel: int, limits: SliceLimits, form: Form) -> list[Peeked]:
        """Look at the oldest records, each as a message of its own; nothing changes by it.

        At most ``limits.events_max`` of them; ends with the one that reaches ``bytes_max``.
        Gaps are not shown.  May wait for cold data.
        """
        ...

    async def rebuild(
        self, channel: int, first: Position, last: Position, form: Form, events: int | None = None
    ) -> Batch | None:
        """The same batch again, byte for byte, or None when any of its records, or its gaps alone, are gone.

        The records become in flight.  While they were in flight all along, or released
        as a whole, the two positions say enough: such records leave from the front.
        After a release in their midst give ``events`` too, how many they were.
        """
        ...

    def freeze(self, channel: int, batch: FrozenBatch | None) -> None:
        """Remember which batch has to go again as it was (None: none has), over a restart too."""
        ...

    def frozen(self, channel: int) -> FrozenBatch | None:
        """The batch that was to be sent again when the queue was opened, if its records are all there."""
        ...

    def settle(self, channel: int, upto: Position) -> int:
        """Acknowledge every record up to and including a position; return how many.

        Positions already settled change nothing.  Space goes back at once.
        """
        ...

    def park(self, channel: int, position: Position) -> Loss | None:
        """Take the oldest record out, for who keeps it elsewhere from now on; None when it is not the oldest.

        Its place is a gap of reason ``parked``.  Nothing of the channel is in flight afterwards.
        """
        ...

    def release(self, channel: int, after: Position | None = None) -> None:
        """Records after this position (None: all) are no longer in flight."""
        ...

    def expire(self, channel: int, received_before_unix_ms: int) -> Loss | None:
        """Remove every record received before a moment, in flight or not; say what went.

        Of cold records some may stay until they are read; they are then removed first.
        """
        ...

    def stats(self, channel: int) -> ChannelStats:
        """One channel's figures.  Cost: constant."""
        ...

    def totals(self) -> QueueTotals:
        """The sums over all channels, including deleted ones.  Cost: constant."""
        ...

    def close(self) -> None:
        """Give all memory back.  Every later call but ``close`` raises."""
        ...
