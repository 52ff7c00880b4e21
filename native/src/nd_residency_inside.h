/* nd_residency_inside.h -- what nd_residency.c and nd_fetch.c share. */
#ifndef ND_RESIDENCY_INSIDE_H
#define ND_RESIDENCY_INSIDE_H

#include "nd_fetch.h"
#include "nd_residency.h"
#include "nd_ring_inside.h"
#include "nd_scratch.h"

/* Rings by what of theirs may go, the coldest first. */
enum {
    LIST_NONE,          /* nothing */
    LIST_TAIL,          /* the chunk that is written to */
    LIST_DIRTY,         /* others too */
    LIST_COPIES,        /* some need no writing */
    LISTS
};

/* A chunk on its way out. */
typedef struct {
    nd_ring       *ring;        /* NULL: closed meanwhile */
    const uint8_t *chunk;
    uint64_t       slot;
    uint64_t       last_seq;    /* of its last run, */
    uint32_t       end;         /* which ends here */
} nd_leaving;

struct nd_residency {
    nd_io       io;
    nd_pool    *pool;
    nd_scratch *scratch;
    nd_ring    *coldest[LISTS], *warmest[LISTS];
    uint64_t    touches, steps;
    uint64_t    rings;          /* that hold records */
    uint64_t    known_bytes;    /* taken for what is known of cold records */
    uint32_t    is_known_full;  /* a chunk had to stay because no more can be known */
    nd_fetch   *fetches;        /* going on */

    /* the step that goes on */
    nd_leaving  leaving[ND_OUT_CHUNKS_MAX];
    uint32_t    leaving_count;
    uint32_t    is_moving;
    uint64_t    begun;          /* touches when it began */
    nd_space_order space;
    nd_status   written;
};

/* The first run of the chunk that a run lies in. */
static inline uint32_t chunk_first(const nd_ring *ring, uint32_t index)
{
    while (index > 0 && runs_share(run_at(ring, index - 1), run_at(ring, index))) index--;
    return index;
}

/* Take the memory from the runs of a chunk that has a slot.  False: it has to stay. */
int nd_chunk_leave(nd_ring *ring, uint32_t first, uint32_t last);

/* Write down which records a run has that is about to become cold, if that has to be known.
 * False: no memory, or the run is damaged, or its seqs are too far apart for it. */
int nd_run_know(nd_ring *ring, run *item);

/* A run is in memory again, or stays there: what is known of it counts no more. */
void nd_run_is_back(nd_ring *ring, run *item);

/* A ring is being closed: no fetch and no step may meet it again. */
void nd_fetches_forget(nd_residency *residency, const nd_ring *ring);

#endif /* ND_RESIDENCY_INSIDE_H */
