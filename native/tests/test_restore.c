/* test_restore.c -- rings, a journal beside them, and the rings made again from it.
 *
 * The model is the ring itself: at every moment at which the journal is durable, what is
 * restored must be what the ring holds then, record by record.
 */

#include "fake_disk.h"
#include "nd_cleaner.h"
#include "nd_journal.h"
#include "nd_logged_append.h"
#include "nd_recovery.h"
#include "nd_restore.h"
#include "nd_test.h"

#define SEGMENT_BYTES (64u * 1024)
#define CHANNELS      3u
#define STEP_BYTES    (8u * 1024)
#define EPOCH         5u

typedef struct {
    fake_disk  *disk;
    nd_pool    *pool;
    nd_journal *journal;
    nd_framer  *framer;
    nd_ring    *rings[CHANNELS];
    uint64_t    now_ms;
} world;

static nd_journal *journal_of(fake_disk *disk, uint64_t segment, uint64_t group)
{
    const nd_journal_options options = {
        .journal_id = 9, .segment_bytes = SEGMENT_BYTES, .group_bytes_max = 32u * 1024,
        .oldest_segment = 1, .first_segment = segment, .first_group = group, .epoch = EPOCH, .is_synced = 1,
    };
    nd_journal *journal;
    CHECK_EQUAL(nd_journal_open(nd_io_posix(), fake_disk_files(disk), "journal", &options, &journal), ND_OK);
    return journal;
}

static void open_rings(world *w, uint64_t epoch)
{
    CHECK_EQUAL(nd_pool_open(nd_io_posix(), 16u << 20, &w->pool), ND_OK);
    CHECK_EQUAL(nd_framer_open(w->pool, &w->framer), ND_OK);
    for (uint64_t i = 0; i < CHANNELS; i++) {
        static const nd_overflow overflows[CHANNELS] = {
            ND_OVERFLOW_DROP_OLDEST, ND_OVERFLOW_KEEP_LATEST, ND_OVERFLOW_REJECT,
        };
        CHECK_EQUAL(nd_ring_open(w->pool, 100 + i, epoch, 6000, overflows[i], &w->rings[i]), ND_OK);
    }
}

static world begin(uint64_t seed)
{
    world w = {.disk = fake_disk_new(seed), .now_ms = 1000};
    open_rings(&w, EPOCH);
    w.journal = journal_of(w.disk, 1, 1);
    return w;
}

static void close_rings(world *w)
{
    for (uint64_t i = 0; i < CHANNELS; i++) nd_ring_close(w->rings[i]);
    nd_framer_close(w->framer);
    nd_pool_close(w->pool);
}

static void end(world *w)
{
    close_rings(w);
    nd_journal_close(w->journal);
    fake_disk_free(w->disk);
}

static nd_ring_stats_t stats_of(const nd_ring *ring)
{
    nd_ring_stats_t stats;
    nd_ring_stats(ring, &stats);
    return stats;
}

static nd_status append(world *w, const test_request *request, nd_route *routes, const uint64_t *channels,
                        uint64_t count)
{
    return nd_logged_append(w->journal, w->pool, routes, channels, count, request->block, request->block_bytes,
                            request->meta, request->count, w->now_ms, EPOCH, 0);
}

static void gather_states(world *w)
{
    for (uint64_t i = 0; i < CHANNELS; i++) {
        const nd_ring_stats_t stats = stats_of(w->rings[i]);
        const nd_channel_unit state = {
            .type = ND_UNIT_STATE, .channel = i, .incarnation = 100 + i, .epoch = EPOCH,
            .first_seq = stats.settled_seq, .last_seq = stats.last_seq,
        };
        CHECK_EQUAL(nd_journal_gather_channel(w->journal, &state), ND_OK);
    }
}

static void write_group(world *w)
{
    gather_states(w);
    CHECK_EQUAL(nd_journal_seal(w->journal), ND_OK);
    CHECK_EQUAL(nd_journal_write_sync(w->journal), ND_OK);
    CHECK_EQUAL(nd_journal_group_done(w->journal), ND_OK);
}

/* Read the whole log; the times of its answers, as far as there is room for them. */
static nd_status scan(nd_restore *restore, uint64_t from_unix_ms, uint64_t *times, uint64_t *count)
{
    const uint64_t room = *count;
    nd_journal_answer answer;
    nd_status status;
    *count = 0;
    while ((status = nd_restore_scan(restore, from_unix_ms, &answer)) == ND_OK) {       /* an answer each turn */
        CHECK(answer.key_bytes == 3 && memcmp(answer.key, "key", 3) == 0);
        CHECK(answer.answer_bytes == 2 && memcmp(answer.answer, "{}", 2) == 0 && answer.body_sha256[31] == 7);
        if (*count < room) times[*count] = answer.answered_unix_ms;
        ++*count;
    }
    return status;
}

/* Rings made from the disk, in a world of their own. */
static world restored(fake_disk *disk, nd_restore_stats_t *stats, nd_recovery_report_t *report)
{
    world w = {.disk = disk};
    open_rings(&w, 0);
    nd_recovery *recovery;
    nd_restore *restore;
    CHECK_EQUAL(nd_recovery_open(nd_io_posix(), fake_disk_files(disk), "journal", 0, UINT64_MAX, &recovery), ND_OK);
    CHECK_EQUAL(nd_restore_open(nd_io_posix(), recovery, &restore), ND_OK);
    uint64_t answers = 0;
    CHECK_EQUAL(scan(restore, 0, NULL, &answers), ND_EMPTY);
    for (uint64_t i = 0; i < nd_restore_channels(restore); i++) {
        nd_restored_channel channel;
        CHECK_EQUAL(nd_restore_channel(restore, i, &channel), ND_OK);
        CHECK_EQUAL(channel.incarnation, 100 + channel.channel);
        if (!channel.is_deleted) CHECK_EQUAL(nd_restore_bind(restore, i, w.rings[channel.channel]), ND_OK);
    }
    CHECK_EQUAL(nd_restore_load(restore, w.pool), ND_OK);
    nd_restore_stats(restore, stats);
    nd_recovery_report(recovery, report);
    nd_restore_close(restore);
    nd_recovery_close(recovery);
    return w;
}

