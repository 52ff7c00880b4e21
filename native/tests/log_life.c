/* log_life.c -- see the header. */

#include "log_life.h"

#include "nd_cleaner.h"
#include "nd_frame.h"
#include "nd_journal.h"
#include "nd_logged_append.h"
#include "nd_recovery.h"
#include "nd_restore.h"
#include "nd_secure.h"

#define CHANNELS       3u
#define SEGMENT_BYTES  (64u * 1024)
#define GROUP_BYTES    (32u * 1024)
#define STEP_BYTES     (4u * 1024)
#define ROOM_BYTES     (12u * 1024)     /* more than any operation gathers */
#define QUEUE_BYTES    6000u
#define RECORDS_MAX    64u              /* of the smallest size in a queue */
#define PICTURES_MAX   1024u
#define ACCOUNT        7u
#define ANSWERS_MAX    40u
#define ANSWER_KEY_BYTES 8u
#define ATTEMPTS_MAX   4u               /* at a thing that may fail once */
#define RESTARTS_MAX   60u              /* each takes a segment, of which a fake disk has 256 */

typedef struct {
    uint64_t incarnation;
    uint64_t settled_seq, last_seq;
    uint64_t frozen_first, frozen_last, frozen_events;
    uint64_t count;
    struct {
        uint64_t seq, epoch;
        uint32_t crc32c;
    } records[RECORDS_MAX];
} channel_picture;

typedef struct {
    channel_picture channels[CHANNELS];
    uint64_t last_answer;
} picture;

struct log_life {
    test_memory memory;
    fake_disk  *disk;
    uint32_t    is_synced;
    uint64_t    epoch, now_ms, incarnations;
    nd_pool    *pool;
    nd_framer  *framer;
    nd_ring    *rings[CHANNELS];
    nd_journal *journal;
    nd_cleaner *cleaner;
    uint64_t    cleaned_group;          /* the oldest segment may go when this one is durable; 0: it is not cleaned */
    int         is_sealed;
    int         is_cut;                 /* the next stop is a power cut */
    int         may_fail;               /* something was told to */
    channel_picture now[CHANNELS];      /* incarnation and frozen batch; the rest is in the rings */
    uint64_t    first_answer, last_answer;      /* that are kept: their number is their time */
    picture    *pictures[PICTURES_MAX]; /* by the number of their group */
    uint64_t    durable_group;
    log_life_counts counts;
};

fake_disk *log_life_disk(log_life *life) { return life->disk; }
test_memory *log_life_memory(log_life *life) { return &life->memory; }
log_life_counts log_life_counted(const log_life *life) { return life->counts; }

void log_life_may_fail(log_life *life)
{
    life->may_fail = 1;
}

static nd_ring_stats_t stats_of(const nd_ring *ring)
{
    nd_ring_stats_t stats;
    nd_ring_stats(ring, &stats);
    return stats;
}

static nd_journal_stats_t journal_stats(const log_life *life)
{
    nd_journal_stats_t stats;
    nd_journal_stats(life->journal, &stats);
    return stats;
}

/* --- pictures ------------------------------------------------------------------------ */

static channel_picture draw(nd_ring *ring, const channel_picture *now)
{
    const nd_ring_stats_t stats = stats_of(ring);
    channel_picture p = *now;
    p.settled_seq = stats.settled_seq;
    p.last_seq = stats.last_seq;
    p.count = 0;
    nd_span span;
    for (uint64_t seq = 1; nd_ring_span(ring, seq, NULL, &span) == ND_OK;) {
        const nd_record *record = nd_span_next(&span);
        CHECK(record != NULL && p.count < RECORDS_MAX);
        p.records[p.count].seq = record->seq;
        p.records[p.count].epoch = nd_ring_epoch_of(ring, record->seq);
        p.records[p.count].crc32c = record->crc32c;
        p.count++;
        seq = record->seq + 1;
    }
    CHECK_EQUAL(p.count, stats.records);
    return p;
}

static picture *picture_of(const log_life *life)
{
    picture *p = calloc(1, sizeof *p);
    if (p == NULL) abort();
    for (uint64_t i = 0; i < CHANNELS; i++) p->channels[i] = draw(life->rings[i], &life->now[i]);
    p->last_answer = life->last_answer;
    return p;
}

