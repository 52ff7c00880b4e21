/* nd_channels.h -- the rings of a queue by the numbers of their channels.
 *
 * So that a request which goes to a thousand channels names them by a thousand numbers,
 * and nobody looks up a ring for each on the way.
 *
 * Threads: used by one thread at a time, as the rings are.
 */
#ifndef ND_CHANNELS_H
#define ND_CHANNELS_H

#include <stdint.h>

#include "nd_io.h"
#include "nd_ring.h"
#include "nd_status.h"

/* cffi: begin */

typedef struct nd_channels nd_channels;

/* All records that were published to any of them, in bytes as they are stored. */
typedef struct {
    uint64_t records;
    uint64_t bytes;
} nd_came;

/* No channels yet.
 *
 *   Owns    the caller gives it back with nd_channels_close; io must outlive it.  The rings
 *           are not its own.
 *   Blocks  no.
 *   Cost    constant.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL.
 */
nd_status nd_channels_open(const nd_io *io, nd_channels **out);

/* Give its memory back.  NULL is nothing to do.
 *
 *   Blocks  no.
 */
void nd_channels_close(nd_channels *channels);

/* A channel has this ring from now on, until it is removed.
 *
 *   Blocks  no.
 *   Cost    constant; O(channels) when their number has doubled.
 *   Returns ND_OK, ND_ERR_ARGUMENT (the channel has a ring), ND_ERR_FULL.
 */
nd_status nd_channels_put(nd_channels *channels, uint64_t number, nd_ring *ring);

/* A channel has no ring any more.
 *
 *   Blocks  no.
 *   Cost    constant.
 */
void nd_channels_remove(nd_channels *channels, uint64_t number);

/* nd_ring_show for many channels; those that do not exist are passed over.
 *
 *   Blocks  no.
 *   Cost    O(count).
 */
void nd_channels_show(nd_channels *channels, const uint64_t *numbers, const uint64_t *upto_seqs, uint64_t count);

/* What came since they were opened; it goes on counting where it stands. */
const nd_came *nd_channels_came(const nd_channels *channels);

/* cffi: end */

/* More came. */
void nd_channels_count(nd_channels *channels, uint64_t records, uint64_t bytes);

/* The ring of a channel; NULL: there is no such channel.
 *
 *   Cost    constant.
 */
nd_ring *nd_channels_find(const nd_channels *channels, uint64_t number);

/* One block of working memory; its contents live until the next call.  NULL: there is none. */
void *nd_channels_scratch(nd_channels *channels, uint64_t bytes);

#endif /* ND_CHANNELS_H */
