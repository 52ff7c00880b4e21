#include "fake_disk.h"
#include "nd_fetch.h"
#include "nd_framed.h"
#include "nd_residency.h"
#include "nd_test.h"

enum { POOL_BYTES = 8 << 20, STORED = 1032, BODY = 1000 };

static test_memory memory;
static fake_disk *disk;
static nd_pool *pool;
static nd_framer *framer;
static nd_residency *residency;
static nd_removed removed;
static nd_fetched fetched;

static void begin_with(uint64_t pool_bytes)
{
    test_memory_begin(&memory);
    disk = fake_disk_new(1);
    CHECK_EQUAL(nd_pool_open(&memory.io, pool_bytes, &pool), ND_OK);
    CHECK_EQUAL(nd_framer_open(pool, &framer), ND_OK);
    CHECK_EQUAL(nd_residency_open(&memory.io, fake_disk_files(disk), pool, "scratch", UINT64_MAX, &residency), ND_OK);
}

static void begin(void)
{
    begin_with(POOL_BYTES);
}

static void end(void)
{
    nd_framer_close(framer);
    nd_residency_close(residency);
    nd_pool_close(pool);
    CHECK_EQUAL(fake_disk_count(disk), 0);                      /* the file is gone */
    fake_disk_free(disk);
    test_memory_end(&memory);
}

static nd_ring *ring_with(uint64_t queue_bytes)
{
    static uint64_t incarnation;
    nd_ring *ring;
    incarnation++;
    CHECK_EQUAL(nd_ring_open(pool, incarnation, 1, queue_bytes, ND_OVERFLOW_DROP_OLDEST, &ring), ND_OK);
    return ring;
}

static nd_status append(nd_ring *ring, uint64_t count, uint64_t unix_ms)
{
    test_request request = test_notifications(count, BODY);
    nd_route route;
    const nd_status status = test_append(pool, ring, &request, unix_ms, &route);
    test_request_free(&request);
    return status;
}

static nd_ring_stats_t stats_of(nd_ring *ring)
{
    nd_ring_stats_t stats;
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    nd_ring_stats(ring, &stats);
    return stats;
}

static nd_residency_stats_t figures(void)
{
    nd_residency_stats_t stats;
    nd_residency_stats(residency, &stats);
    return stats;
}

static const nd_reach everything = {.last_seq = UINT64_MAX, .bytes_max = UINT64_MAX, .records_max = UINT64_MAX};

static nd_reach from(uint64_t first_seq, uint64_t bytes_max)
{
    return (nd_reach){.first_seq = first_seq, .last_seq = UINT64_MAX, .bytes_max = bytes_max, .records_max = UINT64_MAX};
}

static int is_cold(nd_ring *ring, uint64_t seq)
{
    const nd_reach one = {.first_seq = seq, .last_seq = seq, .bytes_max = 1, .records_max = 1};
    CHECK_EQUAL(nd_ring_has_cold(ring, NULL), nd_ring_has_cold(ring, &everything));
    return nd_ring_has_cold(ring, &one);
}

static nd_status fetch(nd_ring *ring, nd_reach reach)
{
    nd_fetch *going;
    uint64_t bytes;
    const nd_status status = nd_fetch_begin(ring, &reach, &bytes, &going);
    if (status != ND_OK) return status;
    nd_fetch_read(going);
    return nd_fetch_end(going, &fetched);
}

static void move_all_out(void)
{
    CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES), ND_OK);
    nd_pool_stats_t stats;
    nd_pool_stats(pool, &stats);
    CHECK_EQUAL(stats.bytes_out, 0);
}

/* A message for each record after a seq, however cold they are; freed by the caller. */
static char *read_through(nd_ring *ring, uint64_t after)
{
    char *text = calloc(1, 64 << 20);
    uint64_t at = 0;
    for (;;) {
        nd_batch batch;
        nd_status status = nd_frame_plan(framer, ring, &(nd_slice){after, UINT64_MAX, 1, 1 << 20, 0}, &batch);
        if (status == ND_EMPTY) break;
        if (status == ND_COLD) {
            CHECK_EQUAL(fetch(ring, from(after + 1, 1)), ND_OK);
            continue;
        }
        CHECK_EQUAL(status, ND_OK);
        char *part = test_read(ring, &batch, 100000);
        memcpy(text + at, part, batch.bytes_count);
        at += batch.bytes_count;
        free(part);
        after = batch.last_seq;
    }
    return text;
}

/* --- there and back ------------------------------------------------------------------ */

static void what_was_moved_comes_back_as_it_was(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 3000, 5), ND_OK);
    char *before = read_through(ring, 0);
    move_all_out();
    CHECK(is_cold(ring, 1) && is_cold(ring, 3000));
    CHECK_EQUAL(stats_of(ring).records, 3000);
    CHECK_EQUAL(stats_of(ring).oldest_unix_ms, 5);
    nd_batch batch;
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){0, UINT64_MAX, 10, 1 << 20, 0}, &batch), ND_COLD);
    CHECK_EQUAL(batch.next_seq, 1);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 1, 10, 10, 0, &batch), ND_COLD);
    char *after = read_through(ring, 0);
    CHECK(strcmp(before, after) == 0);
    CHECK_EQUAL(fetch(ring, everything), ND_EMPTY);
    free(before);
    free(after);
    CHECK_EQUAL(nd_ring_settle(ring, UINT64_MAX, &removed), ND_OK);
    CHECK_EQUAL(removed.bytes, 3000u * STORED);
    CHECK_EQUAL(figures().slot_bytes, 0);
    nd_ring_close(ring);
    end();
}

