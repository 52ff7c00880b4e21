/* nd_ring_inside.h -- what the files that work on rings share of a ring's inside.
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
 *
 * A chunk lies in memory, or in a slot of the scratch file, or in both: it was brought
 * back, and is written to no more, so that it need not be written out again.  While it
 * lies in the slot alone its runs are cold.
 *
 * Of a cold run with holes, and of every run in a ring that keeps the latest, it is known
 * which records it has, so that each can be found, superseded and dropped without being
 * read.  Those that went from among others leave their bytes in a *gap*, until the run is
 * read in memory, or joined with its neighbour (nd_known_run.c).
 */
#ifndef ND_RING_INSIDE_H
#define ND_RING_INSIDE_H

#include <stdint.h>

#include "nd_assert.h"
#include "nd_ring.h"
#include "nd_slabs.h"

/* A record of a run whose records are known. */
typedef struct {
    uint64_t hash;              /* of its ep and path (nd_supersede.h); 0: nothing supersedes it */
    uint64_t seq       : 25;    /* less the list's base_seq */
    uint64_t at        : 18;    /* its offset in the chunk, and */
    uint64_t bytes     : 19;    /* its stored bytes, both in eights */
    uint64_t is_old    : 1;     /* a newer one of its ep and path came */
    uint64_t is_chosen : 1;     /* by the append that is going on, to be superseded */
} known_record;

#define ND_KNOWN_SEQS (1ull << 25)      /* a known run spans fewer */

/* The records of a run that are known: records[head ..], as many as the run's count. */
typedef struct {
    uint64_t     base_seq;
    uint32_t     head, capacity;
    uint32_t     old;           /* how many are */
    uint32_t     is_counted;    /* among what is known of cold records (ND_KNOWN_SHARE) */
    known_record records[];
} known_list;

/* What a ring that keeps the latest has besides: of each ep and path the seq of its newest
 * notification (nd_latest.h), and where runs may be worth joining (nd_known_run.c). */
typedef struct {
    uint64_t *entries, *before; /* before: from which they are moving */
    uint32_t  size, used;       /* of entries */
    uint32_t  before_size, moved;
    uint32_t  is_sparse;        /* few of those before are of use */
    uint64_t  thin_seq;         /* the first run that may have become thin; UINT64_MAX: none */
    uint64_t  join_seq;         /* how far those that had were looked at; UINT64_MAX: all were */
} nd_latest;

typedef struct {
    uint8_t  *chunk;            /* NULL: cold */
    uint64_t  slot;             /* in the scratch file; ND_NOWHERE: none */
    known_list *known;          /* NULL: nothing is, and a cold run then has no holes */
    uint32_t  chunk_bytes;
    uint32_t  begin, end;       /* offsets in the chunk */
    uint32_t  count;            /* of records; never 0 */
    uint32_t  gone;             /* others, from begin on, that were removed while it was cold; 0 when known */
    uint32_t  gone_bytes;       /* in [begin, end), of what is not in the ring any more */
    uint64_t  first_seq, last_seq;
    uint64_t  oldest_unix_ms;   /* when its first record was received; earlier when others went in the cold */
    uint64_t  newest_unix_ms;   /* when its last record was received; both unless a header is damaged */
} run;

/* The epoch of the records up to a seq, behind those of the one before. */
typedef struct {
    uint64_t epoch;
    uint64_t last_seq;
} past_epoch;

/* Where a ring stands among those whose chunks may be moved (nd_residency.c). */
typedef struct {
    nd_ring *colder, *warmer;   /* in its list */
    uint64_t touched;           /* when it came to the warm end, in touches of all rings */
    uint64_t visited;           /* by the last step of moving out that looked at it */
    uint32_t list;
    uint32_t is_counted;        /* among the rings that hold records */
    uint32_t chunks;            /* in memory */
    uint32_t copies;            /* of these, with a slot */
    uint32_t runs_cold;
    uint32_t fetches;           /* going on: nothing is written out meanwhile, and of */
    uint64_t wanted_first_seq, wanted_last_seq;         /* these no copy is dropped */
    uint64_t expire_unix_ms;    /* what was received before is to go as soon as it is back; 0: nothing is */
} nd_tenant;

struct nd_ring {
    nd_pool    *pool;
    run        *runs;           /* runs[head .. head + count) */
    uint32_t    head, count, capacity;
    uint8_t     overflow;
    uint8_t     keeps_latest;   /* has, or had, that policy: its records are known */
    nd_latest  *latest;         /* NULL before the first record of a ring that keeps the latest */
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
    nd_place    slice_end;
    nd_tenant   tenant;
};

