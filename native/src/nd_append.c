/* nd_append.c -- make room in every ring, then fill it. */

#include "nd_append.h"

#include <string.h>

#include "nd_assert.h"
#include "nd_ring_inside.h"
#include "nd_supersede.h"

static uint32_t meta_stored_bytes(uint64_t meta)
{
    return nd_record_stored_bytes(nd_meta_body_bytes(meta));
}

/* Whether the lengths of a record can be true, so that no later copy leaves the body. */
static int meta_is_possible(uint64_t meta)
{
    const uint32_t body_bytes = nd_meta_body_bytes(meta);
    const uint32_t ep_bytes = nd_meta_ep_bytes(meta), tail_bytes = nd_meta_tail_bytes(meta);
    if (body_bytes < 2 || body_bytes > ND_CHUNK_BYTES_MAX - sizeof(nd_record)) return 0;
    if (nd_meta_kind(meta) >= ND_KINDS) return 0;
    if (nd_meta_kind(meta) == ND_KIND_ASYNC) return ep_bytes == 0 && tail_bytes == 0;
    return ep_bytes > 0 && body_bytes >= sizeof "{\"ep\":\"\"}" - 1 + ep_bytes + tail_bytes;
}

/* One request, as every ring of it sees it. */
typedef struct {
    const uint8_t  *block;
    const uint64_t *meta;
    const uint32_t *offsets;            /* of bodies in block; NULL when no route has indices */
    const uint64_t *hashes;             /* of eps and paths; NULL when no ring keeps the latest */
    uint64_t        records_count;
    uint64_t        stored_bytes;       /* of all records */
    uint64_t        received_unix_ms;
} request;

/* What an append will do to one ring, decided before anything is copied. */
typedef struct {
    uint64_t room;              /* bytes that new records may take, at most */
    uint64_t keep_from;         /* places in the route before this one are dropped at once */
    uint64_t drop_bytes;        /* of old records */
    uint64_t stored_count, stored_bytes;
    nd_superseded superseded;
    uint32_t runs_count;        /* as they were, for undoing */
    run      tail;
} layout;

struct nd_append {
    nd_pool  *pool;
    nd_route *routes;
    uint64_t  routes_count;
    request   request;
    layout    layouts[];        /* one for each route; then hashes and offsets of bodies, if needed */
};

typedef enum { STORED, LOST, SUPERSEDED, REFUSED } fate;

/* What superseding may still do, in all rings of an append together. */
typedef struct {
    uint64_t holes;
    uint64_t ahead_bytes;
} allowance;

static uint64_t route_records(const nd_route *route, const request *r)
{
    return route->indices != NULL ? route->indices_count : r->records_count;
}

static uint64_t route_record(const nd_route *route, uint64_t place)
{
    return route->indices != NULL ? route->indices[place] : place;
}

/* What becomes of the record at a place of a route, after stored_bytes of the route were stored. */
static fate fate_of(const layout *l, nd_overflow overflow, uint64_t place, uint64_t bytes,
                    uint64_t stored_bytes)
{
    if (overflow == ND_OVERFLOW_REJECT) return stored_bytes + bytes <= l->room ? STORED : REFUSED;
    if (nd_new_is_gone(&l->superseded, place)) return SUPERSEDED;
    return place >= l->keep_from && bytes <= l->room ? STORED : LOST;
}

/* Mark what newer records make old in a ring that keeps the latest, and when it has no room
 * for all, choose what of it gives way.  False: no memory. */