static void more_than_memory_goes_in_and_comes_out(void)
{
    begin();
    nd_ring *rings[4];
    for (uint32_t i = 0; i < 4; i++) rings[i] = ring_with(50 << 20);
    for (uint32_t round = 0; round < 100; round++) {
        nd_ring *ring = rings[round % 4];
        nd_status status;
        while ((status = append(ring, 300, 1)) == ND_ERR_FULL) {
            CHECK_EQUAL(nd_residency_make_room(residency, figures().free_bytes + (1 << 20)), ND_OK);
        }
        CHECK_EQUAL(status, ND_OK);
        CHECK(figures().free_bytes >= figures().reserve_bytes);
    }
    CHECK(figures().disk_bytes > 3 * (uint64_t)POOL_BYTES);
    for (uint32_t i = 0; i < 4; i++) {
        for (uint64_t first = 1; first <= 7500; first += 1000) {
            while (fetch(rings[i], from(first, 500 << 10)) == ND_ERR_FULL) {    /* what is free may be in small pieces */
                CHECK_EQUAL(nd_residency_make_room(residency, figures().free_bytes + (1 << 20)), ND_OK);
            }
            nd_batch batch;
            const nd_slice slice = {first - 1, UINT64_MAX, 100, 1 << 20, 0};
            CHECK_EQUAL(nd_frame_plan(framer, rings[i], &slice, &batch), ND_OK);
            CHECK_EQUAL(batch.first_seq, first);
        }
        CHECK_EQUAL(stats_of(rings[i]).records, 7500);
        nd_ring_close(rings[i]);
    }
    CHECK_EQUAL(figures().slot_bytes, 0);
    end();
}

static void the_newest_of_the_coldest_goes_first(void)
{
    begin();
    nd_ring *cold = ring_with(50 << 20), *warm = ring_with(50 << 20);
    CHECK_EQUAL(append(cold, 2000, 1), ND_OK);
    CHECK_EQUAL(append(warm, 2000, 1), ND_OK);
    CHECK(nd_ring_is_warm(cold, 1));
    CHECK(nd_ring_is_warm(warm, 1));
    CHECK_EQUAL(nd_residency_make_room(residency, figures().free_bytes + (1 << 20)), ND_OK);
    CHECK(!is_cold(cold, 1));                                   /* will be read next */
    CHECK(!is_cold(cold, 2000));                                /* is written to */
    CHECK(is_cold(cold, 1600));
    CHECK(!is_cold(warm, 1600));
    CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES - (1 << 20)), ND_OK);
    CHECK(is_cold(cold, 1) && is_cold(warm, 1600) && !is_cold(warm, 1));
    CHECK(!is_cold(warm, 2000));                                /* the last to go */
    nd_ring_close(cold);
    nd_ring_close(warm);
    end();
}

static void a_tail_that_was_moved_is_not_written_to_again(void)
{
    begin();
    nd_ring *ring = ring_with(1 << 20);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_EQUAL(append(ring, 1, 1), ND_OK);
        if (i % 3 == 0) move_all_out();
        if (i % 3 == 1) CHECK(fetch(ring, everything) >= 0);
    }
    CHECK(fetch(ring, everything) >= 0);
    CHECK_EQUAL(stats_of(ring).records, 10);
    nd_ring_close(ring);
    end();
}

static void chunks_are_small_where_many_rings_share_little_memory(void)
{
    begin();
    enum { RINGS = 200 };
    nd_ring *rings[RINGS];
    nd_route routes[RINGS];
    for (uint32_t i = 0; i < RINGS; i++) rings[i] = ring_with(50 << 20);
    test_request request = test_notifications(10, BODY);
    for (uint32_t round = 0; round < 30; round++) {
        for (uint32_t i = 0; i < RINGS; i++) routes[i] = (nd_route){.ring = rings[i]};
        CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES / 4 * 3), ND_OK);
        CHECK_EQUAL(nd_rings_append(pool, routes, RINGS, request.block, request.block_bytes, request.meta,
                                    request.count, 1), ND_OK);
    }
    test_request_free(&request);
    for (uint32_t i = 0; i < RINGS; i++) {
        CHECK_EQUAL(stats_of(rings[i]).records, 300);
        nd_ring_close(rings[i]);
    }
    end();
}

/* --- what happens while a chunk is on its way ----------------------------------------- */

/* Do one of six things to a ring of two records whose chunk is on its way out; NULL: it was closed. */
static nd_ring *change_one(nd_ring *ring, int change)
{
    switch (change) {
    case 0: CHECK_EQUAL(append(ring, 1, 1), ND_OK); break;
    case 1: CHECK_EQUAL(nd_ring_settle(ring, 1, &removed), ND_OK); break;
    case 2: CHECK_EQUAL(nd_ring_settle(ring, UINT64_MAX, &removed), ND_OK); break;
    case 3:
        nd_ring_hold(ring, (nd_place){.seq = 2});
        CHECK_EQUAL(nd_ring_drop(ring, UINT64_MAX, &removed), ND_OK);
        CHECK_EQUAL(append(ring, 1, 1), ND_OK);                 /* where the dropped one was */
        break;
    case 4: CHECK(nd_ring_is_warm(ring, 1)); break;
    default: nd_ring_close(ring); return NULL;
    }
    return ring;
}

static void what_changes_while_it_is_written_stays_in_memory(void)
{
    for (int change = 0; change < 12; change++) {
        begin();
        nd_ring *ring = ring_with(50 << 20);
        CHECK_EQUAL(append(ring, 2, 1), ND_OK);
        CHECK_EQUAL(nd_out_begin(residency, POOL_BYTES), ND_OK);        /* space first */
        nd_out_carry_out(residency);
        CHECK_EQUAL(nd_out_end(residency), ND_OK);
        CHECK_EQUAL(nd_out_begin(residency, POOL_BYTES), ND_OK);
        CHECK_EQUAL(nd_out_begin(residency, POOL_BYTES), ND_ERR_ARGUMENT);      /* one at a time */
        if (change >= 6) nd_out_carry_out(residency);
        ring = change_one(ring, change % 6);
        if (change < 6) nd_out_carry_out(residency);
        CHECK_EQUAL(nd_out_end(residency), ND_OK);
        if (ring != NULL) {
            CHECK_EQUAL(is_cold(ring, 2), change % 6 == 1);     /* what is left of it is as it was */
            const uint64_t records = stats_of(ring).records;
            move_all_out();
            CHECK(fetch(ring, everything) >= 0);
            CHECK_EQUAL(stats_of(ring).records, records);
            nd_ring_close(ring);
        }
        CHECK_EQUAL(figures().slot_bytes, 0);
        end();
    }
}

