/* nd_framed_inside.h -- writing a batch's parts. */
#ifndef ND_FRAMED_INSIDE_H
#define ND_FRAMED_INSIDE_H

#include "nd_frame_inside.h"
#include "nd_framed.h"

/* Write what follows in a batch, of records that are all there, up to bytes_max; NULL: nothing of it could be
 * written, or there is no memory. */
nd_framed *nd_framed_write(const nd_io *io, const nd_frame_source *source, const nd_batch *batch, uint64_t bytes_max);

/* Parts that lie side by side. */
typedef struct {
    const uint8_t  *bytes;
    uint64_t        count;
    const nd_batch *after;      /* how the batch stands behind them */
} nd_framed_piece;

/* The parts that begin where a batch stands, as many as a buffer of that capacity holds, and no further than to the
 * end of a message.  False: none does. */
int nd_framed_find(const nd_framed *framed, const nd_batch *batch, uint64_t capacity, nd_framed_piece *out);

#endif /* ND_FRAMED_INSIDE_H */
