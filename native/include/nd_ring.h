/* nd_ring.h -- one channel's queue of records.
 *
 *      gone         in flight            waiting                   last_seq
 *   ...........|=================|   |=================|=============|
 *              first_seq          hole: dropped behind what is in flight
 *
 * Records go in at the end, are read in order from any place, and leave from the
 * front, or, when the ring is full, from just behind what is in flight; with policy
 * keep-latest also from anywhere behind that.  They lie side by side in chunks of the
 * pool, and each keeps its offset in its chunk, unless others were superseded
 * (nd_supersede.h).  The ring itself keeps only *runs*: stretches of one chunk that hold
 * nothing but records, with seqs that rise, so that nobody steps over dead ones, and
 * a record's offset can be remembered across calls and checked when it is used again.
 *
 * A chunk may be *cold*: its bytes lie in the scratch file, and no function here looks at
 * them (nd_residency.h).  What needs them returns ND_COLD; what removes records gives a
 * cold chunk up as a whole, or keeps the place of what is gone until it is back.  Of rings
 * that keep the latest every record is known, and leaves by itself.
 *
 * The bytes of a record are described in dispatcher/docs/FORMAT.md.
 *
 * INV-1  first_seq - 1 = settled <= last_seq, at every return.
 * INV-3  a seq is given once: last_seq never falls.
 *
 * Cost: every operation costs by the records or chunks that it touches, plus
 * O(log chunks) to find its place; never by how much is queued.
 *
 * Threads: a pool and all rings on it are used by one thread at a time.
 */
#ifndef ND_RING_H
#define ND_RING_H

#include <stddef.h>
#include <stdint.h>

#include "nd_pool.h"
#include "nd_status.h"

#define ND_KINDS             6u
#define ND_KIND_ASYNC        5u         /* the one kind whose records name no device */

/* cffi: begin */

typedef struct nd_ring nd_ring;

typedef enum {
    ND_OVERFLOW_DROP_OLDEST = 0,
    ND_OVERFLOW_REJECT      = 1,
    ND_OVERFLOW_KEEP_LATEST = 2
} nd_overflow;

/* Records that left a ring, by one cause.  There may be others between first and last. */
typedef struct {
    uint64_t count;
    uint64_t bytes;                     /* as stored, headers included */
    uint64_t first_seq, last_seq;       /* 0 when count is 0 */
    uint64_t first_unix_ms, last_unix_ms;       /* received times of these two; 0: not known, or not asked */
} nd_removed;

typedef struct {
    uint64_t records;
    uint64_t bytes;                     /* as stored, headers included; never above queue_bytes */
    uint64_t held_bytes;                /* of these, in flight */
    uint64_t in_flight_seq;             /* records up to here are */
    uint64_t last_seq;                  /* 0: none was ever given */
    uint64_t settled_seq;               /* nothing up to here is in the ring */
    uint64_t oldest_unix_ms;            /* no record was received earlier; 0 when empty */
} nd_ring_stats_t;

/* An empty ring; its first record will have seq 1.
 *
 *   Owns    the caller gives it back with nd_ring_close, before the pool is closed.
 *   Blocks  no.
 *   Cost    one small allocation; no chunk is taken before the first record.
 *   Returns ND_OK, ND_ERR_ARGUMENT (queue_bytes is 0 or above 2^40), ND_ERR_FULL.
 */
nd_status nd_ring_open(nd_pool *pool, uint64_t incarnation, uint64_t epoch,
                       uint64_t queue_bytes, nd_overflow overflow, nd_ring **out);

/* Give a ring and its chunks back.  NULL is nothing to do.
 *
 *   Blocks  no.
 *   Cost    O(chunks).
 */
void nd_ring_close(nd_ring *ring);

/* Remove every record up to and including a seq.  Received times are not looked for.  Of a
 * cold chunk that keeps some the bytes are counted when it is back, or goes.
 *
 *   Blocks  no.
 *   Cost    O(chunks removed), and the records of the last one.
 *   Returns ND_OK, ND_EMPTY (there were none), ND_ERR_CORRUPT (a length cannot be
 *           right; the chunk that holds it is removed up to its end).
 */
nd_status nd_ring_settle(nd_ring *ring, uint64_t upto_seq, nd_removed *out);

/* Remove every record up to a seq that was received before a moment, in flight or not.
 * As nd_ring_settle; a cold chunk of which some stay is left until it is back. */
nd_status nd_ring_expire(nd_ring *ring, uint64_t before_unix_ms, uint64_t upto_seq, nd_removed *out);

