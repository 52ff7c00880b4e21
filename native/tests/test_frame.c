#include "nd_test.h"

#include "nd_uid.h"

enum { NOTIFICATION, REGISTRATION, REG_UPDATE, DE_REGISTRATION, EXPIRED, ASYNC };

#define A_NOTE "{\"ep\":\"a\",\"path\":\"/1\"}"
#define B_NOTE "{\"ep\":\"b\",\"path\":\"/2\"}"
#define TAIL   ",\"original-ep\":\"x\""

static test_memory memory;
static nd_pool *pool;
static nd_ring *ring;
static nd_framer *framer;
static nd_batch batch;

static void begin(void)
{
    test_memory_begin(&memory);
    CHECK_EQUAL(nd_pool_open(&memory.io, 64 << 20, &pool), ND_OK);
    CHECK_EQUAL(nd_ring_open(pool, 0x1122334455667788, 3, 1 << 30, ND_OVERFLOW_DROP_OLDEST, &ring), ND_OK);
    CHECK_EQUAL(nd_framer_open(pool, &framer), ND_OK);
}

static void end(void)
{
    nd_ring_close(ring);
    nd_framer_close(framer);
    nd_pool_close(pool);
    test_memory_end(&memory);
}

static void add(uint32_t kind, const char *ep, const char *body, const char *tail)
{
    test_request request = test_record(kind, ep, body, tail);
    nd_route route;
    CHECK_EQUAL(test_append(pool, ring, &request, 1700000000123, &route), ND_OK);
    test_request_free(&request);
}

static nd_status plan(uint64_t after, uint64_t events_max, uint64_t bytes_max, uint32_t form)
{
    return nd_frame_plan(framer, ring, &(nd_slice){after, UINT64_MAX, events_max, bytes_max, form}, &batch);
}

/* All messages of all records in a form, whatever the pieces that they are read through. */
static void sends(uint32_t form, const char *expected)
{
    CHECK_EQUAL(plan(0, 1000, 1 << 20, form), ND_OK);
    static const uint64_t pieces[] = {1 << 20, 0, 1, 30, 61};
    for (int i = 0; i < 5; i++) {
        char *text = test_read(ring, &batch, pieces[i]);
        if (strcmp(text, expected) != 0) {
            fprintf(stderr, "got      %s\nexpected %s\n", text, expected);
            exit(1);
        }
        free(text);
    }
    CHECK_EQUAL(batch.bytes_count, strlen(expected));
}

static void notifications_are_sent_as_they_are(void)
{
    begin();
    add(NOTIFICATION, "a", A_NOTE, "");
    add(NOTIFICATION, "b", B_NOTE, "");
    sends(0, "{\"notifications\":[" A_NOTE "," B_NOTE "]}");
    sends(ND_FORM_MIXED_KINDS, "{\"notifications\":[" A_NOTE "," B_NOTE "]}");
    end();
}

static void original_ep_is_sent_to_those_who_asked(void)
{
    begin();
    add(NOTIFICATION, "a", A_NOTE, "");
    add(NOTIFICATION, "a", "{\"ep\":\"a\",\"path\":\"/1\"" TAIL "}", TAIL);
    sends(0, "{\"notifications\":[" A_NOTE "," A_NOTE "]}");
    sends(ND_FORM_ORIGINAL_EP, "{\"notifications\":["
                               "{\"ep\":\"a\",\"path\":\"/1\",\"original-ep\":\"a\"},"
                               "{\"ep\":\"a\",\"path\":\"/1\",\"original-ep\":\"x\"}]}");
    end();
}

static void registrations_say_original_ep_always_when_it_is_another(void)
{
    begin();
    add(REGISTRATION, "a", "{\"ep\":\"a\",\"q\":true" TAIL "}", TAIL);
    add(REGISTRATION, "b", "{\"ep\":\"b\"}", "");
    sends(0, "{\"registrations\":[{\"ep\":\"a\",\"q\":true" TAIL "},{\"ep\":\"b\"}]}");
    sends(ND_FORM_ORIGINAL_EP,
          "{\"registrations\":[{\"ep\":\"a\",\"q\":true" TAIL "},{\"ep\":\"b\",\"original-ep\":\"b\"}]}");
    sends(ND_FORM_TIMESTAMP, "{\"registrations\":[{\"ep\":\"a\",\"q\":true,\"timestamp\":1700000000123" TAIL "},"
                             "{\"ep\":\"b\",\"timestamp\":1700000000123}]}");
    end();
}

