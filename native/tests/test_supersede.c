#include "nd_test.h"

#include "nd_form.h"
#include "nd_ring_inside.h"
#include "nd_supersede.h"

#define STORED 96u              /* bytes of a record of 64 */

static test_memory memory;
static nd_pool *pool;
static nd_ring *ring;
static nd_framer *framer;
static nd_route route;
static nd_hole holes[100];

static void begin(uint64_t queue_bytes)
{
    test_memory_begin(&memory);
    CHECK_EQUAL(nd_pool_open(&memory.io, 64u << 20, &pool), ND_OK);
    CHECK_EQUAL(nd_ring_open(pool, 7, 1, queue_bytes, ND_OVERFLOW_KEEP_LATEST, &ring), ND_OK);
    CHECK_EQUAL(nd_framer_open(pool, &framer), ND_OK);
}

static void end(void)
{
    nd_ring_close(ring);
    nd_framer_close(framer);
    nd_pool_stats_t stats;
    nd_pool_stats(pool, &stats);
    CHECK_EQUAL(stats.bytes_out, 0);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static uint64_t pool_bytes(void)
{
    nd_pool_stats_t stats;
    nd_pool_stats(pool, &stats);
    return stats.bytes_out;
}

static nd_status try_append(const test_request *request)
{
    route = (nd_route){.ring = ring, .holes = holes};
    const nd_status status = nd_rings_append(pool, &route, 1, request->block, request->block_bytes, request->meta,
                                             request->count, 1);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    return status;
}

/* Values of the resources first, first + 1 ... modulo resources. */
static void append(uint64_t count, uint64_t first, uint64_t resources, uint32_t body_bytes)
{
    test_request request = test_values(count, first, resources, body_bytes);
    CHECK_EQUAL(try_append(&request), ND_OK);
    test_request_free(&request);
}

static void append_one(uint32_t kind, const char *ep, const char *body)
{
    test_request request = test_record(kind, ep, body, "");
    CHECK_EQUAL(try_append(&request), ND_OK);
    test_request_free(&request);
}

/* The ring holds these seqs and no others. */
static void holds(const uint64_t *seqs, uint64_t count)
{
    nd_ring_stats_t stats;
    nd_ring_stats(ring, &stats);
    CHECK_EQUAL(stats.records, count);
    CHECK_EQUAL(nd_ring_count(ring, 1, UINT64_MAX), count);
    nd_span near = {0};
    uint64_t at = 0;
    for (uint64_t seq = 1; seq <= stats.last_seq + 1; seq++) {
        const int is_here = at < count && seqs[at] == seq;
        CHECK_EQUAL(nd_ring_has(ring, seq, &near), is_here);
        CHECK_EQUAL(nd_ring_has(ring, seq, &(nd_span){0}), is_here);
        CHECK_EQUAL(nd_ring_count(ring, seq, seq), is_here);
        at += (uint64_t)is_here;
    }
    CHECK_EQUAL(at, count);
}

#define HOLDS(...) holds((const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void hold(uint64_t upto_seq)
{
    nd_ring_hold(ring, (nd_place){.seq = upto_seq + 1});
}

static void old_values_go_from_the_oldest_on_and_no_more_than_have_to(void)
{
    begin(10 * STORED);
    append(10, 0, 4, 64);                                       /* 0123 0123 01 */
    CHECK_EQUAL(route.superseded.count, 0);
    append(1, 3, 4, 64);
    HOLDS(2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    append(6, 96, 100, 64);                                     /* others, 0 and 1 */
    HOLDS(7, 9, 10, 11, 12, 13, 14, 15, 16, 17);
    CHECK_EQUAL(route.superseded.count, 6);
    CHECK_EQUAL(route.superseded.bytes, 6 * STORED);
    CHECK_EQUAL(route.superseded.first_seq, 2);
    CHECK_EQUAL(route.superseded.last_seq, 8);
    CHECK_EQUAL(route.dropped.count, 0);
    CHECK_EQUAL(route.holes_count, 2);
    CHECK(holes[0].first_seq == 2 && holes[0].last_seq == 6);
    CHECK(holes[1].first_seq == 8 && holes[1].last_seq == 8);
    end();
}

static void as_long_as_there_is_room_every_record_is_kept(void)
{
    begin(10 * STORED);
    for (uint64_t i = 0; i < 10; i++) append(1, 0, 1, 64);
    HOLDS(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    end();
}

static void new_records_supersede_each_other_too(void)
{
    begin(4 * STORED);
    append(2, 0, 2, 64);
    append(7, 0, 3, 64);                                        /* 3..9: 012 012 0 */
    HOLDS(6, 7, 8, 9);
    CHECK_EQUAL(route.queued_count, 7);
    CHECK_EQUAL(route.lost_count, 3);
    CHECK_EQUAL(route.superseded.count, 5);
    CHECK_EQUAL(route.holes_count, 1);
    append(1, 9, 10, 64);
    HOLDS(7, 8, 9, 10);                                         /* 6 was old when it came */
    CHECK_EQUAL(route.superseded.count, 1);
    end();
}

static void other_kinds_and_what_is_in_flight_stay(void)
{
    begin(6 * STORED);
    append(2, 0, 1, 64);
    append_one(ND_KIND_REGISTRATION, "d", "{\"ep\":\"d\",\"path\":\"/00000000\",\"resources\":[]..................}");
    append_one(ND_KIND_ASYNC, "", "{\"id\":\"1\",\"path\":\"/00000000\",\"status\":200...................}");
    append(1, 0, 1, 64);
    hold(1);
    append(1, 0, 1, 64);
    append(1, 0, 1, 64);
    HOLDS(1, 3, 4, 5, 6, 7);
    append(2, 0, 1, 64);
    HOLDS(1, 3, 4, 7, 8, 9);
    nd_ring_release(ring, 0);
    append(1, 0, 1, 64);
    HOLDS(3, 4, 7, 8, 9, 10);
    append(4, 0, 1, 64);
    HOLDS(3, 4, 11, 12, 13, 14);
    end();
}

static void what_cannot_be_superseded_is_dropped_from_the_oldest_on(void)
{
    begin(5 * STORED);
    append(5, 0, 100, 64);
    append(2, 4, 100, 64);                                      /* one again, and another */
    HOLDS(2, 3, 4, 6, 7);
    CHECK_EQUAL(route.superseded.count, 1);
    CHECK_EQUAL(route.superseded.first_seq, 5);
    CHECK_EQUAL(route.dropped.count, 1);
    CHECK_EQUAL(route.dropped.last_seq, 1);
    append(20, 0, 100, 64);
    CHECK_EQUAL(route.superseded.count, 5);                     /* all that were there came again */
    CHECK_EQUAL(route.dropped.count, 15);
    HOLDS(23, 24, 25, 26, 27);
    end();
}

static void a_record_that_never_fits_supersedes_nothing(void)
{
    begin(5 * STORED);
    append(3, 0, 3, 64);
    append(1, 1, 3, 600);
    HOLDS(1, 2, 3);
    CHECK_EQUAL(route.dropped.count, 1);
    CHECK_EQUAL(route.superseded.count, 0);
    end();
}

static void names_are_compared_to_their_ends(void)
{
    static const char *const bodies[] = {
        "{\"ep\":\"d\",\"path\":\"/a\",\"ct\":\"\"}",
        "{\"ep\":\"d\",\"path\":\"/a\\\"\",\"ct\":\"\"}",
        "{\"ep\":\"d\",\"path\":\"/a\\\\\",\"ct\":\"\"}",
        "{\"ep\":\"d\",\"path\":\"/a\\\"b\",\"ct\":\"\"}",
        "{\"ep\":\"e\",\"path\":\"/a\",\"ct\":\"\"}",
        "{\"ep\":\"d\",\"pith\":\"/a\",\"ct\":\"\"}",               /* none that it could be known by */
        "{\"ep\":\"d\",\"pith\":\"/a\",\"ct\":\"\"}",
        "{\"ep\":\"d\",\"path\":\"/unterminated\\\"}",
    };
    begin(8 * STORED);
    for (uint32_t i = 0; i < 8; i++) append_one(0, i == 4 ? "e" : "d", bodies[i]);
    append(6, 0, 1, 64);
    HOLDS(1, 2, 3, 4, 5, 6, 7, 8, 13, 14);
    append(3, 0, 1, 64);
    HOLDS(1, 2, 3, 4, 5, 6, 7, 8, 16, 17);
    end();
}

static void what_goes_besides_is_bounded_over_all_rings(void)
{
    enum { RINGS = 3, IN_QUEUE = 100 };
    const uint64_t stored = 300000, queue_bytes = IN_QUEUE * stored + stored / 2;     /* a 64th is a record and a half */
    const uint64_t expected[RINGS] = {2, 2, 1};
    test_memory_begin(&memory);
    CHECK_EQUAL(nd_pool_open(&memory.io, 256u << 20, &pool), ND_OK);
    nd_route routes[RINGS];
    nd_ring *rings[RINGS];
    test_request request = test_values(IN_QUEUE, 0, 2, (uint32_t)stored - 32), one = test_values(1, 0, 2, (uint32_t)stored - 32);
    for (uint64_t i = 0; i < RINGS; i++) CHECK_EQUAL(nd_ring_open(pool, i, 1, queue_bytes, ND_OVERFLOW_KEEP_LATEST, &rings[i]), ND_OK);
    for (int is_full = 0; is_full < 2; is_full++) {
        const test_request *next = is_full ? &one : &request;
        for (uint64_t i = 0; i < RINGS; i++) routes[i] = (nd_route){.ring = rings[i]};
        CHECK_EQUAL(nd_rings_append(pool, routes, RINGS, next->block, next->block_bytes, next->meta, next->count, 1), ND_OK);
    }
    for (uint64_t i = 0; i < RINGS; i++) {
        CHECK_EQUAL(routes[i].superseded.count, expected[i]);
        nd_ring_close(rings[i]);
    }
    nd_pool_close(pool);
    test_request_free(&request);
    test_request_free(&one);
    test_memory_end(&memory);
}

/* Half of each run goes at once; joining them is work for many appends. */
static void what_one_append_joins_is_bounded(void)
{
    enum { RUNS = 80 };
    const uint32_t body = 4096 - 32, in_run = ND_RUN_CHUNK_BYTES / 4096;
    begin(RUNS * (uint64_t)ND_RUN_CHUNK_BYTES);
    append(RUNS * in_run, 0, RUNS * in_run, body);
    CHECK(ring->count >= RUNS);
    const uint32_t count = ring->count;
    uint64_t *gone = calloc(RUNS * in_run, sizeof *gone);
    for (uint64_t i = 0; i < RUNS / 2 * in_run; i++) {          /* every other resource again, in one request */
        gone[i] = 2 * i;
    }
    test_request request = test_values(RUNS * in_run, 0, RUNS * in_run, body);
    uint32_t even[RUNS / 2 * ND_RUN_CHUNK_BYTES / 4096];
    for (uint32_t i = 0; i < RUNS / 2 * in_run; i++) even[i] = (uint32_t)gone[i];
    route = (nd_route){.ring = ring, .indices = even, .indices_count = RUNS / 2 * in_run};
    CHECK_EQUAL(nd_rings_append(pool, &route, 1, request.block, request.block_bytes, request.meta, request.count, 1), ND_OK);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    CHECK_EQUAL(route.superseded.count, RUNS / 2 * in_run);
    CHECK(ring->count >= count + RUNS / 2 - ND_JOINS_MAX);
    for (uint32_t i = 0; i < RUNS / ND_JOINS_MAX; i++) append(1, 0, 1, 64);
    CHECK(ring->count <= RUNS + 2);
    nd_ring_stats_t stats;
    nd_ring_stats(ring, &stats);
    CHECK(pool_bytes() <= stats.bytes + 2 * ND_RUN_CHUNK_BYTES);
    test_request_free(&request);
    free(gone);
    end();
}

static void while_old_values_are_left_nothing_is_dropped(void)
{
    static const uint64_t requests[] = {1, 7, 124, 500, 3000};
    for (uint32_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        begin(1000 * STORED);
        append(990, 0, 990, 64);                                /* silent from now on */
        for (uint64_t count = 0; count < 6000; count += requests[i]) {
            append(requests[i], 0, 10, 64);
            CHECK_EQUAL(route.dropped.count, 0);
        }
        CHECK_EQUAL(nd_ring_count(ring, 11, 990), 980);
        end();
    }
}

/* Of resources that come and go no more is remembered than of those that are queued. */
static void what_is_known_of_resources_follows_what_is_queued(void)
{
    begin(1 << 20);
    uint64_t most = 0;
    nd_removed removed;
    for (uint64_t i = 0; i < 3000; i++) {
        append(10, 10 * i, 1000000, 64);
        CHECK_EQUAL(nd_ring_settle(ring, 10 * i + 3, &removed), ND_OK);
        if (memory.bytes > most) most = memory.bytes;
    }
    CHECK(most < 16384);
    const uint64_t *entries = ring->latest->entries;
    for (uint64_t i = 0; i < 300; i++) {                        /* the place of one that left is taken again */
        append(10, 0, 10, 64);
        CHECK_EQUAL(nd_ring_settle(ring, 30000 + 10 * i + 3, &removed), ND_OK);
        CHECK(i < 10 || ring->latest->entries == entries);
        if (i < 10) entries = ring->latest->entries;
    }
    for (uint64_t i = 0; i < 100; i++) append(1000, 1000 * i, 1000000, 64);         /* and of many, as many */
    nd_ring_stats_t stats;
    nd_ring_stats(ring, &stats);
    CHECK_EQUAL(stats.records, (1 << 20) / STORED);
    CHECK(memory.bytes < stats.records * (2 * 16 + 2 * 48) + 65536);
    end();
}

static void memory_and_runs_follow_what_is_left(void)
{
    begin(20u << 20);
    nd_ring_stats_t stats;
    for (uint64_t i = 0; i < 400; i++) {
        test_request request = test_values(1000, i * 997, i % 8 == 0 ? 70000 : 3000, 120);
        CHECK_EQUAL(test_append(pool, ring, &request, 1, &route), ND_OK);
        test_request_free(&request);
        if (i % 50 == 49) CHECK_EQUAL(nd_ring_check(ring), ND_OK);
        nd_ring_stats(ring, &stats);
        CHECK(pool_bytes() < 2 * stats.bytes + 4 * ND_RUN_CHUNK_BYTES);
    }
    CHECK(stats.bytes > 19u << 20);
    CHECK(ring->count < 160);
    CHECK(ring->latest->size <= 1u << 18);
    end();
}

static void records_of_every_size_close_up(void)
{
    static const uint32_t sizes[] = {64, 4064, 70, 300000, 65, 30000, 65504, 1 << 20};
    for (uint64_t seed = 0; seed < 8; seed++) {
        begin(3u << 20);
        uint64_t queued = 0, gone = 0;
        for (uint64_t i = 0; i < 400; i++) {
            append(1 + i % 3, i * (seed + 1), 3 + seed * 5, sizes[(i + i / 8 * seed) % 8]);
            queued += route.queued_count;
            gone += route.dropped.count + route.superseded.count;
            if (i % 50 == 49) hold(ring->last_seq - i % 7);
            if (i % 50 == 20) nd_ring_release(ring, 0);
        }
        nd_ring_stats_t stats;
        nd_ring_stats(ring, &stats);
        CHECK(gone > 0);
        CHECK_EQUAL(queued, gone + stats.records);
        end();
    }
}

/* A batch that is half written when its records move goes on with the right ones. */
static void a_place_that_records_moved_away_from_is_not_used(void)
{
    begin(191 * STORED);
    append(1, 900, 1000, 64);
    append(10, 0, 10, 64);                                      /* 2..11, superseded later */
    append(180, 10, 1000, 64);                                  /* 12..191 */
    nd_batch batch, whole;
    const nd_slice slice = {11, UINT64_MAX, 170, 1 << 20, ND_FORM_MIXED_KINDS};
    CHECK_EQUAL(nd_frame_plan(framer, ring, &slice, &batch), ND_OK);
    whole = batch;
    char *before = test_read(ring, &whole, 1 << 20);
    uint8_t piece[8192];
    CHECK_EQUAL(nd_batch_write(ring, &batch, piece, 6000), ND_OK);
    const uint64_t written = batch.bytes_written;
    nd_ring_release(ring, 0);
    append(10, 0, 10, 64);
    CHECK_EQUAL(route.superseded.count, 10);
    CHECK_EQUAL(nd_batch_write(ring, &batch, piece, sizeof piece), ND_OK);
    CHECK(memcmp(piece, before + written, batch.bytes_written) == 0);
    nd_span span;
    CHECK_EQUAL(nd_ring_span(ring, 12, NULL, &span), ND_OK);
    CHECK_EQUAL(span.offset, STORED);                           /* they lie where others lay */
    free(before);
    end();
}

static void what_is_damaged_takes_no_other_record_along(void)
{
    begin(20 * STORED);
    append(20, 0, 4, 64);
    nd_span span;
    CHECK_EQUAL(nd_ring_span(ring, 7, NULL, &span), ND_OK);
    ((nd_record *)(uintptr_t)span.bytes)->body_bytes = UINT32_MAX;
    test_request request = test_values(3, 0, 4, 64);
    CHECK_EQUAL(test_append(pool, ring, &request, 1, &route), ND_OK);
    CHECK_EQUAL(route.superseded.count, 3);
    nd_batch batch;
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){0, UINT64_MAX, 3, 1 << 20, 0}, &batch), ND_OK);
    CHECK_EQUAL(batch.last_seq, 6);
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){6, UINT64_MAX, 20, 1 << 20, 0}, &batch), ND_ERR_CORRUPT);
    nd_removed removed;
    CHECK_EQUAL(nd_ring_isolate(ring, 7, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 1);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    CHECK_EQUAL(ring->records, 19);
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){6, UINT64_MAX, 20, 1 << 20, 0}, &batch), ND_OK);
    CHECK_EQUAL(batch.events, 16);
    test_request_free(&request);
    end();
}

