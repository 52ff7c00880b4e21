/* nd_framed.h -- a part of a batch, written as message bytes before it is asked for.
 *
 * By whoever brings its records back from the disk (nd_fetch.h), away from the Trio thread; what is
 * left to that is a copy.  It is written in parts of whole records, and after each of them it is
 * known how the batch stands, so that reading goes on from the ring wherever this ends, is given
 * up, or does not fit.  Records never change: nothing but their being there is left to be asked.
 *
 *      records  [ 1 .. 300 ][ 301 .. 590 ][ 591 .. 870 ]
 *      bytes    [  a part  ][   a part   ][   a part   ]
 *                           ^ a batch stands here: it goes on with the second
 *
 * Threads: one at a time.
 */
#ifndef ND_FRAMED_H
#define ND_FRAMED_H

#include <stdint.h>

#include "nd_frame.h"
#include "nd_io.h"

#define ND_FRAMED_PART_BYTES (64u << 10)    /* a part is longer only when a record is */

/* cffi: begin */

/* The memory that it takes, in bytes. */
uint64_t nd_framed_bytes(const nd_framed *framed);

/* Copy parts from where a batch stands, as many as fit, and never past the end of a message: 1, and the
 * batch goes on behind them.  0: no part begins there, or the first has no room, and nothing changes.
 * nd_batch_read does this for batches whose records are there.
 *
 *   Owns    framed was written for this batch; it may be read again from any of its parts.
 *   Blocks  no.
 *   Cost    O(bytes copied, and parts).
 */
int nd_framed_read(const nd_framed *framed, nd_batch *batch, uint8_t *buffer, uint64_t capacity);

/* Give its memory back.  NULL is nothing to do. */
void nd_framed_close(nd_framed *framed);

/* cffi: end */

#endif /* ND_FRAMED_H */
