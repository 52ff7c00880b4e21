/* nd_pool.c -- slabs of equal chunks in one reserved region.
 *
 * Every slab has a bitmap of its free chunks, so that free memory is never
 * touched, and stands in exactly one list:
 *
 *      free, warm      its memory was written to and is kept
 *      free, cold      never used, or given back to the system
 *      open[class]     serves chunks of a class and has some left
 *      none            serves chunks and has none left
 *
 * Within a slab the lowest free chunk goes first, so that what was touched stays
 * a prefix; its length is what the slab costs the machine.
 */

#include "nd_pool.h"

#include <string.h>

#include "nd_assert.h"

#define NONE          UINT32_MAX
#define CLASSES       10u               /* 4 KiB << 0 .. 4 KiB << 9 */
#define CHUNKS_MAX    (ND_SLAB_BYTES / ND_CHUNK_BYTES_MIN)
#define WORDS         (CHUNKS_MAX / 64u)
#define SCRATCH_MIN   4096u
#define BYTES_MAX_MAX (1ull << 46)      /* half of what user space can address on x86-64 */

_Static_assert(ND_CHUNK_BYTES_MIN << (CLASSES - 1) == ND_CHUNK_BYTES_MAX, "classes reach the slab");

typedef struct {
    uint64_t free_bits[WORDS];
    uint32_t next, previous;            /* in the list it stands in */
    uint32_t chunks_free;
    uint32_t touched_bytes;             /* of the machine's memory, at most */
    uint32_t class_index;               /* valid while it serves chunks */
} slab;

struct nd_pool {
    nd_io           io;
    nd_crc_function crc;
    uint8_t        *region;
    slab           *slabs;
    uint32_t        slabs_count;
    uint32_t        warm, cold;         /* heads of the free lists */
    uint32_t        warm_count;
    uint32_t        open[CLASSES];
    uint64_t        bytes_touched;
    uint64_t        bytes_out;
    void           *scratch;
    size_t          scratch_bytes;
};

static uint32_t chunk_bytes_of(uint32_t class_index)
{
    return ND_CHUNK_BYTES_MIN << class_index;
}

/* The smallest class whose chunks hold this many bytes. */
static uint32_t class_of(uint32_t bytes)
{
    uint32_t class_index = 0;
    while (chunk_bytes_of(class_index) < bytes) class_index++;  /* at most CLASSES turns: bytes is checked */
    return class_index;
}

static void list_push(nd_pool *pool, uint32_t *head, uint32_t index)
{
    slab *item = &pool->slabs[index];
    item->previous = NONE;
    item->next = *head;
    if (*head != NONE) pool->slabs[*head].previous = index;
    *head = index;
}

static void list_remove(nd_pool *pool, uint32_t *head, uint32_t index)
{
    const slab *item = &pool->slabs[index];
    if (item->previous == NONE) {
        ND_ASSERT(*head == index);
        *head = item->next;
    } else {
        pool->slabs[item->previous].next = item->next;
    }
    if (item->next != NONE) pool->slabs[item->next].previous = item->previous;
}

static void fill_bits(slab *item, uint32_t chunks)
{
    memset(item->free_bits, 0, sizeof item->free_bits);
    for (uint32_t word = 0; word * 64 < chunks; word++) {
        const uint32_t left = chunks - word * 64;
        item->free_bits[word] = left >= 64 ? UINT64_MAX : (1ull << left) - 1;
    }
}

/* Make a free slab serve a class; the warm ones go first.  False: there is none. */
static int slab_begin(nd_pool *pool, uint32_t class_index)
{
    uint32_t *head = pool->warm != NONE ? &pool->warm : &pool->cold;
    const uint32_t index = *head;
    if (index == NONE) return 0;
    if (head == &pool->warm) pool->warm_count--;
    list_remove(pool, head, index);

    slab *item = &pool->slabs[index];
    item->class_index = class_index;
    item->chunks_free = ND_SLAB_BYTES / chunk_bytes_of(class_index);
    fill_bits(item, item->chunks_free);
    list_push(pool, &pool->open[class_index], index);
    return 1;
}

/* A slab whose chunks are all back: keep it warm, or give its memory to the system. */
static void slab_end(nd_pool *pool, uint32_t index)
{
    slab *item = &pool->slabs[index];
    list_remove(pool, &pool->open[item->class_index], index);
    uint8_t *memory = pool->region + (uint64_t)index * ND_SLAB_BYTES;
    if (pool->warm_count >= ND_SLABS_WARM_MAX
        && pool->io.discard(pool->io.context, memory, item->touched_bytes) == ND_OK) {
        pool->bytes_touched -= item->touched_bytes;
        item->touched_bytes = 0;
        list_push(pool, &pool->cold, index);
        return;
    }
    pool->warm_count++;
    list_push(pool, &pool->warm, index);
}

static uint32_t lowest_free(const slab *item)
{
    for (uint32_t word = 0; word < WORDS; word++) {
        if (item->free_bits[word] != 0) {
            return word * 64 + (uint32_t)__builtin_ctzll(item->free_bits[word]);
        }
    }
    abort();                            /* only slabs with a free chunk stand in an open list */
}