static void check_same_ring(nd_ring *got, nd_ring *expected)
{
    CHECK_EQUAL(nd_ring_check(got), ND_OK);
    CHECK_EQUAL(stats_of(got).last_seq, stats_of(expected).last_seq);
    CHECK_EQUAL(stats_of(got).records, stats_of(expected).records);
    CHECK_EQUAL(stats_of(got).bytes, stats_of(expected).bytes);
    uint64_t seq = 1;
    for (uint64_t turn = 0; turn < 100000; turn++) {
        nd_span one, other;
        const nd_status status = nd_ring_span(expected, seq, NULL, &other);
        CHECK_EQUAL(nd_ring_span(got, seq, NULL, &one), status);
        if (status == ND_EMPTY) return;
        const nd_record *a = nd_span_next(&one), *b = nd_span_next(&other);
        CHECK(a != NULL && b != NULL);
        CHECK_EQUAL(a->seq, b->seq);
        CHECK(memcmp(a, b, nd_record_stored_bytes(b->body_bytes)) == 0);
        CHECK_EQUAL(nd_ring_epoch_of(got, a->seq), EPOCH);
        seq = b->seq + 1;
    }
    CHECK(0);
}

static void check_restores(world *w)
{
    nd_restore_stats_t stats;
    nd_recovery_report_t report;
    world again = restored(w->disk, &stats, &report);
    uint64_t records = 0;
    for (uint64_t i = 0; i < CHANNELS; i++) {
        check_same_ring(again.rings[i], w->rings[i]);
        records += stats_of(again.rings[i]).records;
    }
    CHECK_EQUAL(stats.records, records);
    CHECK_EQUAL(stats.lost_records, 0);
    CHECK_EQUAL(report.damaged_groups, 0);
    close_rings(&again);
}

static uint32_t random_of(uint32_t *state, uint32_t below)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % below;
}

/* One thing that happens to the rings: an append of some records to some channels, a
 * slice that is held, an ack, or a loss. */
static void do_something(world *w, uint32_t *state)
{
    nd_ring *ring = w->rings[random_of(state, CHANNELS)];
    nd_removed removed;
    switch (random_of(state, 8)) {
    case 0:
        (void)nd_ring_settle(ring, stats_of(ring).settled_seq + random_of(state, 12), &removed);
        return;
    case 1: {
        nd_batch batch;
        (void)nd_frame_plan(w->framer, ring, &(nd_slice){0, UINT64_MAX, 1 + random_of(state, 10), 1u << 20, 0}, &batch);
        return;
    }
    case 2:
        nd_ring_release(ring, random_of(state, 4) == 0 ? 0 : stats_of(ring).last_seq);
        return;
    default: break;
    }
    const uint64_t count = 1 + random_of(state, 12);
    test_request request = test_notifications(count, 64 + random_of(state, 300));
    nd_route routes[CHANNELS] = {0};
    uint64_t channels[CHANNELS], routes_count = 0;
    uint32_t indices[CHANNELS][16];
    for (uint64_t i = 0; i < CHANNELS; i++) {
        if (random_of(state, 2) == 0) continue;
        routes[routes_count].ring = w->rings[i];
        channels[routes_count] = i;
        if (random_of(state, 2) == 0) {
            routes[routes_count].indices = indices[i];
            for (uint32_t record = 0; record < count; record++) {
                if (random_of(state, 2) == 0) continue;
                indices[i][routes[routes_count].indices_count] = record;
                routes[routes_count].indices_count++;
            }
        }
        routes_count++;
    }
    w->now_ms += random_of(state, 3);
    CHECK_EQUAL(append(w, &request, routes, channels, routes_count), ND_OK);
    test_request_free(&request);
}

static void what_is_restored_is_what_the_rings_held(void)
{
    for (uint32_t seed = 1; seed <= 60; seed++) {
        uint32_t state = seed * 7919u;
        world w = begin(seed);
        for (uint32_t group = 0; group < 30; group++) {
            const uint32_t things = 1 + random_of(&state, 4);
            for (uint32_t i = 0; i < things; i++) do_something(&w, &state);
            write_group(&w);
            if (random_of(&state, 6) == 0) check_restores(&w);
        }
        check_restores(&w);
        end(&w);
    }
}

/* A group with acks is damaged: more is live than the queue may hold, and it refuses rather
 * than drops.  The newest must come back all the same, with their own seqs. */
