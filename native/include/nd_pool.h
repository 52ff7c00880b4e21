/* nd_pool.h -- the chunk memory that all rings of a queue share.
 *
 * One region of address space is reserved when the pool is opened and cut into
 * slabs of chunks (nd_slabs.h).  A few free slabs stay warm; the memory of the others
 * goes back to the system, at once or when it was not needed for a while (decision 0038).
 * Never more than the region is used: that is the bound.
 *
 * Why chunks of many sizes: a quiet channel with one event costs 4 KiB, a busy one
 * walks through memory in large steps (decision 0001).
 *
 * Threads: a pool and all rings on it are used by one thread at a time.
 */
#ifndef ND_POOL_H
#define ND_POOL_H

#include <stdint.h>

#include "nd_crc.h"
#include "nd_io.h"
#include "nd_status.h"

#define ND_SLAB_BYTES        (2u * 1024 * 1024)
#define ND_CHUNK_BYTES_MIN   (4u * 1024)
#define ND_CHUNK_BYTES_MAX   ND_SLAB_BYTES
#define ND_SLABS_SMALL       2u         /* of a pool with large pages: a few chunks do not cost a slab */
#define ND_SLABS_AHEAD       2u         /* made ready before they are needed */
#define ND_SLABS_WARM_MAX    16u        /* 32 MiB: a few batches' worth comes and goes without page faults */

/* cffi: begin */

typedef struct nd_pool nd_pool;
typedef struct nd_residency nd_residency;

typedef struct {
    uint64_t bytes_max;     /* bound, a multiple of the slab size */
    uint64_t bytes_touched; /* taken from the machine, at most: what was written to and not given back */
    uint64_t bytes_out;     /* in chunks that rings hold */
} nd_pool_stats_t;

/* Reserve a region of at least bytes_max bytes (rounded up to whole slabs).
 *
 *   Owns    the caller gives the pool back with nd_pool_close; io must outlive it.
 *   Blocks  no; memory is touched when chunks are written to.
 *   Cost    O(slabs), once.
 *   Returns ND_OK, ND_ERR_ARGUMENT (bytes_max is 0 or above 2^46), ND_ERR_FULL.
 */
nd_status nd_pool_open(const nd_io *io, uint64_t bytes_max, nd_pool **out);

/* Give everything back.  Rings on the pool must have been closed; NULL is nothing to do.
 *
 *   Blocks  no.
 */
void nd_pool_close(nd_pool *pool);

/* Ask for large pages behind all but the first few slabs: for users who read here and there in all
 * that they hold, and would wait for the translation of addresses as long as for memory.  A slab
 * that is begun may then take all its memory at once.
 *
 *   Blocks  no.
 */
void nd_pool_enlarge(nd_pool *pool);

/* From now on all slabs that come free stay warm, until nd_pool_give_back finds that they were
 * not needed, and some are to be made ready ahead (nd_pool_prepare); the caller sees to both.
 *
 *   Blocks  no.
 */
void nd_pool_keep(nd_pool *pool);

/* Give the memory of slabs back that lay free ever since the last round, all but ND_SLABS_WARM_MAX,
 * and at most so many now: a round may take several calls.
 *
 *   Blocks  no; asks the system once for each slab.
 *   Cost    O(slabs given back), up to 0.2 ms each.
 *   Returns how many of this round are left; 0: it is over, and the next one has begun.
 */
uint32_t nd_pool_give_back(nd_pool *pool, uint32_t slabs_max);

/* Whether a slab should be made ready: more than a few chunks are out, and hardly any is left.
 *
 *   Cost    constant.
 */
int nd_pool_wants_slab(const nd_pool *pool);

/* Make a slab ready before it is needed, with a large page where the system has one: first touches are most
 * of what a queue that grows costs, and large pages a part of what a long one does.  Three steps: choose
 * it; take its memory, beside the thread that uses the pool; hand it to the pool.
 *
 *   Blocks  nd_pool_prepare does: 0.3 ms, several when a virtual machine has to ask its host.
 *   Returns ND_OK; ND_EMPTY: none is wanted, and the other two are not to be called.
 */
nd_status nd_pool_prepare_begin(nd_pool *pool);
void nd_pool_prepare(nd_pool *pool);
void nd_pool_prepare_end(nd_pool *pool);

/* The pool's figures.
 *
 *   Cost    constant.
 */
void nd_pool_stats(const nd_pool *pool, nd_pool_stats_t *out);

/* Take memory for so many bytes of chunks from the machine before they are written to: first
 * touches are most of what filling a pool costs.  Touches no books, so that it may run beside
 * the thread that fills the pool, which must call nd_pool_brought when both are done.
 *
 *   Blocks  yes.
 *   Cost    O(bytes).
 */
void nd_pool_bring(nd_pool *pool, uint64_t bytes);

/* Count what was brought, and give back what was not needed. */
void nd_pool_brought(nd_pool *pool, uint64_t bytes);

/* cffi: end */

/* Take a chunk of at least bytes_min bytes, of bytes_want when that can be had, and
 * leave what is reserved.
 *
 * Falls back to smaller chunks not below bytes_min.
 *
 *   Owns    the caller, until nd_pool_give.  Contents are undefined.
 *   Blocks  no.
 *   Cost    constant.
 *   Returns the chunk, its size in *bytes_out; NULL when the pool is full.
 */
uint8_t *nd_pool_take(nd_pool *pool, uint32_t bytes_min, uint32_t bytes_want, uint32_t *bytes_out);

/* The same, out of the reserve too: for chunks that come back from the disk, without
 * which nothing would leave a full pool. */
uint8_t *nd_pool_take_reserved(nd_pool *pool, uint32_t bytes, uint32_t *bytes_out);

/* Give a chunk back.
 *
 *   Blocks  no; may give a slab's memory back to the system.
 *   Cost    constant.
 */
void nd_pool_give(nd_pool *pool, uint8_t *chunk);

/* What is in no ring's chunk.
 *
 *   Cost    constant.
 */
uint64_t nd_pool_free_bytes(const nd_pool *pool);

/* From now on chunks may be moved to a scratch file and back (nd_residency.h); NULL: all
 * stay in memory, as they do until this is called.  No ring may be open. */
void nd_pool_let_move(nd_pool *pool, nd_residency *residency, uint64_t reserve_bytes);

/* Who moves the chunks; NULL: nobody. */
nd_residency *nd_pool_residency(const nd_pool *pool);

/* Bookkeeping memory from the pool's table, for the rings on it. */
void *nd_pool_allocate(nd_pool *pool, size_t bytes);
void nd_pool_release(nd_pool *pool, void *memory, size_t bytes);

/* One block of working memory that every user of the pool shares; its contents
 * live until the next call.  NULL when there is none. */
void *nd_pool_scratch(nd_pool *pool, size_t bytes);

/* What hashes of the names in this pool's records are made with: the random incarnation of
 * the first ring that was opened, so that nobody outside can aim at a hash. */
void nd_pool_key_once(nd_pool *pool, uint64_t random);
uint64_t nd_pool_key(const nd_pool *pool);

/* The checksum function chosen for this machine when the pool was opened. */
nd_crc_function nd_pool_crc(const nd_pool *pool);

#endif /* ND_POOL_H */
