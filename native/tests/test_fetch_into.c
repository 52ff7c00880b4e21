/* Whoever reads cold records writes them as message bytes: the same bytes as from memory, and only if
 * the ring has all of the batch's records when it gets them. */

#include <pthread.h>

#include "fake_disk.h"
#include "nd_fetch.h"
#include "nd_residency.h"
#include "nd_test.h"

enum { POOL_BYTES = 8 << 20, BODY = 1000, STORED = 1032, FORM = ND_FORM_UID | ND_FORM_TIMESTAMP };

static test_memory memory;
static fake_disk *disk;
static nd_pool *pool;
static nd_framer *framer;
static nd_residency *residency;
static nd_ring *ring;
static nd_removed removed;
static nd_fetched fetched;
static nd_batch batch;
static uint8_t buffer[2 << 20];

static const nd_reach everything = {.last_seq = UINT64_MAX, .bytes_max = UINT64_MAX, .records_max = UINT64_MAX};

static void begin(void)
{
    test_memory_begin(&memory);
    disk = fake_disk_new(1);
    CHECK_EQUAL(nd_pool_open(&memory.io, POOL_BYTES, &pool), ND_OK);
    CHECK_EQUAL(nd_framer_open(pool, &framer), ND_OK);
    CHECK_EQUAL(nd_residency_open(&memory.io, fake_disk_files(disk), pool, "scratch", UINT64_MAX, &residency), ND_OK);
    CHECK_EQUAL(nd_ring_open(pool, 7, 1, 50 << 20, ND_OVERFLOW_DROP_OLDEST, &ring), ND_OK);
}

static void end(void)
{
    nd_ring_close(ring);
    nd_framer_close(framer);
    nd_residency_close(residency);
    nd_pool_close(pool);
    fake_disk_free(disk);
    test_memory_end(&memory);
}

static void append_request(test_request request, uint64_t unix_ms)
{
    nd_route route;
    CHECK_EQUAL(test_append(pool, ring, &request, unix_ms, &route), ND_OK);
    test_request_free(&request);
}

static void append(uint64_t count, uint64_t unix_ms)
{
    append_request(test_notifications(count, BODY), unix_ms);
}

static void move_all_out(void)
{
    CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES), ND_OK);
}

/* Plan a batch of all records, read it as it is, and move it out; what was read is freed by the caller. */
static char *planned(uint32_t form)
{
    CHECK_EQUAL(nd_frame_plan(framer, ring, 0, UINT64_MAX, 1 << 20, 1 << 30, form, &batch), ND_OK);
    char *text = test_read(ring, &batch, sizeof buffer);
    nd_batch_rewind(&batch);
    move_all_out();
    return text;
}

static nd_fetch *fetch_begun(const nd_reach *reach)
{
    nd_fetch *going;
    uint64_t bytes;
    CHECK_EQUAL(nd_fetch_begin(ring, reach, &bytes, &going), ND_OK);
    return going;
}

static nd_batch copied(void)
{
    nd_batch copy = batch;
    copy.bytes_written = 0;
    return copy;
}

/* One piece, by whoever reads it; how many bytes, 0: none that is of use. */
static uint64_t read_piece(const nd_reach *reach, uint64_t capacity)
{
    nd_fetch *going = fetch_begun(reach);
    nd_batch copy = copied();
    nd_fetch_read_into(going, &copy, buffer, capacity);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
    return nd_batch_take(ring, &batch, &copy) ? batch.bytes_written : 0;
}

/* The whole batch in pieces, all moved out before each of them; how many were written from memory. */
static uint64_t pieces_from_memory(const char *text, uint64_t capacity, uint64_t bytes_max)
{
    uint64_t from_memory = 0;
    for (uint64_t at = 0; at < batch.bytes_count;) {            /* a record each turn */
        const nd_reach reach = {batch.next_seq, batch.last_seq, bytes_max, UINT64_MAX};
        uint64_t count = nd_ring_has_cold(ring, &reach) ? read_piece(&reach, capacity) : 0;
        if (count == 0) {
            CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, capacity), ND_OK);
            count = batch.bytes_written;
            from_memory++;
        }
        CHECK(count > 0 && at + count <= batch.bytes_count);
        CHECK(memcmp(text + at, buffer, count) == 0);
        at += count;
        move_all_out();
    }
    return from_memory;
}