static int supersede(layout *l, const nd_route *route, const request *r, allowance *left)
{
    nd_ring *ring = route->ring;
    const uint64_t records = route_records(route, r);
    if (!nd_supersede_begin(&l->superseded, ring, records)) return 0;
    uint64_t coming = 0;
    for (uint64_t place = 0; place < records; place++) {
        const uint64_t record = route_record(route, place);
        const uint32_t bytes = meta_stored_bytes(r->meta[record]);
        if (bytes > l->room) continue;                          /* it will not be stored, and has no part in this */
        coming += bytes;
        nd_newcomer *one = &l->superseded.newcomers[place];
        one->bytes = bytes;
        one->hash = r->hashes[record];
    }
    nd_supersede_mark(&l->superseded, ring);
    if (ring->overflow != ND_OVERFLOW_KEEP_LATEST || ring->bytes + coming <= ring->queue_bytes) return 1;
    const uint64_t excess = ring->bytes + coming - ring->queue_bytes, share = ring->queue_bytes / ND_AHEAD_SHARE;
    nd_supersede_choose(&l->superseded, ring, excess, share < left->ahead_bytes ? share : left->ahead_bytes, left->holes);
    const uint64_t ahead = l->superseded.bytes > excess ? l->superseded.bytes - excess : 0;
    left->ahead_bytes -= ahead < left->ahead_bytes ? ahead : left->ahead_bytes;
    left->holes -= l->superseded.holes;
    return 1;
}

/* Decide which new records stay: with drop-oldest the newest that fit, as if each had
 * been appended and had dropped what was oldest then.  False: no memory. */
static int decide(layout *l, const nd_route *route, const request *r, allowance *left)
{
    const nd_ring *ring = route->ring;
    *l = (layout){0};
    if (ring->overflow == ND_OVERFLOW_REJECT) {
        l->room = ring->queue_bytes - ring->bytes;
        return 1;
    }
    l->room = ring->queue_bytes - ring->held_bytes;
    if (ring->keeps_latest && !supersede(l, route, r, left)) return 0;
    const uint64_t droppable = ring->bytes - ring->held_bytes - l->superseded.bytes;
    uint64_t bytes = 0;
    if (route->indices == NULL && l->superseded.chosen_new == 0 && r->stored_bytes <= l->room) {
        bytes = r->stored_bytes;
    } else {
        for (uint64_t place = route_records(route, r); place > 0; place--) {
            const uint64_t next = meta_stored_bytes(r->meta[route_record(route, place - 1)]);
            if (next > l->room || nd_new_is_gone(&l->superseded, place - 1)) continue;
            if (bytes + next > l->room) {
                l->keep_from = place;
                l->drop_bytes = droppable;
                return 1;
            }
            bytes += next;
        }
    }
    if (bytes + droppable > l->room) l->drop_bytes = bytes + droppable - l->room;
    return 1;
}

/* The size of a ring's next chunk: about what it holds, so that little is wasted. */
static uint32_t chunk_bytes_wanted(uint64_t bytes)
{
    if (bytes >= ND_RUN_CHUNK_BYTES) return ND_RUN_CHUNK_BYTES;
    uint32_t wanted = ND_CHUNK_BYTES_MIN;
    while (wanted * 2ull <= bytes) wanted *= 2;                 /* at most 6 turns */
    return wanted;
}

/* Make room for a record behind the last one.  False: no memory. */
static int lay_out_record(nd_ring *ring, uint64_t seq, uint32_t bytes, uint64_t bytes_coming,
                          uint64_t received_unix_ms)
{
    run *tail = ring->count > 0 ? run_at(ring, ring->count - 1) : NULL;
    const int is_near = tail != NULL && (tail->known == NULL || seq - tail->known->base_seq < ND_KNOWN_SEQS);
    if (is_near && run_is_open(tail) && tail->chunk_bytes - tail->end >= bytes) {
        if (ring->keeps_latest && !nd_run_know_more(ring, tail, tail->count + 1, seq)) return 0;
        tail->end += bytes;
        tail->count += 1;
        tail->last_seq = seq;
        tail->newest_unix_ms = received_unix_ms;
        return 1;
    }
    if (!nd_runs_reserve(ring, 1)) return 0;
    run next = {
        .slot = ND_NOWHERE, .end = bytes, .count = 1, .first_seq = seq, .last_seq = seq,
        .oldest_unix_ms = received_unix_ms, .newest_unix_ms = received_unix_ms,
    };
    next.chunk = nd_run_take(ring, bytes, chunk_bytes_wanted(bytes_coming), &next.chunk_bytes);
    if (next.chunk == NULL) return 0;
    if (ring->keeps_latest && !nd_run_know_more(ring, &next, 1, seq)) {
        nd_run_give(ring, &next);
        return 0;
    }
    ring->runs[ring->head + ring->count] = next;
    ring->count++;
    return 1;
}

