/* cold_ring.c -- one ring, its pool, its disk, and a batch of it. */

#include "cold_ring.h"

test_memory memory;
fake_disk *disk;
nd_pool *pool;
nd_framer *framer;
nd_residency *residency;
nd_ring *ring;
nd_removed removed;
nd_fetched fetched;
nd_batch batch;
nd_framed *framed;
uint8_t buffer[2 << 20];

const nd_reach everything = {.last_seq = UINT64_MAX, .bytes_max = UINT64_MAX, .records_max = UINT64_MAX};
const nd_reach first_chunk = {.first_seq = 1, .last_seq = UINT64_MAX, .bytes_max = 1, .records_max = UINT64_MAX};

void begin(void)
{
    test_memory_begin(&memory);
    disk = fake_disk_new(1);
    CHECK_EQUAL(nd_pool_open(&memory.io, POOL_BYTES, &pool), ND_OK);
    CHECK_EQUAL(nd_framer_open(pool, &framer), ND_OK);
    CHECK_EQUAL(nd_residency_open(&memory.io, fake_disk_files(disk), pool, "scratch", UINT64_MAX, &residency), ND_OK);
    CHECK_EQUAL(nd_ring_open(pool, 7, 1, 50 << 20, ND_OVERFLOW_DROP_OLDEST, &ring), ND_OK);
    memset(&batch, 0, sizeof batch);
}

void end(void)
{
    nd_framed_close(framed);
    framed = NULL;
    nd_ring_close(ring);
    nd_framer_close(framer);
    nd_residency_close(residency);
    nd_pool_close(pool);
    fake_disk_free(disk);
    test_memory_end(&memory);
}

void keep_latest_of(uint64_t count)
{
    nd_ring_close(ring);
    CHECK_EQUAL(nd_ring_open(pool, 7, 1, count * STORED, ND_OVERFLOW_KEEP_LATEST, &ring), ND_OK);
}

void append_request(test_request request, uint64_t unix_ms)
{
    nd_route route;
    CHECK_EQUAL(test_append(pool, ring, &request, unix_ms, &route), ND_OK);
    test_request_free(&request);
}

void append(uint64_t count, uint64_t unix_ms)
{
    append_request(test_notifications(count, BODY), unix_ms);
}

void append_of(uint32_t kind, uint64_t device, int has_tail, uint64_t unix_ms)
{
    char body[BODY], ep[32];
    const int filling = 300 + (int)(device * 37 % 500);
    snprintf(ep, sizeof ep, "d%llu", (unsigned long long)device);
    if (kind == ASYNC) snprintf(body, sizeof body, "{\"id\":\"%*d\"}", filling, 1);
    else snprintf(body, sizeof body, "{\"ep\":\"%s\",\"q\":\"%*d\"%s}", ep, filling, 1, has_tail ? TAIL : "");
    append_request(test_record(kind, kind == ASYNC ? "" : ep, body, has_tail && kind != ASYNC ? TAIL : ""), unix_ms);
}

void append_kinds(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) append_of((uint32_t)(i * 7 % 11 % ND_KINDS), i, i % 3 == 0, 5 + i / 10 * 30);
}

void move_all_out(void)
{
    CHECK_EQUAL(nd_residency_make_room(residency, POOL_BYTES), ND_OK);
}

nd_slice slice_after(uint64_t after_seq, uint32_t form)
{
    return (nd_slice){after_seq, UINT64_MAX, 1 << 20, 1 << 30, form};
}

nd_fetch *fetch_begun(nd_reach reach)
{
    nd_fetch *going;
    uint64_t bytes;
    CHECK_EQUAL(nd_fetch_begin(ring, &reach, &bytes, &going), ND_OK);
    return going;
}

nd_fetch *slice_begun(const nd_slice *slice, nd_reach reach)
{
    reach.first_seq = slice->after_seq + 1;
    reach.is_for_slice = 1;
    return fetch_begun(reach);
}

void bring_back(nd_reach reach)
{
    nd_fetch *going = fetch_begun(reach);
    nd_fetch_read(going);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
}

void bring_all_back(void)
{
    if (nd_ring_has_cold(ring, NULL)) bring_back(everything);
}

