/* nd_routes.h -- who gets a notification, found by the bytes of its ep and path.
 *
 * A table holds edges: from a node, over a text, to a node.  Two steps lead from an
 * event to its audience, and what a node stands for is the caller's business:
 *
 *      ND_ROUTE_ROOT --- ep ---> what devices have in common --- path ---> an audience
 *
 * So a device costs one edge, whatever it has, and devices that are alike share the rest.
 * Texts are compared as they stand in canonical records, escapes included; equal ones are
 * written in one way only.
 *
 * Every step costs a constant: the table grows by a page at a time (nd_routes.c).
 *
 * Threads: a space and its tables are used by one thread at a time.
 */
#ifndef ND_ROUTES_H
#define ND_ROUTES_H

#include <stdint.h>

#include "nd_io.h"
#include "nd_status.h"

#define ND_ROUTE_ROOT           0u
#define ND_ROUTE_TEXT_BYTES_MAX 2048u       /* 255 characters, each escaped at its longest, have 1,530 */

/* cffi: begin */

typedef struct nd_route_space nd_route_space;
typedef struct nd_routes nd_routes;

/* What tables that are walked together share: memory of at most bytes_max bytes, rounded up to
 * slabs of 2 MiB, and a key.  Its halves are secret and random: whoever names devices must not be
 * able to choose texts that collide.
 *
 *   Owns    the caller gives it back with nd_route_space_close; io must outlive it.
 *   Blocks  no; memory is taken when it is used.
 *   Cost    O(slabs), once.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL.
 */
nd_status nd_route_space_open(const nd_io *io, uint64_t bytes_max, uint64_t key_low, uint64_t key_high,
                              nd_route_space **out);

/* Open no more tables; all is given back with the last one.  NULL is nothing to do.
 *
 *   Blocks  no.
 */
void nd_route_space_close(nd_route_space *space);

/* An empty table.
 *
 *   Owns    the caller gives it back with nd_routes_close.
 *   Blocks  no.
 *   Cost    constant; 8 KiB of memory.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL.
 */
nd_status nd_routes_open(nd_route_space *space, nd_routes **out);

/* Give everything back; NULL is nothing to do.
 *
 *   Blocks  no.
 *   Cost    O(pages and chunks).
 */
void nd_routes_close(nd_routes *routes);

/* Lead an edge to a node, whether it was there or not.
 *
 *   Owns    the text is copied.
 *   Blocks  no.
 *   Cost    constant; at worst a page of 511 slots is split, or a chunk of 64 KiB begun.
 *   Returns ND_OK, ND_ERR_ARGUMENT (to is 0, or the text is too long), ND_ERR_FULL.
 */
nd_status nd_routes_put(nd_routes *routes, uint32_t from, const uint8_t *text, uint64_t text_bytes, uint32_t to);

/* Where an edge leads; 0: there is none.
 *
 *   Cost    constant.
 */
uint32_t nd_routes_get(const nd_routes *routes, uint32_t from, const uint8_t *text, uint64_t text_bytes);

/* Remove an edge, if it is there.
 *
 *   Cost    constant, over the life of an edge; at worst half a chunk is moved.  For the last
 *           edge of a table that of closing it.
 */
void nd_routes_remove(nd_routes *routes, uint32_t from, const uint8_t *text, uint64_t text_bytes);

/* How many edges there are. */
uint64_t nd_routes_edges(const nd_routes *routes);

/* What a table takes of memory, all included. */
uint64_t nd_routes_bytes(const nd_routes *routes);

/* How far a request's notifications were looked up. */
typedef struct {
    const nd_routes *manual;        /* walked from the root; NULL: finds nothing */
    const nd_routes *chosen;        /* the same; all that is not in it is missed; NULL: finds nothing */
    uint32_t         chosen_from;   /* ND_ROUTE_ROOT, or the node that all devices have there */
    uint32_t         _reserved;
    uint64_t         next;          /* the event to begin with; 0 at first */
    uint64_t         next_byte;     /* where its body begins; 0 at first */
    /* filled in when ND_EMPTY is returned */
    uint64_t         missed;        /* this event has no audience in chosen */
    uint64_t         ep_at, path_at;        /* where they stand in block */
    uint32_t         ep_bytes, path_bytes;
} nd_route_walk;

/* Look up the audiences of a request's notifications: of each a pair, that from manual in the
 * lower half, that from chosen in the upper; 0: nobody.
 *
 *   Owns    block and meta (nd_append.h) are only read; pairs has room for count.
 *   Blocks  no.
 *   Cost    O(count); about three fetches from memory for each event, which wait for each other
 *           but not for those of other events.
 *   Returns ND_OK when all are found, ND_EMPTY at the first that is missed, with what manual
 *           says in its pair: complete it and call again to go on behind it.
 *           ND_ERR_ARGUMENT: meta and block disagree, or a record is no notification.
 */
nd_status nd_routes_find(nd_route_walk *walk, const uint8_t *block, uint64_t block_bytes,
                         const uint64_t *meta, uint64_t count, uint64_t *pairs);

/* Number the different pairs in the order in which they come up.
 *
 *   Owns    groups has room for count: the number of each pair; distinct too: the pairs by number.
 *           slots is working memory; their count is a power of two, above count.
 *   Blocks  no.
 *   Cost    O(count).
 *   Returns how many there are.
 */
uint64_t nd_routes_group(const uint64_t *pairs, uint64_t count, uint32_t *groups, uint64_t *distinct,
                         uint32_t *slots, uint64_t slots_count);

/* cffi: end */

#endif /* ND_ROUTES_H */
