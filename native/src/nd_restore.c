/* nd_restore.c -- what is live in a log, appended again. */

#include "nd_restore.h"

#include <stdlib.h>
#include <string.h>

#include "nd_append.h"
#include "nd_mix.h"
#include "nd_restore_inside.h"
#include "nd_residency.h"

#define ITEMS_MIN 64u
#define CHANNEL_TYPES                                                                              \
    (1u << ND_UNIT_REQUEST | 1u << ND_UNIT_MOVED | 1u << ND_UNIT_STATE | 1u << ND_UNIT_DROPPED     \
     | 1u << ND_UNIT_DELETED | 1u << ND_UNIT_FROZEN | 1u << ND_UNIT_SUPERSEDED | 1u << ND_UNIT_GAPS)
#define SCAN_TYPES (CHANNEL_TYPES | 1u << ND_UNIT_ANSWER)
#define RECORD_TYPES (1u << ND_UNIT_REQUEST)

/* --- arrays -------------------------------------------------------------------------- */

int nd_list_reserve(const nd_io *io, list *l, uint64_t item_bytes, uint64_t count)
{
    if (count <= l->capacity) return 1;
    uint64_t capacity = l->capacity > 0 ? l->capacity : ITEMS_MIN;
    while (capacity < count) capacity *= 2;                     /* at most 64 turns */
    void *items = io->allocate(io->context, capacity * item_bytes);
    if (items == NULL) return 0;
    if (l->items != NULL) {
        memcpy(items, l->items, l->count * item_bytes);
        io->release(io->context, l->items, l->capacity * item_bytes);
    }
    l->items = items;
    l->capacity = capacity;
    return 1;
}

static void list_free(const nd_io *io, list *l, uint64_t item_bytes)
{
    if (l->items != NULL) io->release(io->context, l->items, l->capacity * item_bytes);
    *l = (list){0};
}

/* --- channels by number and incarnation ---------------------------------------------- */

static uint64_t *slot_of(const nd_restore *restore, uint64_t number, uint64_t incarnation)
{
    uint64_t at = nd_mix64(number * ND_GOLDEN ^ incarnation);
    for (;; at++) {                                             /* the table is half empty at least */
        uint64_t *slot = &restore->table[at & (restore->table_size - 1)];
        if (*slot == 0) return slot;
        const nd_restored_channel *known = &channel_at(restore, *slot - 1)->known;
        if (known->channel == number && known->incarnation == incarnation) return slot;
    }
}

static int table_grow(nd_restore *restore)
{
    const nd_io *io = &restore->io;
    const uint64_t size = restore->table_size > 0 ? restore->table_size * 2 : 2 * ITEMS_MIN;
    uint64_t *table = io->allocate(io->context, size * sizeof *table);
    if (table == NULL) return 0;
    if (restore->table != NULL) io->release(io->context, restore->table, restore->table_size * sizeof *table);
    restore->table = table;
    restore->table_size = size;
    for (uint64_t i = 0; i < restore->channels.count; i++) {
        const nd_restored_channel *known = &channel_at(restore, i)->known;
        *slot_of(restore, known->channel, known->incarnation) = i + 1;
    }
    return 1;
}

/* The channel's entry, made when it is new; NULL: no memory.  Valid until the next one is made. */
channel *nd_restore_channel_of(nd_restore *restore, uint64_t number, uint64_t incarnation)
{
    if (2 * (restore->channels.count + 1) > restore->table_size && !table_grow(restore)) return NULL;
    uint64_t *slot = slot_of(restore, number, incarnation);
    if (*slot != 0) return channel_at(restore, *slot - 1);
    if (!nd_list_reserve(&restore->io, &restore->channels, sizeof(channel), restore->channels.count + 1)) return NULL;
    restore->channels.count++;
    *slot = restore->channels.count;
    channel *c = channel_at(restore, *slot - 1);
    *c = (channel){.known = {.channel = number, .incarnation = incarnation}};
    return c;
}

static uint64_t index_of(const nd_restore *restore, const channel *c)
{
    return (uint64_t)(c - (const channel *)restore->channels.items);
}

/* --- the scan ------------------------------------------------------------------------ */

