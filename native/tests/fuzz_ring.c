/* fuzz_ring.c -- tries to break: whatever is done to rings on one small pool, every
 * ring keeps the promises of nd_ring.h, and every record is accounted for. */

#include "nd_test.h"

enum { RINGS = 3, OPERATIONS_MAX = 400 };

typedef struct {
    nd_ring *ring;
    uint64_t queued, removed;
    nd_batch batch;             /* half written, perhaps long ago */
} book;

typedef struct {
    const uint8_t *at, *end;
} input;

static uint32_t take(input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static void check_books(const book *b)
{
    nd_ring_stats_t stats;
    nd_ring_stats(b->ring, &stats);
    CHECK_EQUAL(nd_ring_check(b->ring), ND_OK);
    CHECK_EQUAL(b->queued, b->removed + stats.records);
    CHECK_EQUAL(b->queued, stats.last_seq);
}

static void append(nd_pool *pool, book *books, input *in, uint64_t unix_ms)
{
    static const uint32_t sizes[] = {64, 65, 100, 500, 4064, 4065, 30000, 300000};
    const uint32_t how = take(in);
    const uint32_t size = sizes[take(in) % 8], which = take(in);
    test_request request = test_values(how % 16 * (how % 3 + 1), which >> 4, which % 16 * 3 + 1, size);
    uint32_t indices[64];
    nd_route routes[RINGS];
    uint64_t routes_count = 0;
    const uint32_t rings = take(in);
    for (uint32_t i = 0; i < RINGS; i++) {
        if ((rings >> i & 1) == 0) continue;
        routes[routes_count] = (nd_route){.ring = books[i].ring};
        if ((rings >> (4 + i) & 1) != 0) {
            uint64_t count = 0;
            for (uint32_t r = take(in) % 3; r < request.count; r += 2) indices[count++] = r;
            routes[routes_count].indices = indices;
            routes[routes_count].indices_count = count;
            for (uint32_t other = 0; other < routes_count; other++) {
                if (routes[other].indices != NULL) routes[other].indices_count = count;  /* they share the array */
            }
        }
        routes_count++;
    }
    const nd_status status = nd_rings_append(pool, routes, routes_count, request.block, request.block_bytes,
                                             request.meta, request.count, unix_ms);
    CHECK(status == ND_OK || status == ND_ERR_FULL);
    for (uint64_t r = 0; r < routes_count && status == ND_OK; r++) {
        for (uint32_t i = 0; i < RINGS; i++) {
            if (books[i].ring != routes[r].ring) continue;
            books[i].queued += routes[r].queued_count;
            books[i].removed += routes[r].dropped.count + routes[r].superseded.count;
        }
    }
    test_request_free(&request);
}

static void slice(nd_framer *framer, book *b, input *in)
{
    nd_ring_stats_t stats;
    nd_ring_stats(b->ring, &stats);
    nd_batch batch;
    const uint64_t after = stats.settled_seq + take(in) % 32;
    const nd_slice wanted = {after, UINT64_MAX, take(in) % 20 + 1, 1 + take(in) * 200u, take(in) % 32};
    const nd_status status = nd_frame_plan(framer, b->ring, &wanted, &batch);
    if (status != ND_OK) {
        CHECK_EQUAL(status, ND_EMPTY);
        return;
    }
    CHECK_EQUAL(nd_ring_count(b->ring, batch.first_seq, batch.last_seq), batch.events);
    if (take(in) % 4 == 0) free(test_read(b->ring, &batch, take(in) * 16u));
    if (take(in) % 2 == 0) b->batch = batch;
}

/* Nothing is ever damaged here, so no place leads where no record is. */
static void read_on(book *b, input *in)
{
    uint8_t *piece = malloc(4096);
    const nd_status status = nd_batch_write(b->ring, &b->batch, piece, take(in) * 16u);
    CHECK(status == ND_OK || status == ND_NO_ROOM || status == ND_ERR_TRIMMED);
    free(piece);
}

static void leave(book *b, input *in, uint64_t unix_ms)
{
    nd_removed removed = {0};
    nd_ring_stats_t stats;
    nd_ring_stats(b->ring, &stats);
    const uint32_t amount = take(in);
    switch (take(in) % 5) {
    case 0: nd_ring_settle(b->ring, stats.settled_seq + amount % 40, &removed); break;
    case 1: nd_ring_expire(b->ring, unix_ms - amount % 8, UINT64_MAX, &removed); break;
    case 2: nd_ring_drop(b->ring, amount * 100, &removed); break;
    case 3: nd_ring_release(b->ring, stats.settled_seq + amount % 40); break;
    default: nd_ring_isolate(b->ring, stats.settled_seq + amount % 40, &removed); break;
    }
    b->removed += removed.count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {.at = data, .end = data + size};
    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    nd_framer *framer;
    CHECK_EQUAL(nd_pool_open(&memory.io, 4 << 20, &pool), ND_OK);
    CHECK_EQUAL(nd_framer_open(pool, &framer), ND_OK);
    book books[RINGS] = {0};
    for (uint32_t i = 0; i < RINGS; i++) {
        const uint32_t choice = take(&in);
        const nd_overflow overflow = (nd_overflow)(choice / 16 % 3);
        CHECK_EQUAL(nd_ring_open(pool, i, 1, 200u << choice % 16, overflow, &books[i].ring), ND_OK);
    }
    uint64_t unix_ms = 1000;
    for (uint32_t i = 0; i < OPERATIONS_MAX && in.at < in.end; i++) {
        const uint32_t operation = take(&in);
        if (operation % 7 == 6) memory.fail_at = memory.requests + 1 + operation / 7 % 4;
        unix_ms += operation >> 6;
        book *b = &books[operation % RINGS];
        switch (operation % 5) {
        case 0: append(pool, books, &in, unix_ms); break;
        case 1: slice(framer, b, &in); break;
        case 2: read_on(b, &in); break;
        default: leave(b, &in, unix_ms); break;
        }
        for (uint32_t r = 0; r < RINGS; r++) check_books(&books[r]);
    }
    for (uint32_t i = 0; i < RINGS; i++) nd_ring_close(books[i].ring);
    nd_framer_close(framer);
    nd_pool_close(pool);
    test_memory_end(&memory);
    return 0;
}
