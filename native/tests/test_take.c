#include "nd_take.h"
#include "nd_test.h"

enum { POOL_BYTES = 16u << 20, CHANNELS = 4, RECORDS_MAX = 1000, NOW_MS = 7, KEPT_BYTES = 65536 };

#define EVENT(ep, path) "{\"ep\":\"" ep "\",\"path\":\"" path "\",\"payload\":\"MQ==\"}"
#define MESSAGE(events) "{\"notifications\":[" events "]}"
#define DEVICES MESSAGE(EVENT("a", "/1") "," EVENT("b", "/1") "," EVENT("a", "/2"))

static const nd_scan_rules RULES = {
    .integer_max = 9007199254740991u,
    .ep_chars_max = 255,
    .path_chars_max = 255,
    .ct_chars_max = 128,
    .payload_bytes_max = 65536,
    .depth_max = 10,
    .containers_max = 100000,
    .record_bytes_max = 100000,
};

/* Channels 100, 200, 300 and, of policy reject and with room for one record, 400. */
typedef struct {
    test_memory     memory;
    nd_pool        *pool;
    nd_channels    *channels;
    nd_ring        *rings[CHANNELS];
    nd_take        *take;
    nd_staging     *staging;
    nd_route_space *space;
    nd_routes      *manual;
    nd_audiences   *audiences;
    nd_taken        taken;
} house;

static void house_begin(house *h)
{
    memset(h, 0, sizeof *h);
    test_memory_begin(&h->memory);
    const nd_io *io = &h->memory.io;
    CHECK_EQUAL(nd_pool_open(io, POOL_BYTES, &h->pool), ND_OK);
    CHECK_EQUAL(nd_channels_open(io, &h->channels), ND_OK);
    for (uint64_t i = 0; i < CHANNELS; i++) {
        const int is_last = i == CHANNELS - 1;
        CHECK_EQUAL(nd_ring_open(h->pool, i + 1, 1, is_last ? 150 : 100000,
                                 is_last ? ND_OVERFLOW_REJECT : ND_OVERFLOW_DROP_OLDEST, &h->rings[i]), ND_OK);
        CHECK_EQUAL(nd_channels_put(h->channels, (i + 1) * 100, h->rings[i]), ND_OK);
    }
    CHECK_EQUAL(nd_take_open(io, h->channels, h->pool, NULL, 1, RECORDS_MAX, &h->take), ND_OK);
    CHECK_EQUAL(nd_staging_open(io, &RULES, &h->staging), ND_OK);
    nd_take_scan_into(h->take, h->staging, KEPT_BYTES);
    CHECK_EQUAL(nd_route_space_open(io, 8u << 20, 1, 2, &h->space), ND_OK);
    CHECK_EQUAL(nd_routes_open(h->space, &h->manual), ND_OK);
    CHECK_EQUAL(nd_audiences_open(io, &h->audiences), ND_OK);
}

static void house_end(house *h)
{
    nd_audiences_close(h->audiences);
    nd_routes_close(h->manual);
    nd_route_space_close(h->space);
    nd_staging_close(h->staging);
    nd_take_close(h->take);
    for (uint64_t i = 0; i < CHANNELS; i++) nd_ring_close(h->rings[i]);
    nd_channels_close(h->channels);
    nd_pool_close(h->pool);
    test_memory_end(&h->memory);
}

static nd_status take(house *h, const nd_addressees *to, uint64_t channel, const char *text, int is_lines)
{
    const nd_status status = nd_take_text(h->take, to, channel, (const uint8_t *)text, strlen(text), is_lines, NOW_MS, 0);
    h->taken = *nd_take_look(h->take);
    return status;
}

static nd_addressees subscribers(const house *h)
{
    return (nd_addressees){.audiences = h->audiences, .manual = h->manual};
}

/* A device's resource leads to this audience. */
static void subscribe(house *h, uint32_t node, const char *ep, const char *path, uint32_t audience)
{
    CHECK_EQUAL(nd_routes_put(h->manual, ND_ROUTE_ROOT, (const uint8_t *)ep, strlen(ep), node), ND_OK);
    CHECK_EQUAL(nd_routes_put(h->manual, node, (const uint8_t *)path, strlen(path), audience), ND_OK);
}

