/* nd_cleaner.c -- a walk over one segment's records that can stop anywhere. */

#include "nd_cleaner.h"

#include <string.h>

#include "nd_recovery.h"

#define LOOKS_MAX 16384u                /* in a step, at units and records: half a millisecond */
#define TYPES (1u << ND_UNIT_REQUEST | 1u << ND_UNIT_MOVED | 1u << ND_UNIT_ANSWER)

/* Where the walk stands: in a unit, in a route of it, at a record of that. */
typedef struct {
    nd_unit                 unit;
    const nd_request_route *route;
    uint64_t                routes_left;
    uint64_t                place;      /* of the route's seqs, or of the moved records */
    uint64_t                body_at;    /* in the unit's block, of the record at record_at */
    uint64_t                record_at;
} walk;

/* A moved unit in the making. */
typedef struct {
    uint64_t channel, incarnation;
    uint64_t count, block_bytes;
    uint64_t bytes_max;                 /* of records and bodies, unless there is one alone */
    nd_moved_record records[ND_MOVED_RECORDS_MAX];
    const uint8_t  *bodies[ND_MOVED_RECORDS_MAX];
} draft;

struct nd_cleaner {
    nd_io        io;
    nd_recovery *recovery;              /* NULL: nothing can be read */
    int          has_unit;
    walk         at;
    draft        draft;
};

nd_status nd_cleaner_open(const nd_io *io, const nd_files *files, const char *folder,
                          uint64_t segment, nd_cleaner **out, uint32_t *is_whole_out)
{
    if (io == NULL || out == NULL || is_whole_out == NULL) return ND_ERR_ARGUMENT;
    nd_cleaner *cleaner = io->allocate(io->context, sizeof *cleaner);
    if (cleaner == NULL) return ND_ERR_FULL;
    cleaner->io = *io;
    /* With its successor, which says with which group it has to end. */
    nd_status status = nd_recovery_open(io, files, folder, segment, segment + 1, &cleaner->recovery);
    if (status == ND_OK) status = nd_recovery_load(cleaner->recovery);
    if (status == ND_ERR_FULL) {
        nd_cleaner_close(cleaner);
        return status;
    }
    nd_recovery_report_t report = {0};
    if (status == ND_OK) nd_recovery_report(cleaner->recovery, &report);
    if (status != ND_OK || report.oldest_segment != segment) {          /* the successor stands for nothing */
        nd_recovery_close(cleaner->recovery);
        cleaner->recovery = NULL;
    }
    *is_whole_out = cleaner->recovery != NULL && report.damaged_groups == 0 && report.damaged_segments == 0;
    *out = cleaner;
    return ND_OK;
}

void nd_cleaner_close(nd_cleaner *cleaner)
{
    if (cleaner == NULL) return;
    const nd_io io = cleaner->io;
    nd_recovery_close(cleaner->recovery);
    io.release(io.context, cleaner, sizeof *cleaner);
}

static const nd_ring *ring_of(const nd_live_channel *channels, uint64_t count, uint64_t channel,
                              uint64_t incarnation)
{
    uint64_t low = 0, high = count;
    while (low < high) {                                        /* halves: at most 64 turns */
        const uint64_t middle = low + (high - low) / 2;
        if (channels[middle].channel < channel) low = middle + 1;
        else high = middle;
    }
    if (low == count || channels[low].channel != channel || channels[low].incarnation != incarnation) return NULL;
    return channels[low].ring;
}

static int is_kept(const nd_live_account *accounts, uint64_t count, const nd_answer_unit *answer)
{
    uint64_t low = 0, high = count;
    while (low < high) {                                        /* halves: at most 64 turns */
        const uint64_t middle = low + (high - low) / 2;
        if (accounts[middle].account < answer->account) low = middle + 1;
        else high = middle;
    }
    return low < count && accounts[low].account == answer->account
           && answer->answered_unix_ms >= accounts[low].answered_from_unix_ms;
}

/* --- one record after the other ------------------------------------------------------ */

/* A record of the segment, as a moved unit will have it. */
typedef struct {
    nd_moved_record record;
    const uint8_t  *body;
    int             is_lost;    /* a seq without a record */
} item;

static uint64_t body_bytes_of(uint64_t meta)
{
    return meta & 0xffffffu;
}

static item request_item(walk *at)
{
    const nd_request_unit *request = at->unit.unit;
    const uint32_t *entries = nd_route_entries(at->route);
    const uint64_t index = entries != NULL ? entries[at->place] : at->place;
    if (index == ND_LOST) return (item){.is_lost = 1};
    const uint64_t *meta = nd_request_meta(request);
    for (; at->record_at < index; at->record_at++) at->body_at += body_bytes_of(meta[at->record_at]);
    return (item){
        .record = {
            .epoch = request->epoch,
            .seq = at->route->first_seq + at->place,
            .received_unix_ms = request->received_unix_ms,
            .meta = meta[index],
        },
        .body = nd_request_block(request) + at->body_at,
    };
}

