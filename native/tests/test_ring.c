#include "nd_test.h"

#include "nd_ring_inside.h"

static test_memory memory;
static nd_pool *pool;
static nd_ring *ring;
static nd_route route;
static nd_removed removed;

static void begin_with(uint64_t pool_bytes, uint64_t queue_bytes, nd_overflow overflow)
{
    test_memory_begin(&memory);
    CHECK_EQUAL(nd_pool_open(&memory.io, pool_bytes, &pool), ND_OK);
    CHECK_EQUAL(nd_ring_open(pool, 7, 1, queue_bytes, overflow, &ring), ND_OK);
}

static void end(void)
{
    nd_ring_close(ring);
    nd_pool_stats_t stats;
    nd_pool_stats(pool, &stats);
    CHECK_EQUAL(stats.bytes_out, 0);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static nd_ring_stats_t stats(void)
{
    nd_ring_stats_t out;
    nd_ring_stats(ring, &out);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    return out;
}

static void append(uint64_t count, uint32_t body_bytes, uint64_t unix_ms)
{
    test_request request = test_notifications(count, body_bytes);
    CHECK_EQUAL(test_append(pool, ring, &request, unix_ms, &route), ND_OK);
    test_request_free(&request);
}

static void hold(uint64_t upto_seq)
{
    nd_ring_hold(ring, (nd_place){.seq = upto_seq + 1});
}

/* The seqs in the ring are first..last without gaps. */
static void holds_exactly(uint64_t first, uint64_t last)
{
    CHECK_EQUAL(nd_ring_count(ring, 0, UINT64_MAX), last - first + 1);
    CHECK_EQUAL(nd_ring_count(ring, first, last), last - first + 1);
}

static void an_empty_ring_takes_no_chunk(void)
{
    begin_with(1 << 20, 1000, ND_OVERFLOW_DROP_OLDEST);
    CHECK_EQUAL(stats().last_seq, 0);
    CHECK_EQUAL(nd_ring_settle(ring, UINT64_MAX, &removed), ND_EMPTY);
    CHECK_EQUAL(nd_ring_expire(ring, UINT64_MAX, UINT64_MAX, &removed), ND_EMPTY);
    CHECK_EQUAL(nd_ring_drop(ring, 1, &removed), ND_EMPTY);
    nd_pool_stats_t pool_stats;
    nd_pool_stats(pool, &pool_stats);
    CHECK_EQUAL(pool_stats.bytes_out, 0);
    CHECK(sizeof(nd_ring) <= 256);
    end();
}

static void records_of_every_size_come_out_as_they_went_in(void)
{
    static const uint32_t sizes[] = {64, 65, 71, 72, 4096 - 32, 4096 - 31, 4096, 65536, 256 * 1024 - 32,
                                     256 * 1024, 1 << 20, (2 << 20) - 32};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        begin_with(32 << 20, 1 << 30, ND_OVERFLOW_DROP_OLDEST);
        append(3, sizes[i], 5);
        append(1, 64, 6);
        CHECK_EQUAL(stats().records, 4);
        nd_span span;
        CHECK_EQUAL(nd_ring_span(ring, 1, NULL, &span), ND_OK);
        const nd_record *record = nd_span_next(&span);
        test_request request = test_notifications(1, sizes[i]);
        CHECK(memcmp(nd_record_body(record), request.block, sizes[i]) == 0);
        test_request_free(&request);
        CHECK_EQUAL(nd_ring_settle(ring, 3, &removed), ND_OK);
        CHECK_EQUAL(removed.bytes, 3 * (uint64_t)nd_record_stored_bytes(sizes[i]));
        holds_exactly(4, 4);
        end();
    }
}

static void a_record_larger_than_any_chunk_is_refused(void)
{
    begin_with(32 << 20, 1 << 30, ND_OVERFLOW_DROP_OLDEST);
    test_request request = test_notifications(1, (2 << 20) - 31);
    CHECK_EQUAL(test_append(pool, ring, &request, 1, &route), ND_ERR_ARGUMENT);
    CHECK_EQUAL(stats().last_seq, 0);
    test_request_free(&request);
    end();
}