/* --- what is written ----------------------------------------------------------------- */

static void it_is_what_memory_would_have_given_in_pieces_of_any_size(void)
{
    const uint64_t capacities[] = {1300, 5000, 64 << 10, 256 << 10, sizeof buffer};
    for (uint32_t i = 0; i < 5; i++) {
        begin();
        append(500, 5);
        char *text = planned(FORM);
        CHECK_EQUAL(pieces_from_memory(text, capacities[i], 1 << 20), 0);
        free(text);
        end();
    }
}

static void kinds_are_gone_through_one_after_the_other(void)
{
    for (uint32_t form = 0; form <= ND_FORM_MIXED_KINDS; form++) {
        begin();
        for (uint64_t i = 0; i < 400; i++) {
            char body[BODY + 1] = "{\"ep\":\"a\"", ep[] = {(char)(i % 2 ? 'b' : 'a'), 0};
            memset(body + 9, ' ', BODY - 10);
            body[7] = ep[0];
            body[BODY - 1] = '}';
            append_request(test_record(i % 2 ? 1 : 2, ep, body, ""), 5);
        }
        char *text = planned(form);
        CHECK_EQUAL(batch.kinds_count, 2);
        CHECK_EQUAL(pieces_from_memory(text, sizeof buffer, 1 << 20), 0);
        free(text);
        end();
    }
}

static void it_ends_where_the_reading_ends(void)
{
    begin();
    append(2000, 5);
    char *text = planned(0);
    const nd_reach one = {.first_seq = 1, .last_seq = UINT64_MAX, .bytes_max = 1, .records_max = UINT64_MAX};
    const uint64_t count = read_piece(&one, sizeof buffer);
    CHECK(count > 0 && count < batch.bytes_count);
    CHECK(memcmp(text, buffer, count) == 0);
    free(text);
    end();
}

static void what_was_in_memory_is_not_passed_over(void)
{
    begin();
    append(1000, 5);
    char *text = planned(0);
    const nd_reach middle = {.first_seq = 400, .last_seq = 400, .bytes_max = 1, .records_max = 1};
    nd_fetch *going = fetch_begun(&middle);
    nd_fetch_read(going);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
    const uint64_t count = read_piece(&everything, sizeof buffer);
    CHECK(count > 0 && batch.next_seq < 400);
    CHECK(memcmp(text, buffer, count) == 0);
    CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, sizeof buffer), ND_OK);
    CHECK(memcmp(text + count, buffer, batch.bytes_written) == 0);
    CHECK_EQUAL(count + batch.bytes_written, batch.bytes_count);
    free(text);
    end();
}

/* --- what is not --------------------------------------------------------------------- */

static void what_has_no_room_is_left(void)
{
    begin();
    append(100, 5);
    free(planned(0));
    const nd_batch before = batch;
    CHECK_EQUAL(read_piece(&everything, 10), 0);
    CHECK(memcmp(&before, &batch, sizeof batch) == 0);
    CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, sizeof buffer), ND_OK);
    end();
}

static void what_some_went_from_is_left(void)
{
    begin();
    append(100, 5);
    CHECK_EQUAL(nd_frame_plan(framer, ring, 50, UINT64_MAX, 50, 1 << 20, 0, &batch), ND_OK);
    char *text = test_read(ring, &batch, sizeof buffer);
    nd_batch_rewind(&batch);
    move_all_out();
    CHECK_EQUAL(nd_ring_settle(ring, 40, &removed), ND_OK);
    CHECK_EQUAL(read_piece(&everything, sizeof buffer), 0);
    CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, sizeof buffer), ND_OK);
    CHECK_EQUAL(batch.bytes_written, batch.bytes_count);
    CHECK(memcmp(text, buffer, batch.bytes_count) == 0);
    free(text);
    end();
}

static void what_has_a_hole_is_left(void)
{
    begin();
    append(100, 5);
    CHECK_EQUAL(nd_frame_plan(framer, ring, 0, UINT64_MAX, 10, 1 << 20, 0, &batch), ND_OK);
    CHECK_EQUAL(nd_ring_drop(ring, 10 * STORED, &removed), ND_OK);
    char *text = planned(0);
    CHECK_EQUAL(batch.events, 90);
    CHECK_EQUAL(read_piece(&everything, sizeof buffer), 0);
    CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, sizeof buffer), ND_OK);
    CHECK(memcmp(text, buffer, batch.bytes_count) == 0);
    free(text);
    end();
}

