/* nd_ring.c -- a deque of runs over chunks of the pool; drawn in nd_ring_inside.h.
 *
 * A remembered place (nd_place) needs no generation number: seqs are never given
 * twice and a record keeps its offset, so a place is right if the run that holds its seq
 * holds the one before it too.  Places are not used for records that may have moved
 * because others were superseded, nor in runs whose seqs have holes, where nobody could
 * say how many records lie before: those are walked.
 */

#include "nd_ring.h"

#include <string.h>

#include "nd_assert.h"
#include "nd_cut.h"
#include "nd_latest.h"
#include "nd_ring_inside.h"

#define RUNS_MIN        4u
#define QUEUE_BYTES_MAX (1ull << 40)

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
        run *item = run_at(ring, i);
        const int next_shares = i + 1 < ring->count && runs_share(run_at(ring, i + 1), item);
        const int one_before_shares = from > 0 && runs_share(run_at(ring, from - 1), item);
        nd_run_forget(ring, item);
        if (run_is_cold(item)) ring->tenant.runs_cold--;
        if (!next_shares && !one_before_shares) nd_run_give(ring, item);
    }
    memmove(ring->runs + ring->head + (to - from), ring->runs + ring->head, from * sizeof *ring->runs);
    ring->head += to - from;
    ring->count -= to - from;
    nd_runs_trim(ring);
    nd_tenant_changed(ring);
}