static void more_than_a_queue_holds_costs_the_oldest(void)
{
    world w = begin(1);
    nd_ring *ring = w.rings[2];
    test_request request = test_notifications(10, 300);
    nd_route route = {.ring = ring};
    const uint64_t channel = 2;
    nd_removed removed;
    CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_OK);
    CHECK_EQUAL(nd_journal_seal(w.journal), ND_OK);
    CHECK_EQUAL(nd_journal_write_sync(w.journal), ND_OK);
    CHECK_EQUAL(nd_journal_group_done(w.journal), ND_OK);
    CHECK_EQUAL(nd_ring_settle(ring, 8, &removed), ND_OK);
    write_group(&w);
    route = (nd_route){.ring = ring};
    CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_OK);
    CHECK_EQUAL(nd_journal_seal(w.journal), ND_OK);
    CHECK_EQUAL(nd_journal_write_sync(w.journal), ND_OK);
    CHECK_EQUAL(nd_journal_group_done(w.journal), ND_OK);
    uint64_t count;
    uint8_t *bytes = fake_disk_bytes(w.disk, "00000001.seg", &count);
    const nd_group_header *first = (const nd_group_header *)(const void *)(bytes + ND_BLOCK_BYTES);
    bytes[ND_BLOCK_BYTES + nd_round_up(first->bytes, ND_BLOCK_BYTES) + 60] ^= 1;

    nd_restore_stats_t stats;
    nd_recovery_report_t report;
    world again = restored(w.disk, &stats, &report);
    CHECK_EQUAL(report.damaged_groups, 1);
    const uint64_t kept = 6000 / nd_record_stored_bytes(300);
    CHECK(kept < 20);
    CHECK_EQUAL(stats.records, kept);
    CHECK_EQUAL(stats.lost_records, 20 - kept);
    CHECK_EQUAL(nd_ring_check(again.rings[2]), ND_OK);
    CHECK_EQUAL(stats_of(again.rings[2]).last_seq, 20);
    nd_span near = {0};
    for (uint64_t seq = 1; seq <= 20; seq++) CHECK_EQUAL(nd_ring_has(again.rings[2], seq, &near), seq > 20 - kept);
    route = (nd_route){.ring = again.rings[2]};
    CHECK_EQUAL(test_append(again.pool, again.rings[2], &request, 2000, &route), ND_OK);
    CHECK_EQUAL(route.rejected_count, 10);                      /* it refuses again */
    close_rings(&again);
    test_request_free(&request);
    end(&w);
}

static void a_channel_that_was_deleted_is_told(void)
{
    world w = begin(1);
    test_request request = test_notifications(3, 100);
    nd_route route = {.ring = w.rings[1]};
    const uint64_t channel = 1;
    CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_OK);
    write_group(&w);
    const nd_channel_unit deleted = {.type = ND_UNIT_DELETED, .channel = 1, .incarnation = 101, .epoch = EPOCH};
    CHECK_EQUAL(nd_journal_gather_channel(w.journal, &deleted), ND_OK);
    CHECK_EQUAL(nd_journal_seal(w.journal), ND_OK);
    CHECK_EQUAL(nd_journal_write_sync(w.journal), ND_OK);
    nd_restore_stats_t stats;
    nd_recovery_report_t report;
    world again = restored(w.disk, &stats, &report);
    CHECK_EQUAL(stats.records, 0);
    close_rings(&again);
    test_request_free(&request);
    end(&w);
}

static void a_request_that_the_journal_has_no_room_for_reaches_no_ring(void)
{
    world w = begin(1);
    test_request request = test_notifications(20, 1000);
    nd_route route = {.ring = w.rings[0]};
    const uint64_t channel = 0;
    CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_OK);
    const uint64_t last_seq = stats_of(w.rings[0]).last_seq;
    CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_NO_ROOM);
    CHECK_EQUAL(stats_of(w.rings[0]).last_seq, last_seq);
    test_request larger = test_notifications(40, 1000);
    CHECK_EQUAL(append(&w, &larger, &route, &channel, 1), ND_ERR_ARGUMENT);
    CHECK_EQUAL(stats_of(w.rings[0]).last_seq, last_seq);
    test_request_free(&request);
    test_request_free(&larger);
    end(&w);
}

static void room_that_was_reserved_is_there_behind_a_request_or_nothing_is_stored(void)
{
    test_request request = test_notifications(10, 1000);
    const uint64_t channel = 0;
    uint64_t stored = 0, turns = 0;
    for (uint64_t reserved = 0; reserved < 32u * 1024; reserved += 1024, turns++) {
        world w = begin(1);
        nd_route route = {.ring = w.rings[0]};
        CHECK_EQUAL(nd_logged_append(w.journal, w.pool, &route, &channel, 0, request.block, request.block_bytes,
                                     request.meta, request.count, w.now_ms, EPOCH, reserved),
                    nd_journal_room(w.journal, reserved));
        gather_states(&w);
        if (nd_logged_append(w.journal, w.pool, &route, &channel, 1, request.block, request.block_bytes,
                             request.meta, request.count, w.now_ms, EPOCH, reserved) == ND_OK) {
            CHECK_EQUAL(nd_journal_room(w.journal, reserved), ND_OK);
            stored++;
        } else {
            CHECK_EQUAL(stats_of(w.rings[0]).last_seq, 0);
        }
        end(&w);
    }
    CHECK(stored > 10 && stored < turns);
    test_request_free(&request);
}