/* First pass over a ring: room for every record that will stay.  False: no memory. */
static int lay_out(layout *l, const nd_route *route, const request *r, allowance *left)
{
    nd_ring *ring = route->ring;
    const int is_decided = decide(l, route, r, left);
    l->runs_count = ring->count;
    if (ring->count > 0) l->tail = *run_at(ring, ring->count - 1);
    if (!is_decided) return 0;

    const uint64_t records = route_records(route, r);
    uint64_t seq = ring->last_seq;
    for (uint64_t place = 0; place < records; place++) {
        const uint32_t bytes = meta_stored_bytes(r->meta[route_record(route, place)]);
        const fate becomes = fate_of(l, ring->overflow, place, bytes, l->stored_bytes);
        if (becomes != REFUSED) seq++;
        if (becomes != STORED) continue;
        /* What is still to come is not known exactly; the whole request is near enough. */
        const uint64_t coming = ring->bytes + (route->indices != NULL ? l->stored_bytes : r->stored_bytes);
        if (!lay_out_record(ring, seq, bytes, coming, r->received_unix_ms)) return 0;
        l->stored_count++;
        l->stored_bytes += bytes;
    }
    return nd_runs_reserve(ring, 1);                               /* for the hole that dropping may leave */
}

static void undo_layout(layout *l, nd_ring *ring)
{
    for (uint32_t i = ring->count; i-- > l->runs_count;) {
        run *item = run_at(ring, i);
        nd_run_forget(ring, item);
        if (i == 0 || !runs_share(run_at(ring, i - 1), item)) nd_run_give(ring, item);
        ring->count--;
    }
    if (ring->count > 0) {
        run *tail = run_at(ring, ring->count - 1);
        l->tail.known = tail->known;                            /* with more room, maybe */
        *tail = l->tail;
    }
    nd_supersede_undo(&l->superseded, ring);
    nd_superseded_free(&l->superseded, ring->pool);
    nd_runs_trim(ring);
}

/* Records that are written but for their checksums. */
typedef struct {
    nd_crc_function crc;
    nd_crc_lane     lanes[ND_CRC_LANES];
    nd_record      *records[ND_CRC_LANES];
    uint32_t        count;
} unsealed;

static void seal(unsealed *open)
{
    uint32_t sums[ND_CRC_LANES];
    if (open->count == 0) return;
    open->crc(open->lanes, open->count, sums);
    for (uint32_t i = 0; i < open->count; i++) open->records[i]->crc32c = sums[i];
    open->count = 0;
}

static void write_record(uint8_t *at, uint64_t meta, const uint8_t *body, uint64_t seq,
                         uint64_t received_unix_ms, unsealed *open)
{
    nd_record *record = (nd_record *)(void *)at;
    const uint32_t body_bytes = nd_meta_body_bytes(meta);
    *record = (nd_record){
        .body_bytes = body_bytes,
        .seq = seq,
        .received_unix_ms = received_unix_ms,
        .kind = (uint8_t)nd_meta_kind(meta),
        .ep_bytes = (uint16_t)nd_meta_ep_bytes(meta),
        .tail_bytes = nd_meta_tail_bytes(meta),
    };
    const uint32_t stored = nd_record_stored_bytes(body_bytes);
    memset(at + stored - 8, 0, 8);                              /* the padding, if there is any */
    memcpy(at + sizeof *record, body, body_bytes);
    open->lanes[open->count] = (nd_crc_lane){.bytes = at, .count = stored};
    open->records[open->count] = record;
    open->count++;
    if (open->count == ND_CRC_LANES) seal(open);
}