static void keep_picture(log_life *life, uint64_t group)
{
    CHECK(group < PICTURES_MAX);
    free(life->pictures[group]);
    life->pictures[group] = picture_of(life);
}

static void check_same(const channel_picture *got, const channel_picture *expected)
{
    CHECK_EQUAL(got->last_seq, expected->last_seq);
    CHECK_EQUAL(got->frozen_first, expected->frozen_first);
    CHECK_EQUAL(got->frozen_last, expected->frozen_last);
    CHECK_EQUAL(got->frozen_events, expected->frozen_events);
    CHECK_EQUAL(got->count, expected->count);
    for (uint64_t i = 0; i < got->count; i++) {
        CHECK_EQUAL(got->records[i].seq, expected->records[i].seq);
        CHECK_EQUAL(got->records[i].epoch, expected->records[i].epoch);
        CHECK_EQUAL(got->records[i].crc32c, expected->records[i].crc32c);
    }
}

/* --- groups -------------------------------------------------------------------------- */

static void gather(log_life *life, uint64_t channel, nd_unit_type type, uint64_t first, uint64_t last, uint64_t events)
{
    const nd_channel_unit unit = {
        .type = (uint16_t)type, .channel = channel, .incarnation = life->now[channel].incarnation,
        .epoch = life->epoch, .first_seq = first, .last_seq = last, .events = events,
    };
    CHECK_EQUAL(nd_journal_gather_channel(life->journal, &unit), ND_OK);
}

/* Say how a channel stands, as every operation does that changed it. */
static void gather_state(log_life *life, uint64_t channel)
{
    const nd_ring_stats_t stats = stats_of(life->rings[channel]);
    gather(life, channel, ND_UNIT_STATE, stats.settled_seq, stats.last_seq, 0);
}

static void gather_frozen(log_life *life, uint64_t channel)
{
    const channel_picture *now = &life->now[channel];
    gather(life, channel, ND_UNIT_FROZEN, now->frozen_first, now->frozen_last, now->frozen_events);
}

/* Write what is sealed.  False: not now, or never again. */
static int write_sealed(log_life *life)
{
    (void)nd_journal_write_sync(life->journal);
    const nd_status status = nd_journal_group_done(life->journal);
    if (status == ND_OK) {
        life->is_sealed = 0;
        life->durable_group = journal_stats(life).durable_group;
        return 1;
    }
    CHECK(status == ND_ERR_NOSPACE || status == ND_ERR_IO || status == ND_ERR_POISONED);
    CHECK(life->may_fail);
    if (status == ND_ERR_POISONED) {
        life->counts.poisoned++;
        log_life_restart(life);
    } else {
        life->counts.retried++;
    }
    return 0;
}

static int write_group(log_life *life)
{
    if (life->is_sealed && !write_sealed(life)) return 0;
    const uint64_t group = journal_stats(life).gathering_group;
    const nd_status status = nd_journal_seal(life->journal);
    if (status == ND_EMPTY) return 1;
    CHECK_EQUAL(status, ND_OK);
    keep_picture(life, group);
    life->is_sealed = 1;
    return write_sealed(life);
}

/* Room for what an operation gathers; without, it has to wait. */
static int has_room(log_life *life)
{
    if (nd_journal_room(life->journal, ROOM_BYTES) == ND_OK) return 1;
    return write_group(life) && nd_journal_room(life->journal, ROOM_BYTES) == ND_OK;
}

/* --- what happens to the rings ------------------------------------------------------- */

/* The answer to a request, and the oldest ones forgotten. */
static void gather_answer(log_life *life)
{
    static const uint8_t sha[32];
    life->last_answer++;
    if (life->last_answer - life->first_answer >= ANSWERS_MAX) life->first_answer += ANSWERS_MAX / 2;
    const nd_journal_answer answer = {
        .account = ACCOUNT, .answered_unix_ms = life->last_answer, .body_sha256 = sha,
        .key = (const uint8_t *)&life->last_answer, .key_bytes = ANSWER_KEY_BYTES,
        .answer = (const uint8_t *)"{}", .answer_bytes = 2,
    };
    CHECK_EQUAL(nd_journal_gather_answer(life->journal, &answer), ND_OK);
}