/* Drop the oldest records that are not in flight, until bytes_min are gone: cold chunks as
 * a whole, and none of which some are in flight.
 *
 *   Blocks  no.
 *   Cost    O(chunks dropped), and the records of the last one.
 *   Returns ND_OK, ND_EMPTY (nothing may be dropped), ND_ERR_FULL (no memory to
 *           remember the hole; nothing changed), ND_ERR_CORRUPT.
 */
nd_status nd_ring_drop(nd_ring *ring, uint64_t bytes_min, nd_removed *out);

/* Remove a damaged record, and whatever behind it cannot be found any more: records of
 * the same run, whose places follow from its length.  Never touches those before it.
 *
 *   Blocks  no.
 *   Cost    O(chunks in flight), and the records of one.
 *   Returns ND_OK, ND_EMPTY (no record has this seq), ND_ERR_FULL (no memory to
 *           remember the hole; nothing changed), ND_COLD (nobody can have seen it).
 */
nd_status nd_ring_isolate(nd_ring *ring, uint64_t seq, nd_removed *out);

/* A batch that was in flight before the ring was made again is so again.
 *
 *   Blocks  no.
 *   Cost    O(chunks in flight), and the records of one.
 *   Returns ND_OK, ND_ERR_TRIMMED (it is not one of so many records any more).
 */
nd_status nd_ring_hold_again(nd_ring *ring, uint64_t epoch, uint64_t first_seq, uint64_t last_seq,
                             uint64_t events);

/* Records after this seq are no longer in flight.
 *
 *   Blocks  no.
 *   Cost    O(chunks in flight), and the records of one.
 */
void nd_ring_release(nd_ring *ring, uint64_t after_seq);

/* The next record will have this seq, not the one after the last.  For a ring that is
 * made again: in between are records that left it before.
 *
 *   Blocks  no.
 *   Returns ND_OK, ND_ERR_ARGUMENT (seqs never fall).
 */
nd_status nd_ring_resume(nd_ring *ring, uint64_t next_seq);

/* Records appended from now on are of this epoch; those that are here keep theirs.
 *
 *   Blocks  no.
 *   Cost    O(epochs of which there are records).
 *   Returns ND_OK, ND_ERR_ARGUMENT (epochs never fall), ND_ERR_FULL.
 */
nd_status nd_ring_begin_epoch(nd_ring *ring, uint64_t epoch);

/* The seq up to which this ring's records lie at or before a position: a seq counts in
 * the epoch that it is of, and all of an earlier epoch comes before a later one.
 *
 *   Cost    O(epochs of which there are records).
 */
uint64_t nd_ring_seq_of(const nd_ring *ring, uint64_t epoch, uint64_t seq);

/* No slice goes further than this seq, because what is behind it is not durable yet
 * (INV-2).  Without this call all is shown at once. */
void nd_ring_show(nd_ring *ring, uint64_t upto_seq);

/* The first seq from this one on of which a record is here; 0: there is none.
 *
 *   Cost    O(log chunks); where seqs have holes also the records of one chunk.
 */
uint64_t nd_ring_next_seq(const nd_ring *ring, uint64_t seq);

/* The ring's figures.
 *
 *   Cost    constant.
 */
void nd_ring_stats(const nd_ring *ring, nd_ring_stats_t *out);

/* Check every promise that this header makes, and every checksum.  For tests.
 *
 *   Blocks  no.
 *   Cost    O(records).
 *   Returns ND_OK or ND_ERR_CORRUPT.
 */
nd_status nd_ring_check(nd_ring *ring);

/* cffi: end */

/* A record as it is stored: this header, the body, zeros up to a multiple of 8. */
typedef struct {
    uint32_t body_bytes;
    uint32_t crc32c;            /* of the whole stored record, this field taken as 0 */
    uint64_t seq;
    uint64_t received_unix_ms;
    uint8_t  kind;
    uint8_t  flags;             /* 0 */
    uint16_t ep_bytes;
    uint32_t tail_bytes;
} nd_record;

_Static_assert(sizeof(nd_record) == 32, "FORMAT.md, the record");
_Static_assert(offsetof(nd_record, crc32c) == 4, "FORMAT.md, the record");
_Static_assert(offsetof(nd_record, seq) == 8, "FORMAT.md, the record");
_Static_assert(offsetof(nd_record, received_unix_ms) == 16, "FORMAT.md, the record");
_Static_assert(offsetof(nd_record, kind) == 24, "FORMAT.md, the record");
_Static_assert(offsetof(nd_record, ep_bytes) == 26, "FORMAT.md, the record");
_Static_assert(offsetof(nd_record, tail_bytes) == 28, "FORMAT.md, the record");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little-endian");