static uint64_t records_of(const house *h, uint64_t index)
{
    nd_ring_stats_t stats;
    CHECK_EQUAL(nd_ring_check(h->rings[index]), ND_OK);
    nd_ring_stats(h->rings[index], &stats);
    return stats.records;
}

static uint64_t staged_of(const house *h)
{
    return nd_staging_look(h->staging)->records_count;
}

static void a_text_goes_to_one_channel(void)
{
    house h;
    house_begin(&h);
    CHECK_EQUAL(take(&h, NULL, 200, DEVICES, 0), ND_OK);
    CHECK_EQUAL(records_of(&h, 1), 3);
    CHECK_EQUAL(records_of(&h, 0), 0);
    CHECK_EQUAL(h.taken.outcome.numbers_count, 1);
    CHECK_EQUAL(h.taken.numbers[0], 200);
    CHECK_EQUAL(h.taken.outcome.unrouted, 0);
    CHECK_EQUAL(h.taken.published.sum.queued_count, 3);
    CHECK_EQUAL(h.taken.published.last_seqs[0], 3);
    CHECK_EQUAL(h.taken.outcome.queued_count, 3);
    CHECK_EQUAL(h.taken.last_seq, 3);
    CHECK_EQUAL(h.taken.outcome.is_odd, 0);
    CHECK_EQUAL(take(&h, NULL, 200, DEVICES "\n\n" DEVICES "\n", 1), ND_OK);
    CHECK_EQUAL(records_of(&h, 1), 9);                          /* and nothing of what the staging held before */
    CHECK_EQUAL(staged_of(&h), 6);
    house_end(&h);
}

static void a_channel_that_is_not_there_or_would_refuse_is_left_to_the_caller(void)
{
    house h;
    house_begin(&h);
    CHECK_EQUAL(take(&h, NULL, 77, DEVICES, 0), ND_EMPTY);
    CHECK_EQUAL(staged_of(&h), 3);                              /* it goes on from here */
    CHECK_EQUAL(take(&h, NULL, 400, DEVICES, 0), ND_EMPTY);
    CHECK_EQUAL(records_of(&h, 3), 0);
    CHECK_EQUAL(take(&h, NULL, 400, MESSAGE(EVENT("a", "/1")), 0), ND_OK);
    CHECK_EQUAL(records_of(&h, 3), 1);
    house_end(&h);
}

static void records_made_before_go_to_one_channel(void)
{
    house h;
    house_begin(&h);
    CHECK_EQUAL(take(&h, NULL, 100, DEVICES, 0), ND_OK);
    const nd_staged *staged = nd_staging_look(h.staging);
    const nd_records records = {staged->block, staged->block_bytes, staged->meta, staged->records_count};
    CHECK_EQUAL(nd_take_records(h.take, 300, &records, NOW_MS, 0), ND_OK);
    CHECK_EQUAL(nd_take_records(h.take, 300, &records, NOW_MS, 0), ND_SAME);
    CHECK_EQUAL(records_of(&h, 2), 6);
    const nd_taken *taken = nd_take_look(h.take);
    CHECK_EQUAL(taken->outcome.events, 3);
    CHECK_EQUAL(taken->outcome.queued_count, 3);
    CHECK_EQUAL(taken->outcome.came_bytes, 512);
    CHECK_EQUAL(taken->outcome.number, 300);
    CHECK_EQUAL(taken->numbers[0], 300);
    CHECK_EQUAL(taken->last_seq, 6);
    CHECK_EQUAL(taken->outcome.is_odd, 0);
    CHECK_EQUAL(nd_take_records(h.take, 400, &records, NOW_MS, 0), ND_EMPTY);      /* it would refuse some */
    CHECK_EQUAL(nd_take_records(h.take, 77, &records, NOW_MS, 0), ND_EMPTY);
    CHECK_EQUAL(records_of(&h, 3), 0);
    CHECK_EQUAL(nd_channels_came(h.channels)->records, 9);
    house_end(&h);
}