/* Every other record is of one resource: each leaves a hole of its own. */
static void what_has_no_room_to_be_told_is_not_superseded_yet(void)
{
    world w = begin(1);
    const uint64_t channel = 1;
    nd_route route = {.ring = w.rings[1]};
    for (uint64_t i = 0; i < 62; i++) {
        test_request value = test_values(1, i % 2 == 0 ? 0 : i, 1000, 64);
        CHECK_EQUAL(append(&w, &value, &route, &channel, 1), ND_OK);
        test_request_free(&value);
        if (i % 20 == 19) write_group(&w);
    }
    test_request last = test_values(31, 0, 1, 64);
    const uint64_t bytes = nd_journal_request_bytes(31 * 64, 31, 1, 31) + sizeof(nd_channel_unit) + sizeof(nd_superseded_unit);
    const nd_channel_unit filler = {.type = ND_UNIT_STATE, .channel = 2, .incarnation = 102, .epoch = EPOCH};
    while (nd_journal_room(w.journal, bytes + 31 * sizeof(nd_hole)) == ND_OK) {
        CHECK_EQUAL(nd_journal_gather_channel(w.journal, &filler), ND_OK);
    }
    CHECK_EQUAL(nd_journal_room(w.journal, bytes), ND_OK);
    const nd_ring_stats_t before = stats_of(w.rings[1]);
    CHECK_EQUAL(append(&w, &last, &route, &channel, 1), ND_NO_ROOM);
    const nd_ring_stats_t after = stats_of(w.rings[1]);
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    CHECK_EQUAL(nd_ring_check(w.rings[1]), ND_OK);
    write_group(&w);
    CHECK_EQUAL(append(&w, &last, &route, &channel, 1), ND_OK);
    CHECK_EQUAL(route.superseded.count, 31);
    CHECK_EQUAL(route.holes_count, 31);
    write_group(&w);
    check_restores(&w);
    test_request_free(&last);
    end(&w);
}

/* A moved unit with the records first..last of a channel, as they lie in its ring. */
static void gather_moved(world *w, uint64_t channel, uint64_t first, uint64_t last)
{
    nd_ring *ring = w->rings[channel];
    uint64_t bytes = 0, count = 0;
    const nd_record *records[64];
    for (uint64_t seq = first; seq <= last; seq++) {
        nd_span span;
        if (nd_ring_span(ring, seq, NULL, &span) != ND_OK || span.first_seq != seq) continue;
        records[count] = nd_span_next(&span);
        bytes += records[count]->body_bytes;
        count++;
    }
    void *at;
    const uint64_t unit_bytes = sizeof(nd_moved_unit) + count * sizeof(nd_moved_record) + nd_round_up(bytes, 8);
    CHECK_EQUAL(nd_journal_gather(w->journal, ND_UNIT_MOVED, unit_bytes, &at), ND_OK);
    nd_moved_unit *unit = at;
    unit->channel = channel;
    unit->incarnation = 100 + channel;
    unit->records = count;
    unit->block_bytes = bytes;
    nd_moved_record *moved = (nd_moved_record *)(void *)(unit + 1);
    uint8_t *body = (uint8_t *)(moved + count);
    for (uint64_t i = 0; i < count; i++) {
        moved[i] = (nd_moved_record){
            .epoch = EPOCH, .seq = records[i]->seq, .received_unix_ms = records[i]->received_unix_ms,
            .meta = records[i]->body_bytes | (uint64_t)records[i]->ep_bytes << 40,
        };
        memcpy(body, nd_record_body(records[i]), records[i]->body_bytes);
        body += records[i]->body_bytes;
    }
}

/* Copies stand in any order and twice, beside their originals or, at last, without them. */
static void moved_records_take_their_old_places(void)
{
    world w = begin(1);
    test_request request = test_notifications(10, 100);
    const uint64_t channel = 0;
    for (uint32_t i = 0; i < 4; i++) {
        nd_route route = {.ring = w.rings[0]};
        CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_OK);
        write_group(&w);
    }
    gather_moved(&w, 0, 8, 15);
    gather_moved(&w, 0, 1, 9);
    write_group(&w);
    check_restores(&w);

    nd_removed removed;
    CHECK_EQUAL(nd_ring_settle(w.rings[0], 3, &removed), ND_OK);
    write_group(&w);
    check_restores(&w);

    /* The first groups go as a cleaned segment does: their originals are no more. */
    uint64_t count;
    uint8_t *bytes = fake_disk_bytes(w.disk, "00000001.seg", &count);
    nd_segment_header *header = (nd_segment_header *)(void *)bytes;
    const nd_group_header *group = (const nd_group_header *)(const void *)(bytes + ND_BLOCK_BYTES);
    memset(bytes + ND_BLOCK_BYTES, 0, nd_round_up(group->bytes, ND_BLOCK_BYTES));
    header->first_group = 2;
    nd_segment_seal(header, nd_crc32c_records_best());
    check_restores(&w);
    test_request_free(&request);
    end(&w);
}

static void write_gathered(world *w)
{
    CHECK_EQUAL(nd_journal_seal(w->journal), ND_OK);
    CHECK_EQUAL(nd_journal_write_sync(w->journal), ND_OK);
    CHECK_EQUAL(nd_journal_group_done(w->journal), ND_OK);
}

/* All records of a channel, as its ring has them. */
static void copy_records(world *w, nd_cleaner *cleaner, const nd_live_channel *channel)
{
    uint64_t seq = 1;
    const uint64_t upto_seq = stats_of(channel->ring).last_seq;
    for (uint64_t turn = 0; turn < 10000; turn++) {
        const nd_status status = nd_cleaner_copy(cleaner, w->journal, channel, &seq, upto_seq, STEP_BYTES);
        if (status == ND_EMPTY) return;
        CHECK(status == ND_OK || status == ND_NO_ROOM);
        if (status == ND_NO_ROOM) write_gathered(w);
    }
    CHECK(0);
}