/* Records to some of the channels, whole or by indices. */
static void append(log_life *life, uint8_t operation, uint8_t choice)
{
    const uint64_t count = 1 + choice % 12;
    test_request request = test_notifications(count, 64 + operation % 16 * 20u);
    nd_route routes[CHANNELS] = {0};
    uint64_t channels[CHANNELS], routes_count = 0;
    uint32_t indices[CHANNELS][12];
    nd_ring_stats_t before[CHANNELS];
    for (uint64_t i = 0; i < CHANNELS; i++) {
        before[i] = stats_of(life->rings[i]);
        if ((choice >> (4 + i) & 1u) == 0) continue;
        nd_route *route = &routes[routes_count];
        route->ring = life->rings[i];
        channels[routes_count] = i;
        if ((operation >> (4 + i) & 1u) != 0) {
            route->indices = indices[i];
            for (uint32_t record = (uint32_t)i % 2; record < count; record += 2) {
                indices[i][route->indices_count] = record;
                route->indices_count++;
            }
        }
        routes_count++;
    }
    life->now_ms += choice % 3;
    const nd_status status = nd_logged_append(life->journal, life->pool, routes, channels, routes_count, request.block,
                                              request.block_bytes, request.meta, request.count, life->now_ms,
                                              life->epoch, nd_journal_answer_bytes(ANSWER_KEY_BYTES, 2));
    if (status == ND_OK) {
        gather_answer(life);
        for (uint64_t i = 0; i < routes_count; i++) gather_state(life, channels[i]);
    } else {
        CHECK(status == ND_ERR_FULL && life->may_fail);
        for (uint64_t i = 0; i < CHANNELS; i++) {
            const nd_ring_stats_t after = stats_of(life->rings[i]);
            CHECK(memcmp(&after, &before[i], sizeof after) == 0);
        }
    }
    test_request_free(&request);
}

/* Records that left from behind others that stay: no state can tell of them. */
static void gather_hole(log_life *life, uint64_t channel, const nd_removed *removed)
{
    if (removed->count == 0 || removed->last_seq <= stats_of(life->rings[channel]).settled_seq) return;
    gather(life, channel, ND_UNIT_DROPPED, removed->first_seq, removed->last_seq, 0);
}

static void leave(log_life *life, uint64_t channel, uint8_t operation, uint8_t choice)
{
    nd_ring *ring = life->rings[channel];
    const nd_ring_stats_t stats = stats_of(ring);
    nd_removed removed = {0};
    nd_batch batch;
    switch (operation / 16 % 6) {
    case 0:
    case 1: (void)nd_ring_settle(ring, stats.settled_seq + choice % 16, &removed); break;
    case 2:
        (void)nd_frame_plan(life->framer, ring, &(nd_slice){0, UINT64_MAX, 1 + choice % 10, 1u << 20, 0}, &batch);
        break;
    case 3: nd_ring_release(ring, choice % 2 == 0 ? 0 : stats.last_seq); break;
    case 4: (void)nd_ring_drop(ring, choice * 16u, &removed); break;
    default: (void)nd_ring_expire(ring, life->now_ms - choice % 4, UINT64_MAX, &removed); break;
    }
    gather_hole(life, channel, &removed);
    gather_state(life, channel);
}

static void freeze(log_life *life, uint64_t channel, uint8_t choice)
{
    channel_picture *now = &life->now[channel];
    now->frozen_events = choice % 4;
    now->frozen_first = now->frozen_events > 0 ? choice : 0;
    now->frozen_last = now->frozen_events > 0 ? choice + 3u : 0;
    gather_frozen(life, channel);
}

static nd_status open_ring(log_life *life, uint64_t channel, uint64_t epoch)
{
    static const nd_overflow overflows[CHANNELS] = {
        ND_OVERFLOW_DROP_OLDEST, ND_OVERFLOW_KEEP_LATEST, ND_OVERFLOW_REJECT,
    };
    return nd_ring_open(life->pool, life->now[channel].incarnation, epoch, QUEUE_BYTES, overflows[channel],
                        &life->rings[channel]);
}