static void de_registrations_are_strings_or_objects(void)
{
    begin();
    add(DE_REGISTRATION, "a", "{\"ep\":\"a\"" TAIL "}", TAIL);
    add(DE_REGISTRATION, "b", "{\"ep\":\"b\"}", "");
    sends(0, "{\"de-registrations\":[\"a\",\"b\"]}");
    sends(ND_FORM_TIMESTAMP | ND_FORM_ORIGINAL_EP | ND_FORM_UID, "{\"de-registrations\":[\"a\",\"b\"]}");
    sends(ND_FORM_DEREGISTRATIONS_AS_OBJECT, "{\"de-registrations\":[{\"ep\":\"a\"},{\"ep\":\"b\"}]}");
    sends(ND_FORM_DEREGISTRATIONS_AS_OBJECT | ND_FORM_TIMESTAMP | ND_FORM_ORIGINAL_EP,
          "{\"de-registrations\":[{\"ep\":\"a\",\"timestamp\":1700000000123" TAIL "},"
          "{\"ep\":\"b\",\"timestamp\":1700000000123,\"original-ep\":\"b\"}]}");
    end();
}

static void async_responses_are_never_added_to(void)
{
    begin();
    add(ASYNC, "", "{\"id\":\"j\",\"status\":200}", "");
    sends(31, "{\"async-responses\":[{\"id\":\"j\",\"status\":200}]}");
    end();
}

static void kinds_stand_in_order_of_first_occurrence(void)
{
    begin();
    add(REG_UPDATE, "a", "{\"ep\":\"a\"}", "");
    add(NOTIFICATION, "b", B_NOTE, "");
    add(EXPIRED, "c", "{\"ep\":\"c\"}", "");
    add(REG_UPDATE, "d", "{\"ep\":\"d\"}", "");
    add(ASYNC, "", "{\"id\":\"j\"}", "");
    sends(ND_FORM_MIXED_KINDS,
          "{\"reg-updates\":[{\"ep\":\"a\"},{\"ep\":\"d\"}],\"notifications\":[" B_NOTE "],"
          "\"registrations-expired\":[\"c\"],\"async-responses\":[{\"id\":\"j\"}]}");
    CHECK_EQUAL(batch.kinds_count, 4);
    CHECK_EQUAL(batch.kind_events[0], 2);
    sends(0, "{\"reg-updates\":[{\"ep\":\"a\"},{\"ep\":\"d\"}]}{\"notifications\":[" B_NOTE "]}"
             "{\"registrations-expired\":[\"c\"]}{\"async-responses\":[{\"id\":\"j\"}]}");
    CHECK_EQUAL(batch.kind_bytes[1] + 2, strlen("{\"notifications\":[" B_NOTE "]}"));
    end();
}

static void a_slice_ends_before_an_event_would_pass_an_earlier_one_of_its_device(void)
{
    begin();
    add(NOTIFICATION, "a", A_NOTE, "");
    add(REGISTRATION, "b", "{\"ep\":\"b\"}", "");
    add(NOTIFICATION, "c", "{\"ep\":\"c\",\"path\":\"/1\"}", "");
    add(REGISTRATION, "a", "{\"ep\":\"a\"}", "");
    add(NOTIFICATION, "b", B_NOTE, "");                         /* would pass b's registration */
    add(NOTIFICATION, "a", A_NOTE, "");
    CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_OK);
    CHECK_EQUAL(batch.last_seq, 4);
    CHECK_EQUAL(plan(4, 100, 1 << 20, 0), ND_OK);
    CHECK_EQUAL(batch.last_seq, 6);
    CHECK_EQUAL(plan(1, 100, 1 << 20, ND_FORM_MIXED_KINDS), ND_OK);     /* registrations come first now */
    CHECK_EQUAL(batch.last_seq, 6);
    end();
}