static void no_memory_to_look_through_means_that_nothing_changes(void)
{
    int failures = 0;
    for (uint64_t nth = 1;; nth++) {
        begin(2000 * STORED);
        append(2000, 0, 1000, 64);
        test_request request = test_values(1500, 500, 5000, 64);        /* 500 again, and a thousand others */
        memory.fail_at = memory.requests + nth;
        nd_ring_stats_t before, after;
        nd_ring_stats(ring, &before);
        const uint64_t chunks = pool_bytes();
        const nd_status status = try_append(&request);
        nd_ring_stats(ring, &after);
        if (status == ND_ERR_FULL) {
            CHECK(memcmp(&before, &after, sizeof before) == 0);
            CHECK_EQUAL(pool_bytes(), chunks);
            CHECK_EQUAL(try_append(&request), ND_OK);
            failures++;
        }
        CHECK_EQUAL(route.superseded.count, 1500);
        CHECK_EQUAL(route.superseded.last_seq, 2000);
        test_request_free(&request);
        const int has_failed = memory.requests >= memory.fail_at && status == ND_ERR_FULL;
        end();
        if (!has_failed) break;
    }
    CHECK(failures >= 4);
}

static void begin_append(const test_request *request, uint64_t holes_max, nd_append **append)
{
    CHECK_EQUAL(nd_append_begin(pool, &route, 1, request->block, request->block_bytes, request->meta,
                                request->count, 1, holes_max, append), ND_OK);
}