/* A channel goes, and another takes its number. */
static void replace(log_life *life, uint64_t channel)
{
    nd_ring *old = life->rings[channel];
    const channel_picture was = life->now[channel];
    life->now[channel] = (channel_picture){.incarnation = life->incarnations + 1};
    if (open_ring(life, channel, life->epoch) != ND_OK) {
        CHECK(life->may_fail);
        life->rings[channel] = old;
        life->now[channel] = was;
        return;
    }
    life->incarnations++;
    nd_ring_close(old);
    const uint64_t incarnation = life->now[channel].incarnation;
    life->now[channel].incarnation = was.incarnation;
    gather(life, channel, ND_UNIT_DELETED, 0, 0, 0);
    life->now[channel].incarnation = incarnation;
    gather_state(life, channel);
}

/* --- space --------------------------------------------------------------------------- */

static void stop_cleaning(log_life *life)
{
    nd_cleaner_close(life->cleaner);
    life->cleaner = NULL;
    life->cleaned_group = 0;
}

static void unlink_oldest(log_life *life)
{
    const nd_status status = nd_journal_unlink_oldest(life->journal);
    (void)nd_journal_group_done(life->journal);
    if (status == ND_OK) {
        life->counts.unlinked++;
        stop_cleaning(life);
    } else {
        CHECK(life->may_fail);
    }
}

static void move_some(log_life *life)
{
    nd_live_channel live[CHANNELS];
    for (uint64_t i = 0; i < CHANNELS; i++) {
        live[i] = (nd_live_channel){
            .channel = i, .incarnation = life->now[i].incarnation, .ring = life->rings[i],
        };
    }
    const nd_live_account account = {.account = ACCOUNT, .answered_from_unix_ms = life->first_answer};
    const nd_status status = nd_cleaner_move(life->cleaner, life->journal, live, CHANNELS, &account, 1, STEP_BYTES);
    CHECK(status == ND_OK || status == ND_EMPTY || status == ND_NO_ROOM);
    if (status == ND_NO_ROOM) (void)write_group(life);
    if (status != ND_EMPTY || !has_room(life) || life->cleaner == NULL) return;
    for (uint64_t i = 0; i < CHANNELS; i++) {
        gather_state(life, i);
        gather_frozen(life, i);
    }
    life->cleaned_group = journal_stats(life).gathering_group;
}

/* The next step of making room: open the oldest segment, move, or unlink. */
static void clean(log_life *life)
{
    const nd_journal_stats_t stats = journal_stats(life);
    if (life->cleaned_group > 0) {
        if (life->durable_group >= life->cleaned_group) unlink_oldest(life);
    } else if (life->cleaner != NULL) {
        move_some(life);
    } else if (stats.oldest_segment < stats.durable_segment) {
        uint32_t is_whole = 0;
        const nd_status status = nd_cleaner_open(&life->memory.io, fake_disk_files(life->disk), "journal",
                                                 stats.oldest_segment, &life->cleaner, &is_whole);
        CHECK((status == ND_OK && is_whole == 1) || life->may_fail);
        if (status == ND_OK && !is_whole) nd_cleaner_close(life->cleaner);
        if (status != ND_OK || !is_whole) life->cleaner = NULL;
    }
}

/* --- stopping and going on ----------------------------------------------------------- */

static void close_all(log_life *life)
{
    stop_cleaning(life);
    nd_journal_close(life->journal);
    life->journal = NULL;
    for (uint64_t i = 0; i < CHANNELS; i++) {
        nd_ring_close(life->rings[i]);
        life->rings[i] = NULL;
    }
    nd_framer_close(life->framer);
    life->framer = NULL;
    nd_pool_close(life->pool);
    life->pool = NULL;
    life->is_sealed = 0;
}

static nd_status open_memory(log_life *life)
{
    nd_status status = nd_pool_open(&life->memory.io, 4u << 20, &life->pool);
    if (status == ND_OK) status = nd_framer_open(life->pool, &life->framer);
    return status;
}

