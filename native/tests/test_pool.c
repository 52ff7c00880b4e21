#include "nd_test.h"

static nd_pool_stats_t stats_of(const nd_pool *pool)
{
    nd_pool_stats_t stats;
    nd_pool_stats(pool, &stats);
    return stats;
}

static void a_small_chunk_costs_four_kibibytes(void)
{
    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    CHECK_EQUAL(nd_pool_open(&memory.io, 1, &pool), ND_OK);
    CHECK_EQUAL(stats_of(pool).bytes_max, ND_SLAB_BYTES);
    CHECK_EQUAL(stats_of(pool).bytes_touched, 0);
    uint32_t bytes;
    uint8_t *chunk = nd_pool_take(pool, 100, 100, &bytes);
    CHECK_EQUAL(bytes, 4096);
    CHECK_EQUAL(stats_of(pool).bytes_touched, 4096);
    CHECK_EQUAL((uintptr_t)chunk % 4096, 0);
    memset(chunk, 1, bytes);
    nd_pool_give(pool, chunk);
    CHECK_EQUAL(stats_of(pool).bytes_out, 0);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static void chunks_never_overlap_whatever_their_sizes(void)
{
    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    CHECK_EQUAL(nd_pool_open(&memory.io, 64ull << 20, &pool), ND_OK);
    enum { CHUNKS = 600 };
    static uint8_t *chunks[CHUNKS];
    static uint32_t sizes[CHUNKS];
    uint32_t state = 7;
    for (uint32_t round = 0; round < 20000; round++) {
        state = state * 1664525u + 1013904223u;
        const uint32_t i = (state >> 8) % CHUNKS;
        if (chunks[i] == NULL) {
            const uint32_t want = ND_CHUNK_BYTES_MIN << (state >> 28) % 8;
            chunks[i] = nd_pool_take(pool, 1 + (state >> 5) % 4096, want, &sizes[i]);
            if (chunks[i] == NULL) continue;
            CHECK(sizes[i] >= 1 + (state >> 5) % 4096);
            memcpy(chunks[i], &i, 4);
            memcpy(chunks[i] + sizes[i] - 4, &i, 4);
        } else {
            CHECK(memcmp(chunks[i], &i, 4) == 0 && memcmp(chunks[i] + sizes[i] - 4, &i, 4) == 0);
            nd_pool_give(pool, chunks[i]);
            chunks[i] = NULL;
        }
    }
    uint64_t out = 0;
    for (uint32_t i = 0; i < CHUNKS; i++) out += chunks[i] != NULL ? sizes[i] : 0;
    CHECK_EQUAL(stats_of(pool).bytes_out, out);
    CHECK(stats_of(pool).bytes_touched <= stats_of(pool).bytes_max);
    for (uint32_t i = 0; i < CHUNKS; i++) if (chunks[i] != NULL) nd_pool_give(pool, chunks[i]);
    CHECK_EQUAL(stats_of(pool).bytes_out, 0);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static void a_full_pool_gives_what_is_left_in_any_size(void)
{
    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    CHECK_EQUAL(nd_pool_open(&memory.io, ND_SLAB_BYTES, &pool), ND_OK);
    uint32_t bytes;
    uint8_t *small = nd_pool_take(pool, 1, 1, &bytes);
    CHECK_EQUAL(bytes, 4096);
    uint8_t *large = nd_pool_take(pool, 1, ND_SLAB_BYTES / 2, &bytes);  /* of the same slab */
    CHECK_EQUAL(bytes, ND_SLAB_BYTES / 2);
    uint8_t *quarter = nd_pool_take(pool, 1, ND_SLAB_BYTES / 2, &bytes);        /* then what is left */
    CHECK_EQUAL(bytes, ND_SLAB_BYTES / 4);
    CHECK(nd_pool_take(pool, ND_SLAB_BYTES / 4, ND_SLAB_BYTES / 4, &bytes) == NULL);
    nd_pool_give(pool, large);
    uint8_t *pieces[256];
    for (uint32_t i = 0; i < 256; i++) {                        /* a chunk is cut up, and whole again */
        pieces[i] = nd_pool_take(pool, 4096, 4096, &bytes);
        CHECK_EQUAL(bytes, 4096);
    }
    CHECK(nd_pool_take(pool, ND_SLAB_BYTES / 2, ND_SLAB_BYTES / 2, &bytes) == NULL);
    for (uint32_t i = 0; i < 256; i++) nd_pool_give(pool, pieces[(i * 77) % 256]);
    large = nd_pool_take(pool, ND_SLAB_BYTES / 2, ND_SLAB_BYTES / 2, &bytes);
    CHECK_EQUAL(bytes, ND_SLAB_BYTES / 2);
    nd_pool_give(pool, small);
    nd_pool_give(pool, large);
    nd_pool_give(pool, quarter);
    uint8_t *whole = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
    CHECK_EQUAL(bytes, ND_SLAB_BYTES);
    CHECK(nd_pool_take(pool, 1, 1, &bytes) == NULL);
    nd_pool_give(pool, whole);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static void few_free_slabs_stay_warm_and_the_rest_go_back(void)
{
    for (int discard_fails = 0; discard_fails < 2; discard_fails++) {
        test_memory memory;
        test_memory_begin(&memory);
        memory.discard_fails = discard_fails;
        nd_pool *pool;
        enum { SLABS = ND_SLABS_WARM_MAX + 5 };
        CHECK_EQUAL(nd_pool_open(&memory.io, (uint64_t)SLABS * ND_SLAB_BYTES, &pool), ND_OK);
        uint8_t *chunks[SLABS];
        uint32_t bytes;
        for (uint32_t i = 0; i < SLABS; i++) chunks[i] = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
        CHECK(nd_pool_take(pool, 1, 1, &bytes) == NULL);
        for (uint32_t i = 0; i < SLABS; i++) nd_pool_give(pool, chunks[i]);
        CHECK_EQUAL(memory.discards, 5);
        const uint64_t kept = discard_fails ? SLABS : ND_SLABS_WARM_MAX;
        CHECK_EQUAL(stats_of(pool).bytes_touched, kept * ND_SLAB_BYTES);
        for (uint32_t i = 0; i < SLABS; i++) {
            chunks[i] = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
            CHECK(chunks[i] != NULL);
        }
        for (uint32_t i = 0; i < SLABS; i++) nd_pool_give(pool, chunks[i]);
        nd_pool_close(pool);
        test_memory_end(&memory);
    }
}

static void fill_and_empty(nd_pool *pool, uint32_t slabs)
{
    uint8_t *chunks[64];
    uint32_t bytes;
    for (uint32_t i = 0; i < slabs; i++) chunks[i] = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
    for (uint32_t i = 0; i < slabs; i++) nd_pool_give(pool, chunks[i]);
}

static void what_is_kept_goes_back_when_nobody_wanted_it_for_a_round(void)
{
    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    CHECK_EQUAL(nd_pool_open(&memory.io, 64ull * ND_SLAB_BYTES, &pool), ND_OK);
    nd_pool_keep(pool);
    CHECK_EQUAL(nd_pool_give_back(pool, 4), 0);                 /* there is nothing */
    fill_and_empty(pool, ND_SLABS_WARM_MAX + 20);
    CHECK_EQUAL(nd_pool_give_back(pool, 4), 0);                 /* all of it was in use */
    CHECK_EQUAL(memory.discards, 0);
    fill_and_empty(pool, 7);                                    /* seven were wanted again */
    CHECK_EQUAL(nd_pool_give_back(pool, 4), 9);                 /* 13 were not */
    CHECK_EQUAL(memory.discards, 4);
    fill_and_empty(pool, ND_SLABS_WARM_MAX + 9);                /* of 32 that were left: two more of the 9 */
    CHECK_EQUAL(nd_pool_give_back(pool, 40), 0);
    CHECK_EQUAL(memory.discards, 4);
    CHECK_EQUAL(stats_of(pool).bytes_touched, (ND_SLABS_WARM_MAX + 16ull) * ND_SLAB_BYTES);
    CHECK_EQUAL(nd_pool_give_back(pool, 40), 0);
    CHECK_EQUAL(memory.discards, 20);                           /* and the warm ones stay, however long */
    CHECK_EQUAL(nd_pool_give_back(pool, 40), 0);
    CHECK_EQUAL(stats_of(pool).bytes_touched, ND_SLABS_WARM_MAX * (uint64_t)ND_SLAB_BYTES);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static void what_the_system_does_not_take_back_stays_and_a_round_ends(void)
{
    test_memory memory;
    test_memory_begin(&memory);
    memory.discard_fails = 1;
    nd_pool *pool;
    CHECK_EQUAL(nd_pool_open(&memory.io, 64ull * ND_SLAB_BYTES, &pool), ND_OK);
    nd_pool_keep(pool);
    fill_and_empty(pool, ND_SLABS_WARM_MAX + 5);
    CHECK_EQUAL(nd_pool_give_back(pool, 3), 0);
    CHECK_EQUAL(nd_pool_give_back(pool, 3), 2);
    CHECK_EQUAL(nd_pool_give_back(pool, 3), 0);
    CHECK_EQUAL(memory.discards, 5);
    CHECK_EQUAL(stats_of(pool).bytes_touched, (ND_SLABS_WARM_MAX + 5ull) * ND_SLAB_BYTES);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static void a_slab_is_made_ready_when_few_are_left_and_many_may_come(void)
{
    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    CHECK_EQUAL(nd_pool_open(&memory.io, (ND_SLABS_WARM_MAX + 5ull) * ND_SLAB_BYTES, &pool), ND_OK);
    uint8_t *chunks[5];
    uint32_t bytes;
    for (uint32_t i = 0; i < 2; i++) chunks[i] = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
    CHECK_EQUAL((uintptr_t)chunks[0] % ND_SLAB_BYTES, 0);       /* a large page can lie there */
    CHECK_EQUAL(nd_pool_prepare_begin(pool), ND_EMPTY);         /* nobody said that he sees to it */
    nd_pool_keep(pool);
    nd_pool_give(pool, chunks[1]);
    CHECK_EQUAL(nd_pool_prepare_begin(pool), ND_EMPTY);         /* a little is used, and a slab is left */
    chunks[1] = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
    for (uint32_t i = 0; i < ND_SLABS_AHEAD; i++) {
        CHECK(nd_pool_wants_slab(pool));
        CHECK_EQUAL(nd_pool_prepare_begin(pool), ND_OK);
        CHECK(!nd_pool_wants_slab(pool));                       /* one at a time */
        nd_pool_prepare(pool);
        nd_pool_prepare_end(pool);
    }
    CHECK_EQUAL(memory.brings, ND_SLABS_AHEAD);
    CHECK_EQUAL(stats_of(pool).bytes_touched, 4ull * ND_SLAB_BYTES);
    CHECK_EQUAL(stats_of(pool).bytes_out, 2ull * ND_SLAB_BYTES);
    CHECK_EQUAL(nd_pool_prepare_begin(pool), ND_EMPTY);         /* enough lie ready */
    for (uint32_t i = 2; i < 4; i++) {                          /* and are what is used next */
        chunks[i] = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
        memset(chunks[i], 7, ND_SLAB_BYTES);
    }
    CHECK_EQUAL(stats_of(pool).bytes_touched, 4ull * ND_SLAB_BYTES);
    chunks[4] = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
    CHECK_EQUAL(nd_pool_prepare_begin(pool), ND_EMPTY);         /* hardly any are left that nobody has */
    for (uint32_t i = 0; i < 5; i++) nd_pool_give(pool, chunks[i]);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static void what_is_brought_is_counted_and_what_is_not_needed_goes_back(void)
{
    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    CHECK_EQUAL(nd_pool_open(&memory.io, 64 << 20, &pool), ND_OK);
    uint32_t bytes;
    uint8_t *before = nd_pool_take(pool, 4096, 4096, &bytes);
    memset(before, 7, 4096);
    nd_pool_bring(pool, 5 << 20);
    CHECK_EQUAL(memory.brings, 1);
    CHECK_EQUAL(before[4095], 7);                               /* it may be in use meanwhile */
    uint8_t *large = nd_pool_take(pool, ND_SLAB_BYTES, ND_SLAB_BYTES, &bytes);
    nd_pool_brought(pool, 5 << 20);
    CHECK_EQUAL(memory.discards, 1);                            /* the third slab */
    CHECK_EQUAL(stats_of(pool).bytes_touched, 2 * ND_SLAB_BYTES);
    nd_pool_bring(pool, UINT64_MAX);
    nd_pool_brought(pool, UINT64_MAX);
    CHECK_EQUAL(before[0], 7);
    CHECK_EQUAL(stats_of(pool).bytes_touched, 2 * ND_SLAB_BYTES);
    nd_pool_give(pool, before);
    nd_pool_give(pool, large);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static void opening_without_memory_leaves_nothing_behind(void)
{
    for (uint64_t fail_at = 1; fail_at <= 2; fail_at++) {
        test_memory memory;
        test_memory_begin(&memory);
        memory.fail_at = fail_at;
        nd_pool *pool;
        CHECK_EQUAL(nd_pool_open(&memory.io, 1 << 20, &pool), ND_ERR_FULL);
        CHECK_EQUAL(memory.requests, fail_at);
        test_memory_end(&memory);
    }
    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    uint32_t bytes;
    CHECK_EQUAL(nd_pool_open(&memory.io, 1 << 20, &pool), ND_OK);
    memory.fail_at = memory.requests + 1;
    CHECK(nd_pool_take(pool, 1, 1, &bytes) == NULL);            /* no memory for the books of a slab */
    nd_pool_give(pool, nd_pool_take(pool, 1, 1, &bytes));
    nd_pool_close(pool);
    test_memory_end(&memory);
    CHECK_EQUAL(nd_pool_open(nd_io_posix(), 0, &pool), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_pool_open(nd_io_posix(), UINT64_MAX, &pool), ND_ERR_ARGUMENT);
    nd_pool_close(NULL);
}

int main(void)
{
    RUN(a_small_chunk_costs_four_kibibytes);
    RUN(chunks_never_overlap_whatever_their_sizes);
    RUN(a_full_pool_gives_what_is_left_in_any_size);
    RUN(few_free_slabs_stay_warm_and_the_rest_go_back);
    RUN(what_is_kept_goes_back_when_nobody_wanted_it_for_a_round);
    RUN(what_the_system_does_not_take_back_stays_and_a_round_ends);
    RUN(a_slab_is_made_ready_when_few_are_left_and_many_may_come);
    RUN(what_is_brought_is_counted_and_what_is_not_needed_goes_back);
    RUN(opening_without_memory_leaves_nothing_behind);
    return 0;
}
