/* nd_slabs.h -- which parts of a long stretch of bytes are taken: the bookkeeping of
 * the pool's memory and of the scratch file, neither of which it touches.
 *
 *      | slab 0                    | slab 1          | slab 2        | ...   bytes_max
 *      | 4 | 4 | 8   |     | 256   | 2048            | free          |
 *
 * The stretch is cut into slabs of 2 MiB, and a slab into chunks: powers of two from 4 KiB
 * to the whole slab, each at a multiple of its size.  What comes back is one with the free
 * space around it, so that all that is free can serve any size as far as it lies together.
 * Every slab stands in exactly one list:
 *
 *      backed          free; there is memory or disk behind it
 *      bare            free; there is none, or not any more
 *      open[class]     serves chunks, and this is the largest that it has left
 *      none            serves chunks and has none left
 *
 * Slabs that were never used stand in no list: they are bare, and come last.
 *
 * A chunk is taken where the least would be left over, and in a slab as near to its
 * beginning as can be, so that what was touched stays a prefix; its length is what a slab
 * of memory costs the machine.
 */
#ifndef ND_SLABS_H
#define ND_SLABS_H

#include <stdint.h>

#include "nd_io.h"
#include "nd_pool.h"

#define ND_SLAB_CLASSES    10u          /* 4 KiB << 0 .. 4 KiB << 9 */
#define ND_NOWHERE         UINT64_MAX   /* no place in the stretch */
#define ND_SLABS_BYTES_MAX (1ull << 46) /* half of what user space can address on x86-64 */

_Static_assert(ND_CHUNK_BYTES_MIN << (ND_SLAB_CLASSES - 1) == ND_CHUNK_BYTES_MAX, "classes reach the slab");

typedef struct nd_slab nd_slab;

/* Lives in its owner; zeroed memory is not enough: nd_slabs_begin. */
typedef struct {
    nd_slab *items;
    uint32_t count, capacity, count_max;        /* count: used at least once */
    uint32_t backed, bare;                      /* heads of the free lists */
    uint32_t backed_count, bare_count;          /* of these lists */
    uint32_t backed_least;                      /* the least that the first of them was; see nd_pool_give_back */
    uint32_t open[ND_SLAB_CLASSES];
    uint64_t bytes_touched;                     /* of all slabs */
    uint64_t bytes_out;                         /* in chunks that are taken */
} nd_slabs;

/* bytes_max is rounded up to whole slabs. */
void nd_slabs_begin(nd_slabs *slabs, uint64_t bytes_max);

/* Give the books back.  Chunks may still be out. */
void nd_slabs_end(nd_slabs *slabs, const nd_io *io);

static inline uint64_t nd_slabs_bytes_max(const nd_slabs *slabs)
{
    return (uint64_t)slabs->count_max * ND_SLAB_BYTES;
}

/* A chunk of at least bytes_min bytes, of bytes_want when that can be had, of what is
 * backed; ND_NOWHERE: there is none.  Falls back to smaller chunks not below bytes_min. */
uint64_t nd_slabs_take(nd_slabs *slabs, uint32_t bytes_min, uint32_t bytes_want, uint32_t *bytes_out);

/* Whether a chunk of this size could be had without backing a further slab. */
int nd_slabs_has(const nd_slabs *slabs, uint32_t bytes);

/* Give a chunk back. */
void nd_slabs_give(nd_slabs *slabs, uint64_t chunk);

/* A slab that is free and bare, out of all lists; those that were used before go first.
 * ND_NOWHERE: there is none, or no memory for its books.  Ends with nd_slabs_back or
 * nd_slabs_bare. */
uint64_t nd_slabs_take_bare(nd_slabs *slabs, const nd_io *io);

/* A slab that is free and backed, in the same way. */
uint64_t nd_slabs_take_backed(nd_slabs *slabs);

/* Put a slab among those that are backed, or bare. */
void nd_slabs_back(nd_slabs *slabs, uint64_t slab);
void nd_slabs_bare(nd_slabs *slabs, uint64_t slab);

/* A slab was touched as a whole. */
void nd_slabs_touch(nd_slabs *slabs, uint64_t slab);

/* All slabs before a place that are or were used were touched as a whole.  Returns where those
 * end that were used. */
uint64_t nd_slabs_touch_all(nd_slabs *slabs, uint64_t end);

/* How many slabs are free and bare. */
static inline uint32_t nd_slabs_bare_count(const nd_slabs *slabs)
{
    return slabs->count_max - slabs->count + slabs->bare_count;
}

/* How much of a slab was touched since it was bare. */
uint32_t nd_slabs_touched(const nd_slabs *slabs, uint64_t slab);

#endif /* ND_SLABS_H */