static nd_status scan_request(nd_restore *restore, const nd_request_unit *request, uint64_t group)
{
    raise_to(&restore->stats.newest_unix_ms, request->received_unix_ms);
    const uint64_t record_bytes = request->records > 0 ? request->block_bytes / request->records : 0;
    const nd_request_route *route = nd_request_routes(request);
    for (uint32_t i = 0; i < request->routes; i++, route = nd_route_next(route)) {
        channel *c = nd_restore_channel_of(restore, route->channel, route->incarnation);
        if (c == NULL) return ND_ERR_FULL;
        raise_to(&c->known.last_seq, route->first_seq + route->seqs - 1);
        raise_to(&c->known.epoch, request->epoch);
        if (c->first_request_seq == 0) c->first_request_seq = route->first_seq;
        c->spoken_group = group;
        c->records += route->seqs;
        c->bytes += route->seqs * nd_record_stored_bytes((uint32_t)record_bytes);
    }
    return ND_OK;
}

static nd_status scan_moved(nd_restore *restore, const nd_moved_unit *unit, uint64_t segment, uint64_t unit_at)
{
    channel *c = nd_restore_channel_of(restore, unit->channel, unit->incarnation);
    if (c == NULL) return ND_ERR_FULL;
    if (!nd_list_reserve(&restore->io, &restore->moves, sizeof(moved), restore->moves.count + unit->records)) {
        return ND_ERR_FULL;
    }
    uint64_t body_at = unit_at + sizeof *unit + unit->records * sizeof(nd_moved_record);
    for (uint64_t i = 0; i < unit->records; i++) {
        const nd_moved_record *record = &nd_moved_records(unit)[i];
        *moved_at(restore, restore->moves.count) = (moved){
            .channel = index_of(restore, c),
            .seq = record->seq,
            .segment = segment,
            .record_at = unit_at + sizeof *unit + i * sizeof *record,
            .body_at = body_at,
        };
        restore->moves.count++;
        body_at += record->meta & 0xffffffu;
        raise_to(&c->known.last_seq, record->seq);
        raise_to(&c->known.epoch, record->epoch);
        raise_to(&restore->stats.newest_unix_ms, record->received_unix_ms);
    }
    return ND_OK;
}

/* A channel whose oldest are dropped behind what is in flight drops on where it stopped;
 * all of that is one hole. */
static nd_status scan_dropped(nd_restore *restore, channel *c, uint64_t first_seq, uint64_t last_seq)
{
    if (first_seq > last_seq) return ND_OK;
    if (c->drop_newest > 0) {
        drop *newest = drop_at(restore, c->drop_newest - 1);
        if (first_seq >= newest->first_seq && first_seq <= newest->last_seq + 1) {
            raise_to(&newest->last_seq, last_seq);
            return ND_OK;
        }
    }
    if (!nd_list_reserve(&restore->io, &restore->drops, sizeof(drop), restore->drops.count + 1)) return ND_ERR_FULL;
    *drop_at(restore, restore->drops.count) = (drop){
        .channel = index_of(restore, c), .first_seq = first_seq, .last_seq = last_seq,
    };
    restore->drops.count++;
    c->drop_newest = restore->drops.count;
    return ND_OK;
}

static nd_status scan_channel(nd_restore *restore, const nd_channel_unit *unit, uint64_t group)
{
    channel *c = nd_restore_channel_of(restore, unit->channel, unit->incarnation);
    if (c == NULL) return ND_ERR_FULL;
    nd_restored_channel *known = &c->known;
    raise_to(&known->epoch, unit->epoch);
    switch (unit->type) {
    case ND_UNIT_STATE:
        raise_to(&known->last_seq, unit->last_seq);
        raise_to(&known->settled_seq, unit->first_seq);
        c->spoken_group = c->stated_group = group;
        return ND_OK;
    case ND_UNIT_DELETED:
        known->is_deleted = 1;
        return ND_OK;
    case ND_UNIT_FROZEN:
        known->frozen_epoch = unit->epoch;
        known->frozen_first_seq = unit->first_seq;
        known->frozen_last_seq = unit->last_seq;
        known->frozen_events = unit->events;
        known->frozen_form = unit->form;
        return ND_OK;
    default:
        return scan_dropped(restore, c, unit->first_seq, unit->last_seq);
    }
}

static nd_status scan_superseded(nd_restore *restore, const nd_superseded_unit *unit)
{
    channel *c = nd_restore_channel_of(restore, unit->channel, unit->incarnation);
    if (c == NULL) return ND_ERR_FULL;
    raise_to(&c->known.epoch, unit->epoch);
    for (uint64_t i = 0; i < unit->holes; i++) {
        const nd_hole *hole = &nd_superseded_holes(unit)[i];
        const nd_status status = scan_dropped(restore, c, hole->first_seq, hole->last_seq);
        if (status != ND_OK) return status;
    }
    return ND_OK;
}