static void the_table_of_devices_grows_and_forgets_none(void)
{
    static const int which[] = {0, 1, 100, 127, 128, 500, 1024, 1234, 2047, 2999};
    char ep[16], body[64];
    for (int w = 0; w < 10; w++) {
        begin();
        add(NOTIFICATION, "first", "{\"ep\":\"first\",\"path\":\"/1\"}", "");
        for (int i = 0; i < 3000; i++) {
            snprintf(ep, sizeof ep, "%d", i);
            snprintf(body, sizeof body, "{\"ep\":\"%s\"}", ep);
            add(REGISTRATION, ep, body, "");
        }
        add(NOTIFICATION, "new", "{\"ep\":\"new\",\"path\":\"/1\"}", "");
        snprintf(ep, sizeof ep, "%d", which[w]);
        snprintf(body, sizeof body, "{\"ep\":\"%s\",\"path\":\"/1\"}", ep);
        add(NOTIFICATION, ep, body, "");
        for (int round = 0; round < 2; round++) {               /* the table is used again */
            CHECK_EQUAL(plan(0, 100000, 1 << 30, 0), ND_OK);
            CHECK_EQUAL(batch.events, 3002);
            CHECK_EQUAL(plan(3001, 100000, 1 << 30, 0), ND_OK);
            CHECK_EQUAL(batch.events, 2);
        }
        end();
    }
}

static void a_table_without_memory_only_makes_slices_shorter(void)
{
    begin();
    add(NOTIFICATION, "a", A_NOTE, "");
    add(REGISTRATION, "b", "{\"ep\":\"b\"}", "");
    add(REGISTRATION, "c", "{\"ep\":\"c\"}", "");
    memory.fail_at = memory.requests + 1;
    CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_OK);
    CHECK_EQUAL(batch.last_seq, 1);
    CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_OK);
    CHECK_EQUAL(batch.last_seq, 3);
    end();
}

static void limits_count_what_is_sent(void)
{
    begin();
    for (int i = 0; i < 3; i++) add(NOTIFICATION, "a", A_NOTE, "");
    add(REGISTRATION, "b", "{\"ep\":\"b\"}", "");
    const uint64_t two = strlen("{\"notifications\":[" A_NOTE "," A_NOTE "]}");
    CHECK_EQUAL(plan(0, 100, two, 0), ND_OK);
    CHECK_EQUAL(batch.events, 2);
    CHECK_EQUAL(plan(0, 100, two - 1, 0), ND_OK);
    CHECK_EQUAL(batch.events, 1);
    CHECK_EQUAL(plan(0, 100, 1, 0), ND_OK);                     /* one record always goes */
    CHECK_EQUAL(batch.events, 1);
    CHECK_EQUAL(plan(0, 3, 1 << 20, 0), ND_OK);
    CHECK_EQUAL(batch.events, 3);
    CHECK_EQUAL(plan(4, 3, 1 << 20, 0), ND_EMPTY);
    CHECK_EQUAL(plan(0, 0, 1, 0), ND_ERR_ARGUMENT);
    CHECK_EQUAL(plan(0, 1, 1, 64), ND_ERR_ARGUMENT);
    end();
}

static void a_first_message_goes_on_behind_the_gaps_that_its_caller_wrote(void)
{
    begin();
    add(NOTIFICATION, "a", A_NOTE, "");
    add(REGISTRATION, "b", "{\"ep\":\"b\"}", "");
    sends(ND_FORM_GAPS | ND_FORM_MIXED_KINDS,
          ",\"notifications\":[" A_NOTE "],\"registrations\":[{\"ep\":\"b\"}]}");
    sends(ND_FORM_GAPS, ",\"notifications\":[" A_NOTE "]}{\"registrations\":[{\"ep\":\"b\"}]}");
    end();
}

static void a_slice_ends_where_a_gap_has_to_be_told(void)
{
    begin();
    for (int i = 0; i < 6; i++) add(NOTIFICATION, "a", A_NOTE, "");
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){1, 4, 100, 1 << 20, 0}, &batch), ND_OK);
    CHECK_EQUAL(batch.first_seq, 2);
    CHECK_EQUAL(batch.last_seq, 4);
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){0, 9, 100, 1 << 20, 0}, &batch), ND_OK);
    CHECK_EQUAL(batch.last_seq, 6);
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){3, 3, 100, 1 << 20, 0}, &batch), ND_EMPTY);
    nd_ring_show(ring, 2);                                      /* the nearer bound counts */
    CHECK_EQUAL(nd_frame_plan(framer, ring, &(nd_slice){0, 4, 100, 1 << 20, 0}, &batch), ND_OK);
    CHECK_EQUAL(batch.last_seq, 2);
    end();
}