static item moved_item(walk *at)
{
    const nd_moved_unit *moved = at->unit.unit;
    const nd_moved_record *records = nd_moved_records(moved);
    for (; at->record_at < at->place; at->record_at++) at->body_at += body_bytes_of(records[at->record_at].meta);
    return (item){.record = records[at->place], .body = nd_moved_block(moved) + at->body_at};
}

static void begin_route(walk *at, const nd_request_route *route)
{
    at->route = route;
    at->place = at->record_at = at->body_at = 0;
}

static int next_unit(nd_cleaner *cleaner)
{
    cleaner->has_unit = cleaner->recovery != NULL
                        && nd_recovery_next(cleaner->recovery, TYPES, &cleaner->at.unit) == ND_OK;
    if (!cleaner->has_unit) return 0;
    begin_route(&cleaner->at, NULL);
    cleaner->at.routes_left = 0;
    if (cleaner->at.unit.type == ND_UNIT_REQUEST) {
        const nd_request_unit *request = cleaner->at.unit.unit;
        begin_route(&cleaner->at, nd_request_routes(request));
        cleaner->at.routes_left = request->routes;
    }
    return 1;
}

/* The stretch of records that the walk is in: one route's, or one moved unit's. */
typedef struct {
    uint64_t channel, incarnation, count;
} stretch;

static stretch stretch_of(const walk *at)
{
    if (at->unit.type == ND_UNIT_MOVED) {
        const nd_moved_unit *moved = at->unit.unit;
        return (stretch){moved->channel, moved->incarnation, moved->records};
    }
    return (stretch){at->route->channel, at->route->incarnation, at->route->seqs};
}

/* --- moving -------------------------------------------------------------------------- */

static draft *begin_draft(nd_cleaner *cleaner, uint64_t channel, uint64_t incarnation, uint64_t bytes_max)
{
    draft *d = &cleaner->draft;
    d->channel = channel;
    d->incarnation = incarnation;
    d->bytes_max = bytes_max;
    d->count = d->block_bytes = 0;
    return d;
}

/* Take a record; 0 when the draft is full. */
static int put(draft *d, const nd_moved_record *record, const uint8_t *body)
{
    const uint64_t bytes = d->block_bytes + body_bytes_of(record->meta) + (d->count + 1) * sizeof *record;
    if (d->count == ND_MOVED_RECORDS_MAX || (d->count > 0 && bytes > d->bytes_max)) return 0;
    d->records[d->count] = *record;
    d->bodies[d->count] = body;
    d->count++;
    d->block_bytes += body_bytes_of(record->meta);
    return 1;
}

static nd_status gather(nd_journal *journal, const draft *d)
{
    if (d->count == 0) return ND_OK;
    void *unit;
    const uint64_t bytes = sizeof(nd_moved_unit) + d->count * sizeof(nd_moved_record) + nd_round_up(d->block_bytes, 8);
    const nd_status status = nd_journal_gather(journal, ND_UNIT_MOVED, bytes, &unit);
    if (status != ND_OK) return status;
    nd_moved_unit *moved = unit;
    moved->channel = d->channel;
    moved->incarnation = d->incarnation;
    moved->records = d->count;
    moved->block_bytes = d->block_bytes;
    memcpy(moved + 1, d->records, d->count * sizeof(nd_moved_record));
    uint8_t *body = (uint8_t *)(moved + 1) + d->count * sizeof(nd_moved_record);
    for (uint64_t i = 0; i < d->count; i++) {
        const uint64_t body_bytes = body_bytes_of(d->records[i].meta);
        memcpy(body, d->bodies[i], body_bytes);
        body += body_bytes;
    }
    return ND_OK;
}

static uint64_t gathered_bytes(const nd_journal *journal)
{
    nd_journal_stats_t stats;
    nd_journal_stats(journal, &stats);
    return stats.gathered_bytes;
}

/* What a step may still do. */
typedef struct {
    uint64_t full_bytes;                /* of what is gathered in the journal */
    uint64_t looks;
} budget;

/* Take live records of one stretch, until a unit is full or the step is over, and gather them. */
static nd_status move_stretch(nd_cleaner *cleaner, nd_journal *journal, const nd_ring *ring, const stretch *s,
                              budget *left)
{
    const walk before = cleaner->at;
    walk *at = &cleaner->at;
    nd_span near = {0};
    draft *d = begin_draft(cleaner, s->channel, s->incarnation, left->full_bytes - gathered_bytes(journal));
    while (at->place < s->count && left->looks > 0) {           /* a record each turn */
        const item next = at->unit.type == ND_UNIT_MOVED ? moved_item(at) : request_item(at);
        if (!next.is_lost && nd_ring_has(ring, next.record.seq, &near) && !put(d, &next.record, next.body)) break;
        at->place++;
        left->looks--;
    }
    const nd_status status = gather(journal, d);
    if (status != ND_OK) cleaner->at = before;
    return status;
}

