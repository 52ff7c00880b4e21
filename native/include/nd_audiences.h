/* nd_audiences.h -- the channels of audiences, by the pair that a walk of the routes found.
 *
 *      nd_routes_find -->  a pair  -->  channels 7, 12, 40
 *
 * Who puts them in knows what pairs stand for, and clears the table before one comes to
 * stand for another.
 *
 * Threads: used by one thread at a time.
 */
#ifndef ND_AUDIENCES_H
#define ND_AUDIENCES_H

#include <stdint.h>

#include "nd_io.h"
#include "nd_status.h"

/* cffi: begin */

typedef struct nd_audiences nd_audiences;

/* No audiences yet.
 *
 *   Owns    the caller gives it back with nd_audiences_close; io must outlive it.
 *   Blocks  no.
 *   Cost    constant; memory is taken with the first audience.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL.
 */
nd_status nd_audiences_open(const nd_io *io, nd_audiences **out);

/* Give its memory back.  NULL is nothing to do. */
void nd_audiences_close(nd_audiences *audiences);

/* Forget all, and give the memory for them back. */
void nd_audiences_clear(nd_audiences *audiences);

/* A pair stands for these channels, each once, until the table is cleared.
 *
 *   Owns    channels are copied.
 *   Blocks  no.
 *   Cost    O(count); O(all that is in it) when that has doubled.
 *   Returns ND_OK, ND_ERR_ARGUMENT (the pair is there, or 2^32 channels are), ND_ERR_FULL.
 */
nd_status nd_audiences_put(nd_audiences *audiences, uint64_t pair, const uint64_t *channels, uint64_t count);

/* The channels of a pair, and in *count how many; NULL: the pair is not there.  Not NULL for none.
 *
 *   Owns    the memory is the table's; it moves with the next put.
 *   Cost    constant.
 */
const uint64_t *nd_audiences_find(const nd_audiences *audiences, uint64_t pair, uint64_t *count);

/* cffi: end */

#endif /* ND_AUDIENCES_H */