static inline uint32_t nd_record_stored_bytes(uint32_t body_bytes)
{
    return (uint32_t)sizeof(nd_record) + ((body_bytes + 7u) & ~7u);
}

static inline const uint8_t *nd_record_body(const nd_record *record)
{
    return (const uint8_t *)(record + 1);
}

/* A record as the checksum sees it; its lengths have been checked. */
static inline nd_crc_lane nd_record_lane(const nd_record *record)
{
    return (nd_crc_lane){
        .bytes = (const uint8_t *)record,
        .count = nd_record_stored_bytes(record->body_bytes),
    };
}

/* cffi: begin */

/* Where a record lies, as remembered by a reader: at the end of the one before it.  Used
 * only while that one stands before it in its run, so a place that has gone stale costs a
 * little time, nothing else. */
typedef struct {
    uint64_t seq;
    uint32_t offset;            /* in its chunk; 0: not known */
} nd_place;

/* Records that lie side by side. */
typedef struct {
    const uint8_t *bytes;
    uint32_t       bytes_count;
    uint32_t       records;     /* at least 1 */
    uint64_t       first_seq;
    uint64_t       last_seq;    /* without holes, first_seq + records - 1 */
    uint32_t       offset;      /* of bytes in their chunk */
} nd_span;

/* The records from a seq on, as far as they lie side by side.
 *
 *   Owns    the ring; valid until the next call that is given the ring not as const.
 *   Blocks  no.
 *   Cost    O(log chunks); without a good hint also the records of one chunk.
 *   Returns ND_OK, ND_EMPTY (no record has this seq or a later one), ND_COLD, ND_ERR_CORRUPT.
 */
nd_status nd_ring_span(nd_ring *ring, uint64_t seq, const nd_place *hint, nd_span *out);

/* cffi: end */

/* How many records have seqs from first to last.
 *
 *   Blocks  no.
 *   Cost    O(chunks that they lie in); where seqs have holes, also the records of two.
 */
uint64_t nd_ring_count(const nd_ring *ring, uint64_t first_seq, uint64_t last_seq);

/* Whether a record is here: 1 or 0.  near remembers how far the ring was walked: zeros
 * at first, good for seqs that rise until the ring is changed.
 *
 *   Cost    O(log chunks); where seqs have holes, a walk over each chunk once.
 */
int nd_ring_has(const nd_ring *ring, uint64_t seq, nd_span *near);

/* The seq of the next record of a span from which one was just taken.  A header that
 * cannot be right is given the seq that it cannot have, for nd_span_next to find. */
static inline uint64_t nd_span_seq_after(const nd_span *span, uint64_t seq)
{
    if (span->records == 1) return span->last_seq;
    if (span->last_seq - seq <= span->records || span->bytes_count < sizeof(nd_record)) return seq + 1;
    const uint64_t next = ((const nd_record *)(const void *)span->bytes)->seq;
    return next > seq && next <= span->last_seq - (span->records - 1) ? next : seq + 1;
}

/* The record at the head of what is left of a span, and step over it; NULL when a
 * length or seq cannot be right.  The span must have records left. */
static inline const nd_record *nd_span_next(nd_span *span)
{
    const nd_record *record = (const nd_record *)(const void *)span->bytes;
    if (span->bytes_count < sizeof *record) return NULL;
    if (record->body_bytes > ND_CHUNK_BYTES_MAX - sizeof *record) return NULL;
    const uint32_t stored = nd_record_stored_bytes(record->body_bytes);
    if (stored > span->bytes_count || record->seq != span->first_seq) return NULL;
    span->bytes += stored;
    span->offset += stored;
    span->bytes_count -= stored;
    span->records -= 1;
    span->first_seq = nd_span_seq_after(span, record->seq);
    return record;
}

/* Records up to the one before end.seq are in flight; end.offset is where that one ends.
 * Never shrinks what is in flight. */
void nd_ring_hold(nd_ring *ring, nd_place end);

/* A good hint for reading on from where the last slice ended. */
nd_place nd_ring_slice_end(const nd_ring *ring);

/* How far a slice that begins with this seq may go: it is of one epoch, and shown. */
uint64_t nd_ring_slice_limit(const nd_ring *ring, uint64_t seq);

/* What a full ring does from now on; returns what it did before. */
nd_overflow nd_ring_set_overflow(nd_ring *ring, nd_overflow overflow);

/* What makes a record's uid its own. */
uint64_t nd_ring_incarnation(const nd_ring *ring);
uint64_t nd_ring_epoch_of(const nd_ring *ring, uint64_t seq);
nd_pool *nd_ring_pool(const nd_ring *ring);

#endif /* ND_RING_H */
