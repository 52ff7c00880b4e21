/* nd_ring_check.c -- the promises of nd_ring.h, checked one by one. */

#include "nd_ring.h"

#include "nd_ring_inside.h"

static nd_status check_run(const nd_ring *ring, const run *item, nd_removed *seen, uint64_t *held_bytes,
                           uint64_t *newest_unix_ms)
{
    if (item->count == 0 || item->end > item->chunk_bytes || item->begin >= item->end) return ND_ERR_CORRUPT;
    if (item->last_seq - item->first_seq < item->count - 1) return ND_ERR_CORRUPT;
    const nd_crc_function crc = nd_pool_crc(ring->pool);
    nd_span span = nd_run_span(item);
    while (span.records > 0) {                                  /* the run's records */
        const nd_record *record = nd_span_next(&span);
        if (record == NULL) return ND_ERR_CORRUPT;
        uint32_t sum;
        const nd_crc_lane lane = nd_record_lane(record);
        crc(&lane, 1, &sum);
        if (record->crc32c != sum) return ND_ERR_CORRUPT;
        if (record->received_unix_ms < *newest_unix_ms) return ND_ERR_CORRUPT;
        *newest_unix_ms = record->received_unix_ms;
        if (record->seq <= ring->in_flight_seq) *held_bytes += nd_record_stored_bytes(record->body_bytes);
    }
    if (span.bytes_count != 0 || *newest_unix_ms != item->newest_unix_ms) return ND_ERR_CORRUPT;
    removed_add(seen, (leaving){
        .count = item->count, .bytes = run_bytes(item), .first_seq = item->first_seq, .last_seq = item->last_seq,
    });
    return ND_OK;
}

nd_status nd_ring_check(const nd_ring *ring)
{
    nd_removed seen = {0};
    uint64_t held_bytes = 0, newest_unix_ms = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        const run *item = run_at(ring, i);
        const run *before = i > 0 ? run_at(ring, i - 1) : NULL;
        if (before != NULL && item->first_seq <= before->last_seq) return ND_ERR_CORRUPT;
        if (before != NULL && item->chunk == before->chunk && item->begin < before->end) return ND_ERR_CORRUPT;
        const nd_status status = check_run(ring, item, &seen, &held_bytes, &newest_unix_ms);
        if (status != ND_OK) return status;
    }
    const int is_right = seen.count == ring->records && seen.bytes == ring->bytes
                         && seen.last_seq <= ring->last_seq && held_bytes == ring->held_bytes
                         && ring->bytes <= ring->queue_bytes && newest_unix_ms <= ring->newest_unix_ms;
    return is_right ? ND_OK : ND_ERR_CORRUPT;
}