static void a_copy_leaves_memory_without_being_written_again(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 1000, 1), ND_OK);
    move_all_out();
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    const uint64_t calls = fake_disk_calls(disk);
    CHECK(nd_residency_drop_copies(residency, 1) > 0);
    CHECK(!is_cold(ring, 1) && is_cold(ring, 1000));
    CHECK(nd_residency_drop_copies(residency, POOL_BYTES) > 0);
    CHECK_EQUAL(nd_residency_drop_copies(residency, POOL_BYTES), 0);
    CHECK(is_cold(ring, 1));
    CHECK_EQUAL(fake_disk_calls(disk), calls);
    nd_ring_close(ring);
    end();
}

static void a_fetch_puts_back_only_what_is_still_there(void)
{
    for (int change = 0; change < 5; change++) {
        begin();
        nd_ring *ring = ring_with(50 << 20);
        CHECK_EQUAL(append(ring, 600, 1), ND_OK);
        nd_ring_hold(ring, (nd_place){.seq = 101});
        move_all_out();
        nd_fetch *one, *other;
        uint64_t bytes;
        CHECK_EQUAL(nd_fetch_begin(ring, &everything, &bytes, &one), ND_OK);
        CHECK_EQUAL(nd_fetch_begin(ring, &everything, &bytes, &other), ND_OK);
        nd_fetch_read(one);
        nd_fetch_read(other);
        switch (change) {
        case 0: break;
        case 1: CHECK_EQUAL(nd_ring_settle(ring, 300, &removed), ND_OK); break;
        case 2: CHECK_EQUAL(nd_ring_settle(ring, UINT64_MAX, &removed), ND_OK); break;
        case 3: CHECK_EQUAL(nd_ring_drop(ring, UINT64_MAX, &removed), ND_OK); break;
        default: nd_ring_close(ring); ring = NULL; break;
        }
        const uint64_t records = ring != NULL ? stats_of(ring).records : 0;
        CHECK_EQUAL(nd_fetch_end(other, &fetched), ND_OK);
        CHECK_EQUAL(nd_fetch_end(one, &fetched), ND_OK);
        if (ring != NULL) {
            CHECK_EQUAL(stats_of(ring).records, records);
            CHECK_EQUAL(fetch(ring, everything), ND_EMPTY);
            nd_ring_close(ring);
        }
        end();
    }
}

static void a_slot_that_is_being_read_is_not_taken_for_another_chunk_of_the_ring(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 2, 1), ND_OK);
    move_all_out();
    CHECK_EQUAL(append(ring, 2, 1), ND_OK);
    nd_fetch *going;
    uint64_t bytes;
    const nd_reach first = from(1, 1);
    CHECK_EQUAL(nd_fetch_begin(ring, &first, &bytes, &going), ND_OK);
    nd_fetch_read(going);
    CHECK_EQUAL(nd_ring_settle(ring, 2, &removed), ND_OK);      /* its slot is free now */
    CHECK_EQUAL(nd_out_begin(residency, POOL_BYTES), ND_EMPTY);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
    move_all_out();
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    CHECK_EQUAL(stats_of(ring).records, 2);
    nd_ring_close(ring);
    end();
}

static void a_step_that_was_never_carried_out_moves_nothing(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 2, 1), ND_OK);
    CHECK_EQUAL(nd_out_begin(residency, POOL_BYTES), ND_OK);
    CHECK_EQUAL(nd_out_end(residency), ND_ERR_IO);
    CHECK_EQUAL(figures().disk_bytes, 0);
    move_all_out();
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    CHECK_EQUAL(append(ring, 2, 1), ND_OK);
    CHECK_EQUAL(nd_out_begin(residency, POOL_BYTES), ND_OK);
    CHECK_EQUAL(nd_out_end(residency), ND_ERR_IO);
    CHECK(!is_cold(ring, 4));
    CHECK_EQUAL(stats_of(ring).records, 4);
    nd_ring_close(ring);
    end();
}

static void a_fetch_that_was_never_read_puts_nothing_back(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 10, 1), ND_OK);
    move_all_out();
    nd_fetch *going;
    uint64_t bytes;
    CHECK_EQUAL(nd_fetch_begin(ring, &everything, &bytes, &going), ND_OK);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_ERR_IO);
    CHECK(is_cold(ring, 1));
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    CHECK_EQUAL(stats_of(ring).records, 10);
    nd_ring_close(ring);
    end();
}

static void a_fetch_finds_memory_when_nothing_can_be_written_out(void)
{
    begin_with(64 << 20);
    nd_ring *ring = ring_with(50 << 20), *other = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 20000, 1), ND_OK);
    CHECK_EQUAL(nd_residency_make_room(residency, 64 << 20), ND_OK);
    while (append(other, 1000, 1) == ND_OK) {}
    fake_disk_hold_at_most(disk, 1);
    nd_fetch *going;
    uint64_t bytes;
    CHECK_EQUAL(nd_fetch_begin(ring, &everything, &bytes, &going), ND_NO_ROOM);
    CHECK(bytes >= 20000u * STORED);
    for (uint64_t seq = 1; seq <= 20000; seq += 200) {          /* more than the reserve in all */
        CHECK(fetch(ring, from(seq, 200u * STORED)) >= 0);
        CHECK(!is_cold(ring, seq));
    }
    CHECK_EQUAL(append(other, 1000, 1), ND_ERR_FULL);
    CHECK_EQUAL(stats_of(ring).records, 20000);
    nd_ring_close(ring);
    nd_ring_close(other);
    end();
}

/* --- leaving while cold --------------------------------------------------------------- */

