/* nd_restore_load.c -- the second pass over a log: what is live in it, appended again. */

#include "nd_restore.h"

#include <string.h>

#include "nd_append.h"
#include "nd_residency.h"
#include "nd_restore_inside.h"

#define RECORD_TYPES (1u << ND_UNIT_REQUEST)

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
        .channel = channel_index(restore, c), .removed = removed, .reason = reason, .is_exact = 1,
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
