/* nd_known_run.c -- which records a run has, and closing the gaps between them.
 *
 *      known   [ 7 ][ 9 ][ 12 ][ 13 ]
 *      chunk   [ 7 ] gap [  9  ] gap [ 12 ][ 13 ]
 *
 * A record that leaves is taken off the list; its bytes stay where they lie, so that taking
 * many out of many runs touches lists only.  A run closes up when somebody reads it; and two
 * neighbours that have become thin are joined in one chunk, so that memory follows what
 * the ring holds: of any two that could be, more than half is in use.
 */

#include <string.h>

#include "nd_form.h"
#include "nd_residency_inside.h"
#include "nd_supersede.h"

#define KNOWN_MIN      8u
#define JOIN_TURNS_MAX 256u     /* pairs looked at by one append: a microsecond */

/* --- knowing ------------------------------------------------------------------------- */

static uint64_t list_bytes(uint32_t capacity)
{
    return sizeof(known_list) + (uint64_t)capacity * sizeof(known_record);
}

/* What is known of a run counts among what is known of cold ones, or no more. */
static void count_known(nd_ring *ring, run *item, uint32_t is_counted)
{
    if (item->known->is_counted == is_counted) return;
    nd_residency *residency = nd_pool_residency(ring->pool);
    const uint64_t bytes = list_bytes(item->known->capacity);
    item->known->is_counted = is_counted;
    if (is_counted) {
        residency->known_bytes += bytes;
    } else {
        residency->known_bytes -= bytes;
        residency->is_known_full = 0;
    }
}

void nd_run_forget(nd_ring *ring, run *item)
{
    if (item->known == NULL) return;
    count_known(ring, item, 0);
    nd_pool_release(ring->pool, item->known, list_bytes(item->known->capacity));
    item->known = NULL;
}

int nd_run_know_more(nd_ring *ring, run *item, uint32_t count, uint64_t first_seq)
{
    known_list *old = item->known;
    if (old != NULL && old->head + count <= old->capacity) return 1;
    uint32_t capacity = KNOWN_MIN;
    while (capacity < count) capacity *= 2;                     /* at most 20 turns: a chunk's records */
    known_list *list = nd_pool_allocate(ring->pool, list_bytes(capacity));
    if (list == NULL) return 0;
    list->base_seq = old != NULL ? old->base_seq : first_seq;
    list->capacity = capacity;
    if (old != NULL) {
        const uint32_t kept = old->capacity - old->head < count ? old->capacity - old->head : count;
        list->old = old->old;
        memcpy(list->records, old->records + old->head, kept * sizeof *list->records);
        nd_pool_release(ring->pool, old, list_bytes(old->capacity));
    }
    item->known = list;
    return 1;
}

static int write_down(const nd_ring *ring, run *item)
{
    nd_span span = nd_run_span(item);
    for (uint32_t i = 0; i < item->count; i++) {                /* the run's records */
        const uint32_t offset = span.offset;
        const nd_record *record = nd_span_next(&span);
        if (record == NULL || !nd_header_is_possible(record)) return 0;
        *known_at(item, i) = (known_record){
            .hash = nd_resource_hash(ring->pool, record->kind, nd_record_body(record), record->body_bytes, record->ep_bytes),
            .seq = (record->seq - item->known->base_seq) & (ND_KNOWN_SEQS - 1),
            .at = (offset / 8) & 0x3ffff,
            .bytes = (nd_record_stored_bytes(record->body_bytes) / 8) & 0x7ffff,
        };
    }
    return 1;
}

int nd_run_know(nd_ring *ring, run *item)
{
    if (item->known == NULL) {
        if (run_is_dense(item) && !ring->keeps_latest) return 1;
        if (item->last_seq - item->first_seq >= ND_KNOWN_SEQS) return 0;
        known_list *unwritten = NULL;
        run copy = *item;
        copy.known = NULL;
        if (!nd_run_know_more(ring, &copy, item->count, item->first_seq)) return 0;
        unwritten = copy.known;
        item->known = unwritten;
        if (!write_down(ring, item)) {
            nd_run_forget(ring, item);
            return 0;
        }
    }
    nd_residency *residency = nd_pool_residency(ring->pool);
    nd_pool_stats_t pool;
    nd_pool_stats(ring->pool, &pool);
    const int is_bound = ring->overflow == ND_OVERFLOW_KEEP_LATEST;    /* what is being restored has to go somewhere */
    if (is_bound && residency->known_bytes + list_bytes(item->known->capacity) > pool.bytes_max / ND_KNOWN_SHARE) {
        residency->is_known_full = 1;
        return 0;
    }
    count_known(ring, item, 1);
    return 1;
}