static void a_batch_is_planned_again_exactly(void)
{
    begin();
    nd_removed removed;
    for (int i = 0; i < 6; i++) add(NOTIFICATION, "a", A_NOTE, "");
    CHECK_EQUAL(plan(1, 3, 1 << 20, ND_FORM_UID), ND_OK);
    char *text = test_read(ring, &batch, 100);
    nd_batch again;
    CHECK_EQUAL(nd_frame_plan_exact(ring, 2, 4, 3, ND_FORM_UID, &again), ND_OK);
    char *text_again = test_read(ring, &again, 1000);
    CHECK(strcmp(text, text_again) == 0);
    free(text);
    free(text_again);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 2, 4, 4, 0, &again), ND_ERR_TRIMMED);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 2, 7, 0, 0, &again), ND_ERR_TRIMMED);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 4, 2, 0, 0, &again), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_ring_settle(ring, 2, &removed), ND_OK);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 2, 4, 0, 0, &again), ND_ERR_TRIMMED);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 3, 4, 0, 0, &again), ND_OK);
    nd_ring_stats_t stats;
    nd_ring_release(ring, 0);
    CHECK_EQUAL(nd_frame_plan_exact(ring, 3, 4, 0, 0, &again), ND_OK);
    nd_ring_stats(ring, &stats);
    CHECK(stats.held_bytes > 0);                                /* in flight again */
    end();
}

static void records_that_go_while_a_batch_is_read_are_noticed(void)
{
    for (uint64_t upto = 1; upto <= 3; upto++) {
        begin();
        nd_removed removed;
        uint8_t piece[64];
        for (int i = 0; i < 4; i++) add(NOTIFICATION, "a", A_NOTE, "");
        CHECK_EQUAL(plan(1, 100, 1 << 20, 0), ND_OK);
        CHECK_EQUAL(nd_batch_write(ring, &batch, piece, sizeof piece), ND_OK);
        CHECK(batch.bytes_written > 0 && batch.bytes_written <= sizeof piece);
        CHECK_EQUAL(nd_ring_settle(ring, upto, &removed), ND_OK);
        CHECK_EQUAL(nd_batch_write(ring, &batch, piece, sizeof piece), upto == 1 ? ND_OK : ND_ERR_TRIMMED);
        end();
    }
}

/* A socket that takes so many bytes a call, and no more once its room is full. */
static struct {
    uint8_t  taken[1 << 16];
    uint64_t count, at_once, room;
} wire;

static uint64_t take_some(int32_t socket, const uint8_t *bytes, uint64_t count)
{
    CHECK_EQUAL(socket, 7);
    const uint64_t room = wire.at_once < wire.room ? wire.at_once : wire.room, taken = count < room ? count : room;
    if (taken > 0) memcpy(wire.taken + wire.count, bytes, taken);
    wire.count += taken;
    wire.room -= taken;
    return taken;
}

static uint8_t pour_buffer[300];

static nd_status pour(const char *tail, uint32_t pieces_max, nd_pouring *at)
{
    const nd_pour_memory through = {
        .buffer = pour_buffer, .capacity = sizeof pour_buffer,
        .tail = (const uint8_t *)tail, .tail_bytes = strlen(tail),
    };
    return nd_batch_pour(ring, &batch, take_some, 7, &through, pieces_max, at);
}

/* Write the next piece into the buffer, for a pour to begin with. */
static void pour_begin(nd_pouring *at)
{
    CHECK_EQUAL(nd_batch_write(ring, &batch, pour_buffer, sizeof pour_buffer), ND_OK);
    *at = (nd_pouring){.filled = batch.bytes_written, .unread = at->unread - batch.bytes_written};
}

