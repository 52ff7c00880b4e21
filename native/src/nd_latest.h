/* nd_latest.h -- of each ep and path, which notification of a ring is the newest.
 *
 * A table of eights: half a hash, and half a seq.  The record itself, which is known
 * (nd_ring_inside.h), has the whole of both and says whether an entry is right.  The entry of
 * one that has left is as good as free, so nothing has to be done when records leave.
 *
 * When the table is half used, what is still there moves to another, sized for what the ring
 * holds: a few entries for each record that comes, so that no append pays for all of it.
 *
 * Equal hashes of 64 bits are taken for one resource: names are not at hand in the cold.
 * Among a million resources two are mistaken for one with a chance of 1 in 30 million.
 */
#ifndef ND_LATEST_H
#define ND_LATEST_H

#include <stdint.h>

#include "nd_ring_inside.h"
#include "nd_supersede.h"

/* Where a resource is in the table, until more room is made there. */
typedef struct {
    uint64_t     *entry;        /* its own, or the one to be taken */
    uint64_t      seq;          /* of its newest record; 0: there is none */
    known_record *record;       /* NULL: there is none, or it comes with the append that is going on */
    uint32_t      index;        /* of the record's run */
} nd_latest_place;

/* Make room for so many resources more.
 *
 *   Cost    O(more), and now and then an allocation of 24 to 48 bytes for each resource,
 *           beside the one before until all has moved.
 *   Returns 1; 0: no memory.
 */
int nd_latest_reserve(nd_ring *ring, uint64_t more);

/* Fetch from memory where a resource will be looked for, and, once that is here, its record. */
void nd_latest_prefetch(const nd_ring *ring, uint64_t hash);
void nd_latest_prefetch_record(const nd_ring *ring, uint64_t hash, uint64_t seq);

/* Find a resource.  The append that is going on has come to the record with this seq.
 *
 *   Cost    O(1), and O(log records).
 */
nd_latest_place nd_latest_find(nd_ring *ring, const nd_superseded *coming, uint64_t hash, uint64_t seq);

/* The record with this seq is the newest of a resource that was looked for.  What the entry was before. */
uint64_t nd_latest_set(nd_ring *ring, nd_latest_place place, uint64_t hash, uint64_t seq);

/* An entry is what it was before. */
void nd_latest_unset(nd_ring *ring, uint64_t *entry, uint64_t before);

void nd_latest_free(nd_ring *ring);

#endif /* ND_LATEST_H */
