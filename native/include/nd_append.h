/* nd_append.h -- one request's records into every ring that they are routed to.
 *
 * In two passes.  The first makes room in all rings and decides what has to go; the
 * second copies, and cannot fail.  So a request is stored as a whole or not at all.
 */
#ifndef ND_APPEND_H
#define ND_APPEND_H

#include <stdint.h>

#include "nd_pool.h"
#include "nd_ring.h"
#include "nd_status.h"

#define ND_LOST            UINT32_MAX           /* instead of a record's index: it was dropped on arrival */
#define ND_RUN_CHUNK_BYTES (256u * 1024)        /* a busy ring's chunks; larger only for a larger record */

/* cffi: begin */

/* A stretch of seqs of which no record is left. */
typedef struct {
    uint64_t first_seq, last_seq;
} nd_hole;

/* Which records of an append go to a ring, and what became of them. */
typedef struct {
    nd_ring        *ring;
    const uint32_t *indices;            /* rising strictly; NULL: all records */
    uint64_t        indices_count;
    uint32_t       *entries;            /* NULL, or room for one of each record: see below */
    nd_hole        *holes;              /* NULL, or room for holes_count: where superseded ones were */
    /* filled in by nd_rings_append */
    uint64_t        queued_count;       /* records that were given a seq */
    uint64_t        queued_bytes;
    uint64_t        last_seq;           /* of the ring, now */
    uint64_t        rejected_count;     /* refused by a full ring; given no seq */
    uint64_t        rejected_bytes;
    nd_removed      dropped;            /* the oldest, or new ones that had no room at all */
    uint64_t        dropped_upto_seq;   /* of these, the last that was there before; 0: none was */
    nd_removed      superseded;         /* notifications that newer ones took the place of, new ones among them */
    uint64_t        holes_count;        /* that those of them left that were there before */
    uint64_t        lost_count;         /* new ones that were dropped or superseded */
} nd_route;

/* Append one request's records to every ring that it is routed to.
 *
 * Bodies stand end to end in block; meta has one number for each:
 *
 *      bits  0..23  body_bytes
 *      bits 24..39  tail_bytes
 *      bits 40..55  ep_bytes
 *      bits 56..63  kind
 *
 * All or nothing: room is made in every ring first; if the pool cannot give it,
 * what was taken is given back and ND_ERR_FULL returned, and no ring has changed.
 *
 * A ring that would hold more than its queue_bytes drops its oldest records that
 * are not in flight.  A new record that would not fit even then takes a seq and is
 * dropped itself, leaving the others alone.  Policy reject refuses it instead.
 *
 * With policy keep-latest notifications that are not in flight, and behind which newer ones
 * of the same ep and path came, go first, from the oldest on; then the oldest of all if there
 * still is no room (nd_supersede.h).  New records that would not fit at all have no part in that.
 *
 * Entries, where a route has room for them, say for each seq that was given which
 * record it went to, or ND_LOST.
 *
 * received_unix_ms must not fall from one append to the next.
 *
 *   Owns    block, meta and indices are only read.
 *   Blocks  no.
 *   Cost    O(records stored and dropped), and what nd_supersede.h says.
 *   Returns ND_OK, ND_ERR_ARGUMENT (lengths that disagree, an index out of order,
 *           a ring that stands in two routes), ND_ERR_FULL.
 */
nd_status nd_rings_append(nd_pool *pool, nd_route *routes, uint64_t routes_count,
                          const uint8_t *block, uint64_t block_bytes,
                          const uint64_t *meta, uint64_t records_count,
                          uint64_t received_unix_ms);

/* All routes of an append together. */
typedef struct {
    uint64_t queued_count;
    uint64_t queued_bytes;
    uint64_t odd_routes;                /* of which something was rejected, dropped or superseded */
} nd_routes_sum_t;

/* Sum up what became of an append.
 *
 *   Blocks  no.
 *   Cost    O(routes_count).
 */
void nd_routes_sum(const nd_route *routes, uint64_t routes_count, nd_routes_sum_t *out);

/* Whether appending all these now would refuse none: 1 or 0.  Always 1 unless the policy is reject.
 *
 *   Blocks  no.
 *   Cost    O(records_count).
 */
int nd_ring_has_room(const nd_ring *ring, const uint64_t *meta, uint64_t records_count);

/* cffi: end */

/* nd_rings_append in two steps, for those who have to make room elsewhere in between. */
typedef struct nd_append nd_append;

/* Make room in every ring, and decide what has to go: routes[i].holes_count is known, and
 * no record has changed.  Of what could be superseded, so much stays that no more than
 * holes_max holes are left, in all rings together.
 *
 *   Owns    the arguments stay as they are until exactly one of the two below is called;
 *           so does the pool's scratch memory, where *out lies.
 *   Returns as nd_rings_append; unless it is ND_OK, nothing is left to do.
 */
nd_status nd_append_begin(nd_pool *pool, nd_route *routes, uint64_t routes_count,
                          const uint8_t *block, uint64_t block_bytes,
                          const uint64_t *meta, uint64_t records_count,
                          uint64_t received_unix_ms, uint64_t holes_max, nd_append **out);

/* Store the records.  Entries and holes of the routes may have been set since. */
void nd_append_commit(nd_append *append);

/* Leave the rings as they were. */
void nd_append_cancel(nd_append *append);

/* The parts of a meta. */
static inline uint32_t nd_meta_body_bytes(uint64_t meta) { return (uint32_t)(meta & 0xffffffu); }
static inline uint32_t nd_meta_tail_bytes(uint64_t meta) { return (uint32_t)(meta >> 24) & 0xffffu; }
static inline uint32_t nd_meta_ep_bytes(uint64_t meta) { return (uint32_t)(meta >> 40) & 0xffffu; }
static inline uint32_t nd_meta_kind(uint64_t meta) { return (uint32_t)(meta >> 56); }

#endif /* ND_APPEND_H */
