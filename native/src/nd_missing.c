/* nd_missing.c -- which records a damaged log has lost.
 *
 * A channel's seqs are dense: each that was given stands in a request, or, when that is
 * gone, in a moved record, unless it was settled or dropped since.  So a seq between those
 * that are found, or up to the last that a state names, was in what is damaged.
 *
 *      requests, moved   1..10   11..20            31..40      state: settled 5, last 45
 *      dropped                   16..20
 *      missing                            21..30         41..45
 *
 * Before the first request that the log still has, old holes look the same, since what
 * said that they were dropped may have been cleaned away; and when several groups are
 * damaged, one may have said that the records of another were settled.  Such a loss is
 * named, and called inexact.
 */

#include "nd_recovery.h"
#include "nd_restore_inside.h"

static nd_lost *lost_at(const nd_restore *restore, uint64_t index)
{
    return (nd_lost *)restore->lost.items + index;
}

static int follows(const nd_lost *newest, const nd_lost *lost)
{
    return newest->channel == lost->channel && newest->reason == lost->reason
           && newest->is_exact == lost->is_exact
           && newest->removed.last_seq + 1 == lost->removed.first_seq;
}

nd_status nd_restore_lose(nd_restore *restore, const nd_lost *lost)
{
    if (restore->lost.count > 0 && follows(lost_at(restore, restore->lost.count - 1), lost)) {
        nd_removed *known = &lost_at(restore, restore->lost.count - 1)->removed;
        known->count += lost->removed.count;
        known->bytes += lost->removed.bytes;
        known->last_seq = lost->removed.last_seq;
        known->last_unix_ms = lost->removed.last_unix_ms;
        return ND_OK;
    }
    if (!nd_list_reserve(&restore->io, &restore->lost, sizeof *lost, restore->lost.count + 1)) return ND_ERR_FULL;
    *lost_at(restore, restore->lost.count) = *lost;
    restore->lost.count++;
    return ND_OK;
}

uint64_t nd_restore_losses(const nd_restore *restore)
{
    return restore->lost.count;
}

nd_status nd_restore_loss(const nd_restore *restore, uint64_t index, nd_lost *out)
{
    if (index >= restore->lost.count) return ND_ERR_ARGUMENT;
    *out = *lost_at(restore, index);
    return ND_OK;
}

typedef struct {
    nd_restore          *restore;
    nd_recovery_report_t report;
} search;

/* No record has these seqs, and none was dropped. */
static nd_status lose(const search *s, const channel *c, uint64_t first_seq, uint64_t last_seq)
{
    const int is_dense = s->report.oldest_segment == 1
                         || (c->first_request_seq > 0 && first_seq >= c->first_request_seq);
    return nd_restore_lose(s->restore, &(nd_lost){
        .channel = (uint64_t)(c - (const channel *)s->restore->channels.items),
        .removed = {.count = last_seq - first_seq + 1, .first_seq = first_seq, .last_seq = last_seq},
        .reason = ND_GAP_CORRUPT,
        .is_exact = is_dense && (s->report.damaged_groups == 1 || c->stated_group > s->report.last_damaged_group),
    });
}

/* No record has these seqs: those that were not dropped are lost. */
static nd_status miss(const search *s, const channel *c, uint64_t first_seq, uint64_t last_seq)
{
    for (uint64_t i = c->drops_at; i < c->drops_end && first_seq <= last_seq; i++) {    /* a drop each turn */
        const drop *hole = drop_at(s->restore, i);
        if (hole->last_seq < first_seq) continue;
        if (hole->first_seq > last_seq) break;
        if (hole->first_seq > first_seq) {
            const nd_status status = lose(s, c, first_seq, hole->first_seq - 1);
            if (status != ND_OK) return status;
        }
        first_seq = hole->last_seq + 1;
    }
    return first_seq <= last_seq ? lose(s, c, first_seq, last_seq) : ND_OK;
}

/* The seqs up to this one, and behind those that were seen before, stand in a record. */
static nd_status see(const search *s, channel *c, uint64_t first_seq, uint64_t last_seq)
{
    const uint64_t checked_seq = c->checked_seq;
    raise_to(&c->checked_seq, last_seq);
    return first_seq - 1 > checked_seq ? miss(s, c, checked_seq + 1, first_seq - 1) : ND_OK;
}

/* Moved records that stand before a seq. */
static nd_status see_moved_before(const search *s, channel *c, uint64_t seq)
{
    for (; c->checked_moved < c->moved_end; c->checked_moved++) {       /* a record each turn */
        const uint64_t moved_seq = moved_at(s->restore, c->checked_moved)->seq;
        if (moved_seq >= seq) break;
        const nd_status status = see(s, c, moved_seq, moved_seq);
        if (status != ND_OK) return status;
    }
    return ND_OK;
}

static nd_status see_request(const search *s, const nd_request_unit *request)
{
    const nd_request_route *route = nd_request_routes(request);
    for (uint32_t i = 0; i < request->routes; i++, route = nd_route_next(route)) {
        channel *c = nd_restore_channel_of(s->restore, route->channel, route->incarnation);
        if (c == NULL) return ND_ERR_FULL;
        if (c->known.is_deleted) continue;
        nd_status status = see_moved_before(s, c, route->first_seq);
        if (status == ND_OK) status = see(s, c, route->first_seq, route->first_seq + route->seqs - 1);
        if (status != ND_OK) return status;
    }
    return ND_OK;
}

static nd_status see_end(const search *s, channel *c)
{
    nd_status status = see_moved_before(s, c, UINT64_MAX);
    if (status == ND_OK && c->known.last_seq > c->checked_seq) {
        status = miss(s, c, c->checked_seq + 1, c->known.last_seq);
    }
    if (c->spoken_group < s->report.last_damaged_group) s->restore->stats.silent_channels++;
    return status;
}

nd_status nd_restore_find_missing(nd_restore *restore)
{
    if (restore == NULL || !restore->is_scanned || restore->pool != NULL) return ND_ERR_ARGUMENT;
    search s = {.restore = restore};
    nd_recovery_report(restore->recovery, &s.report);
    if (s.report.damaged_groups == 0 && s.report.damaged_segments == 0) return ND_OK;
    for (uint64_t i = 0; i < restore->channels.count; i++) {
        channel *c = channel_at(restore, i);
        c->checked_seq = c->known.settled_seq;
        c->checked_moved = c->moved_at;
    }
    nd_recovery_rewind(restore->recovery);
    nd_status status;
    while ((status = nd_recovery_load(restore->recovery)) == ND_OK) {   /* a segment each turn */
        nd_unit unit;
        while (nd_recovery_next(restore->recovery, 1u << ND_UNIT_REQUEST, &unit) == ND_OK) {
            status = see_request(&s, unit.unit);
            if (status != ND_OK) return status;
        }
    }
    if (status != ND_EMPTY) return status;
    for (uint64_t i = 0; i < restore->channels.count; i++) {
        channel *c = channel_at(restore, i);
        if (c->known.is_deleted) continue;
        status = see_end(&s, c);
        if (status != ND_OK) return status;
    }
    return ND_OK;
}