static void twenty_thousand_records_settle_in_any_steps(void)
{
    static const uint64_t steps[] = {1, 7, 999, 20000};
    for (uint32_t i = 0; i < 4; i++) {
        begin_with(32 << 20, 1 << 30, ND_OVERFLOW_DROP_OLDEST);
        append(20000, 150, 1);
        uint64_t settled = 0;
        for (uint64_t upto = steps[i]; settled < 20000; upto += steps[i]) {
            CHECK_EQUAL(nd_ring_settle(ring, upto, &removed), ND_OK);
            settled += removed.count;
            CHECK_EQUAL(settled, upto < 20000 ? upto : 20000);
            if (settled % 1000 < steps[i]) CHECK_EQUAL(stats().records, 20000 - settled);
        }
        CHECK_EQUAL(stats().settled_seq, 20000);
        append(10, 150, 1);
        holds_exactly(20001, 20010);
        end();
    }
}

static void a_ring_can_be_emptied_and_filled_again_for_ever(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    for (uint64_t round = 0; round < 300; round++) {
        append(round % 40 + 1, 64 + (uint32_t)round, round);
        CHECK_EQUAL(nd_ring_settle(ring, UINT64_MAX, &removed), ND_OK);
        CHECK_EQUAL(removed.count, round % 40 + 1);
        CHECK_EQUAL(stats().records, 0);
    }
    CHECK(memory.bytes < 64 * 1024);
    end();
}

static void a_full_ring_drops_its_oldest(void)
{
    begin_with(8 << 20, 10 * 96, ND_OVERFLOW_DROP_OLDEST);      /* ten records of 64 bytes */
    append(10, 64, 1);
    CHECK_EQUAL(route.dropped.count, 0);
    append(3, 64, 1);
    CHECK_EQUAL(route.queued_count, 3);
    CHECK_EQUAL(route.dropped.count, 3);
    CHECK_EQUAL(route.dropped.bytes, 3 * 96);
    CHECK_EQUAL(route.dropped.first_seq, 1);
    CHECK_EQUAL(route.dropped.last_seq, 3);
    holds_exactly(4, 13);
    append(25, 64, 1);                                          /* more than fit: the newest stay */
    CHECK_EQUAL(route.dropped.count, 25);
    CHECK_EQUAL(route.dropped.last_seq, 28);
    holds_exactly(29, 38);
    CHECK_EQUAL(stats().bytes, 960);
    end();
}