/* What a full channel drops is there to be told, and so is where all of it went. */
static void what_is_lost_is_odd(void)
{
    house h;
    house_begin(&h);
    uint64_t queued = 0;
    while (nd_take_look(h.take)->outcome.is_odd == 0) {
        CHECK(queued < 100000);
        const nd_status status = take(&h, NULL, 100, DEVICES, 0);
        CHECK_EQUAL(status, queued > 0 && h.taken.outcome.is_odd == 0 ? ND_SAME : ND_OK);
        queued += 3;
    }
    CHECK(h.taken.published.routes[0].dropped.count > 0);
    CHECK_EQUAL(records_of(&h, 0), queued - h.taken.published.routes[0].dropped.count);
    CHECK_EQUAL(nd_channels_came(h.channels)->records, queued);
    CHECK_EQUAL(h.taken.published.is_memory_short, 0);
    CHECK_EQUAL(take(&h, NULL, 100, DEVICES, 0), ND_OK);        /* nor is it the same when it happens again */
    house_end(&h);
}

/* Only what nobody has to look at is the same: another number, place or size of it is not. */
static void what_differs_is_not_the_same(void)
{
    house h;
    house_begin(&h);
    const uint64_t one[] = {100}, both[] = {300, 100};
    CHECK_EQUAL(nd_audiences_put(h.audiences, 0, NULL, 0), ND_OK);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 5, one, 1), ND_OK);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 6, both, 2), ND_OK);
    subscribe(&h, 1, "a", "/1", 5);
    subscribe(&h, 2, "b", "/1", 6);
    const nd_addressees to = subscribers(&h);
    const char *const first = MESSAGE(EVENT("a", "/1"));
    const char *const fleeting = MESSAGE("{\"ep\":\"a\",\"path\":\"/1\",\"payload\":\"MQ==\",\"max-age\":0}");
    CHECK_EQUAL(take(&h, NULL, 100, first, 0), ND_OK);
    CHECK_EQUAL(take(&h, NULL, 100, first, 0), ND_SAME);
    CHECK_EQUAL(h.taken.last_seq, 2);                           /* that is as it is now all the same */
    CHECK_EQUAL(take(&h, NULL, 200, first, 0), ND_OK);
    CHECK_EQUAL(take(&h, NULL, 100, "{", 0), ND_ODD);
    CHECK_EQUAL(take(&h, NULL, 200, first, 0), ND_SAME);
    CHECK_EQUAL(take(&h, NULL, 200, DEVICES, 0), ND_OK);
    CHECK_EQUAL(take(&h, NULL, 200, MESSAGE(EVENT("a", "/1") "," EVENT("a", "/1") "," EVENT("a", "/1")), 0), ND_SAME);
    CHECK_EQUAL(take(&h, NULL, 200, MESSAGE(EVENT("a", "/1") "," EVENT("a", "/1")), 0), ND_OK);
    CHECK_EQUAL(take(&h, NULL, 200, fleeting, 0), ND_OK);
    CHECK_EQUAL(take(&h, NULL, 200, first, 0), ND_OK);
    CHECK_EQUAL(take(&h, &to, 0, first, 0), ND_OK);
    CHECK_EQUAL(take(&h, &to, 0, first, 0), ND_SAME);
    CHECK_EQUAL(take(&h, NULL, 100, first, 0), ND_SAME);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("c", "/1")), 0), ND_OK);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("c", "/2")), 0), ND_SAME);       /* nobody gets either */
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("b", "/1")), 0), ND_OK);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("b", "/1")), 0), ND_OK);         /* all its channels are to be named */
    house_end(&h);
}

static void what_the_scan_does_not_vouch_for_leaves_nothing(void)
{
    static const char *const messages[] = {
        "", "{", "{}x", MESSAGE("{}"), "{\"registrations\":[{\"ep\":\"a\"}]}", "{\"message-id\":\"x\"}",
        MESSAGE(EVENT("a", "1")),
    };
    static const char *const lines[] = {"", "\n \n", DEVICES "\n{\n", DEVICES "\n{\"registrations\":[{\"ep\":\"a\"}]}"};
    house h;
    house_begin(&h);
    for (uint64_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        CHECK_EQUAL(take(&h, NULL, 100, messages[i], 0), ND_ODD);
        CHECK_EQUAL(staged_of(&h), 0);
    }
    for (uint64_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CHECK_EQUAL(take(&h, NULL, 100, lines[i], 1), ND_ODD);
        CHECK_EQUAL(staged_of(&h), 0);
    }
    CHECK_EQUAL(records_of(&h, 0), 0);
    house_end(&h);
}