/* Take a chunk of the first open slab of a class. */
static uint8_t *chunk_take(nd_pool *pool, uint32_t class_index, uint32_t *bytes_out)
{
    const uint32_t index = pool->open[class_index];
    slab *item = &pool->slabs[index];
    const uint32_t chunk = lowest_free(item);
    const uint32_t bytes = chunk_bytes_of(class_index);
    item->free_bits[chunk / 64] &= ~(1ull << (chunk % 64));
    item->chunks_free--;
    if (item->chunks_free == 0) list_remove(pool, &pool->open[class_index], index);

    const uint32_t end = (chunk + 1) * bytes;
    if (end > item->touched_bytes) {
        pool->bytes_touched += end - item->touched_bytes;
        item->touched_bytes = end;
    }
    pool->bytes_out += bytes;
    *bytes_out = bytes;
    return pool->region + (uint64_t)index * ND_SLAB_BYTES + (uint64_t)chunk * bytes;
}

uint8_t *nd_pool_take(nd_pool *pool, uint32_t bytes_min, uint32_t bytes_want, uint32_t *bytes_out)
{
    ND_ASSERT(bytes_min <= ND_CHUNK_BYTES_MAX && bytes_want <= ND_CHUNK_BYTES_MAX);
    const uint32_t least = class_of(bytes_min);
    const uint32_t want = class_of(bytes_want > bytes_min ? bytes_want : bytes_min);

    if (pool->open[want] != NONE || slab_begin(pool, want)) return chunk_take(pool, want, bytes_out);
    for (uint32_t larger = want + 1; larger < CLASSES; larger++) {
        if (pool->open[larger] != NONE) return chunk_take(pool, larger, bytes_out);
    }
    for (uint32_t smaller = want; smaller-- > least;) {
        if (pool->open[smaller] != NONE) return chunk_take(pool, smaller, bytes_out);
    }
    return NULL;
}

void nd_pool_give(nd_pool *pool, uint8_t *memory)
{
    const uint64_t offset = (uint64_t)(memory - pool->region);
    const uint32_t index = (uint32_t)(offset / ND_SLAB_BYTES);
    ND_ASSERT(index < pool->slabs_count);
    slab *item = &pool->slabs[index];
    const uint32_t bytes = chunk_bytes_of(item->class_index);
    const uint32_t chunk = (uint32_t)(offset % ND_SLAB_BYTES) / bytes;
    const uint64_t bit = 1ull << (chunk % 64);
    ND_ASSERT(offset % bytes == 0);
    ND_ASSERT((item->free_bits[chunk / 64] & bit) == 0);        /* given back once */

    item->free_bits[chunk / 64] |= bit;
    item->chunks_free++;
    pool->bytes_out -= bytes;
    if (item->chunks_free == 1) list_push(pool, &pool->open[item->class_index], index);
    if (item->chunks_free == ND_SLAB_BYTES / bytes) slab_end(pool, index);
}

nd_status nd_pool_open(const nd_io *io, uint64_t bytes_max, nd_pool **out)
{
    if (io == NULL || out == NULL || bytes_max == 0 || bytes_max > BYTES_MAX_MAX) return ND_ERR_ARGUMENT;
    const uint32_t count = (uint32_t)((bytes_max + ND_SLAB_BYTES - 1) / ND_SLAB_BYTES);

    nd_pool *pool = io->allocate(io->context, sizeof *pool);
    if (pool == NULL) return ND_ERR_FULL;
    pool->io = *io;
    pool->crc = nd_crc32c_records_best();
    pool->slabs_count = count;
    pool->slabs = io->allocate(io->context, count * sizeof *pool->slabs);
    if (pool->slabs == NULL
        || io->map(io->context, (uint64_t)count * ND_SLAB_BYTES, &pool->region) != ND_OK) {
        nd_pool_close(pool);
        return ND_ERR_FULL;
    }
    pool->warm = pool->cold = NONE;
    for (uint32_t i = 0; i < CLASSES; i++) pool->open[i] = NONE;
    for (uint32_t i = count; i-- > 0;) list_push(pool, &pool->cold, i);
    *out = pool;
    return ND_OK;
}

void nd_pool_close(nd_pool *pool)
{
    if (pool == NULL) return;
    const nd_io io = pool->io;
    ND_ASSERT(pool->bytes_out == 0);
    if (pool->region != NULL) io.unmap(io.context, pool->region, (uint64_t)pool->slabs_count * ND_SLAB_BYTES);
    if (pool->slabs != NULL) io.release(io.context, pool->slabs, pool->slabs_count * sizeof *pool->slabs);
    if (pool->scratch != NULL) io.release(io.context, pool->scratch, pool->scratch_bytes);
    io.release(io.context, pool, sizeof *pool);
}

void nd_pool_stats(const nd_pool *pool, nd_pool_stats_t *out)
{
    *out = (nd_pool_stats_t){
        .bytes_max = (uint64_t)pool->slabs_count * ND_SLAB_BYTES,
        .bytes_touched = pool->bytes_touched,
        .bytes_out = pool->bytes_out,
    };
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

nd_crc_function nd_pool_crc(const nd_pool *pool)
{
    return pool->crc;
}