/* The newest gaps are all that count; they are read when they are asked for. */
static nd_status scan_gaps(nd_restore *restore, const nd_gaps_unit *unit, uint64_t segment, uint64_t unit_at)
{
    channel *c = nd_restore_channel_of(restore, unit->channel, unit->incarnation);
    if (c == NULL) return ND_ERR_FULL;
    c->known.gaps = unit->gaps;
    c->gaps_segment = segment;
    c->gaps_at = unit_at + sizeof *unit;
    return ND_OK;
}

static int compare(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int by_channel_and_first(const void *a, const void *b)
{
    const drop *one = a, *other = b;
    const int order = compare(one->channel, other->channel);
    return order != 0 ? order : compare(one->first_seq, other->first_seq);
}

static int by_channel_and_seq(const void *a, const void *b)
{
    const moved *one = a, *other = b;
    const int order = compare(one->channel, other->channel);
    return order != 0 ? order : compare(one->seq, other->seq);
}

/* Give each channel its part of the sorted drops: those that are not settled, joined
 * where they overlap. */
static void sort_drops(nd_restore *restore)
{
    if (restore->drops.count == 0) return;
    qsort(restore->drops.items, restore->drops.count, sizeof(drop), by_channel_and_first);
    uint64_t kept = 0;
    for (uint64_t i = 0; i < restore->drops.count; i++) {
        const drop hole = *drop_at(restore, i);
        channel *c = channel_at(restore, hole.channel);
        if (hole.last_seq <= c->known.settled_seq) continue;
        if (c->drops_end > 0 && hole.first_seq <= drop_at(restore, kept - 1)->last_seq) {
            raise_to(&drop_at(restore, kept - 1)->last_seq, hole.last_seq);
            continue;
        }
        if (c->drops_end == 0) c->drops_at = kept;
        *drop_at(restore, kept) = hole;
        kept++;
        c->drops_end = kept;
    }
    restore->drops.count = kept;
}

/* The same with moved records, each once. */
static void sort_moves(nd_restore *restore)
{
    if (restore->moves.count > 0) qsort(restore->moves.items, restore->moves.count, sizeof(moved), by_channel_and_seq);
    uint64_t kept = 0;
    for (uint64_t i = 0; i < restore->moves.count; i++) {
        const moved record = *moved_at(restore, i);
        channel *c = channel_at(restore, record.channel);
        if (record.seq <= c->known.settled_seq) continue;
        if (c->moved_end > 0 && moved_at(restore, kept - 1)->seq == record.seq) continue;
        if (c->moved_end == 0) c->moved_at = kept;
        *moved_at(restore, kept) = record;
        kept++;
        c->moved_end = kept;
    }
    restore->moves.count = kept;
}

static nd_status scan_unit(nd_restore *restore, const nd_unit *unit)
{
    switch (unit->type) {
    case ND_UNIT_REQUEST: return scan_request(restore, unit->unit, unit->group);
    case ND_UNIT_MOVED: return scan_moved(restore, unit->unit, unit->segment, unit->offset);
    case ND_UNIT_SUPERSEDED: return scan_superseded(restore, unit->unit);
    case ND_UNIT_GAPS: return scan_gaps(restore, unit->unit, unit->segment, unit->offset);
    default: return scan_channel(restore, unit->unit, unit->group);
    }
}

static nd_journal_answer answer_of(const nd_answer_unit *unit)
{
    const uint8_t *key = (const uint8_t *)(unit + 1);
    return (nd_journal_answer){
        .account = unit->account,
        .answered_unix_ms = unit->answered_unix_ms,
        .body_sha256 = unit->body_sha256,
        .key = key,
        .key_bytes = unit->key_bytes,
        .answer = key + unit->key_bytes,
        .answer_bytes = unit->answer_bytes,
    };
}

nd_status nd_restore_scan(nd_restore *restore, uint64_t answers_from_unix_ms, nd_journal_answer *out)
{
    if (restore == NULL || out == NULL || restore->is_scanned) return ND_ERR_ARGUMENT;
    if (!restore->is_scanning) nd_recovery_rewind(restore->recovery);
    restore->is_scanning = 1;
    nd_status status;
    do {                                                        /* a segment each turn */
        nd_unit unit;
        while (nd_recovery_next(restore->recovery, SCAN_TYPES, &unit) == ND_OK) {
            if (unit.type == ND_UNIT_ANSWER) {
                *out = answer_of(unit.unit);
                raise_to(&restore->stats.newest_unix_ms, out->answered_unix_ms);
                if (out->answered_unix_ms >= answers_from_unix_ms) return ND_OK;
                continue;
            }
            status = scan_unit(restore, &unit);
            if (status != ND_OK) return status;
        }
        status = nd_recovery_load(restore->recovery);
    } while (status == ND_OK);
    if (status != ND_EMPTY) return status;
    sort_drops(restore);
    sort_moves(restore);
    restore->is_scanned = 1;
    return ND_EMPTY;
}

/* --- the load ------------------------------------------------------------------------ */

static int is_dropped(const nd_restore *restore, const channel *c, uint64_t seq)
{
    uint64_t low = c->drops_at, high = c->drops_end;
    while (low < high) {                                        /* halves: at most 64 turns */
        const uint64_t middle = low + (high - low) / 2;
        if (drop_at(restore, middle)->last_seq < seq) low = middle + 1;
        else high = middle;
    }
    return low < c->drops_end && drop_at(restore, low)->first_seq <= seq;
}

static uint64_t restored_seq(const channel *c)
{
    nd_ring_stats_t stats;
    nd_ring_stats(c->ring, &stats);
    return stats.last_seq;
}

/* Records with consecutive seqs, on their way into a ring. */
typedef struct {
    uint64_t        epoch, first_seq, received_unix_ms;
    const uint8_t  *block;
    uint64_t        block_bytes;
    const uint64_t *meta;
    uint64_t        records;
    const uint32_t *indices;    /* NULL: all */
    uint64_t        count;
} stretch;

static nd_status lose(nd_restore *restore, const channel *c, nd_removed removed, nd_gap_reason reason)
{
    restore->stats.lost_records += removed.count;
    restore->stats.lost_bytes += removed.bytes;
    return nd_restore_lose(restore, &(nd_lost){
        .channel = index_of(restore, c), .removed = removed, .reason = reason, .is_exact = 1,
    });
}

/* Move what is coldest out, so that more goes into a full pool. */
static nd_status make_room(nd_pool *pool)
{
    nd_residency *residency = nd_pool_residency(pool);
    if (residency == NULL) return ND_ERR_FULL;
    const uint64_t before = nd_pool_free_bytes(pool);
    const nd_status status = nd_residency_make_room(residency, before + ND_OUT_BYTES_MAX);
    if (nd_pool_free_bytes(pool) > before) return ND_OK;
    return status == ND_EMPTY ? ND_ERR_FULL : status;
}

/* Append a stretch; when the ring is full, at the cost of what is oldest in it: a damaged log
 * may have lost what it knew of records that are gone.  ND_ERR_CORRUPT: it cannot be one of
 * this channel. */
static nd_status append(nd_restore *restore, channel *c, const stretch *s)
{
    if (nd_ring_resume(c->ring, s->first_seq) != ND_OK) return ND_ERR_CORRUPT;
    if (s->epoch >= 1 && nd_ring_begin_epoch(c->ring, s->epoch) == ND_ERR_FULL) return ND_ERR_FULL;
    raise_to(&c->newest_unix_ms, s->received_unix_ms);
    nd_route route = {.ring = c->ring, .indices = s->indices, .indices_count = s->count};
    nd_status status;
    while ((status = nd_rings_append(restore->pool, &route, 1, s->block, s->block_bytes, s->meta, s->records,
                                     c->newest_unix_ms)) == ND_ERR_FULL) {      /* each turn moves more out */
        status = make_room(restore->pool);
        if (status != ND_OK) return status;
    }
    if (route.dropped.count > 0 && lose(restore, c, route.dropped, ND_GAP_OVERFLOW) != ND_OK) return ND_ERR_FULL;
    return status == ND_OK ? ND_OK : ND_ERR_CORRUPT;
}

static nd_status restore_moved(nd_restore *restore, channel *c, const moved *m)
{
    if (is_dropped(restore, c, m->seq)) return ND_OK;
    nd_moved_record record;
    const uint8_t *bytes;
    nd_status status = nd_recovery_read(restore->recovery, m->segment, m->record_at, sizeof record, &bytes);
    if (status != ND_OK) return status;
    memcpy(&record, bytes, sizeof record);
    const uint64_t body_bytes = record.meta & 0xffffffu;
    status = nd_recovery_read(restore->recovery, m->segment, m->body_at, body_bytes, &bytes);
    if (status != ND_OK) return status;
    const stretch s = {
        .epoch = record.epoch, .first_seq = m->seq, .received_unix_ms = record.received_unix_ms,
        .block = bytes, .block_bytes = body_bytes, .meta = &record.meta, .records = 1, .count = 1,
    };
    status = append(restore, c, &s);
    return status == ND_ERR_CORRUPT ? ND_OK : status;
}

/* Restore the moved records of a channel before a seq. */
static nd_status restore_moved_before(nd_restore *restore, channel *c, uint64_t seq)
{
    while (c->moved_at < c->moved_end && moved_at(restore, c->moved_at)->seq < seq) {   /* a record each turn */
        const nd_status status = restore_moved(restore, c, moved_at(restore, c->moved_at));
        if (status != ND_OK) return status;
        c->moved_at++;
    }
    return ND_OK;
}

static nd_status restore_stretch(nd_restore *restore, channel *c, const stretch *s)
{
    nd_status status = restore_moved_before(restore, c, s->first_seq);
    if (status == ND_OK) status = append(restore, c, s);
    const uint64_t end = s->first_seq + s->count;
    while (c->moved_at < c->moved_end && moved_at(restore, c->moved_at)->seq < end) c->moved_at++;
    return status == ND_ERR_CORRUPT ? ND_OK : status;   /* lengths that no record has: it was never ours */
}

/* Restore what is live of a route, a stretch of consecutive seqs after the other. */
static nd_status restore_parts(nd_restore *restore, channel *c, const nd_request_route *route, stretch s)
{
    if (!nd_list_reserve(&restore->io, &restore->indices, sizeof(uint32_t), route->seqs)) return ND_ERR_FULL;
    uint32_t *indices = restore->indices.items;
    const uint32_t *entries = nd_route_entries(route);
    const uint64_t known_seq = restored_seq(c);
    const uint64_t *const meta = s.meta;
    uint64_t begin = 0;                                         /* the record at which the stretch begins */
    s.indices = indices;
    s.block_bytes = s.records = 0;
    for (uint32_t i = 0; i <= route->seqs; i++) {
        const uint64_t seq = route->first_seq + i;
        const uint32_t index = i == route->seqs ? ND_LOST : entries != NULL ? entries[i] : i;
        const int is_live = index != ND_LOST && seq > c->known.settled_seq && seq > known_seq
                            && !is_dropped(restore, c, seq);
        if (is_live) {
            if (s.count == 0) {                                 /* without what only others had */
                for (; begin < index; begin++) s.block += meta[begin] & 0xffffffu;
                s.meta = meta + begin;
                s.first_seq = seq;
            }
            for (; begin + s.records <= index; s.records++) s.block_bytes += s.meta[s.records] & 0xffffffu;
            indices[s.count] = (uint32_t)(index - begin);
            s.count++;
        } else if (s.count > 0) {
            const nd_status status = restore_stretch(restore, c, &s);
            if (status != ND_OK) return status;
            begin += s.records;
            s.block += s.block_bytes;
            s.count = s.records = s.block_bytes = 0;
        }
    }
    return ND_OK;
}

static nd_status restore_route(nd_restore *restore, const nd_request_unit *request, const nd_request_route *route)
{
    channel *c = nd_restore_channel_of(restore, route->channel, route->incarnation);
    if (c == NULL || c->ring == NULL) return ND_OK;
    const uint64_t last_seq = route->first_seq + route->seqs - 1;
    if (last_seq <= c->known.settled_seq) return ND_OK;
    stretch s = {
        .epoch = request->epoch,
        .first_seq = route->first_seq,
        .received_unix_ms = request->received_unix_ms,
        .block = nd_request_block(request),
        .block_bytes = request->block_bytes,
        .meta = nd_request_meta(request),
        .records = request->records,
    };
    const int is_whole = route->entries == 0 && route->first_seq > c->known.settled_seq
                         && route->first_seq > restored_seq(c) && c->drops_at == c->drops_end;
    if (!is_whole) return restore_parts(restore, c, route, s);
    s.count = route->seqs;
    return restore_stretch(restore, c, &s);
}

static nd_status restore_request(nd_restore *restore, const nd_request_unit *request)
{
    const nd_request_route *route = nd_request_routes(request);
    for (uint32_t i = 0; i < request->routes; i++, route = nd_route_next(route)) {
        const nd_status status = restore_route(restore, request, route);
        if (status != ND_OK) return status;
    }
    return ND_OK;
}

/* The moved records behind the last ordinary one, and the seq to go on with. */
static nd_status restore_end(nd_restore *restore, channel *c)
{
    if (c->ring == NULL) return ND_OK;
    const nd_status status = restore_moved_before(restore, c, UINT64_MAX);
    if (status != ND_OK) return status;
    (void)nd_ring_set_overflow(c->ring, c->overflow);
    nd_ring_stats_t stats;
    nd_ring_stats(c->ring, &stats);
    restore->stats.records += stats.records;
    restore->stats.bytes += stats.bytes;
    return stats.last_seq < c->known.last_seq ? nd_ring_resume(c->ring, c->known.last_seq + 1) : ND_OK;
}

nd_status nd_restore_load(nd_restore *restore, nd_pool *pool)
{
    if (restore == NULL || pool == NULL || restore->pool != NULL) return ND_ERR_ARGUMENT;
    restore->pool = pool;
    nd_recovery_rewind(restore->recovery);
    nd_status status;
    while ((status = nd_recovery_load(restore->recovery)) == ND_OK) {   /* a segment each turn */
        nd_unit unit;
        while (nd_recovery_next(restore->recovery, RECORD_TYPES, &unit) == ND_OK) {
            status = restore_request(restore, unit.unit);
            if (status != ND_OK) return status;
        }
    }
    if (status != ND_EMPTY) return status;
    for (uint64_t i = 0; i < restore->channels.count; i++) {
        status = restore_end(restore, channel_at(restore, i));
        if (status != ND_OK) return status;
    }
    return ND_OK;
}

/* --- the rest ------------------------------------------------------------------------ */

nd_status nd_restore_open(const nd_io *io, nd_recovery *recovery, nd_restore **out)
{
    if (io == NULL || recovery == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_restore *restore = io->allocate(io->context, sizeof *restore);
    if (restore == NULL) return ND_ERR_FULL;
    restore->io = *io;
    restore->recovery = recovery;
    *out = restore;
    return ND_OK;
}

void nd_restore_close(nd_restore *restore)
{
    if (restore == NULL) return;
    const nd_io io = restore->io;
    list_free(&io, &restore->channels, sizeof(channel));
    list_free(&io, &restore->drops, sizeof(drop));
    list_free(&io, &restore->moves, sizeof(moved));
    list_free(&io, &restore->indices, sizeof(uint32_t));
    list_free(&io, &restore->lost, sizeof(nd_lost));
    if (restore->table != NULL) io.release(io.context, restore->table, restore->table_size * sizeof(uint64_t));
    io.release(io.context, restore, sizeof *restore);
}

uint64_t nd_restore_channels(const nd_restore *restore)
{
    return restore->channels.count;
}

nd_status nd_restore_channel(const nd_restore *restore, uint64_t index, nd_restored_channel *out)
{
    if (index >= restore->channels.count) return ND_ERR_ARGUMENT;
    *out = channel_at(restore, index)->known;
    return ND_OK;
}

nd_status nd_restore_gaps(nd_restore *restore, uint64_t index, nd_gap *out)
{
    if (index >= restore->channels.count) return ND_ERR_ARGUMENT;
    const channel *c = channel_at(restore, index);
    if (c->known.gaps == 0) return ND_OK;
    const uint8_t *bytes;
    const nd_status status = nd_recovery_read(restore->recovery, c->gaps_segment, c->gaps_at,
                                              c->known.gaps * sizeof *out, &bytes);
    if (status == ND_OK) memcpy(out, bytes, c->known.gaps * sizeof *out);
    return status;
}

uint64_t nd_restore_live_bytes(const nd_restore *restore)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < restore->channels.count; i++) {
        const channel *c = channel_at(restore, i);
        const uint64_t live = c->known.last_seq - c->known.settled_seq;
        if (c->ring == NULL || c->records == 0) continue;
        bytes += live < c->records ? c->bytes / c->records * live : c->bytes;
    }
    return bytes;
}

nd_status nd_restore_bind(nd_restore *restore, uint64_t index, nd_ring *ring)
{
    if (ring == NULL || index >= restore->channels.count || restore->pool != NULL) return ND_ERR_ARGUMENT;
    channel *c = channel_at(restore, index);
    c->ring = ring;
    c->overflow = nd_ring_set_overflow(ring, ND_OVERFLOW_DROP_OLDEST);
    return ND_OK;
}

void nd_restore_stats(const nd_restore *restore, nd_restore_stats_t *out)
{
    *out = restore->stats;
}