/* Move what is live in the oldest segment, write it, and unlink the segment. */
static uint64_t clean_oldest(world *w, const nd_live_account *accounts, uint64_t accounts_count)
{
    uint32_t is_whole = 0;
    nd_live_channel channels[CHANNELS];
    for (uint64_t i = 0; i < CHANNELS; i++) {
        channels[i] = (nd_live_channel){.channel = i, .incarnation = 100 + i, .ring = w->rings[i]};
    }
    nd_journal_stats_t stats;
    nd_journal_stats(w->journal, &stats);
    nd_cleaner *cleaner;
    CHECK_EQUAL(nd_cleaner_open(nd_io_posix(), fake_disk_files(w->disk), "journal", stats.oldest_segment, &cleaner,
                                &is_whole),
                ND_OK);
    nd_status status = ND_OK;
    uint64_t steps = 0;
    for (; status != ND_EMPTY && steps < 10000; steps++) {
        status = nd_cleaner_move(cleaner, w->journal, channels, CHANNELS, accounts, accounts_count, STEP_BYTES);
        CHECK(status == ND_OK || status == ND_NO_ROOM || status == ND_EMPTY);
        if (status == ND_NO_ROOM) write_gathered(w);
    }
    CHECK_EQUAL(status, ND_EMPTY);
    for (uint64_t i = 0; i < CHANNELS && !is_whole; i++) copy_records(w, cleaner, &channels[i]);
    nd_cleaner_close(cleaner);
    if (nd_journal_room(w->journal, 1024) != ND_OK) write_gathered(w);
    write_group(w);
    if (is_whole) check_restores(w);    /* originals and copies side by side */
    CHECK_EQUAL(nd_journal_unlink_oldest(w->journal), ND_OK);
    CHECK_EQUAL(nd_journal_group_done(w->journal), ND_EMPTY);
    return steps;
}

static void cleaning_keeps_what_is_live_and_frees_the_rest(void)
{
    for (uint32_t seed = 1; seed <= 30; seed++) {
        uint32_t state = seed * 104729u;
        world w = begin(seed);
        nd_journal_stats_t stats;
        uint64_t cleaned = 0;
        for (uint32_t group = 0; group < 120; group++) {
            const uint32_t things = 1 + random_of(&state, 4);
            for (uint32_t i = 0; i < things; i++) do_something(&w, &state);
            write_group(&w);
            nd_journal_stats(w.journal, &stats);
            if (stats.durable_segment - stats.oldest_segment < 1 + seed % 4) continue;
            CHECK(clean_oldest(&w, NULL, 0) < 10000);
            cleaned++;
            check_restores(&w);
        }
        CHECK(cleaned > 3);
        nd_journal_stats(w.journal, &stats);
        CHECK(stats.segments <= 6);
        end(&w);
    }
}

/* Damage that comes while the log is in use costs nothing: the rings have it all. */
static void a_damaged_segment_is_written_again_from_the_rings(void)
{
    for (uint32_t seed = 1; seed <= 20; seed++) {
        uint32_t state = seed * 15485863u;
        world w = begin(seed);
        nd_journal_stats_t stats;
        for (uint32_t group = 0; group < 60; group++) {
            for (uint32_t i = 0; i < 3; i++) do_something(&w, &state);
            write_group(&w);
            nd_journal_stats(w.journal, &stats);
            if (stats.durable_segment - stats.oldest_segment < 2) continue;
            char name[ND_SEGMENT_NAME_BYTES];
            uint64_t count;
            nd_segment_name(stats.oldest_segment, name);
            uint8_t *bytes = fake_disk_bytes(w.disk, name, &count);
            for (uint32_t i = 0; i < 1 + seed % 8; i++) bytes[random_of(&state, SEGMENT_BYTES)] ^= 1;
            clean_oldest(&w, NULL, 0);
            check_restores(&w);
        }
        nd_journal_stats(w.journal, &stats);
        CHECK(stats.oldest_segment > 2);
        end(&w);
    }
}

static void gather_answer(world *w, uint64_t account, uint64_t unix_ms)
{
    uint8_t sha256[32] = {[31] = 7};
    const nd_journal_answer answer = {
        .account = account, .answered_unix_ms = unix_ms, .body_sha256 = sha256, .key = (const uint8_t *)"key",
        .key_bytes = 3, .answer = (const uint8_t *)"{}", .answer_bytes = 2,
    };
    CHECK_EQUAL(nd_journal_gather_answer(w->journal, &answer), ND_OK);
}

/* The times of the answers that the log holds, in its order. */
static uint64_t answers_in(const world *w, uint64_t from_unix_ms, uint64_t times[8])
{
    nd_recovery *recovery;
    nd_restore *restore;
    uint64_t count = 8;
    CHECK_EQUAL(nd_recovery_open(nd_io_posix(), fake_disk_files(w->disk), "journal", 0, UINT64_MAX, &recovery), ND_OK);
    CHECK_EQUAL(nd_restore_open(nd_io_posix(), recovery, &restore), ND_OK);
    CHECK_EQUAL(scan(restore, from_unix_ms, times, &count), ND_EMPTY);
    nd_restore_stats_t stats;
    nd_restore_stats(restore, &stats);
    CHECK(count <= 8 && stats.newest_unix_ms >= w->now_ms);
    nd_restore_close(restore);
    nd_recovery_close(recovery);
    return count;
}

static void fill_segments(world *w, uint64_t segments)
{
    test_request request = test_notifications(10, 100);
    nd_journal_stats_t stats;
    do {
        nd_route route = {.ring = w->rings[0]};
        const uint64_t channel = 0;
        nd_removed removed;
        CHECK_EQUAL(append(w, &request, &route, &channel, 1), ND_OK);
        CHECK_EQUAL(nd_ring_settle(w->rings[0], stats_of(w->rings[0]).last_seq, &removed), ND_OK);
        write_group(w);
        nd_journal_stats(w->journal, &stats);
    } while (stats.durable_segment - stats.oldest_segment < segments);
    test_request_free(&request);
}

