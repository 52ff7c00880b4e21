/* nd_ring_check.c -- the promises of nd_ring.h, checked one by one. */

#include "nd_ring.h"

#include "nd_latest.h"
#include "nd_ring_inside.h"
#include "nd_supersede.h"

/* What the runs say, to be compared with what the ring says. */
typedef struct {
    nd_removed records;
    uint64_t   held_bytes;
    uint64_t   newest_unix_ms;
    uint32_t   chunks, copies, runs_cold;
} sums;

static nd_status check_records(const nd_ring *ring, const run *item, sums *s)
{
    const nd_crc_function crc = nd_pool_crc(ring->pool);
    nd_span span = nd_run_span(item);
    while (span.records > 0) {                                  /* the run's records */
        const nd_record *record = nd_span_next(&span);
        if (record == NULL) return ND_ERR_CORRUPT;
        uint32_t sum;
        const nd_crc_lane lane = nd_record_lane(record);
        crc(&lane, 1, &sum);
        if (record->crc32c != sum) return ND_ERR_CORRUPT;
        if (record->received_unix_ms < s->newest_unix_ms) return ND_ERR_CORRUPT;
        if (span.records + 1 == item->count && record->received_unix_ms != item->oldest_unix_ms) return ND_ERR_CORRUPT;
        s->newest_unix_ms = record->received_unix_ms;
        if (record->seq <= ring->in_flight_seq) s->held_bytes += nd_record_stored_bytes(record->body_bytes);
    }
    return span.bytes_count == 0 && s->newest_unix_ms == item->newest_unix_ms ? ND_OK : ND_ERR_CORRUPT;
}

static nd_status check_unknown(const nd_ring *ring, const run *item, sums *s)
{
    if (item->first_seq <= ring->in_flight_seq) s->held_bytes += run_bytes(item);
    return run_is_dense(item) && item->gone_bytes == 0 ? ND_OK : ND_ERR_CORRUPT;
}

/* A known record against what lies in memory. */
static nd_status check_known_record(const nd_ring *ring, const run *item, const known_record *known, sums *s)
{
    const nd_record *record = (const nd_record *)(const void *)(item->chunk + known_offset(known));
    if (record->seq != known_seq(item, known)) return ND_ERR_CORRUPT;
    if (nd_record_stored_bytes(record->body_bytes) != known_bytes(known)) return ND_ERR_CORRUPT;
    uint32_t sum;
    const nd_crc_lane lane = nd_record_lane(record);
    nd_pool_crc(ring->pool)(&lane, 1, &sum);
    if (record->crc32c != sum || record->received_unix_ms < s->newest_unix_ms) return ND_ERR_CORRUPT;
    s->newest_unix_ms = record->received_unix_ms;
    const uint64_t hash = nd_resource_hash(ring->pool, record->kind, nd_record_body(record), record->body_bytes, record->ep_bytes);
    return hash == known->hash ? ND_OK : ND_ERR_CORRUPT;
}

static nd_status check_known(nd_ring *ring, const run *item, sums *s)
{
    uint64_t bytes = 0;
    uint32_t old = 0, end = item->begin;
    for (uint32_t i = 0; i < item->count; i++) {                /* the run's records */
        const known_record *known = known_at(item, i);
        const uint64_t seq = known_seq(item, known);
        if (i > 0 && known_seq(item, known - 1) >= seq) return ND_ERR_CORRUPT;
        if (known_offset(known) < end || known->is_chosen) return ND_ERR_CORRUPT;
        if (!run_is_cold(item) && check_known_record(ring, item, known, s) != ND_OK) return ND_ERR_CORRUPT;
        if (ring->keeps_latest && known->hash != 0 && !known->is_old
            && nd_latest_find(ring, NULL, known->hash, ring->last_seq + 1).seq != seq) {
            return ND_ERR_CORRUPT;
        }
        if (seq <= ring->in_flight_seq) s->held_bytes += known_bytes(known);
        end = known_offset(known) + known_bytes(known);
        bytes += known_bytes(known);
        old += (uint32_t)known->is_old;
    }
    const int is_right = known_seq(item, known_at(item, 0)) == item->first_seq && item->begin == known_offset(known_at(item, 0))
                         && known_seq(item, known_at(item, item->count - 1)) == item->last_seq && end == item->end;
    if (!run_is_cold(item) && nd_run_known_unix_ms(item, known_at(item, 0)) != item->oldest_unix_ms) return ND_ERR_CORRUPT;
    if (!run_is_cold(item) && s->newest_unix_ms != item->newest_unix_ms) return ND_ERR_CORRUPT;
    return is_right && bytes == run_bytes(item) && old == item->known->old && item->gone == 0 ? ND_OK : ND_ERR_CORRUPT;
}

static nd_status check_run(nd_ring *ring, const run *item, sums *s)
{
    if (item->count == 0 || item->begin >= item->end) return ND_ERR_CORRUPT;
    if (item->last_seq - item->first_seq < item->count - 1) return ND_ERR_CORRUPT;
    removed_add(&s->records, (leaving){
        .count = item->count, .bytes = run_bytes(item), .first_seq = item->first_seq, .last_seq = item->last_seq,
    });
    if (ring->keeps_latest && item->known == NULL) return ND_ERR_CORRUPT;
    if (!run_is_cold(item)) {
        if (item->end > item->chunk_bytes) return ND_ERR_CORRUPT;
        if (item->known != NULL) return ring->keeps_latest ? check_known(ring, item, s) : ND_ERR_CORRUPT;
        return item->gone == 0 && item->gone_bytes == 0 ? check_records(ring, item, s) : ND_ERR_CORRUPT;
    }
    s->runs_cold++;
    if (item->slot == ND_NOWHERE) return ND_ERR_CORRUPT;
    return item->known == NULL ? check_unknown(ring, item, s) : check_known(ring, item, s);
}

nd_status nd_ring_check(nd_ring *ring)
{
    sums s = {0};
    for (uint32_t i = 0; i < ring->count; i++) {
        const run *item = run_at(ring, i);
        const run *before = i > 0 ? run_at(ring, i - 1) : NULL;
        if (before != NULL && item->first_seq <= before->last_seq) return ND_ERR_CORRUPT;
        if (before != NULL && runs_share(item, before) && item->begin < before->end) return ND_ERR_CORRUPT;
        const nd_status status = check_run(ring, item, &s);
        if (status != ND_OK) return status;
        if (run_is_cold(item) || (before != NULL && runs_share(item, before))) continue;
        s.chunks++;
        if (item->slot != ND_NOWHERE) s.copies++;
    }
    const nd_tenant *tenant = &ring->tenant;
    if (s.chunks != tenant->chunks || s.copies != tenant->copies || s.runs_cold != tenant->runs_cold) {
        return ND_ERR_CORRUPT;
    }
    const int is_right = s.records.count == ring->records && s.records.bytes == ring->bytes
                         && s.records.last_seq <= ring->last_seq && s.held_bytes == ring->held_bytes
                         && ring->bytes <= ring->queue_bytes && s.newest_unix_ms <= ring->newest_unix_ms;
    return is_right ? ND_OK : ND_ERR_CORRUPT;
}
