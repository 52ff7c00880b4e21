/* nd_logged_append.c -- room in the journal first, then the rings, then the journal. */

#include "nd_logged_append.h"

#include <string.h>

#include "nd_assert.h"
#include "nd_ring.h"

static uint64_t records_of(const nd_route *route, uint64_t records_count)
{
    return route->indices != NULL ? route->indices_count : records_count;
}

static nd_ring_stats_t stats_of(const nd_ring *ring)
{
    nd_ring_stats_t stats;
    nd_ring_stats(ring, &stats);
    return stats;
}

/* A route as the journal wants it, after the append. */
static nd_journal_route logged(const nd_route *route, uint64_t channel)
{
    const int is_plain = route->indices == NULL && route->lost_count == 0 && route->rejected_count == 0;
    return (nd_journal_route){
        .channel = channel,
        .incarnation = nd_ring_incarnation(route->ring),
        .first_seq = stats_of(route->ring).last_seq - route->queued_count + 1,
        .seqs = route->queued_count,
        .entries = is_plain ? NULL : route->entries,
    };
}

/* Records that went behind others that stay: no state can tell of them. */
static void gather_hole(nd_journal *journal, const nd_route *route, uint64_t channel, uint64_t epoch)
{
    if (route->dropped_upto_seq == 0 || route->dropped_upto_seq <= stats_of(route->ring).settled_seq) return;
    const nd_channel_unit hole = {
        .type = ND_UNIT_DROPPED,
        .channel = channel,
        .incarnation = nd_ring_incarnation(route->ring),
        .epoch = epoch,
        .first_seq = route->dropped.first_seq,
        .last_seq = route->dropped_upto_seq,
    };
    ND_ASSERT(nd_journal_gather_channel(journal, &hole) == ND_OK);
}

static void gather_superseded(nd_journal *journal, const nd_route *route, uint64_t channel, uint64_t epoch)
{
    if (route->holes_count == 0) return;
    const uint64_t bytes = route->holes_count * sizeof(nd_hole);
    void *unit;
    ND_ASSERT(nd_journal_gather(journal, ND_UNIT_SUPERSEDED, sizeof(nd_superseded_unit) + bytes, &unit) == ND_OK);
    nd_superseded_unit *stored = unit;
    stored->channel = channel;
    stored->incarnation = nd_ring_incarnation(route->ring);
    stored->epoch = epoch;
    stored->holes = route->holes_count;
    memcpy(stored + 1, route->holes, bytes);
}

/* Room in the journal for what the routes will leave to tell, and memory for their entries
 * and holes.  *stored: memory for as many routes.  Unless it is ND_OK, nothing changed. */
static nd_status make_room(nd_journal *journal, nd_route *routes, uint64_t routes_count, uint64_t records_count,
                           uint64_t bytes, nd_journal_route **stored)
{
    uint64_t entries = 0, holes = 0;
    for (uint64_t i = 0; i < routes_count; i++) {
        entries += records_of(&routes[i], records_count);
        holes += routes[i].holes_count;
    }
    const nd_status status = nd_journal_room(journal, bytes + holes * sizeof(nd_hole));
    if (status != ND_OK) return status;
    *stored = nd_journal_scratch(journal, routes_count * sizeof **stored + holes * sizeof(nd_hole)
                                              + entries * sizeof(uint32_t));
    if (*stored == NULL) return ND_ERR_FULL;
    nd_hole *hole = (nd_hole *)(void *)(*stored + routes_count);
    uint32_t *entry = (uint32_t *)(void *)(hole + holes);
    for (uint64_t i = 0; i < routes_count; i++) {
        routes[i].entries = entry;
        entry += records_of(&routes[i], records_count);
        routes[i].holes = hole;
        hole += routes[i].holes_count;
    }
    return ND_OK;
}

nd_status nd_logged_append(nd_journal *journal, nd_pool *pool, nd_route *routes,
                           const uint64_t *channels, uint64_t routes_count,
                           const uint8_t *block, uint64_t block_bytes,
                           const uint64_t *meta, uint64_t records_count,
                           uint64_t received_unix_ms, uint64_t epoch, uint64_t reserved_bytes)
{
    if (journal == NULL || (routes_count > 0 && (routes == NULL || channels == NULL))) return ND_ERR_ARGUMENT;
    uint64_t entries = 0;
    for (uint64_t i = 0; i < routes_count; i++) entries += records_of(&routes[i], records_count);
    const uint64_t bytes = nd_journal_request_bytes(block_bytes, records_count, routes_count, entries)
                           + routes_count * (sizeof(nd_channel_unit) + sizeof(nd_superseded_unit)) + reserved_bytes;
    nd_status status = nd_journal_room(journal, routes_count > 0 ? bytes : reserved_bytes);
    if (status != ND_OK) return status;
    if (routes_count == 0) {
        return nd_rings_append(pool, routes, 0, block, block_bytes, meta, records_count, received_unix_ms);
    }

    nd_append *append;
    status = nd_append_begin(pool, routes, routes_count, block, block_bytes, meta, records_count, received_unix_ms,
                             (nd_journal_room_max(journal) - bytes) / sizeof(nd_hole), &append);
    if (status != ND_OK) return status;
    nd_journal_route *stored;
    status = make_room(journal, routes, routes_count, records_count, bytes, &stored);
    if (status != ND_OK) {
        nd_append_cancel(append);
        return status;
    }
    nd_append_commit(append);

    uint64_t stored_count = 0;
    for (uint64_t i = 0; i < routes_count; i++) {
        if (routes[i].queued_count == 0) continue;
        stored[stored_count] = logged(&routes[i], channels[i]);
        stored_count++;
    }
    if (stored_count == 0) return ND_OK;
    const nd_journal_request request = {
        .epoch = epoch,
        .received_unix_ms = received_unix_ms,
        .block = block,
        .block_bytes = block_bytes,
        .meta = meta,
        .records = records_count,
        .routes = stored,
        .routes_count = stored_count,
    };
    ND_ASSERT(nd_journal_gather_request(journal, &request) == ND_OK);
    for (uint64_t i = 0; i < routes_count; i++) {
        gather_hole(journal, &routes[i], channels[i], epoch);
        gather_superseded(journal, &routes[i], channels[i], epoch);
    }
    return ND_OK;
}