static void answers_move_as_long_as_their_account_keeps_them(void)
{
    world w = begin(1);
    for (uint64_t unix_ms = 1001; unix_ms <= 1004; unix_ms++) gather_answer(&w, unix_ms % 2 == 0 ? 8 : 5, unix_ms);
    fill_segments(&w, 1);
    gather_answer(&w, 5, 1005);
    fill_segments(&w, 2);
    uint64_t times[8];
    CHECK_EQUAL(answers_in(&w, 0, times), 5);
    CHECK_EQUAL(answers_in(&w, 1004, times), 2);
    CHECK(times[0] == 1004 && times[1] == 1005);

    const nd_live_account accounts[] = {{.account = 4}, {.account = 5, .answered_from_unix_ms = 1003}, {.account = 9}};
    clean_oldest(&w, accounts, 3);
    CHECK_EQUAL(answers_in(&w, 0, times), 2);   /* the account 8 keeps none any more */
    CHECK(times[0] == 1005 && times[1] == 1003);
    end(&w);
}

/* --- damage --------------------------------------------------------------------------- */

#define GROUPS_MAX 200u

/* Spoil a byte of a group; 0: no segment has it. */
static int spoil(fake_disk *disk, uint64_t number)
{
    for (uint64_t segment = 1; segment < 100; segment++) {
        char name[ND_SEGMENT_NAME_BYTES];
        uint64_t count;
        nd_segment_name(segment, name);
        uint8_t *bytes = fake_disk_bytes(disk, name, &count);
        for (uint64_t at = ND_BLOCK_BYTES; bytes != NULL && at < count; at += ND_BLOCK_BYTES) {
            nd_group_header *group = (nd_group_header *)(void *)(bytes + at);
            if (group->magic != ND_GROUP_MAGIC || group->number != number) continue;
            bytes[at + sizeof *group + 9] ^= 0x41;
            return 1;
        }
    }
    return 0;
}

/* What the damaged log is known to have lost, as marks on the seqs of each channel: 1, or 2
 * when that is exact; 3: it had more for the ring than that holds. */
typedef struct {
    uint8_t  lost[CHANNELS][8192];
    uint64_t silent_channels;
    world    again;
} aftermath;

static aftermath *restored_after_damage(world *w)
{
    aftermath *a = calloc(1, sizeof *a);
    a->again.disk = w->disk;
    open_rings(&a->again, 0);
    nd_recovery *recovery;
    nd_restore *restore;
    CHECK_EQUAL(nd_recovery_open(nd_io_posix(), fake_disk_files(w->disk), "journal", 0, UINT64_MAX, &recovery), ND_OK);
    CHECK_EQUAL(nd_restore_open(nd_io_posix(), recovery, &restore), ND_OK);
    uint64_t answers = 0;
    CHECK_EQUAL(scan(restore, 0, NULL, &answers), ND_EMPTY);
    CHECK_EQUAL(nd_restore_find_missing(restore), ND_OK);
    for (uint64_t i = 0; i < nd_restore_channels(restore); i++) {
        nd_restored_channel channel;
        CHECK_EQUAL(nd_restore_channel(restore, i, &channel), ND_OK);
        CHECK_EQUAL(nd_restore_bind(restore, i, a->again.rings[channel.channel]), ND_OK);
    }
    CHECK_EQUAL(nd_restore_load(restore, a->again.pool), ND_OK);
    nd_restore_stats_t stats;
    nd_restore_stats(restore, &stats);
    a->silent_channels = stats.silent_channels;
    nd_lost lost;
    for (uint64_t i = 0; nd_restore_loss(restore, i, &lost) == ND_OK; i++) {
        nd_restored_channel channel;
        CHECK_EQUAL(nd_restore_channel(restore, lost.channel, &channel), ND_OK);
        CHECK(lost.removed.first_seq > 0 && lost.removed.last_seq <= channel.last_seq);
        if (lost.reason == ND_GAP_CORRUPT) {
            CHECK_EQUAL(lost.removed.count, lost.removed.last_seq - lost.removed.first_seq + 1);
        }
        for (uint64_t seq = lost.removed.first_seq; seq <= lost.removed.last_seq; seq++) {
            uint8_t *mark = &a->lost[channel.channel][seq];
            CHECK(*mark == 0 || lost.reason == ND_GAP_OVERFLOW);
            if (*mark == 0) *mark = lost.reason == ND_GAP_OVERFLOW ? 3 : lost.is_exact ? 2 : 1;
        }
    }
    nd_restore_close(restore);
    nd_recovery_close(recovery);
    return a;
}

static void aftermath_end(aftermath *a)
{
    close_rings(&a->again);
    free(a);
}

/* No record goes without being named, none is named that is there, and what is called exact
 * was given a seq in the damaged group. */
static void damage_names_what_it_took(void)
{
    for (uint32_t seed = 1; seed <= 40; seed++) {
        uint32_t state = seed * 7919u;
        const int is_cleaned = seed % 2 == 0;
        world w = begin(seed);
        uint64_t last_seqs[GROUPS_MAX + 1][CHANNELS] = {{0}};
        const uint64_t turns = 20 + seed;
        for (uint64_t turn = 0; turn < turns; turn++) {
            const uint32_t things = 1 + random_of(&state, 4);
            for (uint32_t i = 0; i < things; i++) do_something(&w, &state);
            write_group(&w);
            nd_journal_stats_t stats;
            nd_journal_stats(w.journal, &stats);
            CHECK(stats.durable_group <= GROUPS_MAX);
            for (uint32_t i = 0; i < CHANNELS; i++) last_seqs[stats.durable_group][i] = stats_of(w.rings[i]).last_seq;
            if (is_cleaned && stats.durable_segment - stats.oldest_segment >= 2) clean_oldest(&w, NULL, 0);
        }
        nd_journal_stats_t stats;
        nd_journal_stats(w.journal, &stats);
        uint64_t group = stats.durable_group - 1 - random_of(&state, (uint32_t)stats.durable_group / 2);
        if (!spoil(w.disk, group)) {
            end(&w);
            continue;
        }
        aftermath *a = restored_after_damage(&w);
        CHECK_EQUAL(a->silent_channels, 0);             /* the last group says how each one stands */
        for (uint32_t i = 0; i < CHANNELS; i++) {
            for (uint64_t seq = 1; seq <= stats_of(w.rings[i]).last_seq; seq++) {
                const uint8_t lost = a->lost[i][seq];
                const int is_there = nd_ring_has(a->again.rings[i], seq, &(nd_span){0});
                CHECK(!(lost && is_there));
                CHECK(is_there || lost || !nd_ring_has(w.rings[i], seq, &(nd_span){0}));
                CHECK(lost == 0 || seq > stats_of(w.rings[i]).settled_seq);
                if (is_cleaned || lost == 0 || lost == 3) continue;
                CHECK_EQUAL(lost, 2);
                CHECK(seq > last_seqs[group - 1][i] && seq <= last_seqs[group][i]);
            }
        }
        aftermath_end(a);
        end(&w);
    }
}

