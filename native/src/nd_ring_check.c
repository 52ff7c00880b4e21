/* nd_ring_check.c -- the promises of nd_ring.h, checked one by one. */

#include "nd_ring.h"

#include "nd_ring_inside.h"

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

static nd_status check_known(const nd_ring *ring, const run *item, sums *s)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < item->count; i++) {
        if (i > 0 && item->known[i - 1].seq >= item->known[i].seq) return ND_ERR_CORRUPT;
        if (item->first_seq + item->known[i].seq <= ring->in_flight_seq) s->held_bytes += item->known[i].bytes;
        bytes += item->known[i].bytes;
    }
    const int is_right = item->known[0].seq == 0 && item->known[item->count - 1].seq == item->last_seq - item->first_seq;
    return is_right && bytes == run_bytes(item) ? ND_OK : ND_ERR_CORRUPT;
}

static nd_status check_run(const nd_ring *ring, const run *item, sums *s)
{
    if (item->count == 0 || item->begin >= item->end) return ND_ERR_CORRUPT;
    if (item->last_seq - item->first_seq < item->count - 1) return ND_ERR_CORRUPT;
    removed_add(&s->records, (leaving){
        .count = item->count, .bytes = run_bytes(item), .first_seq = item->first_seq, .last_seq = item->last_seq,
    });
    if (!run_is_cold(item)) {
        if (item->end > item->chunk_bytes || item->gone != 0 || item->gone_bytes != 0 || item->known != NULL) return ND_ERR_CORRUPT;
        return check_records(ring, item, s);
    }
    s->runs_cold++;
    if (item->slot == ND_NOWHERE) return ND_ERR_CORRUPT;
    return item->known == NULL ? check_unknown(ring, item, s) : check_known(ring, item, s);
}

nd_status nd_ring_check(const nd_ring *ring)
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
