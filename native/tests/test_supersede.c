#include "nd_test.h"

#include "nd_form.h"
#include "nd_mix.h"
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

static void of_each_resource_the_newest_stays(void)
{
    begin(10 * STORED);
    append(10, 0, 4, 64);                                       /* 0123 0123 01 */
    CHECK_EQUAL(route.superseded.count, 0);
    append(1, 3, 4, 64);
    HOLDS(7, 9, 10, 11);
    CHECK_EQUAL(route.superseded.count, 7);
    CHECK_EQUAL(route.superseded.bytes, 7 * STORED);
    CHECK_EQUAL(route.superseded.first_seq, 1);
    CHECK_EQUAL(route.superseded.last_seq, 8);
    CHECK_EQUAL(route.dropped.count, 0);
    CHECK_EQUAL(route.holes_count, 2);
    CHECK(holes[0].first_seq == 1 && holes[0].last_seq == 6);
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
    HOLDS(7, 8, 9);
    CHECK_EQUAL(route.queued_count, 7);
    CHECK_EQUAL(route.lost_count, 4);
    CHECK_EQUAL(route.superseded.count, 6);
    CHECK_EQUAL(route.holes_count, 1);
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
    HOLDS(1, 3, 4, 7);
    nd_ring_release(ring, 0);
    append(2, 0, 1, 64);
    append(1, 0, 1, 64);
    HOLDS(3, 4, 10);
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
    HOLDS(1, 2, 3, 4, 5, 6, 7, 8, 14);
    end();
}

/* Two resources of one hash: the last words of their names make up for the ones before. */
static void a_hash_that_two_resources_share_merges_nothing(void)
{
    uint8_t bodies[2][64] = {"{\"ep\":\"device\",\"path\":\"/1234567/abcdefg\",\"ct\":\"\"}",
                             "{\"ep\":\"device\",\"path\":\"/7654321/abcdefg\",\"ct\":\"\"}"};
    const uint32_t body_bytes = (uint32_t)strlen((char *)bodies[0]), key_bytes = 6 + 10 + 16;
    uint64_t states[2], word;
    for (int i = 0; i < 2; i++) {                               /* as nd_hash_bytes, before the last word */
        states[i] = nd_mix64(7) ^ key_bytes;
        for (int at = 7; at < 7 + 24; at += 8) {
            memcpy(&word, bodies[i] + at, 8);
            states[i] = nd_mix64(states[i] ^ word) + ND_GOLDEN;
        }
    }
    memcpy(&word, bodies[0] + 7 + 24, 8);
    word ^= states[0] ^ states[1];
    memcpy(bodies[1] + 7 + 24, &word, 8);
    CHECK_EQUAL(nd_hash_bytes(bodies[0] + 7, key_bytes, 7), nd_hash_bytes(bodies[1] + 7, key_bytes, 7));
    CHECK(memchr(bodies[1] + 31, '"', 8) == NULL && memchr(bodies[1] + 31, '\\', 8) == NULL);

    begin(5 * STORED);
    for (uint32_t i = 0; i < 6; i++) {
        uint64_t meta = body_bytes | 6ull << 40;
        test_request request = {.block = bodies[i % 2], .block_bytes = body_bytes, .meta = &meta, .count = 1};
        CHECK_EQUAL(try_append(&request), ND_OK);
    }
    HOLDS(5, 6);
    end();
}

/* Looking through takes memory, and nothing else in such a ring does. */
static void a_ring_that_stays_full_is_not_looked_through_each_time(void)
{
    begin(1000 * STORED);
    append(1000, 0, 1000000, 64);
    uint64_t looks = 0;
    for (uint64_t i = 0; i < 4000; i++) {
        const uint64_t before = memory.requests;
        append(1, 1000 + i, 1000000, 64);
        looks += memory.requests > before;
        CHECK_EQUAL(route.dropped.count, 1);
    }
    CHECK(looks > 0 && looks <= 3 + 4000 * ND_SWEEP_BYTES / 1000);
    end();
}

static void newest_values_in_seven_eighths_of_the_room_are_never_dropped(void)
{
    static const uint64_t requests[] = {1, 7, 124, 125, 126, 500, 3000};
    for (uint32_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        begin(1000 * STORED);
        append(870, 0, 870, 64);                                /* silent from now on */
        for (uint64_t count = 0; count < 20000; count += requests[i]) {
            append(requests[i], 0, 5, 64);
            CHECK_EQUAL(route.dropped.count, 0);
        }
        CHECK_EQUAL(nd_ring_count(ring, 6, 870), 865);
        end();
    }
}

