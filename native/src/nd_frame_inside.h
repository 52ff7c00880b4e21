/* nd_frame_inside.h -- planning and writing a batch from wherever its records lie. */
#ifndef ND_FRAME_INSIDE_H
#define ND_FRAME_INSIDE_H

#include "nd_frame.h"

/* Where a batch's records are found, and what stays the same for all of them. */
typedef struct {
    nd_status (*span)(void *records, uint64_t seq, const nd_place *hint, nd_span *out);     /* as nd_ring_span */
    uint64_t (*slice_limit)(void *records, uint64_t seq);       /* as nd_ring_slice_limit */
    void *records;
    nd_crc_function crc;
    uint64_t incarnation;
} nd_frame_source;

/* A ring's. */
nd_frame_source nd_frame_source_of(nd_ring *ring);

/* As nd_frame_plan; holds nothing, and knows no epoch.  place is a hint for the first record. */
nd_status nd_frame_plan_from(nd_framer *framer, const nd_frame_source *source, nd_place place, const nd_slice *slice,
                             nd_batch *out);

/* As nd_batch_write, of records that are all there. */
nd_status nd_batch_write_from(const nd_frame_source *source, nd_batch *batch, uint8_t *buffer, uint64_t capacity);

/* Whether a ring has all of a batch's records. */
int nd_batch_is_whole(const nd_ring *ring, const nd_batch *batch);

/* Whether a batch that has just been written stands at the end of a message. */
int nd_batch_is_between(const nd_batch *batch);

#endif /* ND_FRAME_INSIDE_H */