static void settling_in_a_cold_chunk_counts_its_bytes_later(void)
{
    for (int goes_back = 0; goes_back < 2; goes_back++) {
        begin();
        nd_ring *ring = ring_with(50 << 20);
        CHECK_EQUAL(append(ring, 100, 7), ND_OK);
        move_all_out();
        const uint64_t calls = fake_disk_calls(disk);
        CHECK_EQUAL(nd_ring_settle(ring, 30, &removed), ND_OK);
        CHECK_EQUAL(removed.count, 30);
        CHECK_EQUAL(removed.last_seq, 30);
        CHECK_EQUAL(nd_ring_settle(ring, 40, &removed), ND_OK);
        CHECK_EQUAL(removed.count, 10);
        CHECK_EQUAL(removed.bytes, 0);
        CHECK_EQUAL(nd_ring_settle(ring, 40, &removed), ND_EMPTY);
        CHECK_EQUAL(fake_disk_calls(disk), calls);
        CHECK_EQUAL(stats_of(ring).records, 60);
        CHECK_EQUAL(stats_of(ring).settled_seq, 40);
        CHECK_EQUAL(stats_of(ring).bytes, 100u * STORED);
        if (goes_back) {
            CHECK_EQUAL(fetch(ring, everything), ND_OK);
            CHECK_EQUAL(fetched.gone_bytes, 40u * STORED);
            CHECK_EQUAL(stats_of(ring).bytes, 60u * STORED);
            char *text = read_through(ring, 0);
            CHECK(strstr(text, "/00000040") != NULL && strstr(text, "/00000039") == NULL);
            free(text);
        }
        CHECK_EQUAL(nd_ring_settle(ring, 100, &removed), ND_OK);
        CHECK_EQUAL(removed.count, 60);
        CHECK_EQUAL(removed.bytes, goes_back ? 60u * STORED : 100u * STORED);
        CHECK_EQUAL(stats_of(ring).bytes, 0);
        nd_ring_close(ring);
        end();
    }
}

static void dropping_gives_a_cold_chunk_up_but_not_what_is_in_flight(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 1000, 1), ND_OK);
    nd_batch batch;
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){0, UINT64_MAX, 20, 1 << 20, 0}, &batch), ND_OK);
    move_all_out();
    const uint64_t calls = fake_disk_calls(disk);
    const uint64_t held = stats_of(ring).held_bytes / STORED;   /* the whole chunk */
    CHECK(held > 20 && held < 300);
    CHECK_EQUAL(nd_ring_drop(ring, 1, &removed), ND_OK);
    CHECK_EQUAL(removed.first_seq, held + 1);
    CHECK(removed.count > 1 && removed.count < 300);
    CHECK_EQUAL(nd_ring_drop(ring, UINT64_MAX, &removed), ND_OK);
    CHECK_EQUAL(removed.last_seq, 1000);
    CHECK_EQUAL(stats_of(ring).records, held);
    CHECK_EQUAL(nd_ring_drop(ring, 1, &removed), ND_EMPTY);
    CHECK_EQUAL(fake_disk_calls(disk), calls);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 1, 20, 20, 0, &batch), ND_COLD);
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 1, 20, 20, 0, &batch), ND_OK);
    CHECK_EQUAL(stats_of(ring).held_bytes, 20u * STORED);
    CHECK_EQUAL(nd_ring_drop(ring, 1, &removed), ND_OK);
    CHECK_EQUAL(removed.first_seq, 21);
    CHECK_EQUAL(removed.count, 1);
    nd_ring_close(ring);
    end();
}

static void a_full_ring_of_cold_chunks_goes_on_taking(void)
{
    begin();
    nd_ring *ring = ring_with(2000u * STORED);
    for (uint64_t round = 0; round < 100; round++) {
        CHECK_EQUAL(append(ring, 100, 1), ND_OK);
        move_all_out();
        CHECK(stats_of(ring).bytes <= 2000u * STORED);
    }
    CHECK(stats_of(ring).records > 1600);
    nd_ring_release(ring, 5);                                   /* in the midst of what is cold */
    nd_ring_hold(ring, (nd_place){.seq = 8500});
    for (uint64_t round = 0; round < 20; round++) {
        CHECK_EQUAL(append(ring, 100, 1), ND_OK);
        move_all_out();
        CHECK(nd_ring_has(ring, 8499, &(nd_span){0}));
    }
    CHECK_EQUAL(nd_ring_isolate(ring, 8499, &removed), ND_COLD);
    nd_ring_close(ring);
    end();
}

static void expiry_waits_for_a_chunk_of_which_some_are_too_old(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 600, 10), ND_OK);
    for (uint64_t i = 0; i < 100; i++) CHECK_EQUAL(append(ring, 1, 20 + i), ND_OK);
    move_all_out();
    const uint64_t calls = fake_disk_calls(disk);
    CHECK_EQUAL(nd_ring_expire(ring, 10, UINT64_MAX, &removed), ND_EMPTY);
    CHECK_EQUAL(nd_ring_expire(ring, 70, UINT64_MAX, &removed), ND_OK);     /* whole chunks of 10 ms */
    CHECK(removed.count > 400 && removed.count <= 600);
    const uint64_t left = 650 - removed.count;
    CHECK_EQUAL(nd_ring_expire(ring, 70, UINT64_MAX, &removed), ND_EMPTY);
    CHECK_EQUAL(fake_disk_calls(disk), calls);
    CHECK_EQUAL(fetch(ring, from(1, 1)), ND_OK);
    CHECK_EQUAL(fetched.expire_unix_ms, 70);
    CHECK_EQUAL(nd_ring_expire(ring, fetched.expire_unix_ms, UINT64_MAX, &removed), ND_OK);
    CHECK_EQUAL(removed.count, left);
    CHECK_EQUAL(removed.last_unix_ms, 69);
    CHECK_EQUAL(stats_of(ring).records, 50);
    CHECK_EQUAL(stats_of(ring).oldest_unix_ms, 70);
    nd_ring_close(ring);
    end();
}

static void what_is_in_flight_expires_apart_from_what_is_not(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 600, 10), ND_OK);
    move_all_out();
    CHECK_EQUAL(nd_ring_expire(ring, 11, 20, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 20);
    CHECK_EQUAL(removed.last_seq, 20);
    CHECK_EQUAL(nd_ring_expire(ring, 11, UINT64_MAX, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 580);
    CHECK_EQUAL(removed.first_seq, 21);
    CHECK_EQUAL(stats_of(ring).bytes, 0);
    nd_ring_close(ring);
    end();
}

static void what_was_in_flight_is_held_again_without_being_read(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 600, 1), ND_OK);
    for (int is_moved = 0; is_moved < 2; is_moved++) {
        if (is_moved) move_all_out();
        nd_ring_release(ring, 0);
        CHECK_EQUAL(nd_ring_hold_again(ring, 1, 1, 20, 19), ND_ERR_TRIMMED);
        CHECK_EQUAL(nd_ring_hold_again(ring, 2, 1, 20, 20), ND_ERR_TRIMMED);
        CHECK_EQUAL(nd_ring_hold_again(ring, 1, 0, 20, 20), ND_ERR_TRIMMED);
        CHECK_EQUAL(nd_ring_hold_again(ring, 1, 590, 601, 12), ND_ERR_TRIMMED);
        CHECK_EQUAL(stats_of(ring).held_bytes, 0);
        CHECK_EQUAL(nd_ring_hold_again(ring, 1, 1, 20, 20), ND_OK);
        CHECK(stats_of(ring).held_bytes >= 20u * STORED);       /* if it is cold, the whole chunk */
    }
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    CHECK_EQUAL(stats_of(ring).held_bytes, 20u * STORED);
    nd_ring_close(ring);
    end();
}

