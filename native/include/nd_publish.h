/* nd_publish.h -- one request's records to all the channels that it names, in one call. */
#ifndef ND_PUBLISH_H
#define ND_PUBLISH_H

#include <stdint.h>

#include "nd_append.h"
#include "nd_channels.h"
#include "nd_journal.h"
#include "nd_pool.h"
#include "nd_status.h"

/* cffi: begin */

/* What became of a request.  What it points to lives until the next call. */
typedef struct {
    nd_routes_sum_t sum;
    nd_route       *routes;             /* one for each channel, in the order in which they were named */
    uint64_t       *stored;             /* the channels in which records were given a seq ... */
    uint64_t       *last_seqs;          /* ... and the last seq of each */
    uint64_t        stored_count;
    uint64_t        is_memory_short;    /* not 0: nd_pool_prepare_begin or nd_out_begin has something to do */
    uint64_t        unknown;            /* when ND_EMPTY is returned: this channel does not exist */
} nd_published;

/* Append a request's records to the rings of channels, and gather them in the journal if there is
 * one: nd_rings_append or nd_logged_append (see there for block, meta, what is stored, and for the
 * last two numbers, which nobody looks at without a journal).
 *
 * The records of the i-th channel are those at indices[ends[i - 1]] up to, not including,
 * indices[ends[i]], rising strictly, and of the first from indices[0] on; ends NULL: all records
 * go to each.  What came is counted: nd_channels_came.
 *
 *   Owns    nothing of what is passed is kept.
 *   Blocks  no.
 *   Cost    as the two, and O(channels).
 *   Returns as they do; ND_EMPTY when a channel does not exist, ND_ERR_ARGUMENT also when ends
 *           fall.  Unless it is ND_OK, nothing changed.
 */
nd_status nd_publish(nd_channels *channels, nd_pool *pool, nd_journal *journal,
                     const uint64_t *numbers, uint64_t numbers_count,
                     const uint32_t *ends, const uint32_t *indices,
                     const uint8_t *block, uint64_t block_bytes,
                     const uint64_t *meta, uint64_t records_count,
                     uint64_t received_unix_ms, uint64_t epoch, uint64_t reserved_bytes,
                     nd_published *out);

/* cffi: end */

#endif /* ND_PUBLISH_H */