static void memory_and_runs_follow_what_is_left(void)
{
    begin(20u << 20);
    for (uint64_t i = 0; i < 30; i++) append(5000, i * 7, i % 2 == 0 ? 100000 : 5000, 120);
    nd_ring_stats_t stats;
    nd_ring_stats(ring, &stats);
    CHECK(ring->count <= pool_bytes() / ND_CHUNK_BYTES_MIN);
    CHECK(ring->count < 100);
    CHECK(pool_bytes() < stats.bytes + 2 * ND_RUN_CHUNK_BYTES + stats.bytes / 8);
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
    begin(200 * STORED);
    append(10, 0, 10, 64);                                      /* 1..10, superseded later */
    append(180, 10, 1000, 64);                                  /* 11..190 */
    nd_batch batch, whole;
    CHECK_EQUAL(nd_frame_plan(framer, ring, 10, UINT64_MAX, 170, 1 << 20, ND_FORM_MIXED_KINDS, &batch), ND_OK);
    whole = batch;
    char *before = test_read(ring, &whole, 1 << 20);
    uint8_t piece[8192];
    CHECK_EQUAL(nd_batch_write(ring, &batch, piece, 6000), ND_OK);
    const uint64_t written = batch.bytes_written;
    nd_ring_release(ring, 0);
    append(10, 0, 10, 80);                                      /* others lie where these lay */
    CHECK_EQUAL(route.superseded.count, 10);
    CHECK_EQUAL(nd_batch_write(ring, &batch, piece, sizeof piece), ND_OK);
    CHECK(memcmp(piece, before + written, batch.bytes_written) == 0);
    free(before);
    end();
}

static void damage_is_not_walked_over(void)
{
    begin(20 * STORED);
    append(20, 0, 4, 64);
    nd_span span;
    CHECK_EQUAL(nd_ring_span(ring, 7, NULL, &span), ND_OK);
    ((nd_record *)(uintptr_t)span.bytes)->body_bytes = UINT32_MAX;
    test_request request = test_values(1, 0, 4, 64);
    CHECK_EQUAL(test_append(pool, ring, &request, 1, &route), ND_OK);
    CHECK_EQUAL(route.superseded.count, 0);
    CHECK_EQUAL(route.dropped.first_seq, 1);
    CHECK_EQUAL(nd_ring_isolate(ring, 7, &(nd_removed){0}), ND_OK);
    test_request_free(&request);
    append(20, 0, 4, 64);
    CHECK_EQUAL(ring->records, 4);
    end();
}

static void no_memory_to_look_through_means_that_nothing_changes(void)
{
    int failures = 0;
    for (uint64_t nth = 1;; nth++) {
        begin(2000 * STORED);
        append(2000, 0, 1000, 64);
        test_request request = test_values(300, 0, 1000, 64);
        memory.fail_at = memory.requests + nth;
        nd_ring_stats_t before, after;
        nd_ring_stats(ring, &before);
        const uint64_t bytes = memory.bytes, chunks = pool_bytes();
        const nd_status status = try_append(&request);
        nd_ring_stats(ring, &after);
        if (status == ND_ERR_FULL) {
            CHECK(memcmp(&before, &after, sizeof before) == 0);
            CHECK(memory.bytes == bytes || nth == 1);
            CHECK_EQUAL(pool_bytes(), chunks);
            CHECK_EQUAL(try_append(&request), ND_OK);
            failures++;
        }
        CHECK_EQUAL(route.superseded.count, 1300);
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
    append(100, 0, 50, 64);                                     /* 1..50 again as 51..100 */
    hold(1);
    test_request request = test_values(2, 26, 4, 64);           /* resources 2 and 3 */
    nd_append *append;
    route = (nd_route){.ring = ring, .holes = holes};
    begin_append(&request, 1, &append);
    CHECK_EQUAL(route.holes_count, 1);
    nd_append_cancel(append);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    CHECK_EQUAL(ring->records, 100);
    begin_append(&request, 1, &append);
    nd_append_commit(append);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    CHECK_EQUAL(route.superseded.count, 49);                    /* 2..50, and not 53 and 54 */
    CHECK(holes[0].first_seq == 2 && holes[0].last_seq == 50);
    CHECK_EQUAL(nd_ring_count(ring, 53, 54), 2);
    test_request_free(&request);
    end();
}

int main(void)
{
    RUN(of_each_resource_the_newest_stays);
    RUN(as_long_as_there_is_room_every_record_is_kept);
    RUN(new_records_supersede_each_other_too);
    RUN(other_kinds_and_what_is_in_flight_stay);
    RUN(what_cannot_be_superseded_is_dropped_from_the_oldest_on);
    RUN(a_record_that_never_fits_supersedes_nothing);
    RUN(names_are_compared_to_their_ends);
    RUN(a_hash_that_two_resources_share_merges_nothing);
    RUN(a_ring_that_stays_full_is_not_looked_through_each_time);
    RUN(newest_values_in_seven_eighths_of_the_room_are_never_dropped);
    RUN(memory_and_runs_follow_what_is_left);
    RUN(records_of_every_size_close_up);
    RUN(a_place_that_records_moved_away_from_is_not_used);
    RUN(damage_is_not_walked_over);
    RUN(no_memory_to_look_through_means_that_nothing_changes);
    RUN(no_more_holes_are_left_than_can_be_told);
    return 0;
}