static void what_was_written_is_not_written_over(void)
{
    begin();
    append(1000, 5);
    free(planned(0));
    const nd_reach one = {.first_seq = 1, .last_seq = UINT64_MAX, .bytes_max = 1, .records_max = UINT64_MAX};
    nd_batch copy = copied();
    nd_fetch *going = fetch_begun(&one);
    nd_fetch_read_into(going, &copy, buffer, sizeof buffer);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
    const nd_batch first = copy;
    going = fetch_begun(&everything);
    memset(buffer, 'x', sizeof buffer);
    nd_fetch_read_into(going, &copy, buffer, sizeof buffer);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
    CHECK(memcmp(&first, &copy, sizeof copy) == 0 && buffer[0] == 'x');
    end();
}

static void of_what_the_disk_does_not_give_nothing_is_written(void)
{
    begin();
    append(100, 5);
    free(planned(0));
    nd_fetch *going = fetch_begun(&everything);
    nd_batch copy = copied();
    fake_disk_fail_at(disk, fake_disk_calls(disk) + 1, ND_ERR_IO);
    nd_fetch_read_into(going, &copy, buffer, sizeof buffer);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_ERR_IO);
    CHECK(!nd_batch_take(ring, &batch, &copy));
    end();
}

/* Damage a record on the disk. */
static void spoil(uint64_t seq)
{
    uint64_t count, at = 0;
    uint8_t *bytes = fake_disk_bytes(disk, "scratch", &count);
    while (at + STORED <= count && ((const nd_record *)(const void *)(bytes + at))->seq != seq) at += 8;
    CHECK(at + STORED <= count);
    bytes[at + 500] ^= 1;
}

static void a_damaged_record_is_left_to_be_found_in_memory(void)
{
    begin();
    append(100, 5);
    char *text = planned(0);
    spoil(50);
    CHECK_EQUAL(read_piece(&everything, 20000), 18 + 19 * (BODY + 1) - 1);     /* in front of it */
    CHECK(memcmp(text, buffer, batch.bytes_written) == 0);
    move_all_out();
    const nd_batch before = copied();
    nd_batch copy = before;
    nd_fetch *going = fetch_begun(&everything);
    nd_fetch_read_into(going, &copy, buffer, sizeof buffer);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
    CHECK(memcmp(&before, &copy, sizeof copy) == 0);
    CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, sizeof buffer), ND_ERR_CORRUPT);
    CHECK_EQUAL(batch.next_seq, 50);
    free(text);
    end();
}

/* --- while the ring changes ----------------------------------------------------------- */

static void only_a_batch_that_is_still_whole_is_gone_on_with(void)
{
    for (int change = 0; change < 6; change++) {
        begin();
        append(300, 5);
        append(300, 9);
        CHECK_EQUAL(nd_frame_plan(framer, ring, 0, UINT64_MAX, 300, 1 << 30, FORM, &batch), ND_OK);
        char *text = test_read(ring, &batch, sizeof buffer);
        nd_batch_rewind(&batch);
        move_all_out();
        const nd_batch before = batch;
        nd_fetch *going = fetch_begun(&everything);
        nd_batch copy = copied();
        nd_fetch_read_into(going, &copy, buffer, sizeof buffer);
        switch (change) {
        case 0: break;
        case 1: append(10, 9); break;
        case 2: CHECK_EQUAL(nd_ring_drop(ring, STORED, &removed), ND_OK); break;       /* behind the batch */
        case 3: CHECK_EQUAL(nd_ring_settle(ring, 1, &removed), ND_OK); break;
        case 4: CHECK_EQUAL(nd_ring_expire(ring, 6, UINT64_MAX, &removed), ND_OK); break;
        default: CHECK_EQUAL(nd_ring_settle(ring, UINT64_MAX, &removed), ND_OK); break;
        }
        CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
        const int is_whole = change <= 2;
        CHECK_EQUAL(nd_batch_take(ring, &batch, &copy), is_whole);
        if (is_whole) CHECK(batch.bytes_written == batch.bytes_count && memcmp(text, buffer, batch.bytes_count) == 0);
        else CHECK(memcmp(&before, &batch, sizeof batch) == 0);
        if (!is_whole) CHECK_EQUAL(nd_batch_write(ring, &batch, buffer, sizeof buffer), ND_ERR_TRIMMED);
        free(text);
        end();
    }
}

