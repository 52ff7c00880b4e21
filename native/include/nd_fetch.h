/* nd_fetch.h -- cold chunks of one ring brought back into memory.
 *
 * *Begin* takes memory for them, *read* fills it, on any thread, *end* puts it into the
 * ring as far as the ring still has the records.  Several rings may be fetched for at the
 * same time.  Whoever reads may write what was read as message bytes too, before the ring
 * has it: records never change, so that nothing but their being there is left to be asked.
 *
 * Threads: as the ring's, but for what is marked *Blocks*.
 */
#ifndef ND_FETCH_H
#define ND_FETCH_H

#include <stdint.h>

#include "nd_frame.h"
#include "nd_residency.h"
#include "nd_ring.h"
#include "nd_status.h"

/* cffi: begin */

typedef struct nd_fetch nd_fetch;

/* What could not be done while it was cold. */
typedef struct {
    uint64_t gone_bytes;        /* of records that were removed and counted: the ring is smaller by them */
    uint64_t expire_unix_ms;    /* what was received before is to be removed now; 0: nothing is */
} nd_fetched;

/* Which records are wanted: from first_seq on, as far as last_seq, or to the end of the
 * chunk in which bytes_max or records_max are reached. */
typedef struct {
    uint64_t first_seq, last_seq;
    uint64_t bytes_max, records_max;
} nd_reach;

/* Whether any of them is cold, or, with reach NULL, any of the ring's: 1 or 0.
 *
 *   Cost    O(chunks up to there); constant while nothing of the ring is cold.
 */
int nd_ring_has_cold(const nd_ring *ring, const nd_reach *reach);

/* Begin to bring back what is cold of them.
 *
 *   Owns    the caller ends it, before the pool is closed; the ring may be closed before.
 *   Blocks  no.
 *   Cost    O(chunks up to there).
 *   Returns ND_OK, ND_EMPTY (all of it is in memory), ND_ERR_FULL (there is no memory now:
 *           move something out), ND_NO_ROOM (nor is there, and *bytes_out are more than
 *           what is set aside for this).
 */
nd_status nd_fetch_begin(nd_ring *ring, const nd_reach *reach, uint64_t *bytes_out, nd_fetch **out);

/* Read.  *Blocks.* */
void nd_fetch_read(nd_fetch *fetch);

/* Read, and write the next part of a batch from what was read, as nd_batch_write does from
 * memory.
 *
 *   Owns    batch and buffer are the caller's; batch is a copy, for nd_batch_take when the
 *           fetch has ended, and its bytes_written are 0 before the first fetch for it.
 *           They stay so, and all of it as it was, when no record was written: the next one
 *           was not read, or lies beside some that went, has no room, or is damaged.  When
 *           they are not 0 nothing is written.
 *   Blocks  yes.
 *   Cost    what is read; O(records written), and those in front of them in their chunks.
 */
void nd_fetch_read_into(nd_fetch *fetch, nd_batch *batch, uint8_t *buffer, uint64_t capacity);

/* Put it into the ring.  The fetch is gone then, whatever this returns.
 *
 *   Blocks  no.
 *   Returns ND_OK, ND_ERR_IO (the disk did not give it back; it is still cold).
 */
nd_status nd_fetch_end(nd_fetch *fetch, nd_fetched *out);

/* cffi: end */

#endif /* ND_FETCH_H */