static void a_batch_is_read_to_the_edge_of_the_cold_and_goes_on(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 1000, 1), ND_OK);
    nd_batch batch;
    CHECK_EQUAL(nd_frame_plan_exact(ring, 1, 1000, 1000, 0, &batch), ND_OK);
    char *before = test_read(ring, &batch, 1 << 20);
    nd_batch_rewind(&batch);
    move_all_out();
    char *after = malloc(batch.bytes_count + 1);
    uint64_t at = 0, times_cold = 0;
    while (at < batch.bytes_count) {
        const nd_status status = nd_batch_write(ring, &batch, (uint8_t *)after + at, batch.bytes_count - at);
        if (status == ND_COLD) {
            times_cold++;
            CHECK(!nd_ring_is_warm(ring, batch.next_seq));
            CHECK_EQUAL(fetch(ring, from(batch.next_seq, 1)), ND_OK);
            CHECK(nd_ring_is_warm(ring, batch.next_seq));
            continue;
        }
        CHECK_EQUAL(status, ND_OK);
        at += batch.bytes_written;
    }
    CHECK(times_cold > 2);
    CHECK(memcmp(before, after, at) == 0);
    free(before);
    free(after);
    nd_ring_close(ring);
    end();
}

/* --- where seqs have holes -------------------------------------------------------------- */

/* A ring of policy keep-latest in which every other of the first records was superseded. */
static nd_ring *ring_with_holes(void)
{
    enum { RECORDS = 400 };
    nd_ring *ring = ring_with(RECORDS * STORED);
    (void)nd_ring_set_overflow(ring, ND_OVERFLOW_KEEP_LATEST);
    CHECK_EQUAL(append(ring, RECORDS, 5), ND_OK);
    uint32_t even[RECORDS / 2];
    for (uint32_t i = 0; i < RECORDS / 2; i++) even[i] = 2 * i;
    test_request request = test_notifications(RECORDS, BODY);
    nd_route route = {.ring = ring, .indices = even, .indices_count = RECORDS / 2};
    CHECK_EQUAL(nd_rings_append(pool, &route, 1, request.block, request.block_bytes, request.meta, request.count, 6), ND_OK);
    CHECK_EQUAL(route.superseded.count, RECORDS / 2);
    test_request_free(&request);
    return ring;
}

static void what_is_cold_still_knows_which_seqs_it_has(void)
{
    begin();
    nd_ring *ring = ring_with_holes();
    for (int is_cold_now = 0; is_cold_now < 2; is_cold_now++) {
        nd_span near = {0};
        uint64_t count = 0;
        for (uint64_t seq = 1; seq <= 600; seq++) {
            const int is_here = seq > 400 || seq % 2 == 0;
            CHECK_EQUAL(nd_ring_has(ring, seq, &near), is_here);
            CHECK_EQUAL(nd_ring_has(ring, seq, &(nd_span){0}), is_here);
            count += (uint64_t)is_here;
            CHECK_EQUAL(nd_ring_count(ring, 1, seq), count);
        }
        if (is_cold_now == 0) move_all_out();
    }
    const uint64_t calls = fake_disk_calls(disk);
    CHECK_EQUAL(nd_ring_settle(ring, 100, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 50);
    CHECK_EQUAL(removed.bytes, 50u * STORED);
    CHECK_EQUAL(removed.first_seq, 2);
    CHECK_EQUAL(removed.last_seq, 100);
    CHECK_EQUAL(nd_ring_settle(ring, 103, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 1);
    CHECK_EQUAL(removed.last_seq, 102);
    CHECK_EQUAL(fake_disk_calls(disk), calls);
    CHECK_EQUAL(stats_of(ring).settled_seq, 103);
    CHECK_EQUAL(nd_ring_count(ring, 1, 110), 4);
    CHECK_EQUAL(nd_ring_hold_again(ring, 1, 104, 110, 4), ND_OK);
    CHECK_EQUAL(nd_ring_hold_again(ring, 1, 104, 111, 4), ND_ERR_TRIMMED);
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    CHECK_EQUAL(fetched.gone_bytes, 0);                         /* they were counted when they went */
    CHECK_EQUAL(stats_of(ring).bytes, (400u - 51u) * STORED);
    CHECK_EQUAL(stats_of(ring).held_bytes, 4u * STORED);
    nd_ring_close(ring);
    end();
}

static void what_is_cold_is_superseded_without_being_read(void)
{
    begin();
    nd_ring *ring = ring_with_holes();                          /* resources 1, 3 .. 399 of the first, 0, 2 .. 398 behind */
    test_request request = test_notifications(100, BODY);
    nd_route route;
    nd_ring_hold(ring, (nd_place){.seq = 3});                   /* the first record is in flight */
    move_all_out();
    CHECK(figures().known_bytes > 0);
    const uint64_t calls = fake_disk_calls(disk);
    CHECK_EQUAL(test_append(pool, ring, &request, 8, &route), ND_OK);
    CHECK_EQUAL(fake_disk_calls(disk), calls);
    CHECK_EQUAL(route.superseded.count, 99);                    /* one of each of a hundred, but for the first */
    CHECK_EQUAL(route.superseded.bytes, 99u * STORED);
    CHECK_EQUAL(route.superseded.first_seq, 4);
    CHECK_EQUAL(route.superseded.last_seq, 450);
    CHECK_EQUAL(route.dropped.count, 1);
    CHECK_EQUAL(route.dropped.first_seq, 102);
    CHECK_EQUAL(stats_of(ring).records, 400);
    CHECK_EQUAL(stats_of(ring).held_bytes, STORED);
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    CHECK_EQUAL(fetched.gone_bytes, 0);
    CHECK_EQUAL(figures().known_bytes, 0);
    CHECK_EQUAL(stats_of(ring).bytes, 400u * STORED);
    char *here = read_through(ring, 0);
    move_all_out();                                             /* closed up, it has to be written again */
    char *back = read_through(ring, 0);
    CHECK(strcmp(here, back) == 0);
    free(here);
    free(back);
    test_request_free(&request);
    nd_ring_close(ring);
    CHECK_EQUAL(figures().slot_bytes, 0);
    CHECK_EQUAL(figures().known_bytes, 0);
    end();
}

static void a_cold_queue_drops_no_more_than_it_has_to_when_its_records_are_known(void)
{
    begin();
    nd_ring *ring = ring_with(500u * STORED);
    (void)nd_ring_set_overflow(ring, ND_OVERFLOW_KEEP_LATEST);
    CHECK_EQUAL(append(ring, 500, 5), ND_OK);
    nd_ring_hold(ring, (nd_place){.seq = 11});
    move_all_out();
    CHECK_EQUAL(stats_of(ring).held_bytes, 10u * STORED);
    CHECK_EQUAL(nd_ring_drop(ring, 7 * STORED - 3, &removed), ND_OK);
    CHECK_EQUAL(removed.count, 7);
    CHECK_EQUAL(removed.first_seq, 11);
    CHECK_EQUAL(removed.last_seq, 17);
    CHECK_EQUAL(nd_ring_next_seq(ring, 11), 18);
    nd_ring_release(ring, 0);
    CHECK_EQUAL(nd_ring_drop(ring, 10 * STORED, &removed), ND_OK);
    CHECK_EQUAL(removed.last_seq, 10);
    CHECK_EQUAL(stats_of(ring).settled_seq, 17);
    CHECK_EQUAL(fetch(ring, everything), ND_OK);
    CHECK_EQUAL(stats_of(ring).bytes, 483u * STORED);
    nd_ring_close(ring);
    end();
}

static void what_may_be_superseded_moves_last(void)
{
    begin();
    nd_ring *latest = ring_with_holes(), *other = ring_with(50 << 20);
    CHECK_EQUAL(append(other, 1000, 9), ND_OK);
    CHECK_EQUAL(nd_residency_make_room(residency, figures().free_bytes + (1 << 20) / 2), ND_OK);
    CHECK(!is_cold(latest, 2) && is_cold(other, 600));
    CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES), ND_OK);
    CHECK(is_cold(latest, 2));
    nd_ring_close(latest);
    nd_ring_close(other);
    end();
}