static void a_message_is_poured_with_its_tail_whatever_the_socket_takes(void)
{
    int tails_out = 0;
    for (uint64_t room = 1; room <= 3000; room += 1 + room / 5) {
        begin();
        for (int i = 0; i < 90; i++) add(NOTIFICATION, "a", A_NOTE, "");
        CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_OK);
        char *text = test_read(ring, &batch, 1 << 16);
        nd_batch_rewind(&batch);
        memset(&wire, 0, sizeof wire);
        nd_pouring at = {.unread = batch.bytes_count};
        int is_tail_out = 0;
        for (uint64_t turn = 0; at.unread > 0; turn++) {
            CHECK(turn <= batch.bytes_count);
            pour_begin(&at);
            if (at.unread > 0) {
                wire.room = room;
                wire.at_once = room / 2 + 1;
                const uint64_t before = wire.count;
                CHECK_EQUAL(pour("ping", 4, &at), ND_OK);
                CHECK_EQUAL(at.sent, wire.count - before);
                CHECK(at.filled <= sizeof pour_buffer);
                is_tail_out = at.unread == 0;
            }
            memcpy(wire.taken + wire.count, pour_buffer + at.begin, at.filled - at.begin);      /* the caller's part */
            wire.count += at.filled - at.begin;
        }
        CHECK_EQUAL(wire.count, batch.bytes_count + (is_tail_out ? 4 : 0));
        CHECK(memcmp(wire.taken, text, batch.bytes_count) == 0);
        CHECK(!is_tail_out || memcmp(wire.taken + batch.bytes_count, "ping", 4) == 0);
        tails_out += is_tail_out;
        free(text);
        end();
    }
    CHECK(tails_out > 0);
}

static void a_pour_ends_with_the_pieces_it_may_send_or_with_the_first_that_is_not_taken_whole(void)
{
    begin();
    for (int i = 0; i < 90; i++) add(NOTIFICATION, "a", A_NOTE, "");
    CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_OK);
    memset(&wire, 0, sizeof wire);
    wire.at_once = UINT64_MAX;
    nd_pouring at = {.unread = batch.bytes_count};
    pour_begin(&at);
    wire.room = 100;
    const uint64_t next_seq = batch.next_seq;
    CHECK_EQUAL(pour("", 4, &at), ND_OK);
    CHECK(at.sent == 100 && at.begin == 100 && at.begin < at.filled);
    CHECK_EQUAL(batch.next_seq, next_seq);                      /* nothing was written in vain */
    for (uint32_t pieces = 1; pieces <= 3; pieces++) {
        pour_begin(&at);
        const uint64_t before = at.unread;
        wire.room = UINT64_MAX;
        wire.count = 0;
        CHECK_EQUAL(pour("", pieces, &at), ND_OK);
        CHECK(at.begin == at.filled && at.sent == wire.count);
        CHECK(before - at.unread <= (pieces - 1) * sizeof pour_buffer);
        CHECK_EQUAL(at.unread == before, pieces == 1);
    }
    end();
}

static void a_pour_leaves_what_it_cannot_do_to_its_caller(void)
{
    begin();
    char large[400] = "{\"ep\":\"a\",\"path\":\"/";
    memset(large + strlen(large), '1', 360);
    strcpy(large + 380, "\"}");
    for (int i = 0; i < 20; i++) add(NOTIFICATION, "a", A_NOTE, "");
    add(NOTIFICATION, "a", large, "");
    for (int i = 0; i < 20; i++) add(NOTIFICATION, "a", A_NOTE, "");
    CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_OK);
    memset(&wire, 0, sizeof wire);
    wire.at_once = wire.room = UINT64_MAX;
    nd_pouring at = {.unread = batch.bytes_count};
    pour_begin(&at);
    uint64_t unread = at.unread;
    while (batch.next_seq < 21) {                               /* up to the one that no buffer holds */
        CHECK_EQUAL(pour("", 4, &at), ND_OK);
        CHECK_EQUAL(at.begin, at.filled);
        CHECK(at.unread < unread);
        unread = at.unread;
    }
    at.filled = 0;
    CHECK_EQUAL(pour("", 4, &at), ND_OK);
    CHECK(at.sent == 0 && at.unread == unread && batch.next_seq == 21);
    at.filled = sizeof pour_buffer + 1;
    CHECK_EQUAL(pour("", 4, &at), ND_ERR_ARGUMENT);
    end();

    begin();
    for (int i = 0; i < 40; i++) add(NOTIFICATION, "a", A_NOTE, "");
    nd_span span;
    CHECK_EQUAL(nd_ring_span(ring, 30, NULL, &span), ND_OK);
    ((uint8_t *)(uintptr_t)span.bytes)[32 + 15] ^= 1;           /* damaged */
    CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_OK);
    memset(&wire, 0, sizeof wire);
    wire.at_once = wire.room = UINT64_MAX;
    at = (nd_pouring){.unread = batch.bytes_count};
    pour_begin(&at);
    CHECK_EQUAL(pour("", 90, &at), ND_ERR_CORRUPT);
    CHECK_EQUAL(batch.next_seq, 30);
    CHECK(wire.count > 0 && wire.count <= 18 + 29 * (sizeof A_NOTE));   /* what is in front of it */
    end();
}

