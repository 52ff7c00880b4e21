/* nd_ring_inside.h -- what nd_ring.c, nd_append.c and nd_supersede.c share of a ring's inside.
 *
 *      runs    [ 1..40 ][ 41..77 ][ 90..120 ][ 121..200 ]
 *                  |         |  ____/            |
 *      chunks  [ records ][ records .gone. records ][ records ....... ]
 *
 * A run is a stretch of one chunk that holds nothing but records.  Most chunks hold one
 * run; a hole in the chunk, dropped behind what is in flight, ends a run and begins
 * another.  Runs of one chunk are neighbours in the deque, so that a chunk is given back
 * when a run goes whose neighbours lie elsewhere: no counting of references.
 *
 * Seqs rise in a run, mostly by 1.  Where some were never stored, or were superseded,
 * seqs have holes though the bytes have none: such a run is walked to find a record.
 */
#ifndef ND_RING_INSIDE_H
#define ND_RING_INSIDE_H

#include <stdint.h>

#include "nd_assert.h"
#include "nd_ring.h"

typedef struct {
    uint8_t *chunk;
    uint32_t chunk_bytes;
    uint32_t begin, end;        /* offsets in the chunk */
    uint32_t count;             /* of records; never 0 */
    uint64_t first_seq, last_seq;
    uint64_t newest_unix_ms;    /* when its last record was received, unless a header is damaged */
} run;

/* The epoch of the records up to a seq, behind those of the one before. */
typedef struct {
    uint64_t epoch;
    uint64_t last_seq;
} past_epoch;

struct nd_ring {
    nd_pool    *pool;
    run        *runs;           /* runs[head .. head + count) */
    uint32_t    head, count, capacity;
    uint8_t     overflow;
    uint8_t     is_appending;   /* stands in a route of the append that is going on */
    uint64_t    incarnation;
    uint64_t    epoch;          /* of the records behind all past ones */
    past_epoch *past;           /* of records that may still be here, the oldest first; mostly none */
    uint32_t    past_count, past_capacity;
    uint64_t    shown_seq;      /* no slice goes further */
    uint64_t    queue_bytes;
    uint64_t    records, bytes;
    uint64_t    held_bytes;     /* of records up to in_flight_seq */
    uint64_t    in_flight_seq;
    uint64_t    last_seq;
    uint64_t    newest_unix_ms;
    uint64_t    moved_seq;      /* records up to here may have moved: no place leads to them */
    uint64_t    sweep_credit;   /* bytes that may be looked through for superseded records */
    nd_place    slice_end;
};

static inline run *run_at(const nd_ring *ring, uint32_t index)
{
    ND_ASSERT(index < ring->count);
    return &ring->runs[ring->head + index];
}

static inline uint64_t run_bytes(const run *item)
{
    return item->end - item->begin;
}

/* Whether seqs have no holes. */
static inline int run_is_dense(const run *item)
{
    return item->last_seq - item->first_seq < item->count;
}

/* Records that leave together. */
typedef struct {
    uint64_t count, bytes;
    uint64_t first_seq, last_seq;
    uint64_t first_unix_ms, last_unix_ms;
} leaving;

static inline void removed_add(nd_removed *removed, leaving part)
{
    if (part.count == 0) return;
    if (removed->count == 0) {
        removed->first_seq = part.first_seq;
        removed->first_unix_ms = part.first_unix_ms;
    }
    removed->count += part.count;
    removed->bytes += part.bytes;
    removed->last_seq = part.last_seq;
    removed->last_unix_ms = part.last_unix_ms;
}

static inline leaving leaving_one(uint64_t bytes, uint64_t seq, uint64_t received_unix_ms)
{
    return (leaving){
        .count = 1, .bytes = bytes, .first_seq = seq, .last_seq = seq,
        .first_unix_ms = received_unix_ms, .last_unix_ms = received_unix_ms,
    };
}

/* Make room for more runs behind the last.  False: no memory, nothing changed. */
int nd_runs_reserve(nd_ring *ring, uint32_t more);

/* Keep an idle ring small: give the deque's memory back when it is empty. */
void nd_runs_trim(nd_ring *ring);

/* The first run that holds this seq or a later one; count when there is none. */
uint32_t nd_run_reaching(const nd_ring *ring, uint64_t seq);

/* A run's records. */
nd_span nd_run_span(const run *item);

/* What of so many bytes can be saved up as sweep_credit (nd_supersede.h). */
static inline uint64_t nd_sweep_credit(const nd_ring *ring, uint64_t bytes)
{
    return bytes < 2 * ring->queue_bytes ? bytes : 2 * ring->queue_bytes;
}

/* Drop records behind what is in flight, from the oldest, until bytes_min are gone or
 * none is left.  One run must be reserved. */
void nd_ring_drop_reserved(nd_ring *ring, uint64_t bytes_min, nd_removed *out);

/* Give the memory of past epochs back. */
void nd_epochs_free(nd_ring *ring);

#endif /* ND_RING_INSIDE_H */
