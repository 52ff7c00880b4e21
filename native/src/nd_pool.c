/* nd_pool.c -- memory behind slabs of chunks, and the part of it that is set aside. */

#include "nd_pool.h"

#include "nd_assert.h"
#include "nd_slabs.h"

#define SCRATCH_MIN 4096u
#define BRING_BYTES (16ull * ND_SLAB_BYTES)     /* at a time: others may fault in between */

struct nd_pool {
    nd_io           io;
    nd_crc_function crc;
    uint8_t        *region;
    nd_slabs        slabs;
    uint64_t        reserve_bytes;
    nd_residency   *residency;
    uint64_t        key;
    uint64_t        preparing;          /* a slab in no list; ND_NOWHERE: none */
    int             has_key;
    int             keeps;              /* what came free stays until nd_pool_give_back */
    void           *scratch;
    size_t          scratch_bytes;
};

static uint8_t *take(nd_pool *pool, uint32_t bytes_min, uint32_t bytes_want, uint32_t *bytes_out)
{
    const uint32_t want = bytes_want > bytes_min ? bytes_want : bytes_min;
    ND_ASSERT(want <= ND_CHUNK_BYTES_MAX);
    if (!nd_slabs_has(&pool->slabs, want)) {
        const uint64_t slab = nd_slabs_take_bare(&pool->slabs, &pool->io);
        if (slab != ND_NOWHERE) nd_slabs_back(&pool->slabs, slab);      /* a touch will bring its memory */
    }
    const uint64_t at = nd_slabs_take(&pool->slabs, bytes_min, bytes_want, bytes_out);
    return at != ND_NOWHERE ? pool->region + at : NULL;
}

uint8_t *nd_pool_take(nd_pool *pool, uint32_t bytes_min, uint32_t bytes_want, uint32_t *bytes_out)
{
    uint8_t *chunk = take(pool, bytes_min, bytes_want, bytes_out);
    if (chunk == NULL || nd_pool_free_bytes(pool) >= pool->reserve_bytes) return chunk;
    nd_pool_give(pool, chunk);
    return NULL;
}

uint8_t *nd_pool_take_reserved(nd_pool *pool, uint32_t bytes, uint32_t *bytes_out)
{
    return take(pool, bytes, bytes, bytes_out);
}

/* Give the memory of a free slab back to the system; one is there. */
static void discard_one(nd_pool *pool)
{
    nd_slabs *slabs = &pool->slabs;
    const uint64_t slab = nd_slabs_take_backed(slabs);
    const uint32_t touched = nd_slabs_touched(slabs, slab);
    if (pool->io.discard(pool->io.context, pool->region + slab, touched) == ND_OK) nd_slabs_bare(slabs, slab);
    else nd_slabs_back(slabs, slab);
}

void nd_pool_give(nd_pool *pool, uint8_t *chunk)
{
    nd_slabs_give(&pool->slabs, (uint64_t)(chunk - pool->region));
    if (!pool->keeps && pool->slabs.backed_count > ND_SLABS_WARM_MAX) discard_one(pool);
}

void nd_pool_keep(nd_pool *pool)
{
    pool->keeps = 1;
}

uint32_t nd_pool_give_back(nd_pool *pool, uint32_t slabs_max)
{
    nd_slabs *slabs = &pool->slabs;
    const uint32_t unused = slabs->backed_least;
    const uint32_t idle = unused > ND_SLABS_WARM_MAX ? unused - ND_SLABS_WARM_MAX : 0;
    const uint32_t now = idle < slabs_max ? idle : slabs_max;
    for (uint32_t i = 0; i < now; i++) discard_one(pool);
    slabs->backed_least = now < idle ? unused - now : slabs->backed_count;
    return idle - now;
}

nd_status nd_pool_open(const nd_io *io, uint64_t bytes_max, nd_pool **out)
{
    if (io == NULL || out == NULL || bytes_max == 0 || bytes_max > ND_SLABS_BYTES_MAX) return ND_ERR_ARGUMENT;
    nd_pool *pool = io->allocate(io->context, sizeof *pool);
    if (pool == NULL) return ND_ERR_FULL;
    pool->io = *io;
    pool->crc = nd_crc32c_records_best();
    pool->preparing = ND_NOWHERE;
    nd_slabs_begin(&pool->slabs, bytes_max);
    if (io->map(io->context, nd_slabs_bytes_max(&pool->slabs), &pool->region) != ND_OK) {
        nd_pool_close(pool);
        return ND_ERR_FULL;
    }
    *out = pool;
    return ND_OK;
}

void nd_pool_close(nd_pool *pool)
{
    if (pool == NULL) return;
    const nd_io io = pool->io;
    ND_ASSERT(pool->slabs.bytes_out == 0);
    if (pool->region != NULL) io.unmap(io.context, pool->region, nd_slabs_bytes_max(&pool->slabs));
    nd_slabs_end(&pool->slabs, &io);
    if (pool->scratch != NULL) io.release(io.context, pool->scratch, pool->scratch_bytes);
    io.release(io.context, pool, sizeof *pool);
}

