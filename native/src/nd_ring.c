/* nd_ring.c -- a deque of runs over chunks of the pool; drawn in nd_ring_inside.h.
 *
 * A remembered place (nd_place) needs no generation number: seqs are never given
 * twice and records never move, so a place is right exactly if the run that now
 * holds its seq lies around its address.
 */

#include "nd_ring.h"

#include <string.h>

#include "nd_assert.h"
#include "nd_ring_inside.h"

#define RUNS_MIN        4u
#define QUEUE_BYTES_MAX (1ull << 40)
#define NOT_FOUND       UINT32_MAX

/* --- the deque ------------------------------------------------------------------ */

int nd_runs_reserve(nd_ring *ring, uint32_t more)
{
    if (ring->head + ring->count + more <= ring->capacity) return 1;
    if (ring->head >= ring->capacity / 2 && ring->count + more <= ring->capacity) {
        memmove(ring->runs, ring->runs + ring->head, ring->count * sizeof *ring->runs);
        ring->head = 0;
        return 1;
    }
    uint32_t capacity = ring->capacity > 0 ? ring->capacity : RUNS_MIN;
    while (capacity < ring->count + more) capacity *= 2;        /* at most 32 turns */
    if (capacity < 2 * ring->count) capacity *= 2;              /* so that growing stays rare */
    run *runs = nd_pool_allocate(ring->pool, capacity * sizeof *runs);
    if (runs == NULL) return 0;
    if (ring->runs != NULL) {
        memcpy(runs, ring->runs + ring->head, ring->count * sizeof *runs);
        nd_pool_release(ring->pool, ring->runs, ring->capacity * sizeof *ring->runs);
    }
    ring->runs = runs;
    ring->capacity = capacity;
    ring->head = 0;
    return 1;
}

void nd_runs_trim(nd_ring *ring)
{
    if (ring->count > 0) return;
    ring->head = 0;
    if (ring->capacity <= RUNS_MIN) return;
    nd_pool_release(ring->pool, ring->runs, ring->capacity * sizeof *ring->runs);
    ring->runs = NULL;
    ring->capacity = 0;
}

/* Take runs [from, to) out of the deque and give back the chunks that no other run lies in. */
static void runs_remove(nd_ring *ring, uint32_t from, uint32_t to)
{
    if (from == to) return;
    for (uint32_t i = from; i < to; i++) {
        uint8_t *chunk = run_at(ring, i)->chunk;
        const int next_shares = i + 1 < ring->count && run_at(ring, i + 1)->chunk == chunk;
        const int one_before_shares = from > 0 && run_at(ring, from - 1)->chunk == chunk;
        if (!next_shares && !one_before_shares) nd_pool_give(ring->pool, chunk);
    }
    memmove(ring->runs + ring->head + (to - from), ring->runs + ring->head, from * sizeof *ring->runs);
    ring->head += to - from;
    ring->count -= to - from;
    nd_runs_trim(ring);
}

