#include "nd_publish.h"
#include "nd_test.h"

enum { POOL_BYTES = 16u << 20, QUEUE_BYTES = 100000, CHANNELS = 5 };

typedef struct {
    test_memory  memory;
    nd_pool     *pool;
    nd_channels *channels;
    nd_ring     *rings[CHANNELS];
    test_request request;
} house;

/* Channel numbers are far apart: 1,000, 2,000 ... */
static uint64_t number_of(uint64_t index)
{
    return (index + 1) * 1000;
}

static void house_begin(house *h)
{
    test_memory_begin(&h->memory);
    CHECK_EQUAL(nd_pool_open(&h->memory.io, POOL_BYTES, &h->pool), ND_OK);
    CHECK_EQUAL(nd_channels_open(&h->memory.io, &h->channels), ND_OK);
    for (uint64_t i = 0; i < CHANNELS; i++) {
        const nd_overflow overflow = i == CHANNELS - 1 ? ND_OVERFLOW_REJECT : ND_OVERFLOW_DROP_OLDEST;
        CHECK_EQUAL(nd_ring_open(h->pool, i + 1, 1, i == CHANNELS - 1 ? 250 : QUEUE_BYTES, overflow, &h->rings[i]),
                    ND_OK);
        CHECK_EQUAL(nd_channels_put(h->channels, number_of(i), h->rings[i]), ND_OK);
    }
    h->request = test_notifications(3, 96);
}

static void house_end(house *h)
{
    test_request_free(&h->request);
    for (uint64_t i = 0; i < CHANNELS; i++) nd_ring_close(h->rings[i]);
    nd_channels_close(h->channels);
    nd_pool_close(h->pool);
    test_memory_end(&h->memory);
}

static nd_status publish(house *h, const uint64_t *numbers, uint64_t count, const uint32_t *ends,
                         const uint32_t *indices, nd_published *out)
{
    return nd_publish(h->channels, h->pool, NULL, numbers, count, ends, indices, h->request.block,
                      h->request.block_bytes, h->request.meta, h->request.count, 7, 1, 0, out);
}

static uint64_t records_of(const house *h, uint64_t index)
{
    nd_ring_stats_t stats;
    CHECK_EQUAL(nd_ring_check(h->rings[index]), ND_OK);
    nd_ring_stats(h->rings[index], &stats);
    return stats.records;
}

static void channels_are_found_until_they_are_removed(void)
{
    enum { NUMBERS = 2000 };
    static uint8_t is_there[NUMBERS];
    house h;
    house_begin(&h);
    uint64_t turn = 1;
    for (uint32_t i = 0; i < 20000; i++) {
        turn = turn * 6364136223846793005u + 1442695040888963407u;
        const uint64_t which = (turn >> 33) % NUMBERS, number = which + 1000000;
        if (turn >> 63 != 0) {
            CHECK_EQUAL(nd_channels_put(h.channels, number, h.rings[which % CHANNELS]),
                        is_there[which] ? ND_ERR_ARGUMENT : ND_OK);
            is_there[which] = 1;
        } else {
            nd_channels_remove(h.channels, number);
            is_there[which] = 0;
        }
        const uint64_t other = (turn >> 20) % NUMBERS;
        CHECK(nd_channels_find(h.channels, other + 1000000)
              == (is_there[other] ? h.rings[other % CHANNELS] : NULL));
    }
    for (uint64_t i = 0; i < NUMBERS; i++) {
        CHECK((nd_channels_find(h.channels, i + 1000000) != NULL) == is_there[i]);
    }
    house_end(&h);
}

static void a_request_goes_to_all_the_channels_that_it_names(void)
{
    house h;
    house_begin(&h);
    nd_published out;
    const uint64_t numbers[] = {number_of(2), number_of(0)};
    CHECK_EQUAL(publish(&h, numbers, 2, NULL, NULL, &out), ND_OK);
    CHECK_EQUAL(out.sum.queued_count, 6);
    CHECK_EQUAL(out.sum.odd_routes, 0);
    CHECK_EQUAL(out.stored_count, 2);
    for (uint64_t i = 0; i < 2; i++) {
        CHECK_EQUAL(out.stored[i], numbers[i]);
        CHECK_EQUAL(out.last_seqs[i], 3);
    }
    CHECK_EQUAL(records_of(&h, 0), 3);
    CHECK_EQUAL(records_of(&h, 1), 0);
    CHECK_EQUAL(records_of(&h, 2), 3);
    CHECK_EQUAL(publish(&h, NULL, 0, NULL, NULL, &out), ND_OK);
    CHECK_EQUAL(out.stored_count, 0);
    house_end(&h);
}

static void each_channel_gets_its_part(void)
{
    house h;
    house_begin(&h);
    nd_published out;
    const uint64_t numbers[] = {number_of(0), number_of(1), number_of(2), number_of(3)};
    const uint32_t indices[] = {0, 2, 0, 1, 2, 1}, ends[] = {2, 2, 5, 6};
    CHECK_EQUAL(publish(&h, numbers, 4, ends, indices, &out), ND_OK);
    CHECK_EQUAL(records_of(&h, 0), 2);
    CHECK_EQUAL(records_of(&h, 1), 0);
    CHECK_EQUAL(records_of(&h, 2), 3);
    CHECK_EQUAL(records_of(&h, 3), 1);
    CHECK_EQUAL(out.stored_count, 3);
    CHECK_EQUAL(out.stored[1], number_of(2));
    CHECK(out.routes[2].indices == NULL);                       /* all of them: as if none had been named */
    house_end(&h);
}