void nd_pool_enlarge(nd_pool *pool)
{
    const uint64_t bytes_max = nd_slabs_bytes_max(&pool->slabs);
    const uint64_t small = (uint64_t)ND_SLABS_SMALL * ND_SLAB_BYTES;
    if (bytes_max > small) pool->io.enlarge(pool->io.context, pool->region + small, bytes_max - small);
}

int nd_pool_wants_slab(const nd_pool *pool)
{
    const nd_slabs *slabs = &pool->slabs;
    const uint32_t used = slabs->count - slabs->bare_count - slabs->backed_count;
    /* What is being made ready is nobody's for a moment: a pool that is nearly full has no such slab. */
    return pool->keeps && pool->preparing == ND_NOWHERE && used >= ND_SLABS_SMALL
        && slabs->backed_count < ND_SLABS_AHEAD && nd_slabs_bare_count(slabs) > ND_SLABS_WARM_MAX;
}

nd_status nd_pool_prepare_begin(nd_pool *pool)
{
    if (!nd_pool_wants_slab(pool)) return ND_EMPTY;
    pool->preparing = nd_slabs_take_bare(&pool->slabs, &pool->io);
    return pool->preparing != ND_NOWHERE ? ND_OK : ND_EMPTY;
}

void nd_pool_prepare(nd_pool *pool)
{
    pool->io.bring_large(pool->io.context, pool->region + pool->preparing, ND_SLAB_BYTES);
}

void nd_pool_prepare_end(nd_pool *pool)
{
    nd_slabs_touch(&pool->slabs, pool->preparing);
    nd_slabs_back(&pool->slabs, pool->preparing);
    pool->preparing = ND_NOWHERE;
}

void nd_pool_stats(const nd_pool *pool, nd_pool_stats_t *out)
{
    *out = (nd_pool_stats_t){
        .bytes_max = nd_slabs_bytes_max(&pool->slabs),
        .bytes_touched = pool->slabs.bytes_touched,
        .bytes_out = pool->slabs.bytes_out,
    };
}

uint64_t nd_pool_free_bytes(const nd_pool *pool)
{
    return nd_slabs_bytes_max(&pool->slabs) - pool->slabs.bytes_out;
}

void nd_pool_let_move(nd_pool *pool, nd_residency *residency, uint64_t reserve_bytes)
{
    pool->residency = residency;
    pool->reserve_bytes = reserve_bytes;
}

/* How far into the region so many bytes of chunks reach: slabs are used from its beginning on. */
static uint64_t reach_of(const nd_pool *pool, uint64_t bytes)
{
    const uint64_t bytes_max = nd_slabs_bytes_max(&pool->slabs);
    return bytes < bytes_max ? (bytes + ND_SLAB_BYTES - 1) / ND_SLAB_BYTES * ND_SLAB_BYTES : bytes_max;
}

void nd_pool_bring(nd_pool *pool, uint64_t bytes)
{
    const uint64_t end = reach_of(pool, bytes);
    for (uint64_t at = 0; at < end; at += BRING_BYTES) {        /* a step each turn */
        const uint64_t count = end - at < BRING_BYTES ? end - at : BRING_BYTES;
        pool->io.bring(pool->io.context, pool->region + at, count);
    }
}

void nd_pool_brought(nd_pool *pool, uint64_t bytes)
{
    const uint64_t end = reach_of(pool, bytes);
    const uint64_t used = nd_slabs_touch_all(&pool->slabs, end);
    if (used < end) (void)pool->io.discard(pool->io.context, pool->region + used, end - used);
}

nd_residency *nd_pool_residency(const nd_pool *pool)
{
    return pool->residency;
}

void *nd_pool_allocate(nd_pool *pool, size_t bytes)
{
    return pool->io.allocate(pool->io.context, bytes);
}

void nd_pool_release(nd_pool *pool, void *memory, size_t bytes)
{
    pool->io.release(pool->io.context, memory, bytes);
}

void *nd_pool_scratch(nd_pool *pool, size_t bytes)
{
    if (pool->scratch != NULL && bytes <= pool->scratch_bytes) return pool->scratch;
    size_t larger = pool->scratch_bytes > 0 ? pool->scratch_bytes : SCRATCH_MIN;
    while (larger < bytes) larger *= 2;                         /* at most 64 turns */
    void *memory = nd_pool_allocate(pool, larger);
    if (memory == NULL) return NULL;
    if (pool->scratch != NULL) nd_pool_release(pool, pool->scratch, pool->scratch_bytes);
    pool->scratch = memory;
    pool->scratch_bytes = larger;
    return memory;
}

void nd_pool_key_once(nd_pool *pool, uint64_t random)
{
    if (pool->has_key) return;
    pool->key = random;
    pool->has_key = 1;
}

uint64_t nd_pool_key(const nd_pool *pool)
{
    return pool->key;
}

nd_crc_function nd_pool_crc(const nd_pool *pool)
{
    return pool->crc;
}