static void a_whole_log_has_lost_nothing(void)
{
    for (uint32_t seed = 1; seed <= 10; seed++) {
        uint32_t state = seed * 31u;
        world w = begin(seed);
        for (uint32_t turn = 0; turn < 60; turn++) {
            for (uint32_t i = 0; i < 3; i++) do_something(&w, &state);
            write_group(&w);
            nd_journal_stats_t stats;
            nd_journal_stats(w.journal, &stats);
            if (stats.durable_segment - stats.oldest_segment >= 2) clean_oldest(&w, NULL, 0);
        }
        aftermath *a = restored_after_damage(&w);
        for (uint32_t i = 0; i < CHANNELS; i++) {
            for (uint64_t seq = 1; seq <= stats_of(w.rings[i]).last_seq; seq++) CHECK_EQUAL(a->lost[i][seq], 0);
        }
        aftermath_end(a);
        end(&w);
    }
}

static void of_a_channel_that_nothing_speaks_of_behind_the_damage_nothing_is_claimed(void)
{
    world w = begin(1);
    test_request request = test_notifications(4, 100);
    for (uint64_t channel = 0; channel < 2; channel++) {
        nd_route route = {.ring = w.rings[channel]};
        CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_OK);
        CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_OK);
        CHECK_EQUAL(nd_journal_seal(w.journal), ND_OK);         /* 1..4 and 5..8 of a channel in a group */
        CHECK_EQUAL(nd_journal_write_sync(w.journal), ND_OK);
        CHECK_EQUAL(nd_journal_group_done(w.journal), ND_OK);
    }
    nd_route route = {.ring = w.rings[1]};
    const uint64_t channel = 1;
    CHECK_EQUAL(append(&w, &request, &route, &channel, 1), ND_OK);
    CHECK_EQUAL(nd_journal_seal(w.journal), ND_OK);
    CHECK_EQUAL(nd_journal_write_sync(w.journal), ND_OK);
    CHECK_EQUAL(nd_journal_group_done(w.journal), ND_OK);
    CHECK(spoil(w.disk, 2));
    aftermath *a = restored_after_damage(&w);
    CHECK_EQUAL(a->silent_channels, 1);                         /* channel 0 might have had records in it */
    for (uint64_t seq = 1; seq <= 12; seq++) {
        CHECK_EQUAL(a->lost[0][seq], 0);
        CHECK_EQUAL(a->lost[1][seq], seq <= 8 ? 2 : 0);
    }
    test_request_free(&request);
    aftermath_end(a);
    end(&w);
}

static void the_newest_gaps_of_a_channel_come_back(void)
{
    const nd_gap gaps[2] = {
        {.behind_seq = 3, .last_seq = 9, .count = 5, .from_unix_ms = 100, .to_unix_ms = 200, .reason = 1, .is_told = 1},
        {.behind_seq = 9, .count = 7, .reason = 3},
    };
    world w = begin(1);
    CHECK_EQUAL(nd_journal_gather_gaps(w.journal, 1, 101, &gaps[1], 1), ND_OK);
    write_group(&w);
    CHECK_EQUAL(nd_journal_gather_gaps(w.journal, 1, 101, gaps, 2), ND_OK);
    CHECK_EQUAL(nd_journal_gather_gaps(w.journal, 2, 102, gaps, 2), ND_OK);
    CHECK_EQUAL(nd_journal_gather_gaps(w.journal, 2, 102, NULL, 0), ND_OK);
    write_group(&w);
    nd_recovery *recovery;
    nd_restore *restore;
    CHECK_EQUAL(nd_recovery_open(nd_io_posix(), fake_disk_files(w.disk), "journal", 0, UINT64_MAX, &recovery), ND_OK);
    CHECK_EQUAL(nd_restore_open(nd_io_posix(), recovery, &restore), ND_OK);
    uint64_t answers = 0;
    CHECK_EQUAL(scan(restore, 0, NULL, &answers), ND_EMPTY);
    for (uint64_t i = 0; i < nd_restore_channels(restore); i++) {
        nd_restored_channel channel;
        nd_gap found[2];
        CHECK_EQUAL(nd_restore_channel(restore, i, &channel), ND_OK);
        CHECK_EQUAL(channel.gaps, channel.channel == 1 ? 2 : 0);
        CHECK_EQUAL(nd_restore_gaps(restore, i, found), ND_OK);
        if (channel.gaps > 0) CHECK(memcmp(found, gaps, sizeof gaps) == 0);
    }
    nd_gap none[1];
    CHECK_EQUAL(nd_restore_gaps(restore, nd_restore_channels(restore), none), ND_ERR_ARGUMENT);
    nd_restore_close(restore);
    nd_recovery_close(recovery);
    end(&w);
}