static void without_memory_for_its_seqs_a_chunk_stays(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 10, 5), ND_OK);
    CHECK_EQUAL(nd_ring_resume(ring, 20), ND_OK);               /* other seqs are missing in between */
    CHECK_EQUAL(append(ring, 10, 5), ND_OK);
    CHECK_EQUAL(nd_out_begin(residency, POOL_BYTES), ND_OK);
    nd_out_carry_out(residency);
    CHECK_EQUAL(nd_out_end(residency), ND_OK);
    CHECK_EQUAL(nd_out_begin(residency, POOL_BYTES), ND_OK);
    nd_out_carry_out(residency);
    memory.fail_at = memory.requests + 1;
    CHECK_EQUAL(nd_out_end(residency), ND_OK);
    CHECK(memory.requests >= memory.fail_at);
    stats_of(ring);
    move_all_out();
    free(read_through(ring, 0));
    nd_ring_close(ring);
    end();
}

/* --- when the machine refuses ---------------------------------------------------------- */

static void a_full_disk_loses_nothing_and_is_tried_again(void)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 5000, 1), ND_OK);
    fake_disk_hold_at_most(disk, 1);
    CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES), ND_ERR_NOSPACE);
    CHECK_EQUAL(figures().disk_bytes, 0);
    CHECK_EQUAL(stats_of(ring).records, 5000);
    CHECK_EQUAL(append(ring, 5000, 1), ND_ERR_FULL);
    CHECK_EQUAL(stats_of(ring).records, 5000);
    fake_disk_hold_at_most(disk, 0);
    move_all_out();
    CHECK_EQUAL(append(ring, 5000, 1), ND_OK);
    nd_ring_close(ring);
    end();
}

static void the_scratch_file_keeps_to_its_bound(void)
{
    begin();
    nd_residency_close(residency);
    CHECK_EQUAL(nd_residency_open(&memory.io, fake_disk_files(disk), pool, "scratch", 3 << 20, &residency), ND_OK);
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 5000, 1), ND_OK);
    CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES), ND_ERR_NOSPACE);
    CHECK_EQUAL(figures().disk_bytes, 4u << 20);                /* in whole slabs */
    CHECK_EQUAL(figures().disk_bytes_max, 4u << 20);
    CHECK_EQUAL(append(ring, 2000, 1), ND_OK);
    CHECK(fetch(ring, from(4900, 1)) >= 0);
    CHECK_EQUAL(stats_of(ring).records, 7000);
    CHECK_EQUAL(nd_ring_settle(ring, 6000, &removed), ND_OK);
    move_all_out();                                             /* slots that came free will do */
    nd_ring_close(ring);
    end();
}

static void space_that_is_needed_no_more_goes_back_to_the_disk(void)
{
    for (int refuses = 0; refuses < 2; refuses++) {
        begin();
        nd_ring *ring = ring_with(400u << 20);
        for (uint32_t i = 0; i < 60; i++) {
            CHECK_EQUAL(append(ring, 4000, 1), ND_OK);
            move_all_out();
        }
        const uint64_t most = figures().disk_bytes;
        CHECK(most > 200u << 20);
        CHECK_EQUAL(nd_ring_settle(ring, 200000, &removed), ND_OK);
        CHECK(figures().is_wanted);
        for (uint32_t turn = 0; turn < 100 && figures().is_wanted; turn++) {
            if (refuses) fake_disk_fail_at(disk, fake_disk_calls(disk) + 1, ND_ERR_IO);
            CHECK_EQUAL(nd_out_begin(residency, 0), ND_OK);
            nd_out_carry_out(residency);
            CHECK_EQUAL(nd_out_end(residency), ND_OK);
        }
        CHECK(!figures().is_wanted);
        CHECK(refuses ? figures().disk_bytes == most : figures().disk_bytes < 200u << 20);
        CHECK_EQUAL(append(ring, 4000, 1), ND_OK);
        move_all_out();
        CHECK_EQUAL(fetch(ring, from(200001, 1)), ND_OK);
        stats_of(ring);
        nd_ring_close(ring);
        end();
    }
}