static void more_records_than_may_be_are_left_to_the_caller(void)
{
    house h;
    house_begin(&h);
    char *text = malloc((RECORDS_MAX + 1) * sizeof(MESSAGE(EVENT("a", "/1"))) + 1);
    char *at = text;
    for (uint64_t i = 0; i <= RECORDS_MAX; i++) at += sprintf(at, "%s\n", MESSAGE(EVENT("a", "/1")));
    CHECK_EQUAL(take(&h, NULL, 100, text, 1), ND_ODD);
    CHECK_EQUAL(records_of(&h, 0), 0);
    at[-(long)sizeof(MESSAGE(EVENT("a", "/1")))] = '\0';
    CHECK_EQUAL(take(&h, NULL, 100, text, 1), ND_OK);
    CHECK_EQUAL(records_of(&h, 0), RECORDS_MAX);
    free(text);
    house_end(&h);
}

static void a_text_goes_to_its_subscribers(void)
{
    house h;
    house_begin(&h);
    const uint64_t one[] = {100}, both[] = {300, 100};
    CHECK_EQUAL(nd_audiences_put(h.audiences, 0, NULL, 0), ND_OK);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 5, one, 1), ND_OK);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 6, both, 2), ND_OK);
    subscribe(&h, 1, "a", "/1", 5);
    subscribe(&h, 2, "b", "/1", 6);
    const nd_addressees to = subscribers(&h);
    CHECK_EQUAL(take(&h, &to, 0, DEVICES, 0), ND_OK);
    CHECK_EQUAL(records_of(&h, 0), 2);
    CHECK_EQUAL(records_of(&h, 2), 1);
    CHECK_EQUAL(h.taken.outcome.unrouted, 1);
    CHECK_EQUAL(h.taken.outcome.numbers_count, 2);
    CHECK_EQUAL(h.taken.numbers[0], 100);
    CHECK_EQUAL(h.taken.numbers[1], 300);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("b", "/1") "," EVENT("b", "/1")), 0), ND_OK);
    CHECK_EQUAL(records_of(&h, 0), 4);
    CHECK_EQUAL(records_of(&h, 2), 3);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("c", "/1") "," EVENT("c", "/2")), 0), ND_OK);
    CHECK_EQUAL(h.taken.outcome.unrouted, 2);
    CHECK_EQUAL(h.taken.outcome.numbers_count, 0);
    CHECK_EQUAL(take(&h, &to, 0, "{}", 0), ND_OK);
    CHECK_EQUAL(h.taken.outcome.unrouted, 0);
    CHECK_EQUAL(h.taken.published.stored_count, 0);
    house_end(&h);
}

static void an_audience_that_nobody_put_in_is_left_to_the_caller(void)
{
    house h;
    house_begin(&h);
    const uint64_t one[] = {100}, gone[] = {77};
    subscribe(&h, 1, "a", "/1", 5);
    const nd_addressees to = subscribers(&h);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("a", "/1")), 0), ND_EMPTY);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 5, one, 1), ND_OK);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("a", "/1")), 0), ND_OK);
    CHECK_EQUAL(take(&h, &to, 0, DEVICES, 0), ND_EMPTY);        /* of b nothing is known */
    CHECK_EQUAL(records_of(&h, 0), 1);
    CHECK_EQUAL(staged_of(&h), 3);
    nd_audiences_clear(h.audiences);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("a", "/1")), 0), ND_EMPTY);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 5, gone, 1), ND_OK);
    CHECK_EQUAL(take(&h, &to, 0, MESSAGE(EVENT("a", "/1")), 0), ND_EMPTY);
    nd_addressees chosen = {.audiences = h.audiences, .chosen = h.manual, .chosen_from = 9};
    CHECK_EQUAL(take(&h, &chosen, 0, MESSAGE(EVENT("a", "/1")), 0), ND_EMPTY);     /* somebody has to choose */
    CHECK_EQUAL(records_of(&h, 0), 1);
    house_end(&h);
}