static void every_request_for_memory_may_fail_and_the_bytes_are_the_same(void)
{
    for (uint64_t request = 1; request <= 8; request++) {
        begin();
        append(1000, 5);
        char *text = planned(0);
        memory.fail_at = memory.requests + request;
        uint64_t at = 0;
        while (at < batch.bytes_count) {                        /* at most one turn fails */
            const nd_reach reach = {batch.next_seq, UINT64_MAX, 1, UINT64_MAX};
            nd_fetch *going;
            uint64_t bytes;
            const nd_status status = nd_fetch_begin(ring, &reach, &bytes, &going);
            if (status == ND_ERR_FULL) continue;
            CHECK_EQUAL(status, ND_OK);
            nd_batch copy = copied();
            nd_fetch_read_into(going, &copy, buffer, sizeof buffer);
            CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
            CHECK(nd_batch_take(ring, &batch, &copy));
            CHECK(memcmp(text + at, buffer, batch.bytes_written) == 0);
            at += batch.bytes_written;
        }
        memory.fail_at = 0;
        free(text);
        end();
    }
}

/* What a worker thread does. */
typedef struct {
    nd_fetch *fetch;
    nd_batch  copy;
} work;

static void *carry_out(void *argument)
{
    work *w = argument;
    nd_fetch_read_into(w->fetch, &w->copy, buffer, sizeof buffer);
    return NULL;
}

static void a_thread_writes_while_the_ring_is_used_by_another(void)
{
    for (uint32_t round = 0; round < 20; round++) {
        begin();
        append(10, 5);
        append(500, 5);
        CHECK_EQUAL(nd_frame_plan(framer, ring, 10, UINT64_MAX, 500, 1 << 30, FORM, &batch), ND_OK);
        char *text = test_read(ring, &batch, sizeof buffer);
        nd_batch_rewind(&batch);
        move_all_out();
        const nd_reach reach = {batch.first_seq, batch.last_seq, UINT64_MAX, UINT64_MAX};
        work w = {.fetch = fetch_begun(&reach), .copy = copied()};
        pthread_t worker;
        CHECK_EQUAL(pthread_create(&worker, NULL, carry_out, &w), 0);
        append(200, 9);
        (void)nd_ring_settle(ring, round % 3 == 1 ? 200 : 5, &removed);
        (void)nd_ring_drop(ring, 10 * STORED, &removed);
        const int is_closed = round % 3 == 2;
        if (is_closed) nd_ring_close(ring);
        CHECK_EQUAL(pthread_join(worker, NULL), 0);
        CHECK_EQUAL(nd_fetch_end(w.fetch, &fetched), ND_OK);
        if (is_closed) {
            ring = NULL;
        } else if (nd_batch_take(ring, &batch, &w.copy)) {
            CHECK(round % 3 == 0);
            CHECK(memcmp(text, buffer, batch.bytes_written) == 0);
        } else {
            CHECK(round % 3 == 1);
        }
        free(text);
        end();
    }
}

int main(void)
{
    RUN(it_is_what_memory_would_have_given_in_pieces_of_any_size);
    RUN(kinds_are_gone_through_one_after_the_other);
    RUN(it_ends_where_the_reading_ends);
    RUN(what_was_in_memory_is_not_passed_over);
    RUN(what_has_no_room_is_left);
    RUN(what_some_went_from_is_left);
    RUN(what_has_a_hole_is_left);
    RUN(what_was_written_is_not_written_over);
    RUN(of_what_the_disk_does_not_give_nothing_is_written);
    RUN(a_damaged_record_is_left_to_be_found_in_memory);
    RUN(only_a_batch_that_is_still_whole_is_gone_on_with);
    RUN(every_request_for_memory_may_fail_and_the_bytes_are_the_same);
    RUN(a_thread_writes_while_the_ring_is_used_by_another);
    return 0;
}
