/* nd_cold_run.c -- which records a cold run has, and closing up once it is back. */

#include <string.h>

#include "nd_form.h"
#include "nd_residency_inside.h"
#include "nd_supersede.h"

/* --- knowing ------------------------------------------------------------------------- */

static uint64_t bytes_of(const run *item)
{
    return ((uint64_t)item->count + item->gone) * sizeof *item->known;
}

void nd_run_forget(nd_ring *ring, run *item)
{
    if (item->known == NULL) return;
    nd_residency *residency = nd_pool_residency(ring->pool);
    residency->known_bytes -= bytes_of(item);
    residency->is_known_full = 0;
    nd_pool_release(ring->pool, item->known, bytes_of(item));
    item->known = NULL;
}

static int write_down(const nd_ring *ring, const run *item)
{
    nd_span span = nd_run_span(item);
    for (uint32_t i = 0; i < item->count; i++) {                /* the run's records */
        const nd_record *record = nd_span_next(&span);
        if (record == NULL || !nd_header_is_possible(record)) return 0;
        item->known[i] = (cold_record){
            .hash = nd_candidate_of(ring, record->kind, nd_record_body(record), record->body_bytes, record->ep_bytes).hash,
            .seq = (uint32_t)(record->seq - item->first_seq),
            .bytes = nd_record_stored_bytes(record->body_bytes),
        };
    }
    return 1;
}

int nd_run_know(nd_ring *ring, run *item)
{
    if (run_is_dense(item) && !ring->keeps_latest) return 1;
    if (item->last_seq - item->first_seq > UINT32_MAX) return 0;
    nd_residency *residency = nd_pool_residency(ring->pool);
    nd_pool_stats_t pool;
    nd_pool_stats(ring->pool, &pool);
    const int is_bound = ring->overflow == ND_OVERFLOW_KEEP_LATEST;    /* what is being restored has to go somewhere */
    if (is_bound && residency->known_bytes + bytes_of(item) > pool.bytes_max / ND_KNOWN_SHARE) {
        residency->is_known_full = 1;
        return 0;
    }
    item->known = nd_pool_allocate(ring->pool, bytes_of(item));
    if (item->known == NULL) return 0;
    residency->known_bytes += bytes_of(item);
    if (write_down(ring, item)) return 1;
    nd_run_forget(ring, item);
    return 0;
}

uint32_t nd_run_known_before(const run *item, uint64_t seq)
{
    uint32_t low = 0, high = item->count;
    while (low < high) {                                        /* halves: at most 32 turns */
        const uint32_t middle = low + (high - low) / 2;
        if (item->first_seq + item->known[middle].seq < seq) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* --- removing ------------------------------------------------------------------------ */

void nd_run_known_changed(run *item, uint32_t count, uint64_t bytes)
{
    item->gone += count;
    item->gone_bytes += (uint32_t)bytes;
    item->count -= count;
    if (item->count == 0) return;
    const uint32_t by = item->known[0].seq;
    item->last_seq = item->first_seq + item->known[item->count - 1].seq;
    item->first_seq += by;
    for (uint32_t i = 0; by > 0 && i < item->count; i++) item->known[i].seq -= by;
}

void nd_run_remove_known(run *item, uint32_t from, uint32_t to, nd_removed *removed)
{
    if (from == to) return;
    leaving part = {
        .count = to - from,
        .first_seq = item->first_seq + item->known[from].seq,
        .last_seq = item->first_seq + item->known[to - 1].seq,
        .first_unix_ms = item->oldest_unix_ms,
        .last_unix_ms = item->newest_unix_ms,
    };
    for (uint32_t i = from; i < to; i++) part.bytes += item->known[i].bytes;
    removed_add(removed, part);
    memmove(item->known + from, item->known + to, (item->count - to) * sizeof *item->known);
    nd_run_known_changed(item, to - from, part.bytes);
}

/* --- closing up ---------------------------------------------------------------------- */

/* The stored bytes of the record at an offset of a run; 0: they cannot be right. */
static uint32_t bytes_at(const run *item, uint32_t at)
{
    const nd_record *record = (const nd_record *)(const void *)(item->chunk + at);
    if (item->end - at < sizeof *record || record->body_bytes > ND_CHUNK_BYTES_MAX - sizeof *record) return 0;
    const uint32_t bytes = nd_record_stored_bytes(record->body_bytes);
    return bytes <= item->end - at ? bytes : 0;
}

/* Step over records that are gone up to one with this seq and length; NULL: it is not there. */
static const nd_record *find(const run *item, uint32_t *at, uint64_t seq, uint32_t bytes)
{
    for (;;) {                                                  /* a record each turn */
        const uint32_t next = bytes_at(item, *at);
        if (next == 0) return NULL;
        const nd_record *record = (const nd_record *)(const void *)(item->chunk + *at);
        if (record->seq >= seq) return record->seq == seq && next == bytes ? record : NULL;
        *at += next;
    }
}

/* Lay the records that are left side by side.  At damage the rest stays where it lies: whoever
 * reads the run will see it.  Whether any moved. */
static int lay_side_by_side(run *item)
{
    const uint32_t begin = item->begin, gone_bytes = item->gone_bytes;
    uint32_t at = begin, kept_bytes = 0;
    int has_moved = 0;
    for (uint32_t i = 0; i < item->count; i++) {                /* the run's records */
        const uint32_t bytes = item->known[i].bytes;
        const nd_record *record = find(item, &at, item->first_seq + item->known[i].seq, bytes);
        if (record == NULL || at - begin - kept_bytes > gone_bytes) break;
        if (i == 0) {                                           /* what went before it need not be filled */
            item->begin = at;
            item->oldest_unix_ms = record->received_unix_ms;
        }
        if (i == item->count - 1) item->newest_unix_ms = record->received_unix_ms;
        const uint32_t to = item->begin + kept_bytes;
        if (to != at) {
            memmove(item->chunk + to, record, bytes);
            has_moved = 1;
        }
        at += bytes;
        kept_bytes += bytes;
    }
    return has_moved;
}

int nd_run_close_up(nd_ring *ring, run *item)
{
    if (item->known == NULL) return 0;
    const uint32_t bytes = (uint32_t)run_bytes(item);
    const int has_moved = item->gone > 0 && lay_side_by_side(item);
    nd_run_forget(ring, item);
    item->end = item->begin + bytes;
    item->gone = item->gone_bytes = 0;
    if (has_moved && ring->moved_seq < item->last_seq) ring->moved_seq = item->last_seq;
    return has_moved;
}