static nd_removed joined(nd_removed earlier, nd_removed later)
{
    if (earlier.count == 0) return later;
    if (later.count == 0) return earlier;
    return (nd_removed){
        .count = earlier.count + later.count,
        .bytes = earlier.bytes + later.bytes,
        .first_seq = earlier.first_seq,
        .last_seq = later.last_seq,
        .first_unix_ms = earlier.first_unix_ms,
        .last_unix_ms = later.last_unix_ms,
    };
}

/* A record was stored as the next one of a run whose records are known. */
static void know_record(run *item, uint32_t index, const nd_newcomer *one, uint64_t seq, uint32_t offset)
{
    item->known->old += one->is_old;
    known_record *record = known_at(item, index);
    *record = (known_record){
        .hash = one->hash,
        .seq = (seq - item->known->base_seq) & (ND_KNOWN_SEQS - 1),
        .at = (offset / 8) & 0x3ffff,
        .bytes = (one->bytes / 8) & 0x7ffff,
        .is_old = one->is_old & 1u,
    };
}

/* Second pass over a ring: fill the room.  Cannot fail. */
static void fill(const layout *l, nd_route *route, const request *r)
{
    nd_ring *ring = route->ring;
    unsealed open = {.crc = nd_pool_crc(ring->pool)};
    uint32_t index = l->runs_count > 0 ? l->runs_count - 1 : 0;
    uint32_t offset = l->runs_count > 0 ? l->tail.end : 0;
    uint32_t count = l->runs_count > 0 ? l->tail.count : 0;     /* of the run's records */
    uint64_t seq = ring->last_seq, stored_bytes = 0, block_at = 0;

    const uint64_t records = route_records(route, r);
    for (uint64_t place = 0; place < records; place++) {
        const uint64_t record = route_record(route, place);
        const uint64_t meta = r->meta[record];
        const uint64_t body_at = r->offsets != NULL ? r->offsets[record] : block_at;
        const uint32_t bytes = meta_stored_bytes(meta);
        block_at = body_at + nd_meta_body_bytes(meta);
        const fate becomes = fate_of(l, ring->overflow, place, bytes, stored_bytes);
        if (becomes == REFUSED) {
            route->rejected_count++;
            route->rejected_bytes += bytes;
            continue;
        }
        seq++;
        if (route->entries != NULL) {
            route->entries[route->queued_count] = becomes == STORED ? (uint32_t)record : ND_LOST;
        }
        route->queued_count++;
        route->queued_bytes += bytes;
        if (becomes != STORED) {
            route->lost_count++;
            removed_add(becomes == LOST ? &route->dropped : &route->superseded,
                        leaving_one(bytes, seq, r->received_unix_ms));
            continue;
        }
        if (run_at(ring, index)->last_seq < seq) {
            index++;
            offset = run_at(ring, index)->begin;
            count = 0;
        }
        if (ring->keeps_latest) know_record(run_at(ring, index), count, &l->superseded.newcomers[place], seq, offset);
        count++;
        write_record(run_at(ring, index)->chunk + offset, meta, r->block + body_at, seq,
                     r->received_unix_ms, &open);
        offset += bytes;
        stored_bytes += bytes;
    }
    seal(&open);
    ND_ASSERT(stored_bytes == l->stored_bytes);
    ND_ASSERT(ring->count == 0 || (index == ring->count - 1 && offset == run_at(ring, index)->end));

    ring->last_seq = seq;
    ring->newest_unix_ms = r->received_unix_ms;
    ring->records += l->stored_count;
    ring->bytes += l->stored_bytes;
}