static void what_a_full_channel_refuses_is_told_of_it_alone(void)
{
    house h;
    house_begin(&h);
    nd_published out;
    const uint64_t numbers[] = {number_of(4), number_of(0)};
    CHECK_EQUAL(publish(&h, numbers, 2, NULL, NULL, &out), ND_OK);
    CHECK_EQUAL(out.sum.queued_count, 4);
    CHECK_EQUAL(out.sum.odd_routes, 1);
    CHECK_EQUAL(out.routes[0].rejected_count, 2);
    CHECK_EQUAL(out.last_seqs[0], 1);
    CHECK_EQUAL(publish(&h, numbers, 2, NULL, NULL, &out), ND_OK);
    CHECK_EQUAL(out.stored_count, 1);                           /* the full one was given no seq */
    CHECK_EQUAL(out.stored[0], number_of(0));
    house_end(&h);
}

static void a_request_that_cannot_be_so_changes_nothing(void)
{
    house h;
    house_begin(&h);
    nd_published out;
    const uint64_t strange[] = {number_of(0), 77}, twice[] = {number_of(0), number_of(0)};
    const uint64_t numbers[] = {number_of(0), number_of(1)};
    const uint32_t indices[] = {0, 1, 2}, falling[] = {2, 1}, ends[] = {2, 3};
    const uint32_t unordered[] = {1, 0, 2, 0}, all_but_not[] = {0, 0, 2}, all_ends[] = {3, 3};
    CHECK_EQUAL(publish(&h, strange, 2, NULL, NULL, &out), ND_EMPTY);
    CHECK_EQUAL(out.unknown, 77);
    CHECK_EQUAL(publish(&h, twice, 2, NULL, NULL, &out), ND_ERR_ARGUMENT);
    CHECK_EQUAL(publish(&h, numbers, 2, falling, indices, &out), ND_ERR_ARGUMENT);
    CHECK_EQUAL(publish(&h, numbers, 2, ends, NULL, &out), ND_ERR_ARGUMENT);
    CHECK_EQUAL(publish(&h, numbers, 2, ends, unordered, &out), ND_ERR_ARGUMENT);
    CHECK_EQUAL(publish(&h, numbers, 2, all_ends, all_but_not, &out), ND_ERR_ARGUMENT);
    CHECK_EQUAL(publish(&h, NULL, 2, NULL, NULL, &out), ND_ERR_ARGUMENT);
    for (uint64_t i = 0; i < CHANNELS; i++) CHECK_EQUAL(records_of(&h, i), 0);
    house_end(&h);
}

static void what_is_durable_is_shown_of_all_channels_that_are_left(void)
{
    house h;
    house_begin(&h);
    nd_published out;
    const uint64_t numbers[] = {number_of(0), number_of(1), number_of(2)}, seqs[] = {1, 2, 3};
    for (uint64_t i = 0; i < CHANNELS; i++) nd_ring_show(h.rings[i], 0);
    CHECK_EQUAL(publish(&h, numbers, 3, NULL, NULL, &out), ND_OK);
    nd_channels_remove(h.channels, number_of(1));
    nd_channels_show(h.channels, numbers, seqs, 3);
    CHECK_EQUAL(nd_ring_slice_limit(h.rings[0], 1), 1);
    CHECK_EQUAL(nd_ring_slice_limit(h.rings[1], 1), 0);
    CHECK_EQUAL(nd_ring_slice_limit(h.rings[2], 1), 3);
    house_end(&h);
}

static void no_memory_changes_nothing(void)
{
    house h;
    house_begin(&h);
    nd_published out;
    const uint64_t numbers[] = {number_of(0), number_of(1)};
    uint64_t failures = 0;
    for (nd_status status = ND_ERR_FULL; status == ND_ERR_FULL; failures++) {
        CHECK(failures < 50);
        for (uint64_t i = 0; i < 2; i++) CHECK_EQUAL(records_of(&h, i), 0);
        h.memory.fail_at = h.memory.requests + failures + 1;
        status = publish(&h, numbers, 2, NULL, NULL, &out);
    }
    CHECK(failures > 1);
    h.memory.fail_at = 0;
    for (uint64_t i = 0; i < 2; i++) CHECK_EQUAL(records_of(&h, i), 3);

    uint64_t put = 0;
    h.memory.fail_at = h.memory.requests + 1;
    while (nd_channels_put(h.channels, put + 7, h.rings[0]) == ND_OK) put++;
    CHECK(nd_channels_find(h.channels, put + 7) == NULL);
    CHECK(nd_channels_find(h.channels, 7) == h.rings[0]);
    h.memory.fail_at = 0;
    CHECK_EQUAL(nd_channels_put(h.channels, put + 7, h.rings[0]), ND_OK);
    house_end(&h);
}

int main(void)
{
    RUN(channels_are_found_until_they_are_removed);
    RUN(a_request_goes_to_all_the_channels_that_it_names);
    RUN(each_channel_gets_its_part);
    RUN(what_a_full_channel_refuses_is_told_of_it_alone);
    RUN(a_request_that_cannot_be_so_changes_nothing);
    RUN(what_is_durable_is_shown_of_all_channels_that_are_left);
    RUN(no_memory_changes_nothing);
    return 0;
}
