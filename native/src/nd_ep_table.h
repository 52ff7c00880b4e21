/* nd_ep_table.h -- which eps stand in a slice under which kind.
 *
 * Only eps under the second kind of a slice and later ones are ever entered: an ep
 * under the first can stand in nobody's way.  Only hashes are kept; one that two eps
 * share can cut a slice that need not be cut, and never changes an order.
 */
#ifndef ND_EP_TABLE_H
#define ND_EP_TABLE_H

#include <stdint.h>

#include "nd_pool.h"
#include "nd_ring.h"

/* Begin with zeros and a pool; between slices set in_use to 0.  Its memory is kept and
 * used again; it is never more than four entries for each event of the largest slice. */
typedef struct {
    nd_pool  *pool;
    uint64_t *entries;
    uint32_t  allocated;        /* entries, a power of two */
    uint32_t  in_use;           /* entries of this slice's table, a power of two; 0: none yet */
    uint32_t  filled;
} nd_ep_table;

/* A hash of a record's ep, never 0.  The key is one that publishers do not know, so
 * that nobody can choose eps that collide. */
uint64_t nd_ep_hash(const nd_record *record, uint64_t key);

/* Remember that an ep stands under the kind at this place of the order, 1 or later.
 * False: no memory to remember it. */
int nd_ep_table_put(nd_ep_table *table, uint64_t hash, uint32_t order);

/* The latest place of the order under which an ep stands; 0 when it was never put. */
uint32_t nd_ep_table_order(const nd_ep_table *table, uint64_t hash);

void nd_ep_table_free(nd_ep_table *table);

#endif /* ND_EP_TABLE_H */
