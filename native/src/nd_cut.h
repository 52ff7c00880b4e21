/* nd_cut.h -- places between the records of a run, found by walking. */
#ifndef ND_CUT_H
#define ND_CUT_H

#include "nd_ring_inside.h"

typedef struct {
    nd_span  rest;              /* the records behind it */
    uint64_t before_seq;        /* of the record before it, if there is one */
    uint64_t before_unix_ms;    /* when that was received; 0: not known */
} nd_cut;

/* The place before the first record of a run, which is not cold. */
static inline nd_cut nd_cut_of(const run *item)
{
    return (nd_cut){.rest = nd_run_span(item)};
}

/* When the record at a place was received; 0: there is none, or its header is damaged. */
static inline uint64_t nd_received_at(nd_span rest)
{
    const nd_record *record = rest.records > 0 ? nd_span_next(&rest) : NULL;
    return record != NULL ? record->received_unix_ms : 0;
}

/* The place before the first record with this seq or a later one; the run reaches it.
 * False when a header on the way is damaged, or cold. */
int nd_cut_at(const nd_ring *ring, const run *item, uint64_t seq, const nd_place *hint, nd_cut *out);

/* Move over records until bytes_min are passed.  Damage ends the run: nothing behind it can be found. */
void nd_cut_move(nd_cut *at, const run *item, uint64_t bytes_min);

#endif /* ND_CUT_H */