/* The first run that holds this seq or a later one; count when there is none. */
static uint32_t run_reaching(const nd_ring *ring, uint64_t seq)
{
    uint32_t low = 0, high = ring->count;
    while (low < high) {                                        /* halves: at most 32 turns */
        const uint32_t middle = low + (high - low) / 2;
        if (run_last_seq(run_at(ring, middle)) >= seq) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* --- finding a place in a run ---------------------------------------------------- */

static nd_span span_of(const run *item)
{
    return (nd_span){
        .bytes = item->chunk + item->begin,
        .bytes_count = item->end - item->begin,
        .records = item->count,
        .first_seq = item->first_seq,
    };
}

/* Cut a span of a run down to begin at a remembered place, if that place is in it. */
static void span_skip_to(nd_span *span, const nd_place *place)
{
    if (place == NULL || place->at == NULL) return;
    if (place->seq <= span->first_seq || place->seq - span->first_seq >= span->records) return;
    if (place->at < span->bytes || place->at >= span->bytes + span->bytes_count) return;
    span->bytes_count -= (uint32_t)(place->at - span->bytes);
    span->records -= (uint32_t)(place->seq - span->first_seq);
    span->bytes = place->at;
    span->first_seq = place->seq;
}

/* Where a seq that the run holds lies in its chunk; NOT_FOUND when a header on the way is damaged. */
static uint32_t offset_in(const run *item, uint64_t seq, const nd_place *hint)
{
    nd_span span = span_of(item);
    if (hint != NULL && hint->seq <= seq) span_skip_to(&span, hint);
    while (span.first_seq < seq) {                              /* at most the run's records */
        if (nd_span_next(&span) == NULL) return NOT_FOUND;
    }
    return (uint32_t)(span.bytes - item->chunk);
}

nd_status nd_ring_span(const nd_ring *ring, uint64_t seq, const nd_place *hint, nd_span *out)
{
    const uint32_t index = run_reaching(ring, seq);
    if (index == ring->count) return ND_EMPTY;
    const run *item = run_at(ring, index);
    *out = span_of(item);
    if (seq <= item->first_seq) return ND_OK;
    const uint32_t offset = offset_in(item, seq, hint);
    if (offset == NOT_FOUND) return ND_ERR_CORRUPT;
    span_skip_to(out, &(nd_place){.seq = seq, .at = item->chunk + offset});
    return ND_OK;
}

uint64_t nd_ring_count(const nd_ring *ring, uint64_t first_seq, uint64_t last_seq)
{
    uint64_t count = 0;
    for (uint32_t i = run_reaching(ring, first_seq); i < ring->count; i++) {
        const run *item = run_at(ring, i);
        if (item->first_seq > last_seq) break;
        const uint64_t from = item->first_seq > first_seq ? item->first_seq : first_seq;
        const uint64_t to = run_last_seq(item) < last_seq ? run_last_seq(item) : last_seq;
        count += to - from + 1;
    }
    return count;
}

int nd_ring_has(const nd_ring *ring, uint64_t seq)
{
    const uint32_t index = run_reaching(ring, seq);
    return index < ring->count && run_at(ring, index)->first_seq <= seq;
}

/* --- opening and figures --------------------------------------------------------- */

nd_status nd_ring_open(nd_pool *pool, uint64_t incarnation, uint64_t epoch,
                       uint64_t queue_bytes, nd_overflow overflow, nd_ring **out)
{
    if (pool == NULL || out == NULL) return ND_ERR_ARGUMENT;
    if (queue_bytes == 0 || queue_bytes > QUEUE_BYTES_MAX) return ND_ERR_ARGUMENT;
    if (overflow != ND_OVERFLOW_DROP_OLDEST && overflow != ND_OVERFLOW_REJECT) return ND_ERR_ARGUMENT;
    nd_ring *ring = nd_pool_allocate(pool, sizeof *ring);
    if (ring == NULL) return ND_ERR_FULL;
    ring->pool = pool;
    ring->incarnation = incarnation;
    ring->epoch = epoch;
    ring->shown_seq = UINT64_MAX;
    ring->queue_bytes = queue_bytes;
    ring->overflow = (uint8_t)overflow;
    *out = ring;
    return ND_OK;
}

nd_overflow nd_ring_set_overflow(nd_ring *ring, nd_overflow overflow)
{
    const nd_overflow before = (nd_overflow)ring->overflow;
    ring->overflow = (uint8_t)overflow;
    return before;
}

void nd_ring_close(nd_ring *ring)
{
    if (ring == NULL) return;
    runs_remove(ring, 0, ring->count);
    if (ring->runs != NULL) nd_pool_release(ring->pool, ring->runs, ring->capacity * sizeof *ring->runs);
    nd_epochs_free(ring);
    nd_pool_release(ring->pool, ring, sizeof *ring);
}

static uint64_t oldest_unix_ms(const nd_ring *ring)
{
    if (ring->count == 0) return 0;
    nd_span span = span_of(run_at(ring, 0));
    const nd_record *oldest = nd_span_next(&span);
    return oldest != NULL ? oldest->received_unix_ms : 0;
}

void nd_ring_stats(const nd_ring *ring, nd_ring_stats_t *out)
{
    *out = (nd_ring_stats_t){
        .records = ring->records,
        .bytes = ring->bytes,
        .held_bytes = ring->held_bytes,
        .last_seq = ring->last_seq,
        .settled_seq = ring->count == 0 ? ring->last_seq : run_at(ring, 0)->first_seq - 1,
        .oldest_unix_ms = oldest_unix_ms(ring),
    };
}

uint64_t nd_ring_incarnation(const nd_ring *ring) { return ring->incarnation; }
nd_pool *nd_ring_pool(const nd_ring *ring) { return ring->pool; }
nd_place nd_ring_slice_end(const nd_ring *ring) { return ring->slice_end; }

/* --- in flight ------------------------------------------------------------------- */

/* Stored bytes of the records before a place. */
static uint64_t bytes_before(const nd_ring *ring, const nd_place *place)
{
    const uint32_t reaching = run_reaching(ring, place->seq);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < reaching; i++) bytes += run_bytes(run_at(ring, i));
    if (reaching == ring->count) return bytes;
    const run *item = run_at(ring, reaching);
    if (item->first_seq >= place->seq) return bytes;
    const uint32_t offset = offset_in(item, place->seq, place);
    return bytes + (offset == NOT_FOUND ? run_bytes(item) : offset - item->begin);
}

void nd_ring_hold(nd_ring *ring, nd_place end)
{
    ring->slice_end = end;
    if (end.seq - 1 <= ring->in_flight_seq) return;
    ring->in_flight_seq = end.seq - 1;
    ring->held_bytes = bytes_before(ring, &end);
}

void nd_ring_release(nd_ring *ring, uint64_t after_seq)
{
    if (after_seq >= ring->in_flight_seq) return;
    ring->in_flight_seq = after_seq;
    ring->held_bytes = bytes_before(ring, &(nd_place){.seq = after_seq + 1});
}

/* --- leaving --------------------------------------------------------------------- */

/* Take the records before an offset out of a run that keeps some. */
static void run_cut_front(run *item, uint32_t offset, uint64_t first_seq, nd_removed *removed)
{
    const uint32_t count = (uint32_t)(first_seq - item->first_seq);
    ND_ASSERT(count < item->count && offset < item->end);
    removed_add(removed, count, offset - item->begin, item->first_seq);
    item->begin = offset;
    item->count -= count;
    item->first_seq = first_seq;
}

static void run_count_whole(const run *item, nd_removed *removed)
{
    removed_add(removed, item->count, run_bytes(item), item->first_seq);
}

nd_status nd_ring_settle(nd_ring *ring, uint64_t upto_seq, nd_removed *out)
{
    *out = (nd_removed){0};
    if (ring->count == 0 || run_at(ring, 0)->first_seq > upto_seq) return ND_EMPTY;
    if (upto_seq > ring->last_seq) upto_seq = ring->last_seq;

    nd_status status = ND_OK;
    uint32_t keep = run_reaching(ring, upto_seq + 1);
    for (uint32_t i = 0; i < keep; i++) run_count_whole(run_at(ring, i), out);
    if (keep < ring->count && run_at(ring, keep)->first_seq <= upto_seq) {
        run *item = run_at(ring, keep);
        const uint32_t offset = offset_in(item, upto_seq + 1, &ring->slice_end);
        if (offset != NOT_FOUND) {
            run_cut_front(item, offset, upto_seq + 1, out);
        } else {
            run_count_whole(item, out);
            keep++;
            status = ND_ERR_CORRUPT;
        }
    }
    runs_remove(ring, 0, keep);
    ring->records -= out->count;
    ring->bytes -= out->bytes;
    ring->held_bytes = out->last_seq <= ring->in_flight_seq && out->bytes <= ring->held_bytes
                           ? ring->held_bytes - out->bytes : 0;
    return status;
}

nd_status nd_ring_expire(nd_ring *ring, uint64_t before_unix_ms, nd_removed *out)
{
    *out = (nd_removed){0};
    uint64_t upto_seq = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        const run *item = run_at(ring, i);
        if (item->newest_unix_ms < before_unix_ms) {
            upto_seq = run_last_seq(item);
            continue;
        }
        nd_span span = span_of(item);
        while (span.records > 0) {                              /* at most the run's records */
            const nd_record *record = nd_span_next(&span);
            if (record == NULL || record->received_unix_ms >= before_unix_ms) {
                return nd_ring_settle(ring, upto_seq, out);
            }
            upto_seq = record->seq;
        }
    }
    return nd_ring_settle(ring, upto_seq, out);
}