/* Step over what is done: to the next route, or out of the unit. */
static void leave_stretch(nd_cleaner *cleaner)
{
    walk *at = &cleaner->at;
    if (at->unit.type == ND_UNIT_REQUEST && at->routes_left > 1) {
        at->routes_left--;
        begin_route(at, nd_route_next(at->route));
    } else {
        cleaner->has_unit = 0;
    }
}

static nd_status move_answer(nd_cleaner *cleaner, nd_journal *journal, const nd_live_account *accounts,
                             uint64_t accounts_count)
{
    const nd_answer_unit *answer = cleaner->at.unit.unit;
    if (is_kept(accounts, accounts_count, answer)) {
        void *at;
        const nd_status status = nd_journal_gather(journal, ND_UNIT_ANSWER, answer->unit.bytes, &at);
        if (status != ND_OK) return status;
        memcpy(at, answer, answer->unit.bytes);
    }
    cleaner->has_unit = 0;
    return ND_OK;
}

nd_status nd_cleaner_move(nd_cleaner *cleaner, nd_journal *journal, const nd_live_channel *channels,
                          uint64_t channels_count, const nd_live_account *accounts,
                          uint64_t accounts_count, uint64_t step_bytes)
{
    if (cleaner == NULL || journal == NULL) return ND_ERR_ARGUMENT;
    budget left = {.full_bytes = gathered_bytes(journal) + step_bytes, .looks = LOOKS_MAX};
    while (left.looks > 0 && gathered_bytes(journal) < left.full_bytes) {       /* a stretch, or an answer */
        left.looks--;
        if (!cleaner->has_unit && !next_unit(cleaner)) return ND_EMPTY;
        if (cleaner->at.unit.type == ND_UNIT_ANSWER) {
            const nd_status status = move_answer(cleaner, journal, accounts, accounts_count);
            if (status != ND_OK) return status;
            continue;
        }
        if (cleaner->at.unit.type == ND_UNIT_REQUEST && cleaner->at.routes_left == 0) {
            cleaner->has_unit = 0;
            continue;
        }
        const stretch s = stretch_of(&cleaner->at);
        const nd_ring *ring = ring_of(channels, channels_count, s.channel, s.incarnation);
        if (ring != NULL) {
            const nd_status status = move_stretch(cleaner, journal, ring, &s, &left);
            if (status != ND_OK) return status;
            if (cleaner->at.place < s.count) return ND_OK;
        }
        leave_stretch(cleaner);
    }
    return ND_OK;
}

/* --- copying ------------------------------------------------------------------------- */

static int is_intact(const nd_ring *ring, const nd_record *record)
{
    const nd_crc_lane lane = nd_record_lane(record);
    uint32_t sum;
    nd_pool_crc(nd_ring_pool(ring))(&lane, 1, &sum);
    return sum == record->crc32c;
}

static nd_moved_record moved_record(const nd_ring *ring, const nd_record *record)
{
    return (nd_moved_record){
        .epoch = nd_ring_epoch_of(ring, record->seq),
        .seq = record->seq,
        .received_unix_ms = record->received_unix_ms,
        .meta = record->body_bytes | (uint64_t)record->tail_bytes << 24 | (uint64_t)record->ep_bytes << 40
                | (uint64_t)record->kind << 56,
    };
}

nd_status nd_cleaner_copy(nd_cleaner *cleaner, nd_journal *journal, const nd_live_channel *channel,
                          uint64_t *seq, uint64_t upto_seq, uint64_t step_bytes)
{
    if (cleaner == NULL || journal == NULL || channel == NULL || seq == NULL) return ND_ERR_ARGUMENT;
    nd_ring *ring = channel->ring;
    draft *d = begin_draft(cleaner, channel->channel, channel->incarnation, step_bytes);
    uint64_t at = *seq;
    nd_status status = ND_OK;
    nd_span span = {0};
    for (uint64_t looks = 0; looks < LOOKS_MAX; looks++) {                      /* a record each turn */
        if (span.records == 0) status = nd_ring_span(ring, at, NULL, &span);
        if (status == ND_OK && span.first_seq > upto_seq) status = ND_EMPTY;
        if (status != ND_OK) break;
        const nd_record *record = nd_span_next(&span);
        if (record == NULL) status = ND_ERR_CORRUPT;
        if (record == NULL) break;
        const nd_moved_record moved = moved_record(ring, record);
        if (is_intact(ring, record) && !put(d, &moved, nd_record_body(record))) break;
        at = record->seq + 1;
    }
    const nd_status gathered = gather(journal, d);
    if (gathered != ND_OK) return gathered;
    *seq = at;
    return status;
}