/* What newer records supersede, and what has to go besides, gives way.  Cannot fail. */
static void give_way(const layout *l, nd_route *route)
{
    nd_ring *ring = route->ring;
    nd_removed swept;
    nd_supersede_sweep(ring, &l->superseded, route->holes, &swept);
    route->superseded = joined(swept, route->superseded);
    if (l->drop_bytes > 0) {
        nd_removed old;
        nd_ring_drop_reserved(ring, l->drop_bytes, &old);
        route->dropped_upto_seq = old.last_seq;
        route->dropped = joined(old, route->dropped);
    }
}

/* Check a request, and find where its bodies begin and what they are of. */
static nd_status read_request(const nd_pool *pool, request *r, uint64_t block_bytes, uint64_t *hashes, uint32_t *offsets)
{
    uint64_t at = 0, stored = 0;
    for (uint64_t i = 0; i < r->records_count; i++) {
        const uint64_t meta = r->meta[i];
        if (!meta_is_possible(meta)) return ND_ERR_ARGUMENT;
        if (offsets != NULL) offsets[i] = (uint32_t)at;
        if (nd_meta_body_bytes(meta) > block_bytes - at) return ND_ERR_ARGUMENT;
        if (hashes != NULL) {
            hashes[i] = nd_resource_hash(pool, nd_meta_kind(meta), r->block + at, nd_meta_body_bytes(meta), nd_meta_ep_bytes(meta));
        }
        at += nd_meta_body_bytes(meta);
        stored += meta_stored_bytes(meta);
    }
    if (at != block_bytes) return ND_ERR_ARGUMENT;
    r->offsets = offsets;
    r->hashes = hashes;
    r->stored_bytes = stored;
    return ND_OK;
}

static nd_status check_route(const nd_route *route, const request *r)
{
    if (route->ring == NULL || r->received_unix_ms < route->ring->newest_unix_ms) return ND_ERR_ARGUMENT;
    if (route->indices == NULL) return ND_OK;
    uint64_t least = 0;
    for (uint64_t i = 0; i < route->indices_count; i++) {
        if (route->indices[i] < least || route->indices[i] >= r->records_count) return ND_ERR_ARGUMENT;
        least = (uint64_t)route->indices[i] + 1;
    }
    return ND_OK;
}

/* Make room in every ring.  On failure no ring has changed. */
static nd_status lay_out_all(nd_append *append, uint64_t holes_max)
{
    nd_route *routes = append->routes;
    nd_status status = ND_OK;
    allowance left = {.holes = holes_max, .ahead_bytes = ND_AHEAD_BYTES_MAX};
    uint64_t begun = 0;
    while (begun < append->routes_count && status == ND_OK) {   /* a route each turn */
        nd_ring *ring = routes[begun].ring;
        if (ring->is_appending) {
            status = ND_ERR_ARGUMENT;
            break;
        }
        ring->is_appending = 1;
        if (!lay_out(&append->layouts[begun], &routes[begun], &append->request, &left)) status = ND_ERR_FULL;
        begun++;
    }
    for (uint64_t i = 0; i < begun; i++) {
        routes[i].ring->is_appending = 0;
        routes[i].holes_count = append->layouts[i].superseded.holes;
        if (status != ND_OK) undo_layout(&append->layouts[i], routes[i].ring);
    }
    return status;
}

