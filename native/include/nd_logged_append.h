/* nd_logged_append.h -- one request's records into rings and journal, or into neither. */
#ifndef ND_LOGGED_APPEND_H
#define ND_LOGGED_APPEND_H

#include <stdint.h>

#include "nd_append.h"
#include "nd_journal.h"
#include "nd_pool.h"
#include "nd_status.h"

/* cffi: begin */

/* nd_rings_append, and what it did gathered as one request unit, with a drop unit for
 * each ring that lost old records behind others that stay, and a superseded unit for each
 * that lost some to newer ones: in one group with those, so that no restart shows an old
 * value after a newer one.  What a group has no room to tell is not superseded this time.
 *
 * A ring that lost its oldest records is then ahead of what the journal knows of it; the
 * caller gathers its state before the group is sealed.
 *
 * Behind the request room for reserved_bytes is left in the same group: what the caller
 * gathers next, before anything else, fits.
 *
 *   Owns    as nd_rings_append; channels has one number for each route.
 *   Blocks  no.
 *   Cost    as nd_rings_append, and one more copy of the bodies.
 *   Returns as nd_rings_append and nd_journal_room; unless it is ND_OK, nothing changed.
 */
nd_status nd_logged_append(nd_journal *journal, nd_pool *pool, nd_route *routes,
                           const uint64_t *channels, uint64_t routes_count,
                           const uint8_t *block, uint64_t block_bytes,
                           const uint64_t *meta, uint64_t records_count,
                           uint64_t received_unix_ms, uint64_t epoch, uint64_t reserved_bytes);

/* cffi: end */

#endif /* ND_LOGGED_APPEND_H */