/* The same work, with one refusal at a time; true when the refusal did not come up. */
static int works_with_refusals(uint64_t call, uint64_t request)
{
    begin();
    nd_ring *ring = ring_with(50 << 20);
    CHECK_EQUAL(append(ring, 3000, 1), ND_OK);
    const uint64_t calls = fake_disk_calls(disk), requests = memory.requests;
    if (call > 0) fake_disk_fail_at(disk, calls + call, call % 2 ? ND_ERR_NOSPACE : ND_ERR_IO);
    if (request > 0) memory.fail_at = requests + request;
    nd_status status = nd_residency_make_room(residency, POOL_BYTES);
    CHECK(status == ND_OK || call + request > 0);
    if (status != ND_OK) CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES), ND_OK);
    for (uint64_t seq = 1; seq <= 3000; seq += 600) {
        status = fetch(ring, from(seq, 600u * STORED));
        if (status < 0) status = fetch(ring, from(seq, 600u * STORED));
        CHECK(status >= 0);
        nd_batch batch;
        CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){seq - 1, UINT64_MAX, 1, 1 << 20, 0}, &batch), ND_OK);
        CHECK_EQUAL(batch.first_seq, seq);
    }
    CHECK_EQUAL(stats_of(ring).records, 3000);
    const int is_over = fake_disk_calls(disk) < calls + call || memory.requests < requests + request;
    memory.fail_at = 0;
    fake_disk_fail_at(disk, 0, ND_OK);
    nd_ring_close(ring);
    end();
    return is_over;
}

static void every_call_of_the_disk_may_fail_and_nothing_is_lost(void)
{
    uint64_t call = 1;
    while (!works_with_refusals(call, 0)) call++;
    CHECK(call > 20);
}

static void every_request_for_memory_may_fail_and_nothing_is_lost(void)
{
    uint64_t request = 1;
    while (!works_with_refusals(0, request)) request++;
    CHECK(request > 5);
    for (uint64_t fail_at = 1; fail_at <= 2; fail_at++) {
        begin();
        nd_residency_close(residency);
        memory.fail_at = memory.requests + fail_at;
        CHECK_EQUAL(nd_residency_open(&memory.io, fake_disk_files(disk), pool, "scratch", 1, &residency), ND_ERR_FULL);
        CHECK(nd_pool_residency(pool) == NULL);
        residency = NULL;
        end();
    }
}

static void what_an_earlier_run_left_is_removed(void)
{
    begin();
    nd_residency_close(residency);
    int32_t file;
    CHECK_EQUAL(fake_disk_files(disk)->create(disk, "scratch", &file), ND_OK);
    fake_disk_fail_at(disk, fake_disk_calls(disk) + 1, ND_ERR_IO);
    CHECK_EQUAL(nd_residency_open(&memory.io, fake_disk_files(disk), pool, "scratch", 1, &residency), ND_ERR_IO);
    CHECK_EQUAL(fake_disk_count(disk), 1);
    CHECK_EQUAL(nd_residency_open(&memory.io, fake_disk_files(disk), pool, "scratch", 1, &residency), ND_OK);
    CHECK_EQUAL(fake_disk_count(disk), 0);
    end();
}

/* --- anything in any order -------------------------------------------------------------- */

static uint32_t state = 1;

static uint32_t random_below(uint32_t bound)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % bound;
}

typedef struct {
    nd_ring *ring;
    uint64_t queued, gone, last_seq;
    nd_fetch *going;
    int is_read;
    nd_slice slice;             /* of what is fetched, planned and written by whoever reads it; events_max 0: none is */
    nd_batch batch;
    nd_framed *framed;
} book;

static void open_book(book *b)
{
    *b = (book){.ring = ring_with(100000u << random_below(7))};
    (void)nd_ring_set_overflow(b->ring, (nd_overflow)random_below(3));
}

static void random_append(book *b, uint64_t unix_ms)
{
    static const uint32_t sizes[] = {64, 300, 1000, 5000, 30000, 300000};
    test_request request = test_notifications(1 + random_below(60), sizes[random_below(6)]);
    nd_route route;
    const nd_status status = test_append(pool, b->ring, &request, unix_ms, &route);
    CHECK(status == ND_OK || status == ND_ERR_FULL);
    if (status == ND_OK) {
        b->queued += route.queued_count;
        b->gone += route.dropped.count + route.superseded.count;
    }
    test_request_free(&request);
}

static void random_read(book *b)
{
    nd_ring_stats_t stats = stats_of(b->ring);
    nd_batch batch;
    const nd_slice slice = {stats.settled_seq + random_below(200), UINT64_MAX, 1 + random_below(300),
                            1 + random_below(1 << 20), random_below(32)};
    const nd_status status = nd_frame_plan(framer, b->ring, &slice, &batch);
    CHECK(status == ND_OK || status == ND_EMPTY || status == ND_COLD);
    if (status == ND_OK) free(test_read(b->ring, &batch, 70000));
}

static void random_leave(book *b, uint64_t unix_ms)
{
    nd_ring_stats_t stats = stats_of(b->ring);
    removed = (nd_removed){0};
    switch (random_below(5)) {
    case 0: nd_ring_settle(b->ring, stats.settled_seq + random_below(300), &removed); break;
    case 1: nd_ring_expire(b->ring, unix_ms - random_below(50), UINT64_MAX, &removed); break;
    case 2: nd_ring_drop(b->ring, random_below(1 << 20), &removed); break;
    case 3: nd_ring_release(b->ring, stats.settled_seq + random_below(300)); break;
    default: nd_ring_hold(b->ring, (nd_place){.seq = stats.settled_seq + 1 + random_below((uint32_t)stats.records + 1)}); break;
    }
    b->gone += removed.count;
}