nd_status nd_append_begin(nd_pool *pool, nd_route *routes, uint64_t routes_count,
                          const uint8_t *block, uint64_t block_bytes,
                          const uint64_t *meta, uint64_t records_count,
                          uint64_t received_unix_ms, uint64_t holes_max, nd_append **out)
{
    if (pool == NULL || (routes_count > 0 && routes == NULL)) return ND_ERR_ARGUMENT;
    if (records_count > 0 && (block == NULL || meta == NULL)) return ND_ERR_ARGUMENT;
    if (block_bytes > UINT32_MAX || records_count > UINT32_MAX || routes_count > UINT32_MAX) return ND_ERR_ARGUMENT;

    request r = {.block = block, .meta = meta, .records_count = records_count,
                 .received_unix_ms = received_unix_ms};
    int any_indices = 0, any_latest = 0;
    for (uint64_t i = 0; i < routes_count; i++) {
        const nd_status status = check_route(&routes[i], &r);
        if (status != ND_OK) return status;
        any_indices |= routes[i].indices != NULL;
        any_latest |= routes[i].ring->keeps_latest;
    }
    const size_t bytes = sizeof(nd_append) + routes_count * sizeof(layout);
    const size_t hashes_bytes = any_latest ? records_count * sizeof(uint64_t) : 0;
    const size_t offsets_bytes = any_indices ? records_count * sizeof(uint32_t) : 0;
    uint8_t *scratch = nd_pool_scratch(pool, bytes + hashes_bytes + offsets_bytes);
    if (scratch == NULL) return ND_ERR_FULL;

    uint64_t *hashes = any_latest ? (uint64_t *)(void *)(scratch + bytes) : NULL;
    uint32_t *offsets = any_indices ? (uint32_t *)(void *)(scratch + bytes + hashes_bytes) : NULL;
    nd_status status = read_request(pool, &r, block_bytes, hashes, offsets);
    if (status != ND_OK) return status;
    nd_append *append = (nd_append *)(void *)scratch;
    append->pool = pool;
    append->routes = routes;
    append->routes_count = routes_count;
    append->request = r;
    status = lay_out_all(append, holes_max);
    *out = append;
    return status;
}

void nd_append_commit(nd_append *append)
{
    uint32_t joins_left = ND_JOINS_MAX;
    for (uint64_t i = 0; i < append->routes_count; i++) {
        nd_route *route = &append->routes[i];
        layout *l = &append->layouts[i];
        route->queued_count = route->queued_bytes = 0;
        route->rejected_count = route->rejected_bytes = 0;
        route->dropped = route->superseded = (nd_removed){0};
        route->lost_count = route->dropped_upto_seq = 0;
        fill(l, route, &append->request);
        give_way(l, route);
        if (route->ring->keeps_latest) nd_runs_join(route->ring, &joins_left);
        nd_superseded_free(&l->superseded, append->pool);
        nd_tenant_changed(route->ring);
        route->last_seq = route->ring->last_seq;
    }
}

void nd_routes_sum(const nd_route *routes, uint64_t routes_count, nd_routes_sum_t *out)
{
    *out = (nd_routes_sum_t){0};
    for (uint64_t i = 0; i < routes_count; i++) {
        const nd_route *route = &routes[i];
        out->queued_count += route->queued_count;
        out->queued_bytes += route->queued_bytes;
        out->odd_routes += (route->rejected_count | route->dropped.count | route->superseded.count) != 0;
    }
}

void nd_append_cancel(nd_append *append)
{
    for (uint64_t i = 0; i < append->routes_count; i++) undo_layout(&append->layouts[i], append->routes[i].ring);
}

nd_status nd_rings_append(nd_pool *pool, nd_route *routes, uint64_t routes_count,
                          const uint8_t *block, uint64_t block_bytes,
                          const uint64_t *meta, uint64_t records_count,
                          uint64_t received_unix_ms)
{
    nd_append *append;
    const nd_status status = nd_append_begin(pool, routes, routes_count, block, block_bytes, meta, records_count,
                                             received_unix_ms, UINT64_MAX, &append);
    if (status == ND_OK) nd_append_commit(append);
    return status;
}

int nd_ring_has_room(const nd_ring *ring, const uint64_t *meta, uint64_t records_count)
{
    if (ring->overflow != ND_OVERFLOW_REJECT) return 1;
    uint64_t bytes = ring->bytes;
    for (uint64_t i = 0; i < records_count; i++) bytes += meta_stored_bytes(meta[i]);
    return bytes <= ring->queue_bytes;
}