static void what_is_in_flight_is_never_dropped(void)
{
    begin_with(8 << 20, 10 * 96, ND_OVERFLOW_DROP_OLDEST);
    append(10, 64, 1);
    hold(4);
    CHECK_EQUAL(stats().held_bytes, 4 * 96);
    append(8, 64, 1);
    CHECK_EQUAL(route.dropped.count, 8);
    CHECK_EQUAL(route.dropped.first_seq, 5);
    CHECK_EQUAL(route.dropped.last_seq, 12);
    CHECK_EQUAL(nd_ring_count(ring, 1, 4), 4);
    CHECK_EQUAL(nd_ring_count(ring, 5, 12), 0);
    CHECK_EQUAL(nd_ring_count(ring, 13, 18), 6);
    hold(18);
    append(2, 64, 1);                                           /* all is in flight: the new ones are the loss */
    CHECK_EQUAL(route.queued_count, 2);
    CHECK_EQUAL(route.dropped.count, 2);
    CHECK_EQUAL(route.dropped.first_seq, 19);
    CHECK_EQUAL(stats().last_seq, 20);
    CHECK_EQUAL(nd_ring_settle(ring, 4, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 4);
    CHECK_EQUAL(stats().settled_seq, 12);
    append(1, 64, 1);
    CHECK_EQUAL(nd_ring_count(ring, 21, 21), 1);
    nd_ring_release(ring, 14);
    CHECK_EQUAL(stats().held_bytes, 2 * 96);
    nd_ring_release(ring, 0);
    CHECK_EQUAL(stats().held_bytes, 0);
    end();
}

static void a_record_that_never_fits_spares_the_others(void)
{
    begin_with(8 << 20, 10 * 96, ND_OVERFLOW_DROP_OLDEST);
    append(5, 64, 1);
    append(1, 1000, 1);
    CHECK_EQUAL(route.queued_count, 1);
    CHECK_EQUAL(route.dropped.count, 1);
    CHECK_EQUAL(route.dropped.first_seq, 6);
    CHECK_EQUAL(route.dropped.bytes, 32 + 1000);
    holds_exactly(1, 5);
    append(1, 64, 1);                                           /* behind the seq that is missing */
    CHECK_EQUAL(nd_ring_count(ring, 7, 7), 1);
    CHECK_EQUAL(stats().records, 6);
    end();
}

static void policy_reject_gives_no_seq(void)
{
    begin_with(8 << 20, 10 * 96, ND_OVERFLOW_REJECT);
    append(8, 64, 1);
    test_request two = test_notifications(2, 64), three = test_notifications(3, 64);
    CHECK_EQUAL(nd_ring_has_room(ring, two.meta, 2), 1);
    CHECK_EQUAL(nd_ring_has_room(ring, three.meta, 3), 0);
    CHECK_EQUAL(test_append(pool, ring, &three, 1, &route), ND_OK);
    CHECK_EQUAL(route.queued_count, 2);
    CHECK_EQUAL(route.rejected_count, 1);
    CHECK_EQUAL(route.rejected_bytes, 96);
    CHECK_EQUAL(route.dropped.count, 0);
    holds_exactly(1, 10);
    CHECK_EQUAL(nd_ring_settle(ring, 1, &removed), ND_OK);
    CHECK_EQUAL(test_append(pool, ring, &two, 1, &route), ND_OK);
    CHECK_EQUAL(stats().last_seq, 11);
    test_request_free(&two);
    test_request_free(&three);
    end();
}

static void expiry_goes_by_age_and_not_by_flight(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    append(4, 64, 100);
    append(300, 100, 200);
    append(4, 64, 300);
    hold(2);
    CHECK_EQUAL(stats().oldest_unix_ms, 100);
    CHECK_EQUAL(nd_ring_expire(ring, 100, UINT64_MAX, &removed), ND_EMPTY);
    CHECK_EQUAL(nd_ring_expire(ring, 101, UINT64_MAX, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 4);
    CHECK_EQUAL(stats().oldest_unix_ms, 200);
    CHECK_EQUAL(stats().held_bytes, 0);
    CHECK_EQUAL(nd_ring_expire(ring, 201, UINT64_MAX, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 300);
    CHECK_EQUAL(removed.first_seq, 5);
    CHECK_EQUAL(removed.last_seq, 304);
    CHECK_EQUAL(nd_ring_expire(ring, 1000, UINT64_MAX, &removed), ND_OK);
    CHECK_EQUAL(stats().records, 0);
    end();
}

/* Records 1..30 of ten times, three of each. */
static void append_in_time(uint32_t body_bytes)
{
    for (uint64_t i = 1; i <= 10; i++) append(3, body_bytes, i * 100);
}

static void says_when(uint64_t first_seq, uint64_t last_seq)
{
    CHECK_EQUAL(removed.first_seq, first_seq);
    CHECK_EQUAL(removed.last_seq, last_seq);
    CHECK_EQUAL(removed.first_unix_ms, (first_seq + 2) / 3 * 100);
    CHECK_EQUAL(removed.last_unix_ms, (last_seq + 2) / 3 * 100);
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
}

static void what_is_lost_says_when_it_was_received(void)
{
    static const uint32_t sizes[] = {64, 3000};                 /* in one chunk, and in many */
    for (int i = 0; i < 2; i++) {
        begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
        append_in_time(sizes[i]);
        const uint64_t one = nd_record_stored_bytes(sizes[i]);
        hold(4);
        CHECK_EQUAL(nd_ring_drop(ring, 3 * one, &removed), ND_OK);      /* behind what is in flight */
        says_when(5, 7);
        CHECK_EQUAL(nd_ring_drop(ring, one, &removed), ND_OK);          /* where the hole ends */
        says_when(8, 8);
        CHECK_EQUAL(nd_ring_expire(ring, 9999, 4, &removed), ND_OK);    /* a run cut short before */
        says_when(1, 4);
        CHECK_EQUAL(nd_ring_expire(ring, 601, 14, &removed), ND_OK);    /* as far as it may */
        says_when(9, 14);
        CHECK_EQUAL(nd_ring_expire(ring, 601, UINT64_MAX, &removed), ND_OK);
        says_when(15, 18);
        CHECK_EQUAL(nd_ring_drop(ring, 12 * one, &removed), ND_OK);
        says_when(19, 30);
        end();
    }
}

static void the_next_seq_is_that_of_a_record(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    CHECK_EQUAL(nd_ring_next_seq(ring, 1), 0);
    append(20, 64, 1);
    hold(4);
    CHECK_EQUAL(nd_ring_drop(ring, 3 * 96, &removed), ND_OK);
    CHECK_EQUAL(nd_ring_next_seq(ring, 1), 1);
    CHECK_EQUAL(nd_ring_next_seq(ring, 5), 8);
    CHECK_EQUAL(nd_ring_next_seq(ring, 20), 20);
    CHECK_EQUAL(nd_ring_next_seq(ring, 21), 0);
    end();
}

static void time_that_falls_is_refused(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    append(1, 64, 100);
    test_request request = test_notifications(1, 64);
    CHECK_EQUAL(test_append(pool, ring, &request, 99, &route), ND_ERR_ARGUMENT);
    test_request_free(&request);
    end();
}

static void dropping_takes_no_more_than_asked(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    append(1000, 64, 1);
    hold(10);
    CHECK_EQUAL(nd_ring_drop(ring, 97, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 2);
    CHECK_EQUAL(removed.first_seq, 11);
    CHECK_EQUAL(nd_ring_drop(ring, 1 << 30, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 988);
    CHECK_EQUAL(nd_ring_drop(ring, 1, &removed), ND_EMPTY);
    holds_exactly(1, 10);
    append(5, 64, 1);                                           /* in the chunk that still holds the others */
    CHECK_EQUAL(stats().records, 15);
    end();
}

static void one_request_goes_to_many_rings_at_once(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    nd_ring *other;
    CHECK_EQUAL(nd_ring_open(pool, 8, 1, 1 << 20, ND_OVERFLOW_DROP_OLDEST, &other), ND_OK);
    test_request request = test_notifications(5, 70);
    const uint32_t indices[] = {1, 3, 4};
    nd_route routes[2] = {{.ring = ring}, {.ring = other, .indices = indices, .indices_count = 3}};
    CHECK_EQUAL(nd_rings_append(pool, routes, 2, request.block, request.block_bytes, request.meta, 5, 9), ND_OK);
    CHECK_EQUAL(routes[0].queued_count, 5);
    CHECK_EQUAL(routes[1].queued_count, 3);
    nd_span span;
    CHECK_EQUAL(nd_ring_span(other, 2, NULL, &span), ND_OK);
    CHECK(memcmp(nd_record_body(nd_span_next(&span)), request.block + 3 * 70, 70) == 0);
    CHECK_EQUAL(nd_ring_check(other), ND_OK);

    const uint32_t wrong[][2] = {{1, 1}, {2, 1}, {4, 5}};
    for (int i = 0; i < 3; i++) {
        nd_route bad[2] = {{.ring = ring}, {.ring = other, .indices = wrong[i], .indices_count = 2}};
        CHECK_EQUAL(nd_rings_append(pool, bad, 2, request.block, request.block_bytes, request.meta, 5, 9),
                    ND_ERR_ARGUMENT);
    }
    nd_route twice[2] = {{.ring = ring}, {.ring = ring}};
    CHECK_EQUAL(nd_rings_append(pool, twice, 2, request.block, request.block_bytes, request.meta, 5, 9),
                ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_rings_append(pool, routes, 2, request.block, request.block_bytes - 1, request.meta, 5, 9),
                ND_ERR_ARGUMENT);
    CHECK_EQUAL(stats().records, 5);
    test_request_free(&request);
    nd_ring_close(other);
    end();
}

static void lengths_that_cannot_be_are_refused(void)
{
    static const uint64_t bad[] = {
        1,                                              /* no object is one byte long */
        64 | 6ull << 56,                                /* no such kind */
        64,                                             /* a notification without a device */
        64 | 1ull << 40 | 60ull << 24,                  /* a tail that reaches into the head */
        64 | 60ull << 40,                               /* an ep that reaches past the end */
        64 | 1ull << 40 | 5ull << 56,                   /* an async response with a device */
        64 | 1ull << 24 | 5ull << 56,                   /* or with a tail */
    };
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    test_request request = test_notifications(1, 64);
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        request.meta[0] = bad[i];
        request.block_bytes = bad[i] & 0xffffff;
        CHECK_EQUAL(test_append(pool, ring, &request, 1, &route), ND_ERR_ARGUMENT);
    }
    CHECK_EQUAL(stats().last_seq, 0);
    test_request_free(&request);
    end();
}

/* Every allocation of a scenario fails once; each time nothing may have changed. */
static void a_request_is_stored_whole_or_not_at_all(void)
{
    uint64_t failures = 0;
    for (uint64_t fail_at = 1;; fail_at++) {
        begin_with(64 << 20, 1 << 30, ND_OVERFLOW_DROP_OLDEST);
        nd_ring *rings[3];
        for (int i = 0; i < 3; i++) {
            CHECK_EQUAL(nd_ring_open(pool, 8, 1, 500000, ND_OVERFLOW_DROP_OLDEST, &rings[i]), ND_OK);
        }
        memory.fail_at = memory.requests + fail_at;
        test_request request = test_notifications(6000, 200);
        test_request small = test_notifications(1, 64);
        nd_route routes[3] = {{.ring = rings[0]}, {.ring = rings[1]}, {.ring = rings[2]}};
        nd_status status = ND_OK;
        for (uint64_t round = 1; round <= 4; round++) {
            const test_request *r = round % 2 == 1 ? &small : &request;
            nd_ring_stats_t before[3], after[3];
            for (int i = 0; i < 3; i++) nd_ring_stats(rings[i], &before[i]);
            status = nd_rings_append(pool, routes, 3, r->block, r->block_bytes, r->meta, r->count, round);
            for (int i = 0; i < 3; i++) {
                nd_ring_stats(rings[i], &after[i]);
                CHECK_EQUAL(nd_ring_check(rings[i]), ND_OK);
                if (status != ND_OK) CHECK(memcmp(&before[i], &after[i], sizeof *before) == 0);
                else CHECK_EQUAL(after[i].last_seq, before[i].last_seq + r->count);
            }
            if (status != ND_OK) break;
        }
        test_request_free(&request);
        test_request_free(&small);
        for (int i = 0; i < 3; i++) nd_ring_close(rings[i]);
        const int has_failed = memory.requests >= memory.fail_at;
        end();
        if (!has_failed) {
            CHECK_EQUAL(status, ND_OK);
            break;
        }
        CHECK_EQUAL(status, ND_ERR_FULL);
        failures++;
    }
    CHECK(failures >= 5);
}

static void a_pool_that_runs_out_in_the_midst_changes_nothing(void)
{
    begin_with(4 << 20, 1 << 30, ND_OVERFLOW_DROP_OLDEST);
    nd_ring *other;
    CHECK_EQUAL(nd_ring_open(pool, 8, 1, 1 << 30, ND_OVERFLOW_DROP_OLDEST, &other), ND_OK);
    append(10, 64, 1);
    hold(10);
    nd_pool_stats_t before, after;
    nd_pool_stats(pool, &before);
    test_request request = test_notifications(15000, 150);
    nd_route routes[2] = {{.ring = ring}, {.ring = other}};
    CHECK_EQUAL(nd_rings_append(pool, routes, 2, request.block, request.block_bytes, request.meta, 15000, 2),
                ND_ERR_FULL);
    nd_pool_stats(pool, &after);
    CHECK_EQUAL(after.bytes_out, before.bytes_out);
    CHECK_EQUAL(stats().records, 10);
    CHECK_EQUAL(nd_rings_append(pool, routes, 1, request.block, request.block_bytes, request.meta, 15000, 2), ND_OK);
    holds_exactly(1, 15010);
    test_request_free(&request);
    nd_ring_close(other);
    end();
}

static void no_memory_for_a_hole_means_that_nothing_is_dropped(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    append(100, 64, 1);
    uint64_t seq = 2;
    while (ring->head + ring->count < ring->capacity) {         /* every hole takes a run */
        CHECK_EQUAL(nd_ring_isolate(ring, seq, &removed), ND_OK);
        seq += 2;
    }
    hold(seq + 3);
    const uint64_t records = stats().records;
    memory.fail_at = memory.requests + 1;
    CHECK_EQUAL(nd_ring_drop(ring, 96, &removed), ND_ERR_FULL);
    CHECK_EQUAL(removed.count, 0);
    CHECK_EQUAL(stats().records, records);
    memory.fail_at = memory.requests + 1;
    CHECK_EQUAL(nd_ring_isolate(ring, seq, &removed), ND_ERR_FULL);
    CHECK_EQUAL(stats().records, records);
    CHECK_EQUAL(nd_ring_drop(ring, 96, &removed), ND_OK);       /* the next request is answered */
    CHECK_EQUAL(removed.first_seq, seq + 4);
    CHECK_EQUAL(stats().records, records - 1);
    end();
}

static nd_record *record_of(uint64_t seq)
{
    nd_span span;
    CHECK_EQUAL(nd_ring_span(ring, seq, NULL, &span), ND_OK);
    CHECK_EQUAL(span.first_seq, seq);
    return (nd_record *)(void *)(uintptr_t)span.bytes;
}

static void a_damaged_body_is_isolated_alone(void)
{
    static const uint64_t places[] = {1, 5, 9};
    for (int i = 0; i < 3; i++) {
        begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
        append(9, 64, 1);
        hold(6);
        ((uint8_t *)(record_of(places[i]) + 1))[20] ^= 4;
        CHECK_EQUAL(nd_ring_check(ring), ND_ERR_CORRUPT);
        CHECK_EQUAL(nd_ring_isolate(ring, places[i], &removed), ND_OK);
        CHECK_EQUAL(removed.count, 1);
        CHECK_EQUAL(removed.first_seq, places[i]);
        CHECK_EQUAL(stats().records, 8);
        CHECK_EQUAL(nd_ring_isolate(ring, places[i], &removed), ND_EMPTY);
        end();
    }
}

static void a_damaged_length_takes_what_cannot_be_found_behind_it(void)
{
    static const uint32_t lengths[] = {0, 56, 72, 1 << 20, UINT32_MAX};
    for (int i = 0; i < 5; i++) {
        begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
        append(9, 64, 1);
        append(1, 300000, 1);                                   /* another chunk, another run */
        append(3, 64, 1);
        hold(2);
        record_of(5)->body_bytes = lengths[i];
        nd_span span;
        CHECK_EQUAL(nd_ring_span(ring, 7, NULL, &span), ND_ERR_CORRUPT);
        CHECK_EQUAL(nd_ring_isolate(ring, 5, &removed), ND_OK);
        CHECK_EQUAL(removed.first_seq, 5);
        CHECK(removed.last_seq == 5 || removed.last_seq == 9);
        if (removed.last_seq == 5) CHECK_EQUAL(nd_ring_isolate(ring, 6, &removed), ND_OK);
        CHECK_EQUAL(nd_ring_count(ring, 1, 4), 4);
        CHECK_EQUAL(nd_ring_count(ring, 5, 9), 0);
        CHECK_EQUAL(nd_ring_count(ring, 11, 13), 3);
        CHECK_EQUAL(stats().held_bytes, 2 * 96);
        end();
    }
}

static void settling_and_dropping_get_past_damage(void)
{
    begin_with(8 << 20, 13 * 96, ND_OVERFLOW_DROP_OLDEST);
    append(9, 64, 1);
    record_of(3)->body_bytes = 7;
    CHECK_EQUAL(nd_ring_settle(ring, 5, &removed), ND_ERR_CORRUPT);
    CHECK_EQUAL(removed.count, 9);
    CHECK_EQUAL(removed.last_seq, 9);
    CHECK_EQUAL(stats().records, 0);
    append(9, 64, 1);
    hold(14);
    record_of(11)->body_bytes = 7;
    CHECK_EQUAL(nd_ring_drop(ring, 96, &removed), ND_OK);
    CHECK_EQUAL(removed.last_seq, 18);
    CHECK_EQUAL(stats().held_bytes, 0);
    append(20, 64, 1);
    holds_exactly(26, 38);
    end();
}

/* A remembered place that has gone stale leads nowhere wrong. */
static void a_stale_place_is_noticed(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    append(40, 64, 1);
    nd_span span;
    CHECK_EQUAL(nd_ring_span(ring, 20, NULL, &span), ND_OK);
    nd_place place = {.seq = 20, .offset = span.offset};
    CHECK_EQUAL(nd_ring_span(ring, 30, &place, &span), ND_OK);
    CHECK_EQUAL(span.first_seq, 30);
    const nd_place elsewhere = {.seq = 20, .offset = 1 << 20};
    CHECK_EQUAL(nd_ring_span(ring, 30, &elsewhere, &span), ND_OK);
    CHECK_EQUAL(nd_span_next(&span)->seq, 30);
    CHECK_EQUAL(nd_ring_settle(ring, UINT64_MAX, &removed), ND_OK);
    CHECK_EQUAL(nd_ring_span(ring, 30, &place, &span), ND_EMPTY);
    append(7, 100, 1);                                          /* other records in the same chunk */
    CHECK_EQUAL(nd_ring_span(ring, 20, &place, &span), ND_OK);
    CHECK_EQUAL(span.first_seq, 41);
    CHECK_EQUAL(nd_ring_span(ring, 45, &place, &span), ND_OK);
    CHECK_EQUAL(span.first_seq, 45);
    CHECK_EQUAL(nd_span_next(&span)->seq, 45);
    end();
}

static void opening_checks_its_arguments(void)
{
    begin_with(8 << 20, 1 << 20, ND_OVERFLOW_DROP_OLDEST);
    nd_ring *other;
    CHECK_EQUAL(nd_ring_open(NULL, 1, 1, 1, ND_OVERFLOW_REJECT, &other), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_ring_open(pool, 1, 1, 0, ND_OVERFLOW_REJECT, &other), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_ring_open(pool, 1, 1, (1ull << 40) + 1, ND_OVERFLOW_REJECT, &other), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_ring_open(pool, 1, 1, 1, (nd_overflow)3, &other), ND_ERR_ARGUMENT);
    memory.fail_at = memory.requests + 1;
    CHECK_EQUAL(nd_ring_open(pool, 1, 1, 1, ND_OVERFLOW_REJECT, &other), ND_ERR_FULL);
    nd_ring_close(NULL);
    end();
}

int main(void)
{
    RUN(an_empty_ring_takes_no_chunk);
    RUN(records_of_every_size_come_out_as_they_went_in);
    RUN(a_record_larger_than_any_chunk_is_refused);
    RUN(twenty_thousand_records_settle_in_any_steps);
    RUN(a_ring_can_be_emptied_and_filled_again_for_ever);
    RUN(a_full_ring_drops_its_oldest);
    RUN(what_is_in_flight_is_never_dropped);
    RUN(a_record_that_never_fits_spares_the_others);
    RUN(policy_reject_gives_no_seq);
    RUN(expiry_goes_by_age_and_not_by_flight);
    RUN(what_is_lost_says_when_it_was_received);
    RUN(the_next_seq_is_that_of_a_record);
    RUN(time_that_falls_is_refused);
    RUN(dropping_takes_no_more_than_asked);
    RUN(one_request_goes_to_many_rings_at_once);
    RUN(lengths_that_cannot_be_are_refused);
    RUN(a_request_is_stored_whole_or_not_at_all);
    RUN(a_pool_that_runs_out_in_the_midst_changes_nothing);
    RUN(no_memory_for_a_hole_means_that_nothing_is_dropped);
    RUN(a_damaged_body_is_isolated_alone);
    RUN(a_damaged_length_takes_what_cannot_be_found_behind_it);
    RUN(settling_and_dropping_get_past_damage);
    RUN(a_stale_place_is_noticed);
    RUN(opening_checks_its_arguments);
    return 0;
}