/* Rings as the log has them, for the channels of a picture. */
static nd_status load(log_life *life, nd_restore *restore, const picture *expected)
{
    for (uint64_t i = 0; i < CHANNELS; i++) {
        life->now[i] = (channel_picture){.incarnation = expected->channels[i].incarnation};
        const nd_status status = open_ring(life, i, 0);
        if (status != ND_OK) return status;
    }
    for (uint64_t i = 0; i < nd_restore_channels(restore); i++) {
        nd_restored_channel found;
        CHECK_EQUAL(nd_restore_channel(restore, i, &found), ND_OK);
        CHECK(found.channel < CHANNELS);
        channel_picture *now = &life->now[found.channel];
        if (found.is_deleted || found.incarnation != now->incarnation) continue;
        now->frozen_first = found.frozen_first_seq;
        now->frozen_last = found.frozen_last_seq;
        now->frozen_events = found.frozen_events;
        CHECK_EQUAL(nd_restore_bind(restore, i, life->rings[found.channel]), ND_OK);
    }
    return nd_restore_load(restore, life->pool);
}

/* Read the log once; which of the kept answers are in it. */
static nd_status scan(const log_life *life, nd_restore *restore, uint8_t found_answers[ANSWERS_MAX])
{
    nd_journal_answer answer;
    nd_status status;
    while ((status = nd_restore_scan(restore, life->first_answer, &answer)) == ND_OK) {     /* an answer each turn */
        uint64_t number = 0;
        memcpy(&number, answer.key, ANSWER_KEY_BYTES);
        CHECK(answer.account == ACCOUNT && answer.answered_unix_ms == number && answer.answer_bytes == 2);
        CHECK(number >= life->first_answer && number < life->first_answer + ANSWERS_MAX);
        found_answers[number - life->first_answer] = 1;
    }
    return status == ND_EMPTY ? ND_OK : status;
}

static void check_answers(log_life *life, const uint8_t found_answers[ANSWERS_MAX], uint64_t last_answer)
{
    for (uint64_t i = 0; i < ANSWERS_MAX; i++) {
        CHECK_EQUAL(found_answers[i], life->first_answer + i <= last_answer);
    }
    life->last_answer = last_answer >= life->first_answer ? last_answer : life->first_answer - 1;
}

/* Read the log into rings; nothing but want of memory or a failing call may prevent it. */
static nd_status recover(log_life *life, nd_recovery_report_t *report)
{
    uint8_t found_answers[ANSWERS_MAX] = {0};
    nd_recovery *recovery = NULL;
    nd_restore *restore = NULL;
    nd_status status = open_memory(life);
    if (status == ND_OK) {
        status = nd_recovery_open(&life->memory.io, fake_disk_files(life->disk), "journal", 0, UINT64_MAX, &recovery);
    }
    if (status == ND_OK) status = nd_restore_open(&life->memory.io, recovery, &restore);
    if (status == ND_OK) status = scan(life, restore, found_answers);
    if (status == ND_OK) {
        nd_recovery_report(recovery, report);
        if (life->is_synced) {
            status = nd_secure(&life->memory.io, fake_disk_files(life->disk), "journal", report->newest_segment);
        }
    }
    if (status == ND_OK) {
        CHECK(report->last_group < PICTURES_MAX && life->pictures[report->last_group] != NULL);
        check_answers(life, found_answers, life->pictures[report->last_group]->last_answer);
        status = load(life, restore, life->pictures[report->last_group]);
    }
    if (status == ND_OK) {
        nd_restore_stats_t stats;
        nd_restore_stats(restore, &stats);
        if (stats.lost_records > 0) status = ND_ERR_FULL;       /* it says so, and goes on without them */
    }
    nd_restore_close(restore);
    nd_recovery_close(recovery);
    return status;
}

static nd_status go_on(log_life *life, const nd_recovery_report_t *report)
{
    const uint64_t first_segment = report->newest_segment + 1;
    const nd_journal_options options = {
        .journal_id = 9, .segment_bytes = SEGMENT_BYTES, .group_bytes_max = GROUP_BYTES,
        .oldest_segment = report->oldest_segment > 0 && report->oldest_segment < first_segment
                              ? report->oldest_segment : first_segment,
        .first_segment = first_segment, .first_group = report->last_group + 1,
        .epoch = life->epoch, .is_synced = life->is_synced,
    };
    for (uint64_t i = 0; i < CHANNELS; i++) {
        const nd_status status = nd_ring_begin_epoch(life->rings[i], life->epoch);
        if (status != ND_OK) return status;
    }
    return nd_journal_open(&life->memory.io, fake_disk_files(life->disk), "journal", &options, &life->journal);
}