/* What was written of a slice is what memory gives, as long as the ring gives it. */
static void take_slice(book *b)
{
    if (b->framed != NULL && nd_frame_hold(b->ring, &b->slice, &b->batch)) {
        nd_batch here;
        CHECK_EQUAL(nd_frame_plan_exact(b->ring, b->batch.first_seq, b->batch.last_seq, b->batch.events, b->slice.form,
                                        &here), ND_OK);
        test_batches_alike(&b->batch, &here);
        char *written = test_read_framed(b->ring, b->framed, &b->batch, 70000);
        char *text = test_read(b->ring, &here, 70000);
        CHECK(strcmp(written, text) == 0);
        free(written);
        free(text);
    }
    nd_framed_close(b->framed);
    b->framed = NULL;
}

static void random_fetch(book *b)
{
    if (b->going == NULL) {
        nd_reach reach = from(stats_of(b->ring).settled_seq + 1 + random_below(500), random_below(1 << 20) + 1);
        reach.is_for_slice = random_below(4) > 0;
        b->slice = (nd_slice){reach.first_seq - 1, UINT64_MAX, reach.is_for_slice * (1 + random_below(300)),
                              1 + random_below(1 << 20), random_below(32)};
        uint64_t bytes;
        const nd_status status = nd_fetch_begin(b->ring, &reach, &bytes, &b->going);
        CHECK(status == ND_OK || status == ND_EMPTY || status == ND_ERR_FULL || status == ND_NO_ROOM);
        if (status != ND_OK) b->going = NULL;
        b->is_read = 0;
    } else if (!b->is_read) {
        if (b->slice.events_max == 0) nd_fetch_read(b->going);
        else nd_fetch_slice(b->going, &b->slice, random_below(1 << 20), &b->batch, &b->framed);
        b->is_read = 1;
    } else {
        CHECK_EQUAL(nd_fetch_end(b->going, &fetched), ND_OK);
        b->going = NULL;
        take_slice(b);
    }
}

static void end_fetch(book *b)
{
    if (b->going != NULL) (void)nd_fetch_end(b->going, &fetched);
    nd_framed_close(b->framed);
}

static void whatever_is_done_in_whatever_order_every_record_is_accounted_for(void)
{
    for (uint32_t seed = 1; seed <= 12; seed++) {
        state = seed;
        begin();
        enum { RINGS = 5 };
        book books[RINGS];
        for (uint32_t i = 0; i < RINGS; i++) open_book(&books[i]);
        uint64_t unix_ms = 1000;
        uint32_t moving = 0;                                    /* 1: begun, 2: carried out */
        for (uint32_t turn = 0; turn < 1500; turn++) {
            book *b = &books[random_below(RINGS)];
            unix_ms += random_below(3);
            switch (random_below(8)) {
            case 0: case 1: random_append(b, unix_ms); break;
            case 2: random_read(b); break;
            case 3: random_leave(b, unix_ms); break;
            case 4: case 5:
                if (moving == 0) moving = nd_out_begin(residency, random_below(POOL_BYTES)) == ND_OK;
                else if (moving == 1) { nd_out_carry_out(residency); moving = 2; }
                else { CHECK_EQUAL(nd_out_end(residency), ND_OK); moving = 0; }
                break;
            case 6: random_fetch(b); break;
            default:
                if (random_below(40) > 0) break;
                nd_ring_close(b->ring);
                end_fetch(b);
                open_book(b);
                break;
            }
            const nd_ring_stats_t stats = stats_of(b->ring);
            CHECK_EQUAL(b->queued, b->gone + stats.records);
        }
        if (moving == 1) nd_out_carry_out(residency);
        if (moving > 0) CHECK_EQUAL(nd_out_end(residency), ND_OK);
        for (uint32_t i = 0; i < RINGS; i++) {
            end_fetch(&books[i]);
            free(read_through(books[i].ring, 0));               /* every checksum, cold or not */
            nd_ring_close(books[i].ring);
        }
        CHECK_EQUAL(figures().slot_bytes, 0);
        CHECK_EQUAL(figures().free_bytes, POOL_BYTES);
        end();
    }
}

int main(void)
{
    RUN(what_was_moved_comes_back_as_it_was);
    RUN(more_than_memory_goes_in_and_comes_out);
    RUN(the_newest_of_the_coldest_goes_first);
    RUN(a_tail_that_was_moved_is_not_written_to_again);
    RUN(chunks_are_small_where_many_rings_share_little_memory);
    RUN(what_changes_while_it_is_written_stays_in_memory);
    RUN(a_copy_leaves_memory_without_being_written_again);
    RUN(a_fetch_puts_back_only_what_is_still_there);
    RUN(a_slot_that_is_being_read_is_not_taken_for_another_chunk_of_the_ring);
    RUN(a_step_that_was_never_carried_out_moves_nothing);
    RUN(a_fetch_that_was_never_read_puts_nothing_back);
    RUN(a_fetch_finds_memory_when_nothing_can_be_written_out);
    RUN(settling_in_a_cold_chunk_counts_its_bytes_later);
    RUN(dropping_gives_a_cold_chunk_up_but_not_what_is_in_flight);
    RUN(a_full_ring_of_cold_chunks_goes_on_taking);
    RUN(expiry_waits_for_a_chunk_of_which_some_are_too_old);
    RUN(what_is_in_flight_expires_apart_from_what_is_not);
    RUN(what_was_in_flight_is_held_again_without_being_read);
    RUN(a_batch_is_read_to_the_edge_of_the_cold_and_goes_on);
    RUN(what_is_cold_still_knows_which_seqs_it_has);
    RUN(what_is_cold_is_superseded_without_being_read);
    RUN(a_cold_queue_drops_no_more_than_it_has_to_when_its_records_are_known);
    RUN(what_may_be_superseded_moves_last);
    RUN(without_memory_for_its_seqs_a_chunk_stays);
    RUN(a_full_disk_loses_nothing_and_is_tried_again);
    RUN(the_scratch_file_keeps_to_its_bound);
    RUN(space_that_is_needed_no_more_goes_back_to_the_disk);
    RUN(every_call_of_the_disk_may_fail_and_nothing_is_lost);
    RUN(every_request_for_memory_may_fail_and_nothing_is_lost);
    RUN(what_an_earlier_run_left_is_removed);
    RUN(whatever_is_done_in_whatever_order_every_record_is_accounted_for);
    return 0;
}