static void a_damaged_record_is_never_sent(void)
{
    for (uint64_t seq = 1; seq <= 9; seq++) {
        begin();
        uint8_t piece[4096];
        for (int i = 0; i < 9; i++) add(NOTIFICATION, "a", A_NOTE, "");
        nd_span span;
        CHECK_EQUAL(nd_ring_span(ring, seq, NULL, &span), ND_OK);
        ((uint8_t *)(uintptr_t)span.bytes)[32 + 15] ^= 1;
        CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_OK);
        CHECK_EQUAL(nd_batch_write(ring, &batch, piece, sizeof piece), ND_ERR_CORRUPT);
        CHECK_EQUAL(batch.next_seq, seq);
        ((uint8_t *)(uintptr_t)span.bytes)[0] = 255;            /* and now its length */
        CHECK_EQUAL(plan(0, 100, 1 << 20, 0), ND_ERR_CORRUPT);
        CHECK(batch.next_seq == seq || batch.next_seq == seq + 1);     /* or where it leads to */
        end();
    }
}

/* The examples of FORMAT.md. */
static void uids_are_those_of_the_format(void)
{
    uint8_t text[37] = {0};
    nd_uid_maker maker = nd_uid_maker_of(0x0123456789abcdef, 1);
    nd_uid_put(text, &maker, 1);
    CHECK(strcmp((const char *)text, "f998fb6f-8d8c-829b-a58c-c2c27860a21d") == 0);
    maker = nd_uid_maker_of(0xffffffffffffffff, 7);
    nd_uid_put(text, &maker, 1000000);
    CHECK(strcmp((const char *)text, "8b9594a9-a520-8cfd-b599-1e3db4387327") == 0);
}

static void timestamps_of_every_length_are_written(void)
{
    static const uint64_t times[] = {0, 9, 10, 999999, 1700000000123, 18446744073709551615ull};
    begin();
    char expected[1024] = "{\"notifications\":[";
    for (int i = 0; i < 6; i++) {
        test_request request = test_record(NOTIFICATION, "a", A_NOTE, "");
        nd_route route;
        CHECK_EQUAL(test_append(pool, ring, &request, times[i], &route), ND_OK);
        test_request_free(&request);
        const size_t at = strlen(expected);
        snprintf(expected + at, sizeof expected - at, "%s{\"ep\":\"a\",\"path\":\"/1\",\"timestamp\":%llu}",
                 i > 0 ? "," : "", (unsigned long long)times[i]);
    }
    strcat(expected, "]}");
    sends(ND_FORM_TIMESTAMP, expected);
    end();
}

int main(void)
{
    RUN(notifications_are_sent_as_they_are);
    RUN(original_ep_is_sent_to_those_who_asked);
    RUN(registrations_say_original_ep_always_when_it_is_another);
    RUN(de_registrations_are_strings_or_objects);
    RUN(async_responses_are_never_added_to);
    RUN(kinds_stand_in_order_of_first_occurrence);
    RUN(a_slice_ends_before_an_event_would_pass_an_earlier_one_of_its_device);
    RUN(the_table_of_devices_grows_and_forgets_none);
    RUN(a_table_without_memory_only_makes_slices_shorter);
    RUN(limits_count_what_is_sent);
    RUN(a_first_message_goes_on_behind_the_gaps_that_its_caller_wrote);
    RUN(a_slice_ends_where_a_gap_has_to_be_told);
    RUN(a_batch_is_planned_again_exactly);
    RUN(records_that_go_while_a_batch_is_read_are_noticed);
    RUN(a_damaged_record_is_never_sent);
    RUN(a_message_is_poured_with_its_tail_whatever_the_socket_takes);
    RUN(a_pour_ends_with_the_pieces_it_may_send_or_with_the_first_that_is_not_taken_whole);
    RUN(a_pour_leaves_what_it_cannot_do_to_its_caller);
    RUN(uids_are_those_of_the_format);
    RUN(timestamps_of_every_length_are_written);
    return 0;
}