static void no_more_holes_are_left_than_can_be_told(void)
{
    begin(100 * STORED);
    for (uint64_t i = 1; i <= 50; i++) {
        append(1, 0, 1, 64);                                    /* 1, 3 .. 99: old but for the last */
        append(1, i, 1000, 64);
    }
    hold(1);
    test_request request = test_values(3, 0, 1, 64);
    nd_append *append;
    route = (nd_route){.ring = ring, .holes = holes};
    begin_append(&request, 2, &append);
    CHECK_EQUAL(route.holes_count, 2);
    nd_append_cancel(append);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    CHECK_EQUAL(ring->records, 100);
    begin_append(&request, 2, &append);
    nd_append_commit(append);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    CHECK_EQUAL(route.superseded.count, 3);                     /* 3, 5, and the first of the new ones */
    CHECK_EQUAL(route.superseded.last_seq, 101);
    CHECK(holes[0].first_seq == 3 && holes[0].last_seq == 3);
    CHECK(holes[1].first_seq == 5 && holes[1].last_seq == 5);
    CHECK_EQUAL(route.dropped.count, 0);
    test_request_free(&request);
    end();
}

/* What was marked for an append that is not made is not old. */
static void an_append_that_is_not_made_leaves_no_mark(void)
{
    begin(5 * STORED);
    append(5, 0, 5, 64);
    test_request request = test_values(8, 2, 5, 64);
    nd_append *made;
    route = (nd_route){.ring = ring, .holes = holes};
    begin_append(&request, 100, &made);
    CHECK_EQUAL(route.holes_count, 1);
    nd_append_cancel(made);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    append(2, 8, 100, 64);
    CHECK_EQUAL(route.superseded.count, 0);
    HOLDS(3, 4, 5, 6, 7);
    test_request_free(&request);
    end();
}

int main(void)
{
    RUN(old_values_go_from_the_oldest_on_and_no_more_than_have_to);
    RUN(as_long_as_there_is_room_every_record_is_kept);
    RUN(new_records_supersede_each_other_too);
    RUN(other_kinds_and_what_is_in_flight_stay);
    RUN(what_cannot_be_superseded_is_dropped_from_the_oldest_on);
    RUN(a_record_that_never_fits_supersedes_nothing);
    RUN(names_are_compared_to_their_ends);
    RUN(what_goes_besides_is_bounded_over_all_rings);
    RUN(what_one_append_joins_is_bounded);
    RUN(while_old_values_are_left_nothing_is_dropped);
    RUN(what_is_known_of_resources_follows_what_is_queued);
    RUN(memory_and_runs_follow_what_is_left);
    RUN(records_of_every_size_close_up);
    RUN(a_place_that_records_moved_away_from_is_not_used);
    RUN(what_is_damaged_takes_no_other_record_along);
    RUN(no_memory_to_look_through_means_that_nothing_changes);
    RUN(no_more_holes_are_left_than_can_be_told);
    RUN(an_append_that_is_not_made_leaves_no_mark);
    return 0;
}