uint32_t nd_run_known_before(const run *item, uint64_t seq)
{
    if (seq <= item->first_seq) return 0;
    if (seq > item->last_seq) return item->count;
    if (run_is_dense(item)) return (uint32_t)(seq - item->first_seq);
    uint32_t low = 0, high = item->count;
    while (low < high) {                                        /* halves: at most 32 turns */
        const uint32_t middle = low + (high - low) / 2;
        if (known_seq(item, known_at(item, middle)) < seq) low = middle + 1;
        else high = middle;
    }
    return low;
}

uint64_t nd_run_known_bytes(const run *item, uint32_t count)
{
    if (count == item->count) return run_bytes(item);
    if (item->gone_bytes == 0) return known_offset(known_at(item, count)) - item->begin;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) bytes += known_bytes(known_at(item, i));
    return bytes;
}

uint64_t nd_run_known_unix_ms(const run *item, const known_record *record)
{
    if (run_is_cold(item)) return 0;
    const nd_record *stored = (const nd_record *)(const void *)(item->chunk + known_offset(record));
    return stored->seq == known_seq(item, record) ? stored->received_unix_ms : 0;
}

/* --- removing ------------------------------------------------------------------------ */

/* The times of a run's first and last record, where they can be seen. */
static void fit_times(run *item)
{
    const uint64_t oldest = nd_run_known_unix_ms(item, known_at(item, 0));
    const uint64_t newest = nd_run_known_unix_ms(item, known_at(item, item->count - 1));
    if (oldest > 0) item->oldest_unix_ms = oldest;
    if (newest > 0) item->newest_unix_ms = newest;
}

void nd_run_fit(nd_ring *ring, run *item, uint64_t bytes)
{
    const known_record *first = known_at(item, 0), *last = known_at(item, item->count - 1);
    item->begin = known_offset(first);
    item->end = known_offset(last) + known_bytes(last);
    item->gone_bytes = (uint32_t)(item->end - item->begin - bytes);
    item->first_seq = known_seq(item, first);
    item->last_seq = known_seq(item, last);
    fit_times(item);
    if (ring->latest != NULL && item->first_seq < ring->latest->thin_seq) ring->latest->thin_seq = item->first_seq;
}

void nd_run_remove_known(nd_ring *ring, run *item, uint32_t from, uint32_t to, nd_removed *removed)
{
    if (from == to) return;
    known_list *list = item->known;
    const known_record *first = known_at(item, from), *last = known_at(item, to - 1);
    const uint64_t first_unix_ms = nd_run_known_unix_ms(item, first), last_unix_ms = nd_run_known_unix_ms(item, last);
    leaving part = {
        .count = to - from,
        .first_seq = known_seq(item, first),
        .last_seq = known_seq(item, last),
        .first_unix_ms = first_unix_ms > 0 ? first_unix_ms : item->oldest_unix_ms,
        .last_unix_ms = last_unix_ms > 0 ? last_unix_ms : item->newest_unix_ms,
    };
    for (uint32_t i = from; i < to; i++) {
        part.bytes += known_bytes(known_at(item, i));
        list->old -= (uint32_t)known_at(item, i)->is_old;
    }
    removed_add(removed, part);
    const uint64_t bytes = run_bytes(item) - part.bytes;
    if (from == 0) list->head += to;
    else memmove(known_at(item, from), known_at(item, to), (item->count - to) * sizeof(known_record));
    item->count -= to - from;
    nd_run_fit(ring, item, bytes);
}

void nd_run_is_back(nd_ring *ring, run *item)
{
    if (item->known == NULL) return;
    fit_times(item);
    if (ring->keeps_latest) count_known(ring, item, 0);
    else nd_run_forget(ring, item);
}

/* --- closing gaps -------------------------------------------------------------------- */