nd_reach chunk_of(uint64_t seq)
{
    return (nd_reach){.first_seq = seq, .last_seq = seq, .bytes_max = 1, .records_max = 1};
}

nd_ring_stats_t stats_now(void)
{
    nd_ring_stats_t stats;
    CHECK_EQUAL(nd_ring_check(ring), ND_OK);
    nd_ring_stats(ring, &stats);
    return stats;
}

void check_stats(const nd_ring_stats_t *before)
{
    const nd_ring_stats_t now = stats_now();
    CHECK(memcmp(before, &now, sizeof now) == 0);
}

void read_slice(const nd_slice *slice, nd_reach reach)
{
    nd_framed_close(framed);
    framed = NULL;
    nd_fetch *going = slice_begun(slice, reach);
    nd_fetch_slice(going, slice, UINT64_MAX, &batch, &framed);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
}

void read_on(nd_reach reach, uint64_t bytes_max)
{
    nd_framed_close(framed);
    framed = NULL;
    nd_fetch *going = fetch_begun(reach);
    nd_fetch_read_on(going, &batch, bytes_max, &framed);
    CHECK_EQUAL(nd_fetch_end(going, &fetched), ND_OK);
}

void check_reads(const char *text, uint64_t piece_bytes)
{
    char *got = test_read_framed(ring, framed, &batch, piece_bytes);
    CHECK(strcmp(text, got) == 0);
    free(got);
}

expected given(const nd_slice *slice)
{
    expected e;
    bring_all_back();
    nd_ring_release(ring, 0);
    CHECK_EQUAL(nd_frame_plan(framer, ring, slice, &e.batch), ND_OK);
    e.text = test_read(ring, &e.batch, PIECE);
    nd_batch_rewind(&e.batch);
    e.stats = stats_now();
    nd_ring_release(ring, 0);
    return e;
}

void check_as(const expected *e, const nd_slice *slice)
{
    CHECK(framed != NULL);
    CHECK_EQUAL(nd_frame_hold(ring, slice, &batch), 1);
    test_batches_alike(&batch, &e->batch);
    CHECK_EQUAL(batch.end_offset, e->batch.end_offset);
    CHECK_EQUAL(stats_now().in_flight_seq, e->stats.in_flight_seq);
    CHECK_EQUAL(stats_now().held_bytes, e->stats.held_bytes);
    move_all_out();
    check_reads(e->text, PIECE);
}

void check_slice(const nd_slice *slice)
{
    expected e = given(slice);
    move_all_out();
    read_slice(slice, everything);
    check_as(&e, slice);
    free(e.text);
}

void check_as_far_as_it_goes(nd_slice slice)
{
    CHECK(framed != NULL);
    CHECK_EQUAL(nd_frame_hold(ring, &slice, &batch), 1);
    slice.upto_seq = batch.last_seq;
    expected e = given(&slice);
    test_batches_alike(&batch, &e.batch);
    move_all_out();
    check_reads(e.text, PIECE);
    free(e.text);
}


void check_left(const nd_slice *slice, const expected *e)
{
    CHECK(framed == NULL);
    CHECK_EQUAL(nd_frame_plan(framer, ring, slice, &batch), ND_OK);
    test_batches_alike(&batch, &e->batch);
    check_reads(e->text, PIECE);
}

char *planned(const nd_slice *slice)
{
    CHECK_EQUAL(nd_frame_plan(framer, ring, slice, &batch), ND_OK);
    char *text = test_read(ring, &batch, PIECE);
    nd_batch_rewind(&batch);
    move_all_out();
    return text;
}

char *planned_after(uint64_t after_seq, uint32_t form)
{
    const nd_slice slice = slice_after(after_seq, form);
    return planned(&slice);
}

nd_reach rest_of_batch(void)
{
    nd_reach reach = everything;
    reach.first_seq = batch.next_seq;
    reach.last_seq = batch.last_seq;
    return reach;
}

void settle(uint64_t upto_seq)
{
    CHECK_EQUAL(nd_ring_settle(ring, upto_seq, &removed), ND_OK);
}