static inline run *run_at(const nd_ring *ring, uint32_t index)
{
    ND_ASSERT(index < ring->count);
    return &ring->runs[ring->head + index];
}

static inline uint64_t run_bytes(const run *item)
{
    return item->end - item->begin - item->gone_bytes;
}

/* Whether seqs have no holes. */
static inline int run_is_dense(const run *item)
{
    return item->last_seq - item->first_seq < item->count;
}

static inline int run_is_cold(const run *item)
{
    return item->chunk == NULL;
}

/* Whether more may be written behind it: in memory, and nowhere else. */
static inline int run_is_open(const run *item)
{
    return item->chunk != NULL && item->slot == ND_NOWHERE;
}

/* Whether two runs, neighbours in the deque, lie in one chunk. */
static inline int runs_share(const run *one, const run *other)
{
    return one->chunk == other->chunk && one->slot == other->slot;
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

/* A run's records; it must not be cold. */
nd_span nd_run_span(const run *item);

/* Count the records in flight anew, after a chunk of them left memory or came back. */
void nd_ring_recount_held(nd_ring *ring);

/* Drop records behind what is in flight, from the oldest, until bytes_min are gone or
 * none is left.  One run must be reserved. */
void nd_ring_drop_reserved(nd_ring *ring, uint64_t bytes_min, nd_removed *out);

/* Give the memory of past epochs back. */
void nd_epochs_free(nd_ring *ring);

/* A chunk of memory for a ring's last run, smaller than wanted when many rings have to share
 * little memory; NULL: there is none. */
uint8_t *nd_run_take(nd_ring *ring, uint32_t bytes_min, uint32_t bytes_want, uint32_t *bytes_out);

/* Give the chunk of a run back, and its slot; no other run lies in it. */
void nd_run_give(nd_ring *ring, const run *item);

/* Give the slot of the chunk that a run lies in back, if it has one and is in memory: it is
 * going to be written to. */
void nd_chunk_open(nd_ring *ring, uint32_t index);

/* --- runs whose records are known --- */

static inline known_record *known_at(const run *item, uint32_t index)
{
    return &item->known->records[item->known->head + index];
}

static inline uint64_t known_seq(const run *item, const known_record *record)
{
    return item->known->base_seq + record->seq;
}

static inline uint32_t known_bytes(const known_record *record)
{
    return (uint32_t)record->bytes * 8;
}

static inline uint32_t known_offset(const known_record *record)
{
    return (uint32_t)record->at * 8;
}

/* Make room to know so many records of a run, the first with at least this seq.  False: no memory. */
int nd_run_know_more(nd_ring *ring, run *item, uint32_t count, uint64_t first_seq);

/* What is known of a run's records is needed no more. */
void nd_run_forget(nd_ring *ring, run *item);

/* How many known records of a run have seqs before this one. */
uint32_t nd_run_known_before(const run *item, uint64_t seq);

/* Stored bytes of known records [0, count) of a run. */
uint64_t nd_run_known_bytes(const run *item, uint32_t count);

/* When a known record was received; 0: it is cold, or damaged. */
uint64_t nd_run_known_unix_ms(const run *item, const known_record *record);

/* Records were taken off a run's list, which is not empty, and bytes of them were not: fit the run to it. */
void nd_run_fit(nd_ring *ring, run *item, uint64_t bytes);

/* Take known records [from, to) out of a run, which keeps others. */
void nd_run_remove_known(nd_ring *ring, run *item, uint32_t from, uint32_t to, nd_removed *removed);

/* Close the gaps in a known run, which is in memory.  Whether records moved: then its slot is of no use. */
int nd_run_close_gaps(nd_ring *ring, run *item);

/* Before a run of the ring is read in memory: close its gaps. */
void nd_run_settle_down(nd_ring *ring, uint32_t index);

/* Join runs that have become thin, as long as *left is not 0, and count it down by the runs joined. */
void nd_runs_join(nd_ring *ring, uint32_t *left);

/* Whether a chunk of a ring is being written out: its bytes are not to be used for others. */
int nd_ring_is_leaving(const nd_ring *ring);

/* A ring was written to, or other chunks of it are in memory than before. */
void nd_tenant_changed(nd_ring *ring);

/* A ring is being closed; its runs are gone. */
void nd_tenant_leave(nd_ring *ring);

#endif /* ND_RING_INSIDE_H */
