/* fuzz_frame.c -- tries to break: any records in any form are written in exactly the
 * bytes that were planned, in pieces of any size, the same each time, and no device's
 * events pass each other. */

#include "nd_test.h"

enum { RECORDS_MAX = 32 };

static const char *const tails[] = {"", ",\"original-ep\":\"y\"", ",\"original-ep\":\"\""};

static test_request record_of(uint32_t choice, uint32_t number)
{
    char body[160], ep[8];
    const uint32_t kind = choice % 6;
    const char *tail = kind == ND_KIND_ASYNC ? "" : tails[choice / 6 % 3];
    snprintf(ep, sizeof ep, "%.*s%u", (int)(choice >> 6), "abc", choice / 18 % 3);
    if (kind == ND_KIND_ASYNC) snprintf(body, sizeof body, "{\"id\":\"%u\"}", number);
    else if (kind == 0) snprintf(body, sizeof body, "{\"ep\":\"%s\",\"path\":\"/%u\"%s}", ep, number, tail);
    else snprintf(body, sizeof body, "{\"ep\":\"%s\"%s}", ep, tail);
    return test_record(kind, kind == ND_KIND_ASYNC ? "" : ep, body, tail);
}

/* The rule of kinds, checked on what arrived: within a slice no record of a device
 * stands under an earlier kind than one that came before it. */
static void keeps_order(const nd_batch *batch, const uint8_t *choices)
{
    uint32_t place_of[ND_KINDS] = {0};
    for (uint32_t i = 0; i < batch->kinds_count; i++) place_of[batch->kinds[i]] = i;
    for (uint64_t later = batch->first_seq; later <= batch->last_seq; later++) {
        for (uint64_t earlier = batch->first_seq; earlier < later; earlier++) {
            const uint32_t a = choices[earlier - 1], b = choices[later - 1];
            const int is_one_device = a / 18 % 3 == b / 18 % 3 && a >> 6 == b >> 6;
            if (!is_one_device || a % 6 == ND_KIND_ASYNC || b % 6 == ND_KIND_ASYNC) continue;
            CHECK(place_of[a % 6] <= place_of[b % 6]);
        }
    }
}

static void check_batch(nd_ring *ring, nd_batch *batch, uint64_t piece_bytes)
{
    char *whole = test_read(ring, batch, 1 << 20);
    char *pieces = test_read(ring, batch, piece_bytes);
    CHECK(strcmp(whole, pieces) == 0);
    nd_batch again;
    CHECK_EQUAL(nd_frame_plan_exact(ring, batch->first_seq, batch->last_seq, batch->events, batch->form, &again), ND_OK);
    CHECK_EQUAL(again.bytes_count, batch->bytes_count);
    char *rebuilt = test_read(ring, &again, 1 << 20);
    CHECK(strcmp(whole, rebuilt) == 0);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < batch->kinds_count; i++) sum += batch->kind_bytes[i];
    const uint64_t around = (batch->form & ND_FORM_MIXED_KINDS) ? 1u + batch->kinds_count : 2u * batch->kinds_count;
    CHECK_EQUAL(sum + around, batch->bytes_count);
    CHECK(whole[0] == ((batch->form & ND_FORM_GAPS) ? ',' : '{') && whole[batch->bytes_count - 1] == '}');
    CHECK(strstr(whole, ",,") == NULL && strstr(whole, "[,") == NULL && strstr(whole, "{,") == NULL);
    free(whole);
    free(pieces);
    free(rebuilt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5) return 0;
    const uint32_t form = data[0] % 64;
    const uint64_t bytes_max = 1 + data[1] * 16u, events_max = 1 + data[2] % 40, piece_bytes = data[3];
    const uint64_t gap_step = data[0] / 64 * 3u;                /* a gap behind each so many records; 0: none */
    const uint8_t *choices = data + 4;
    const uint64_t count = size - 4 < RECORDS_MAX ? size - 4 : RECORDS_MAX;

    test_memory memory;
    test_memory_begin(&memory);
    nd_pool *pool;
    nd_ring *ring;
    nd_framer *framer;
    CHECK_EQUAL(nd_pool_open(&memory.io, 4 << 20, &pool), ND_OK);
    CHECK_EQUAL(nd_ring_open(pool, 9, 1, 1 << 20, ND_OVERFLOW_DROP_OLDEST, &ring), ND_OK);
    CHECK_EQUAL(nd_framer_open(pool, &framer), ND_OK);
    for (uint32_t i = 0; i < count; i++) {
        test_request request = record_of(choices[i], i);
        nd_route route;
        CHECK_EQUAL(test_append(pool, ring, &request, 1700000000000 + i, &route), ND_OK);
        test_request_free(&request);
    }
    uint64_t after = 0;
    while (after < count) {                                     /* every slice takes a record */
        nd_batch batch;
        const uint64_t upto = gap_step > 0 ? (after / gap_step + 1) * gap_step : UINT64_MAX;
        CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){after, upto, events_max, bytes_max, form}, &batch), ND_OK);
        CHECK(batch.last_seq <= upto);
        CHECK_EQUAL(batch.first_seq, after + 1);
        CHECK_EQUAL(batch.events, batch.last_seq - after);
        CHECK(batch.events <= events_max);
        CHECK(batch.events == 1 || batch.bytes_count <= bytes_max);
        keeps_order(&batch, choices);
        check_batch(ring, &batch, piece_bytes);
        after = batch.last_seq;
    }
    nd_ring_close(ring);
    nd_framer_close(framer);
    nd_pool_close(pool);
    test_memory_end(&memory);
    return 0;
}