uint32_t nd_run_reaching(const nd_ring *ring, uint64_t seq)
{
    uint32_t low = 0, high = ring->count;
    while (low < high) {                                        /* halves: at most 32 turns */
        const uint32_t middle = low + (high - low) / 2;
        if (run_at(ring, middle)->last_seq >= seq) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* --- finding a place in a run ---------------------------------------------------- */

nd_span nd_run_span(const run *item)
{
    ND_ASSERT(!run_is_cold(item));                              /* nothing looks at what is not here, */
    ND_ASSERT(item->known == NULL || item->gone_bytes == 0);    /* nor at gaps */
    return (nd_span){
        .bytes = item->chunk + item->begin,
        .bytes_count = item->end - item->begin,
        .records = item->count,
        .first_seq = item->first_seq,
        .last_seq = item->last_seq,
        .offset = item->begin,
    };
}

nd_status nd_ring_span(nd_ring *ring, uint64_t seq, const nd_place *hint, nd_span *out)
{
    const uint32_t index = nd_run_reaching(ring, seq);
    if (index == ring->count) return ND_EMPTY;
    if (run_is_cold(run_at(ring, index))) return ND_COLD;
    nd_run_settle_down(ring, index);
    nd_cut at;
    const int is_found = nd_cut_at(ring, run_at(ring, index), seq, hint, &at);
    *out = at.rest;
    return is_found ? ND_OK : ND_ERR_CORRUPT;
}

/* How many of a run's records have seqs from first to last, both within the run's;
 * none when a header on the way is damaged. */
static uint64_t count_in(const nd_ring *ring, const run *item, uint64_t first_seq, uint64_t last_seq)
{
    if (run_is_dense(item)) return last_seq - first_seq + 1;
    if (first_seq == item->first_seq && last_seq == item->last_seq) return item->count;
    if (item->known != NULL) return nd_run_known_before(item, last_seq + 1) - nd_run_known_before(item, first_seq);
    nd_cut from, to;
    if (!nd_cut_at(ring, item, first_seq, NULL, &from) || !nd_cut_at(ring, item, last_seq + 1, NULL, &to)) return 0;
    return from.rest.records - to.rest.records;
}

uint64_t nd_ring_count(const nd_ring *ring, uint64_t first_seq, uint64_t last_seq)
{
    uint64_t count = 0;
    for (uint32_t i = nd_run_reaching(ring, first_seq); i < ring->count; i++) {
        const run *item = run_at(ring, i);
        if (item->first_seq > last_seq) break;
        const uint64_t from = item->first_seq > first_seq ? item->first_seq : first_seq;
        const uint64_t to = item->last_seq < last_seq ? item->last_seq : last_seq;
        count += count_in(ring, item, from, to);
    }
    return count;
}

uint64_t nd_ring_next_seq(const nd_ring *ring, uint64_t seq)
{
    const uint32_t index = nd_run_reaching(ring, seq);
    if (index == ring->count) return 0;
    const run *item = run_at(ring, index);
    if (seq <= item->first_seq) return item->first_seq;
    if (item->known != NULL) return known_seq(item, known_at(item, nd_run_known_before(item, seq)));
    nd_cut at;
    return run_is_dense(item) || !nd_cut_at(ring, item, seq, NULL, &at) ? seq : at.rest.first_seq;
}

int nd_ring_has(const nd_ring *ring, uint64_t seq, nd_span *near)
{
    if (seq > near->last_seq) {
        const uint32_t index = nd_run_reaching(ring, seq);
        if (index == ring->count || run_at(ring, index)->first_seq > seq) return 0;
        const run *item = run_at(ring, index);
        if (run_is_dense(item)) return 1;
        if (item->known != NULL) return nd_run_known_before(item, seq + 1) > nd_run_known_before(item, seq);
        *near = nd_run_span(item);
    }
    while (near->records > 0 && near->first_seq < seq) {        /* at most the run's records */
        if (nd_span_next(near) == NULL) near->records = 0;      /* damaged: nothing behind can be found */
    }
    return near->records > 0 && near->first_seq == seq;
}

/* --- opening and figures --------------------------------------------------------- */

nd_status nd_ring_open(nd_pool *pool, uint64_t incarnation, uint64_t epoch,
                       uint64_t queue_bytes, nd_overflow overflow, nd_ring **out)
{
    if (pool == NULL || out == NULL) return ND_ERR_ARGUMENT;
    if (queue_bytes == 0 || queue_bytes > QUEUE_BYTES_MAX) return ND_ERR_ARGUMENT;
    if ((unsigned)overflow > ND_OVERFLOW_KEEP_LATEST) return ND_ERR_ARGUMENT;
    nd_ring *ring = nd_pool_allocate(pool, sizeof *ring);
    if (ring == NULL) return ND_ERR_FULL;
    nd_pool_key_once(pool, incarnation);
    ring->pool = pool;
    ring->incarnation = incarnation;
    ring->epoch = epoch;
    ring->shown_seq = UINT64_MAX;
    ring->queue_bytes = queue_bytes;
    (void)nd_ring_set_overflow(ring, overflow);
    *out = ring;
    return ND_OK;
}

nd_overflow nd_ring_set_overflow(nd_ring *ring, nd_overflow overflow)
{
    const nd_overflow before = (nd_overflow)ring->overflow;
    ring->overflow = (uint8_t)overflow;
    if (overflow == ND_OVERFLOW_KEEP_LATEST && !ring->keeps_latest) {
        ND_ASSERT(ring->count == 0);                            /* its records are known from the first on */
        ring->keeps_latest = 1;
    }
    return before;
}

void nd_ring_close(nd_ring *ring)
{
    if (ring == NULL) return;
    runs_remove(ring, 0, ring->count);
    nd_tenant_leave(ring);
    if (ring->runs != NULL) nd_pool_release(ring->pool, ring->runs, ring->capacity * sizeof *ring->runs);
    nd_epochs_free(ring);
    nd_latest_free(ring);
    nd_pool_release(ring->pool, ring, sizeof *ring);
}

void nd_ring_stats(const nd_ring *ring, nd_ring_stats_t *out)
{
    *out = (nd_ring_stats_t){
        .records = ring->records,
        .bytes = ring->bytes,
        .held_bytes = ring->held_bytes,
        .in_flight_seq = ring->in_flight_seq,
        .last_seq = ring->last_seq,
        .settled_seq = ring->count == 0 ? ring->last_seq : run_at(ring, 0)->first_seq - 1,
        .oldest_unix_ms = ring->count == 0 ? 0 : run_at(ring, 0)->oldest_unix_ms,
    };
}

uint64_t nd_ring_incarnation(const nd_ring *ring) { return ring->incarnation; }
nd_pool *nd_ring_pool(const nd_ring *ring) { return ring->pool; }
nd_place nd_ring_slice_end(const nd_ring *ring) { return ring->slice_end; }

/* --- in flight ------------------------------------------------------------------- */

/* Stored bytes of the records before a place; of a run in which it cannot be found, all. */
static uint64_t bytes_before(const nd_ring *ring, const nd_place *place)
{
    const uint32_t reaching = nd_run_reaching(ring, place->seq);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < reaching; i++) bytes += run_bytes(run_at(ring, i));
    if (reaching == ring->count) return bytes;
    const run *item = run_at(ring, reaching);
    if (item->first_seq >= place->seq) return bytes;
    if (item->known != NULL) return bytes + nd_run_known_bytes(item, nd_run_known_before(item, place->seq));
    nd_cut at;
    return bytes + (nd_cut_at(ring, item, place->seq, place, &at) ? at.rest.offset - item->begin : run_bytes(item));
}

void nd_ring_recount_held(nd_ring *ring)
{
    ring->held_bytes = bytes_before(ring, &(nd_place){.seq = ring->in_flight_seq + 1});
}

void nd_ring_hold(nd_ring *ring, nd_place end)
{
    ring->slice_end = end;
    if (end.seq - 1 <= ring->in_flight_seq) return;
    ring->in_flight_seq = end.seq - 1;
    ring->held_bytes = bytes_before(ring, &end);
}

nd_status nd_ring_hold_again(nd_ring *ring, uint64_t epoch, uint64_t first_seq, uint64_t last_seq,
                             uint64_t events)
{
    nd_span near = {0};
    const int is_there = first_seq != 0 && nd_ring_has(ring, first_seq, &near) && nd_ring_has(ring, last_seq, &near)
                         && nd_ring_count(ring, first_seq, last_seq) == events;
    if (!is_there) return ND_ERR_TRIMMED;
    if (nd_ring_epoch_of(ring, first_seq) != epoch || nd_ring_epoch_of(ring, last_seq) != epoch) return ND_ERR_TRIMMED;
    nd_ring_hold(ring, (nd_place){.seq = last_seq + 1});
    return ND_OK;
}

void nd_ring_release(nd_ring *ring, uint64_t after_seq)
{
    if (after_seq >= ring->in_flight_seq) return;
    ring->in_flight_seq = after_seq;
    ring->held_bytes = bytes_before(ring, &(nd_place){.seq = after_seq + 1});
}

/* --- leaving --------------------------------------------------------------------- */

/* Take the records before a place out of a run that keeps some. */
static void run_cut_front(run *item, const nd_cut *at, nd_removed *removed)
{
    ND_ASSERT(at->rest.records > 0 && at->rest.records < item->count);
    removed_add(removed, (leaving){
        .count = item->count - at->rest.records, .bytes = at->rest.offset - item->begin,
        .first_seq = item->first_seq, .last_seq = at->before_seq,
        .first_unix_ms = item->oldest_unix_ms, .last_unix_ms = at->before_unix_ms,
    });
    item->begin = at->rest.offset;
    item->count = at->rest.records;
    item->first_seq = at->rest.first_seq;
    item->oldest_unix_ms = nd_received_at(at->rest);
}

/* Take the records up to a seq, which is not the last, out of a cold run without holes; what they take stays. */
static void run_forget_front(run *item, uint64_t upto_seq, nd_removed *removed)
{
    const uint32_t count = (uint32_t)(upto_seq + 1 - item->first_seq);
    removed_add(removed, (leaving){.count = count, .first_seq = item->first_seq, .last_seq = upto_seq});
    item->gone += count;
    item->count -= count;
    item->first_seq += count;
}

static void run_count_whole(const run *item, nd_removed *removed)
{
    removed_add(removed, (leaving){
        .count = item->count, .bytes = run_bytes(item), .first_seq = item->first_seq, .last_seq = item->last_seq,
        .first_unix_ms = item->oldest_unix_ms, .last_unix_ms = item->newest_unix_ms,
    });
}

nd_status nd_ring_settle(nd_ring *ring, uint64_t upto_seq, nd_removed *out)
{
    *out = (nd_removed){0};
    if (ring->count == 0 || run_at(ring, 0)->first_seq > upto_seq) return ND_EMPTY;
    if (upto_seq > ring->last_seq) upto_seq = ring->last_seq;

    nd_status status = ND_OK;
    uint32_t keep = nd_run_reaching(ring, upto_seq + 1);
    for (uint32_t i = 0; i < keep; i++) run_count_whole(run_at(ring, i), out);
    if (keep < ring->count && run_at(ring, keep)->first_seq <= upto_seq) {
        run *item = run_at(ring, keep);
        nd_cut at;
        if (item->known != NULL) {
            nd_run_remove_known(ring, item, 0, nd_run_known_before(item, upto_seq + 1), out);
        } else if (nd_cut_at(ring, item, upto_seq + 1, &ring->slice_end, &at)) {
            run_cut_front(item, &at, out);
        } else if (run_is_cold(item)) {
            run_forget_front(item, upto_seq, out);
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
    if (ring->tenant.runs_cold > 0) nd_ring_recount_held(ring);        /* what is cold is held whole, or not */
    return status;
}

/* Settle, and say when the first and the last of what went were received. */
static nd_status settle_received(nd_ring *ring, uint64_t upto_seq, uint64_t last_unix_ms, nd_removed *out)
{
    const uint64_t first_unix_ms = ring->count > 0 ? run_at(ring, 0)->oldest_unix_ms : 0;
    const nd_status status = nd_ring_settle(ring, upto_seq, out);
    if (out->count > 0) {
        out->first_unix_ms = first_unix_ms;
        out->last_unix_ms = last_unix_ms;
    }
    return status;
}

nd_status nd_ring_expire(nd_ring *ring, uint64_t before_unix_ms, uint64_t upto_seq, nd_removed *out)
{
    uint64_t last_seq = 0, last_unix_ms = 0;
    for (uint32_t i = 0; i < ring->count; i++) {
        const run *item = run_at(ring, i);
        if (item->newest_unix_ms < before_unix_ms && item->last_seq <= upto_seq) {
            last_seq = item->last_seq;
            last_unix_ms = item->newest_unix_ms;
            continue;
        }
        if (item->oldest_unix_ms >= before_unix_ms || item->first_seq > upto_seq) break;
        if (run_is_cold(item) && item->newest_unix_ms < before_unix_ms) {       /* but for upto_seq it would go */
            last_seq = upto_seq;
            last_unix_ms = 0;
            break;
        }
        if (run_is_cold(item)) {
            ring->tenant.expire_unix_ms = before_unix_ms;
            break;
        }
        nd_run_settle_down(ring, i);
        nd_span span = nd_run_span(item);
        while (span.records > 0) {                              /* at most the run's records */
            const nd_record *record = nd_span_next(&span);
            if (record == NULL || record->received_unix_ms >= before_unix_ms || record->seq > upto_seq) {
                return settle_received(ring, last_seq, last_unix_ms, out);
            }
            last_seq = record->seq;
            last_unix_ms = record->received_unix_ms;
        }
    }
    return settle_received(ring, last_seq, last_unix_ms, out);
}

/* Remove records from a place on from within a run whose first part stays, and was walked.
 * The run is split when a part behind them stays too; a run for it is reserved. */
static void remove_inside(nd_ring *ring, uint32_t index, const nd_cut *at, uint64_t bytes_min, nd_removed *removed)
{
    run *item = run_at(ring, index);
    nd_cut end = *at;
    nd_cut_move(&end, item, bytes_min);
    removed_add(removed, (leaving){
        .count = at->rest.records - end.rest.records, .bytes = end.rest.offset - at->rest.offset,
        .first_seq = at->rest.first_seq, .last_seq = end.before_seq,
        .first_unix_ms = nd_received_at(at->rest), .last_unix_ms = end.before_unix_ms,
    });

    if (end.rest.records > 0) {
        ND_ASSERT(ring->head + ring->count < ring->capacity);
        memmove(item + 2, item + 1, (ring->count - index - 1) * sizeof *item);
        ring->count++;
        item[1] = *item;
        item[1].begin = end.rest.offset;
        item[1].count = end.rest.records;
        item[1].first_seq = end.rest.first_seq;
        item[1].oldest_unix_ms = nd_received_at(end.rest);
    }
    item->end = at->rest.offset;
    item->count -= at->rest.records;
    item->last_seq = at->before_seq;
    item->newest_unix_ms = at->before_unix_ms;
}

/* Take known records out of a run, from a place on until bytes_min are gone or none is left
 * behind it.  False: all of the run would go. */
static int remove_known(nd_ring *ring, run *item, uint32_t from, uint64_t bytes_min, nd_removed *out)
{
    uint32_t to = from;
    uint64_t bytes = 0;
    while (to < item->count && bytes < bytes_min) {
        bytes += known_bytes(known_at(item, to));
        to++;
    }
    if (to - from == item->count) return 0;
    nd_run_remove_known(ring, item, from, to, out);
    return 1;
}

void nd_ring_drop_reserved(nd_ring *ring, uint64_t bytes_min, nd_removed *out)
{
    *out = (nd_removed){0};
    const uint64_t seq = ring->in_flight_seq + 1;
    uint32_t from = nd_run_reaching(ring, seq);
    uint32_t to = from;
    if (from < ring->count && run_at(ring, from)->first_seq < seq) {
        run *item = run_at(ring, from);
        nd_cut at;
        if (item->known != NULL) {
            (void)remove_known(ring, item, nd_run_known_before(item, seq), bytes_min, out);
            from++;
        } else if (run_is_cold(item)) { /* all of it counts as in flight */
            from++;
        } else if (nd_cut_at(ring, run_at(ring, from), seq, NULL, &at)) {
            remove_inside(ring, from, &at, bytes_min, out);
            from++;
        } else {                        /* damaged: the run goes whole, with what of it is in flight */
            ring->held_bytes = bytes_before(ring, &(nd_place){.seq = run_at(ring, from)->first_seq});
            run_count_whole(run_at(ring, from), out);
        }
        to++;
    }
    while (to < ring->count && out->bytes < bytes_min) {        /* a run each turn */
        run *item = run_at(ring, to);
        if (item->known != NULL && remove_known(ring, item, 0, bytes_min - out->bytes, out)) break;
        if (run_bytes(item) > bytes_min - out->bytes && !run_is_cold(item) && item->known == NULL) {
            nd_cut at = nd_cut_of(item);
            nd_cut_move(&at, item, bytes_min - out->bytes);
            if (at.rest.records > 0) {
                run_cut_front(item, &at, out);
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

static void isolated(nd_ring *ring, nd_removed *out)
{
    ring->records -= out->count;
    ring->bytes -= out->bytes;
    nd_ring_recount_held(ring);
    out->first_unix_ms = out->last_unix_ms = 0;         /* what is damaged says nothing of itself */
}

/* Where records are known, the others of a run can be found without the damaged one. */
static nd_status isolate_known(nd_ring *ring, uint32_t index, uint64_t seq, nd_removed *out)
{
    run *item = run_at(ring, index);
    const uint32_t at = nd_run_known_before(item, seq);
    if (known_seq(item, known_at(item, at)) != seq) return ND_EMPTY;
    if (item->count > 1) {
        nd_run_remove_known(ring, item, at, at + 1, out);
    } else {
        run_count_whole(item, out);
        runs_remove(ring, index, index + 1);
    }
    isolated(ring, out);
    return ND_OK;
}

nd_status nd_ring_isolate(nd_ring *ring, uint64_t seq, nd_removed *out)
{
    *out = (nd_removed){0};
    const uint32_t index = nd_run_reaching(ring, seq);
    if (index == ring->count || run_at(ring, index)->first_seq > seq) return ND_EMPTY;
    if (run_is_cold(run_at(ring, index))) return ND_COLD;
    if (!nd_runs_reserve(ring, 1)) return ND_ERR_FULL;

    run *item = run_at(ring, index);
    if (item->known != NULL) return isolate_known(ring, index, seq, out);
    nd_cut at;
    const int is_found = nd_cut_at(ring, item, seq, NULL, &at);
    if (is_found && at.rest.first_seq != seq) return ND_EMPTY;
    nd_cut end = at;
    nd_cut_move(&end, item, 1);
    if (is_found && at.rest.records < item->count) {
        remove_inside(ring, index, &at, 1, out);
    } else if (is_found && end.rest.records > 0) {
        run_cut_front(item, &end, out);
    } else {                            /* nothing behind a damaged length can be found */
        run_count_whole(item, out);
        runs_remove(ring, index, index + 1);
    }
    isolated(ring, out);
    return ND_OK;
}