static void audiences_are_found_by_their_pairs(void)
{
    enum { PAIRS = 3000 };
    house h;
    house_begin(&h);
    uint64_t channels[8], count = 99;
    for (uint64_t i = 0; i < 8; i++) channels[i] = 1000 + i;
    CHECK(nd_audiences_find(h.audiences, 0, &count) == NULL);
    for (uint64_t pair = 0; pair < PAIRS; pair++) {
        CHECK_EQUAL(nd_audiences_put(h.audiences, pair << 32 | pair % 3, channels, pair % 9), ND_OK);
    }
    CHECK_EQUAL(nd_audiences_put(h.audiences, 0, channels, 1), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 1, NULL, 1), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 1, channels, UINT32_MAX), ND_ERR_ARGUMENT);
    for (uint64_t pair = 0; pair < PAIRS; pair++) {
        const uint64_t *found = nd_audiences_find(h.audiences, pair << 32 | pair % 3, &count);
        CHECK(found != NULL);
        CHECK_EQUAL(count, pair % 9);
        for (uint64_t i = 0; i < count; i++) CHECK_EQUAL(found[i], 1000 + i);
        CHECK(nd_audiences_find(h.audiences, pair << 32 | (pair + 1) % 3, &count) == NULL);
    }
    nd_audiences_clear(h.audiences);
    CHECK(nd_audiences_find(h.audiences, 0, &count) == NULL);
    CHECK_EQUAL(nd_audiences_put(h.audiences, 0, channels, 1), ND_OK);
    house_end(&h);
}

/* Each request for memory of a text's way fails in turn: it is left to the caller, with nothing stored. */
static void no_memory_changes_nothing(void)
{
    house h;
    house_begin(&h);
    const uint64_t one[] = {100}, both[] = {300, 100};
    subscribe(&h, 1, "a", "/1", 5);
    subscribe(&h, 2, "b", "/1", 6);
    const nd_addressees to = subscribers(&h);
    uint64_t failures = 0;
    for (nd_status status = ND_EMPTY; status != ND_OK; failures++) {
        CHECK(failures < 50);
        for (uint64_t i = 0; i < CHANNELS; i++) CHECK_EQUAL(records_of(&h, i), 0);
        nd_audiences_clear(h.audiences);
        h.memory.fail_at = h.memory.requests + failures + 1;
        status = nd_audiences_put(h.audiences, 0, NULL, 0);
        if (status == ND_OK) status = nd_audiences_put(h.audiences, 5, one, 1);
        if (status == ND_OK) status = nd_audiences_put(h.audiences, 6, both, 2);
        if (status == ND_OK) {
            status = take(&h, &to, 0, DEVICES, 0);
            CHECK(status == ND_OK || status == ND_EMPTY || status == ND_ODD);
        }
    }
    CHECK(failures > 6);
    h.memory.fail_at = 0;
    CHECK_EQUAL(records_of(&h, 0), 2);

    uint64_t opened = 0;
    for (nd_take *take = NULL; take == NULL; opened++) {
        CHECK(opened < 5);
        h.memory.fail_at = h.memory.requests + opened + 1;
        if (nd_take_open(&h.memory.io, h.channels, h.pool, NULL, 1, RECORDS_MAX, &take) == ND_OK) nd_take_close(take);
    }
    h.memory.fail_at = 0;
    house_end(&h);
}

int main(void)
{
    RUN(a_text_goes_to_one_channel);
    RUN(a_channel_that_is_not_there_or_would_refuse_is_left_to_the_caller);
    RUN(records_made_before_go_to_one_channel);
    RUN(what_is_lost_is_odd);
    RUN(what_differs_is_not_the_same);
    RUN(what_the_scan_does_not_vouch_for_leaves_nothing);
    RUN(more_records_than_may_be_are_left_to_the_caller);
    RUN(a_text_goes_to_its_subscribers);
    RUN(an_audience_that_nobody_put_in_is_left_to_the_caller);
    RUN(audiences_are_found_by_their_pairs);
    RUN(no_memory_changes_nothing);
    return 0;
}
