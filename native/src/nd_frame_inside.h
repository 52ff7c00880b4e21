/* nd_frame_inside.h -- writing a batch from wherever its records lie. */
#ifndef ND_FRAME_INSIDE_H
#define ND_FRAME_INSIDE_H

#include "nd_frame.h"

/* Where a batch's records are found, and what stays the same for all of them. */
typedef struct {
    nd_status (*span)(void *records, uint64_t seq, const nd_place *hint, nd_span *out);     /* as nd_ring_span */
    void *records;
    nd_crc_function crc;
    uint64_t incarnation;
} nd_frame_source;

/* As nd_batch_write, of records that are all there. */
nd_status nd_batch_write_from(const nd_frame_source *source, nd_batch *batch, uint8_t *buffer, uint64_t capacity);

#endif /* ND_FRAME_INSIDE_H */
