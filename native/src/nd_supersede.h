/* nd_supersede.h -- a full ring lets notifications go that newer ones came behind, the oldest first.
 *
 * Policy keep-latest.  A notification is *old* once a newer one of its ep and path came.
 * When an append finds no room, the old ones that are not in flight are *superseded*, from the
 * oldest on, the new ones with them, until there is room; only if that is not enough do the
 * oldest of all go.  Records of other kinds, and what is in flight, stay as they are.
 * Once there is room, those that were there and are next go too, up to a part of the queue
 * (ND_AHEAD_SHARE), so that not every append leaves a hole to be told.
 *
 *      waiting   a=1  b=1  a=2  reg  b=2  c=1        new   a=3
 *      old        x    x    x
 *      is gone    x                                  its seq is a hole
 *
 * Which are old is known at any time: of each resource the newest is found in a table
 * (nd_latest.h), and marked when a newer one comes.  So nothing is looked for when the ring
 * is full: runs have counted their old ones, and the first of these runs are looked through,
 * by their lists.  Marking takes memory and may fail; it is undone when the append is not made.
 *
 * What is superseded is taken off its run's list (nd_known_run.c), in memory or cold.
 *
 * Cost: for each record that comes O(log records), and for each that goes at most the list
 * of one run.  Over all rings of an append ND_AHEAD_BYTES_MAX bounds what goes besides, and
 * ND_JOINS_MAX what is copied.
 *
 * Memory: as long as a ring has this policy, 16 to 32 bytes for each record and 16 to 48 for
 * each resource, twice that while the table grows; while an append runs, 40 for each record
 * that comes.
 */
#ifndef ND_SUPERSEDE_H
#define ND_SUPERSEDE_H

#include <stdint.h>

#include "nd_append.h"
#include "nd_ring_inside.h"

#define ND_JOINS_MAX       16u          /* runs joined by one append: 4 MiB copied at most */
#define ND_AHEAD_SHARE     64u          /* of a queue, that is made free besides */
#define ND_AHEAD_BYTES_MAX (1u << 20)   /* by one append: some ten thousand records, a millisecond */

/* A new record. */
typedef struct {
    uint64_t  hash;             /* of its ep and path; 0: it supersedes nothing */
    uint64_t *entry;            /* of its resource, and what that was before */
    uint64_t  before;
    uint32_t  bytes;            /* as stored; 0: it will not be */
    uint32_t  index, at;        /* of the known record that it made old, in its run; index UINT32_MAX: of none */
    uint8_t   is_old, is_chosen;
} nd_newcomer;

/* What an append does to the old records of a ring.  Begin with zeros. */
typedef struct {
    nd_newcomer *newcomers;     /* NULL: the ring has another policy */
    uint64_t     count;
    uint64_t     chosen_new;    /* of the newcomers, to be superseded */
    uint64_t     bytes;         /* of those in the ring that are */
    uint64_t     holes;         /* that they leave: stretches of neighbours */
    uint32_t     first, end;    /* runs in which some are chosen */
} nd_superseded;

/* A hash of a notification's ep and path; 0: it is of another kind, or has no path. */
uint64_t nd_resource_hash(const nd_pool *pool, uint32_t kind, const uint8_t *body, uint32_t body_bytes,
                          uint32_t ep_bytes);

/* So many records come to a ring of this policy.
 *
 *   Owns    the caller gives it back with nd_superseded_free.
 *   Returns 1; 0: no memory.
 */
int nd_supersede_begin(nd_superseded *superseded, nd_ring *ring, uint64_t count);

/* What comes was filled in (hash, bytes): note which records it makes old.
 *
 *   Cost    O(records that come * log records).
 */
void nd_supersede_mark(nd_superseded *superseded, nd_ring *ring);

/* Choose old records from the oldest on until bytes are to go, and ahead_bytes more at most
 * of those in the ring; at most so many holes.
 *
 *   Cost    O(runs), and the lists of those in which some are chosen.
 */
void nd_supersede_choose(nd_superseded *superseded, nd_ring *ring, uint64_t bytes, uint64_t ahead_bytes,
                         uint64_t holes_max);

/* The append is not made: what was marked and chosen is as it was. */
void nd_supersede_undo(nd_superseded *superseded, nd_ring *ring);

void nd_superseded_free(nd_superseded *superseded, nd_pool *pool);

/* Take what is chosen out of the ring, behind which new records were stored meanwhile.
 * This is the one place where superseded records leave.
 *
 *   Owns    holes: NULL, or room for superseded->holes.
 *   Cost    O(runs), and the lists of those in which some were chosen.
 */
void nd_supersede_sweep(nd_ring *ring, const nd_superseded *superseded, nd_hole *holes, nd_removed *out);

/* Whether the place-th new record is superseded by a later one. */
static inline int nd_new_is_gone(const nd_superseded *s, uint64_t place)
{
    return s->chosen_new > 0 && s->newcomers[place].is_chosen;
}

#endif /* ND_SUPERSEDE_H */