static void epochs_stay_with_their_records(void)
{
    world w = begin(1);
    test_request request = test_notifications(4, 100);
    nd_route route;
    nd_ring *ring = w.rings[0];
    CHECK_EQUAL(test_append(w.pool, ring, &request, 1, &route), ND_OK);
    CHECK_EQUAL(nd_ring_begin_epoch(ring, 8), ND_OK);
    CHECK_EQUAL(nd_ring_resume(ring, 7), ND_OK);
    CHECK_EQUAL(test_append(w.pool, ring, &request, 1, &route), ND_OK);         /* 7..10 */
    CHECK_EQUAL(nd_ring_begin_epoch(ring, 7), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_ring_resume(ring, 9), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_ring_epoch_of(ring, 4), EPOCH);
    CHECK_EQUAL(nd_ring_epoch_of(ring, 7), 8);
    CHECK_EQUAL(nd_ring_seq_of(ring, EPOCH, 3), 3);
    CHECK_EQUAL(nd_ring_seq_of(ring, EPOCH, 99), 4);    /* numbers that were lost with the epoch's end */
    CHECK_EQUAL(nd_ring_seq_of(ring, EPOCH - 1, 3), 0);
    CHECK_EQUAL(nd_ring_seq_of(ring, 7, 1), 4);
    CHECK_EQUAL(nd_ring_seq_of(ring, 8, 9), 9);
    for (uint64_t seq = 4; seq <= 11; seq++) {
        CHECK_EQUAL(nd_ring_has(ring, seq, &(nd_span){0}), seq == 4 || (seq >= 7 && seq <= 10));
    }

    nd_batch batch;
    CHECK_EQUAL(nd_frame_plan(w.framer, ring, &(nd_slice){0, UINT64_MAX, 100, 1u << 20, 0}, &batch), ND_OK);
    CHECK_EQUAL(batch.last_seq, 4);
    CHECK_EQUAL(batch.epoch, EPOCH);
    CHECK_EQUAL(nd_frame_plan(w.framer, ring, &(nd_slice){4, UINT64_MAX, 100, 1u << 20, 0}, &batch), ND_OK);
    CHECK_EQUAL(batch.first_seq, 7);
    CHECK_EQUAL(batch.epoch, 8);

    nd_ring_show(ring, 8);
    CHECK_EQUAL(nd_frame_plan(w.framer, ring, &(nd_slice){4, UINT64_MAX, 100, 1u << 20, 0}, &batch), ND_OK);
    CHECK_EQUAL(batch.last_seq, 8);
    CHECK_EQUAL(nd_frame_plan(w.framer, ring, &(nd_slice){8, UINT64_MAX, 100, 1u << 20, 0}, &batch), ND_EMPTY);
    for (uint64_t epoch = 9; epoch < 40; epoch++) {     /* many ends, and none is forgotten too early */
        CHECK_EQUAL(nd_ring_begin_epoch(ring, epoch), ND_OK);
        CHECK_EQUAL(test_append(w.pool, ring, &request, 1, &route), ND_OK);
        CHECK_EQUAL(nd_ring_epoch_of(ring, 4), EPOCH);
        CHECK_EQUAL(nd_ring_epoch_of(ring, 10), 8);
    }
    test_request_free(&request);
    end(&w);
}

static void without_memory_a_restore_says_so_and_leaves_nothing(void)
{
    world w = begin(1);
    uint32_t state = 5;
    for (uint32_t i = 0; i < 10; i++) {
        do_something(&w, &state);
        write_group(&w);
    }
    for (uint64_t fail_at = 1; fail_at < 12; fail_at++) {
        test_memory memory;
        test_memory_begin(&memory);
        memory.fail_at = fail_at;
        nd_recovery *recovery = NULL;
        nd_restore *restore = NULL;
        nd_status status = nd_recovery_open(&memory.io, fake_disk_files(w.disk), "journal", 0, UINT64_MAX, &recovery);
        if (status == ND_OK) status = nd_restore_open(&memory.io, recovery, &restore);
        uint64_t answers = 0;
        if (status == ND_OK) status = scan(restore, 0, NULL, &answers);
        CHECK(status == ND_ERR_FULL || memory.requests < fail_at);
        if (restore != NULL) nd_restore_close(restore);
        if (recovery != NULL) nd_recovery_close(recovery);
        test_memory_end(&memory);
    }
    end(&w);
}

int main(void)
{
    RUN(what_is_restored_is_what_the_rings_held);
    RUN(more_than_a_queue_holds_costs_the_oldest);
    RUN(a_channel_that_was_deleted_is_told);
    RUN(a_request_that_the_journal_has_no_room_for_reaches_no_ring);
    RUN(room_that_was_reserved_is_there_behind_a_request_or_nothing_is_stored);
    RUN(what_has_no_room_to_be_told_is_not_superseded_yet);
    RUN(moved_records_take_their_old_places);
    RUN(cleaning_keeps_what_is_live_and_frees_the_rest);
    RUN(a_damaged_segment_is_written_again_from_the_rings);
    RUN(answers_move_as_long_as_their_account_keeps_them);
    RUN(damage_names_what_it_took);
    RUN(a_whole_log_has_lost_nothing);
    RUN(of_a_channel_that_nothing_speaks_of_behind_the_damage_nothing_is_claimed);
    RUN(the_newest_gaps_of_a_channel_come_back);
    RUN(epochs_stay_with_their_records);
    RUN(without_memory_a_restore_says_so_and_leaves_nothing);
    return 0;
}
