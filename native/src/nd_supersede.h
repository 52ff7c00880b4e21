/* nd_supersede.h -- in a full ring, of each device and resource the newest notification alone.
 *
 * Policy keep-latest.  When an append finds no room, the notifications that are not in
 * flight are looked through, the new ones with them: of those with one ep and path the
 * newest stays, the others are *superseded*.  Records of other kinds, and what is in
 * flight, stay as they are.
 *
 *      waiting   a=1  b=1  a=2  reg  b=2  c=1        new   a=3
 *      marked     x    x    x
 *      swept     reg  b=2  c=1  a=3                  the seqs of the others are holes
 *
 * In two steps, as an append is.  *Marking* finds out what goes; it takes memory, may
 * fail, and changes nothing.  *Sweeping* takes it out and cannot fail.
 *
 * Survivors close up in the chunks that they lie in, and chunks that are left over go
 * back: memory follows what the ring holds, and there are never more runs than before.
 * So records move, but none that is in flight; nd_ring.c does not use places of records
 * that may have moved.
 *
 * Cost: each byte that comes in pays for looking through ND_SWEEP_BYTES others, saved up
 * to twice the queue, which a new ring has; a full one is looked through when what is not
 * in flight is paid for, and drops its oldest until then.  So the long run costs
 * O(ND_SWEEP_BYTES) for each byte that comes in, whatever the depth, and nothing is dropped
 * while what cannot be superseded leaves an eighth of the room free: the next time that
 * there is none, an eighth has come in.  One time costs O(records not in flight).
 *
 * What is cold (nd_residency.h) is not read for this.  Of each of its records the hash of ep
 * and path and the length are known (nd_ring_inside.h): one that goes is taken off that list,
 * and its chunk closes up when it is back.  Where one of two is cold, the hash under the
 * ring's incarnation, 64 bits, decides alone whether they are of one resource: among a million
 * resources two are mistaken for one with a chance of 1 in 30 million.
 *
 * Memory: while an append runs, a bit for each record and, until all are marked, 48 to
 * 96 bytes for each resource, and half of that again while the table of them grows.
 */
#ifndef ND_SUPERSEDE_H
#define ND_SUPERSEDE_H

#include <stdint.h>

#include "nd_append.h"
#include "nd_ring.h"

#define ND_SWEEP_BYTES      8u
#define ND_CANDIDATES_AHEAD 16u

/* What a ring will lose.  Begin with zeros. */
typedef struct {
    uint64_t *gone;             /* a bit for each record not in flight, then for each new one; NULL: none */
    uint64_t  words;
    uint64_t  waiting;          /* records not in flight */
    uint64_t  bytes;            /* of those in the ring that go, as stored */
    uint64_t  holes;            /* that they leave: stretches of neighbours */
} nd_superseded;

static inline int nd_is_gone(const nd_superseded *s, uint64_t number)
{
    return (s->gone[number / 64] >> (number % 64) & 1) != 0;
}

/* Whether the place-th new record is superseded by a later one. */
static inline int nd_new_is_gone(const nd_superseded *s, uint64_t place)
{
    return s->gone != NULL && nd_is_gone(s, s->waiting + place);
}

/* A notification that may be the newest of its resource. */
typedef struct {
    const uint8_t *key;         /* its ep and path; NULL: it is cold */
    uint64_t       hash;        /* of these; 0: it is no notification, or has no path */
    uint32_t       key_bytes;
    uint32_t       number;      /* from 0, the oldest not in flight */
} nd_candidate;

/* Of a record of this kind, with number 0.  The key stays the body's. */
nd_candidate nd_candidate_of(const nd_ring *ring, uint32_t kind, const uint8_t *body, uint32_t body_bytes,
                             uint32_t ep_bytes);

/* Marking, while it lasts. */
typedef struct {
    const nd_ring *ring;
    nd_superseded *out;
    nd_candidate  *entries;     /* the newest of each resource so far, by hash; at most half are filled */
    uint32_t       size, filled;
    uint32_t       ahead_count;
    nd_candidate   ahead[ND_CANDIDATES_AHEAD];  /* whose entries are on their way from memory */
    uint64_t       next;        /* the number of the next record */
} nd_marking;

/* Look through what is not in flight; new_count records will be added.  A damaged header
 * ends it with nothing marked: what cannot be walked cannot be swept.
 *
 *   Owns    the caller calls nd_marking_end, also when this fails, and gives back what is
 *           in out with nd_superseded_free.
 *   Cost    O(records not in flight, and those of one chunk that are).
 *   Returns 1; 0: no memory.
 */
int nd_marking_begin(nd_marking *marking, const nd_ring *ring, uint64_t new_count, nd_superseded *out);

/* The next new record; body NULL: it will not be stored, and supersedes nothing.
 *
 *   Returns 1; 0: no memory.
 */
int nd_marking_add(nd_marking *marking, const uint8_t *body, uint64_t meta);

/* All were added: count what goes, at most so many holes from the oldest on.
 *
 *   Cost    O(records not in flight).
 *   Returns 1; 0: no memory.
 */
int nd_marking_end(nd_marking *marking, uint64_t holes_max);

void nd_superseded_free(nd_superseded *superseded, nd_pool *pool);

/* Take what is marked out of the ring, behind which new records were stored meanwhile.
 * This is the one place where superseded records leave.
 *
 *   Owns    holes: NULL, or room for superseded->holes.
 *   Cost    O(records not in flight).
 */
void nd_supersede_sweep(nd_ring *ring, const nd_superseded *superseded, nd_hole *holes, nd_removed *out);

#endif /* ND_SUPERSEDE_H */
