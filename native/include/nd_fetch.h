/* nd_fetch.h -- cold chunks of one ring brought back into memory.
 *
 * *Begin* takes memory for them, *read* fills it, on any thread, *end* puts it into the
 * ring as far as the ring still has the records.  Several rings may be fetched for at the
 * same time.  Whoever reads may plan a batch of what was read too, and write it as message
 * bytes (nd_framed.h), before the ring has it.
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
 * chunk in which bytes_max or records_max are reached.  For a slice they are to be planned by whoever
 * reads them: of what is in memory the rest of the chunk that it begins in is copied, and a chunk
 * behind that which is in memory is where it ends. */
typedef struct {
    uint64_t first_seq, last_seq;
    uint64_t bytes_max, records_max;
    uint32_t is_for_slice;
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

/* Read, and write what follows in a batch, up to bytes_max.
 *
 *   Owns    batch is only read, and may be a copy; *out is NULL before the first fetch for it, and the caller's
 *           when the fetch has ended: NULL when nothing could be written, since the next record was not
 *           read, lies beside some that went, or is damaged, or there is no memory.  What an earlier
 *           fetch wrote stays.
 *   Blocks  yes.
 *   Cost    what is read; O(records written), and for each part those in front of it in its chunk.
 */
void nd_fetch_read_on(nd_fetch *fetch, const nd_batch *batch, uint64_t bytes_max, nd_framed **out);

/* Read, plan a batch of what was read, for nd_frame_hold when the fetch has ended, and write it.  The fetch was
 * begun for a slice that begins behind slice->after_seq.
 *
 *   Owns    as above; batch is overwritten, and of no use when *out stays NULL.
 *   Blocks  yes.
 *   Cost    as above.
 */
void nd_fetch_slice(nd_fetch *fetch, const nd_slice *slice, uint64_t bytes_max, nd_batch *batch, nd_framed **out);

/* Put it into the ring.  The fetch is gone then, whatever this returns.
 *
 *   Blocks  no.
 *   Returns ND_OK, ND_ERR_IO (the disk did not give it back; it is still cold).
 */
nd_status nd_fetch_end(nd_fetch *fetch, nd_fetched *out);

/* cffi: end */

#endif /* ND_FETCH_H */
