/* nd_restore_scan.c -- the first pass over a log: what became of each channel's records. */

#include "nd_restore.h"

#include <stdlib.h>

#include "nd_restore_inside.h"

#define CHANNEL_TYPES                                                                              \
    (1u << ND_UNIT_REQUEST | 1u << ND_UNIT_MOVED | 1u << ND_UNIT_STATE | 1u << ND_UNIT_DROPPED     \
     | 1u << ND_UNIT_DELETED | 1u << ND_UNIT_FROZEN | 1u << ND_UNIT_SUPERSEDED | 1u << ND_UNIT_GAPS)
#define SCAN_TYPES (CHANNEL_TYPES | 1u << ND_UNIT_ANSWER)

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
            .channel = channel_index(restore, c),
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
        .channel = channel_index(restore, c), .first_seq = first_seq, .last_seq = last_seq,
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