/* Step from an offset of a run over records until bytes_min are passed; the offset
 * and seq of the first one to keep.  Damage ends the run: nothing behind it can be found. */
static uint32_t step_over(const run *item, uint32_t offset, uint64_t seq, uint64_t bytes_min,
                          uint64_t *seq_out)
{
    nd_span span = span_of(item);
    span_skip_to(&span, &(nd_place){.seq = seq, .at = item->chunk + offset});
    const uint8_t *begin = span.bytes;
    while (span.records > 0 && (uint64_t)(span.bytes - begin) < bytes_min) {    /* at most the run's records */
        if (nd_span_next(&span) == NULL) break;
    }
    if (span.records == 0 || (uint64_t)(span.bytes - begin) < bytes_min) {
        *seq_out = run_last_seq(item) + 1;
        return item->end;
    }
    *seq_out = span.first_seq;
    return (uint32_t)(span.bytes - item->chunk);
}

/* Remove records from a seq on from within a run whose first part stays.  The run is
 * split when a part behind them stays too; a run for it is reserved. */
static void remove_inside(nd_ring *ring, uint32_t index, uint32_t offset, uint64_t seq, uint64_t bytes_min,
                          nd_removed *removed)
{
    run *item = run_at(ring, index);
    uint64_t keep_seq;
    const uint32_t keep = step_over(item, offset, seq, bytes_min, &keep_seq);
    removed_add(removed, keep_seq - seq, keep - offset, seq);

    if (keep < item->end) {
        ND_ASSERT(ring->head + ring->count < ring->capacity);
        memmove(item + 2, item + 1, (ring->count - index - 1) * sizeof *item);
        ring->count++;
        item[1] = *item;
        item[1].begin = keep;
        item[1].count = (uint32_t)(run_last_seq(item) - keep_seq + 1);
        item[1].first_seq = keep_seq;
    }
    item->end = offset;
    item->count = (uint32_t)(seq - item->first_seq);
}