static void open_all(log_life *life)
{
    nd_recovery_report_t report;
    for (uint64_t attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        nd_status status = recover(life, &report);
        if (status == ND_OK) status = go_on(life, &report);
        if (status == ND_OK) break;
        CHECK(life->may_fail && (status == ND_ERR_FULL || status == ND_ERR_IO));
        close_all(life);
    }
    CHECK(life->journal != NULL);
    CHECK_EQUAL(report.damaged_groups + report.damaged_segments, 0);
    CHECK(report.last_group >= life->durable_group);
    const picture *expected = life->pictures[report.last_group];
    for (uint64_t i = 0; i < CHANNELS; i++) {
        CHECK_EQUAL(nd_ring_check(life->rings[i]), ND_OK);
        const channel_picture got = draw(life->rings[i], &life->now[i]);
        check_same(&got, &expected->channels[i]);
    }
    life->durable_group = report.last_group;
    for (uint64_t i = 0; i < CHANNELS; i++) gather_state(life, i);
}

void log_life_restart(log_life *life)
{
    close_all(life);
    if (life->is_synced && life->is_cut) fake_disk_power_cut(life->disk);
    life->is_cut = !life->is_cut;
    fake_disk_fail_at(life->disk, 0, ND_OK);
    fake_disk_hold_at_most(life->disk, 0);
    life->epoch++;
    life->counts.restarts++;
    open_all(life);
}

/* --- the whole ----------------------------------------------------------------------- */

log_life *log_life_begin(uint64_t seed, uint32_t is_synced)
{
    log_life *life = calloc(1, sizeof *life);
    if (life == NULL) abort();
    test_memory_begin(&life->memory);
    life->disk = fake_disk_new(seed);
    life->is_synced = is_synced;
    life->is_cut = (int)(seed & 1u);
    life->epoch = 1;
    life->now_ms = 1000;
    life->first_answer = 1;
    life->pictures[0] = calloc(1, sizeof *life->pictures[0]);
    if (life->pictures[0] == NULL) abort();
    for (uint64_t i = 0; i < CHANNELS; i++) life->pictures[0]->channels[i].incarnation = ++life->incarnations;
    return life;
}

static void trouble(log_life *life, uint8_t operation, uint8_t choice)
{
    life->may_fail = 1;
    switch (operation / 16 % 4) {
    case 0: fake_disk_fail_at(life->disk, fake_disk_calls(life->disk) + 1 + choice % 8,
                              choice % 16 < 8 ? ND_ERR_IO : ND_ERR_NOSPACE);
            break;
    case 1: life->memory.fail_at = life->memory.requests + 1 + choice % 8; break;
    case 2: fake_disk_hold_at_most(life->disk, choice % 2 == 0 ? 0 : 1); break;
    default: fake_disk_write_at_most(life->disk, choice * 16u); break;
    }
}

void log_life_do(log_life *life, uint8_t operation, uint8_t choice)
{
    if (life->journal == NULL) open_all(life);
    const uint64_t channel = choice % CHANNELS;
    switch (operation % 16) {
    case 0: case 1: case 2: case 3: case 4:
        if (has_room(life)) append(life, operation, choice);
        break;
    case 5: case 6: case 7:
        if (has_room(life)) leave(life, channel, operation, choice);
        break;
    case 8: case 9: case 10: (void)write_group(life); break;
    case 11: (void)nd_journal_prepare(life->journal); break;
    case 12: case 13: clean(life); break;
    case 14:
        if (!has_room(life)) break;
        if (choice % 8 == 0) replace(life, choice / 8 % CHANNELS);
        else freeze(life, channel, choice);
        break;
    default:
        if (operation / 16 % 5 > 0) trouble(life, operation, choice);
        else if (life->counts.restarts < RESTARTS_MAX) log_life_restart(life);
        break;
    }
}

void log_life_end(log_life *life)
{
    if (life->journal != NULL) log_life_restart(life);
    close_all(life);
    test_memory_end(&life->memory);
    for (uint64_t i = 0; i < PICTURES_MAX; i++) free(life->pictures[i]);
    fake_disk_free(life->disk);
    free(life);
}