/* Copy a run's records to a place in a chunk, side by side, and know them there. */
static void lay_side_by_side(run *item, uint8_t *chunk, uint32_t to)
{
    for (uint32_t i = 0; i < item->count;) {                    /* records that lie side by side, each turn */
        const uint32_t from = known_offset(known_at(item, i));
        uint32_t bytes = 0;
        for (; i < item->count && known_offset(known_at(item, i)) == from + bytes; i++) {
            known_record *record = known_at(item, i);
            record->at = ((to + bytes) / 8) & 0x3ffff;
            bytes += known_bytes(record);
        }
        if (chunk + to != item->chunk + from) memmove(chunk + to, item->chunk + from, bytes);
        to += bytes;
    }
}

static void has_moved(nd_ring *ring, const run *item)
{
    if (ring->moved_seq < item->last_seq) ring->moved_seq = item->last_seq;
}

int nd_run_close_gaps(nd_ring *ring, run *item)
{
    if (item->known == NULL || item->gone_bytes == 0) return 0;
    lay_side_by_side(item, item->chunk, item->begin);
    item->end -= item->gone_bytes;
    item->gone_bytes = 0;
    has_moved(ring, item);
    return 1;
}

void nd_run_settle_down(nd_ring *ring, uint32_t index)
{
    run *item = run_at(ring, index);
    if (!run_is_cold(item) && nd_run_close_gaps(ring, item)) nd_chunk_open(ring, index);
}

/* --- joining ------------------------------------------------------------------------- */

static int can_join(const run *one, const run *other)
{
    const uint64_t bytes = run_bytes(one) + run_bytes(other);
    if (run_is_cold(one) || run_is_cold(other) || one->known == NULL || other->known == NULL) return 0;
    if (bytes > ND_RUN_CHUNK_BYTES || 2 * bytes > one->chunk_bytes + other->chunk_bytes) return 0;
    return other->last_seq - one->known->base_seq < ND_KNOWN_SEQS;
}

/* Put a run's records, and those of the one behind it, into one chunk.  False: no memory. */
static int join(nd_ring *ring, uint32_t index)
{
    run *one = run_at(ring, index), *other = run_at(ring, index + 1);
    const uint32_t one_bytes = (uint32_t)run_bytes(one), bytes = one_bytes + (uint32_t)run_bytes(other);
    run joined = *one;
    joined.chunk = nd_run_take(ring, bytes, bytes, &joined.chunk_bytes);
    if (joined.chunk == NULL) return 0;
    joined.slot = ND_NOWHERE;
    if (!nd_run_know_more(ring, one, one->count + other->count, 0)) {
        nd_run_give(ring, &joined);
        return 0;
    }
    lay_side_by_side(one, joined.chunk, 0);
    lay_side_by_side(other, joined.chunk, one_bytes);
    known_list *list = joined.known = one->known;
    const uint64_t further = other->known->base_seq - list->base_seq;
    for (uint32_t i = 0; i < other->count; i++) {               /* the run's records */
        known_record *record = known_at(one, one->count + i);
        *record = *known_at(other, i);
        record->seq = (record->seq + further) & (ND_KNOWN_SEQS - 1);
    }
    list->old += other->known->old;
    joined.count += other->count;
    joined.begin = joined.gone_bytes = 0;
    joined.end = bytes;
    joined.last_seq = other->last_seq;
    joined.newest_unix_ms = other->newest_unix_ms;
    nd_run_give(ring, one);
    nd_run_give(ring, other);
    nd_run_forget(ring, other);
    *one = joined;
    memmove(other, other + 1, (ring->count - index - 2) * sizeof *other);
    ring->count--;
    has_moved(ring, one);
    return 1;
}

void nd_runs_join(nd_ring *ring, uint32_t *left)
{
    nd_latest *latest = ring->latest;
    if (latest == NULL) return;
    if (latest->join_seq == UINT64_MAX) {
        latest->join_seq = latest->thin_seq;
        latest->thin_seq = UINT64_MAX;
    }
    if (latest->join_seq == UINT64_MAX || nd_ring_is_leaving(ring)) return;
    uint32_t at = nd_run_reaching(ring, latest->join_seq);
    if (at > 0) at--;                                           /* with the one before it, too */
    for (uint32_t turns = 0; turns < JOIN_TURNS_MAX; turns++) {
        if (at + 2 >= ring->count) {                            /* the last is being written to */
            latest->join_seq = UINT64_MAX;
            return;
        }
        if (!can_join(run_at(ring, at), run_at(ring, at + 1))) {
            at++;
            continue;
        }
        if (*left == 0 || !join(ring, at)) break;
        (*left)--;
    }
    latest->join_seq = run_at(ring, at)->last_seq;
}