void nd_ring_drop_reserved(nd_ring *ring, uint64_t bytes_min, nd_removed *out)
{
    *out = (nd_removed){0};
    const uint64_t seq = ring->in_flight_seq + 1;
    uint32_t from = run_reaching(ring, seq);
    uint32_t to = from;
    if (from < ring->count && run_at(ring, from)->first_seq < seq) {
        const uint32_t offset = offset_in(run_at(ring, from), seq, &ring->slice_end);
        if (offset != NOT_FOUND) {
            remove_inside(ring, from, offset, seq, bytes_min, out);
            from++;
        } else {                        /* damaged: the run goes whole, with what of it is in flight */
            ring->held_bytes = bytes_before(ring, &(nd_place){.seq = run_at(ring, from)->first_seq});
            run_count_whole(run_at(ring, from), out);
        }
        to++;
    }
    while (to < ring->count && out->bytes < bytes_min) {        /* a run each turn */
        run *item = run_at(ring, to);
        uint64_t keep_seq = run_last_seq(item) + 1;
        if (run_bytes(item) > bytes_min - out->bytes) {
            const uint32_t keep = step_over(item, item->begin, item->first_seq, bytes_min - out->bytes, &keep_seq);
            if (keep < item->end) {
                run_cut_front(item, keep, keep_seq, out);
                break;
            }
        }
        run_count_whole(item, out);
        to++;
    }
    runs_remove(ring, from, to);
    ring->records -= out->count;
    ring->bytes -= out->bytes;
}

nd_status nd_ring_drop(nd_ring *ring, uint64_t bytes_min, nd_removed *out)
{
    *out = (nd_removed){0};
    if (bytes_min == 0 || ring->bytes == ring->held_bytes) return ND_EMPTY;
    if (!nd_runs_reserve(ring, 1)) return ND_ERR_FULL;
    nd_ring_drop_reserved(ring, bytes_min, out);
    return ND_OK;
}

nd_status nd_ring_isolate(nd_ring *ring, uint64_t seq, nd_removed *out)
{
    *out = (nd_removed){0};
    const uint32_t index = run_reaching(ring, seq);
    if (index == ring->count || run_at(ring, index)->first_seq > seq) return ND_EMPTY;
    if (!nd_runs_reserve(ring, 1)) return ND_ERR_FULL;

    run *item = run_at(ring, index);
    const uint32_t offset = offset_in(item, seq, NULL);
    uint64_t keep_seq;
    if (offset != NOT_FOUND && offset > item->begin) {
        remove_inside(ring, index, offset, seq, 1, out);
    } else if (offset != NOT_FOUND && step_over(item, offset, seq, 1, &keep_seq) < item->end) {
        run_cut_front(item, step_over(item, offset, seq, 1, &keep_seq), keep_seq, out);
    } else {                            /* nothing behind a damaged length can be found */
        run_count_whole(item, out);
        runs_remove(ring, index, index + 1);
    }
    ring->records -= out->count;
    ring->bytes -= out->bytes;
    ring->held_bytes = bytes_before(ring, &(nd_place){.seq = ring->in_flight_seq + 1});
    return ND_OK;
}

/* --- checking -------------------------------------------------------------------- */

static nd_status check_run(const nd_ring *ring, const run *item, nd_removed *seen, uint64_t *held_bytes,
                           uint64_t *newest_unix_ms)
{
    if (item->count == 0 || item->end > item->chunk_bytes || item->begin >= item->end) return ND_ERR_CORRUPT;
    const nd_crc_function crc = nd_pool_crc(ring->pool);
    nd_span span = span_of(item);
    while (span.records > 0) {                                  /* the run's records */
        const nd_record *record = nd_span_next(&span);
        if (record == NULL) return ND_ERR_CORRUPT;
        uint32_t sum;
        const nd_crc_lane lane = nd_record_lane(record);
        crc(&lane, 1, &sum);
        if (record->crc32c != sum) return ND_ERR_CORRUPT;
        if (record->received_unix_ms < *newest_unix_ms) return ND_ERR_CORRUPT;
        if (record->received_unix_ms > item->newest_unix_ms) return ND_ERR_CORRUPT;
        *newest_unix_ms = record->received_unix_ms;
        if (record->seq <= ring->in_flight_seq) *held_bytes += nd_record_stored_bytes(record->body_bytes);
    }
    if (span.bytes_count != 0) return ND_ERR_CORRUPT;
    removed_add(seen, item->count, run_bytes(item), item->first_seq);
    return ND_OK;
}

nd_status nd_ring_check(const nd_ring *ring)
{
    nd_removed seen = {0};
    uint64_t held_bytes = 0, newest_unix_ms = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        const run *item = run_at(ring, i);
        const run *before = i > 0 ? run_at(ring, i - 1) : NULL;
        if (before != NULL && item->first_seq <= run_last_seq(before)) return ND_ERR_CORRUPT;
        if (before != NULL && item->chunk == before->chunk && item->begin < before->end) return ND_ERR_CORRUPT;
        const nd_status status = check_run(ring, item, &seen, &held_bytes, &newest_unix_ms);
        if (status != ND_OK) return status;
    }
    const int is_right = seen.count == ring->records && seen.bytes == ring->bytes
                         && seen.last_seq <= ring->last_seq && held_bytes == ring->held_bytes
                         && ring->bytes <= ring->queue_bytes && newest_unix_ms <= ring->newest_unix_ms;
    return is_right ? ND_OK : ND_ERR_CORRUPT;
}
