/* nd_fetch.c -- memory for cold chunks, filled, and put into the ring. */

#include "nd_fetch.h"

#include <string.h>

#include "nd_framed_inside.h"
#include "nd_residency_inside.h"

/* A chunk on its way back, or a copy of one that is in memory. */
typedef struct {
    uint64_t slot;              /* ND_NOWHERE: a copy */
    uint64_t last_seq;          /* of its last run */
    uint32_t begin, end;        /* of what is wanted, in the chunk */
    uint8_t *chunk;
    uint32_t chunk_bytes;
    uint32_t gone;              /* records at begin that are not wanted any more, */
    uint32_t records;           /* and those behind them, side by side to the end; 0: others went from among them */
    uint64_t first_seq;         /* of these */
    uint64_t before_seq;        /* of the last record before the chunk; 0: there is none */
} returning;

struct nd_fetch {
    nd_residency *residency;
    nd_ring      *ring;         /* NULL: closed meanwhile */
    nd_fetch     *next, *previous;
    nd_status     status;
    uint64_t      incarnation;  /* of the ring, which whoever reads does not look at, */
    uint64_t      epoch;        /* of the first record wanted, */
    uint64_t      limit_seq;    /* and how far a slice that begins with it may go */
    uint32_t      count, capacity;
    returning     items[];
};

static size_t bytes_of(uint32_t capacity)
{
    return sizeof(nd_fetch) + capacity * sizeof(returning);
}

static uint32_t chunk_last(const nd_ring *ring, uint32_t index)
{
    while (index + 1 < ring->count && runs_share(run_at(ring, index + 1), run_at(ring, index))) index++;
    return index;
}

/* --- beginning ----------------------------------------------------------------------- */

/* A reach in runs. */
typedef struct {
    uint32_t from, to;          /* to excluded; both at the edges of chunks */
    uint32_t chunks_cold;
} stretch;

static stretch stretch_of(const nd_ring *ring, const nd_reach *reach)
{
    stretch s = {.from = nd_run_reaching(ring, reach->first_seq)};
    if (s.from < ring->count) s.from = chunk_first(ring, s.from);
    s.to = s.from;
    uint64_t bytes = 0, records = 0;
    while (s.to < ring->count && bytes < reach->bytes_max && records < reach->records_max) {    /* a chunk each turn */
        const run *item = run_at(ring, s.to);
        if (item->first_seq > reach->last_seq) break;
        if (reach->is_for_slice && s.to > s.from && !run_is_cold(item)) break;
        if (run_is_cold(item)) s.chunks_cold++;
        for (uint32_t end = chunk_last(ring, s.to); s.to <= end; s.to++) {
            bytes += run_bytes(run_at(ring, s.to));
            records += run_at(ring, s.to)->count;
        }
    }
    return s;
}

int nd_ring_has_cold(const nd_ring *ring, const nd_reach *reach)
{
    return ring->tenant.runs_cold > 0 && (reach == NULL || stretch_of(ring, reach).chunks_cold > 0);
}

/* A cold chunk of runs from first to last. */
static returning returning_of(const nd_ring *ring, uint32_t first, uint32_t last)
{
    const run *item = run_at(ring, first);
    const int is_whole = first == last && item->gone_bytes == 0;
    return (returning){
        .slot = item->slot,
        .last_seq = run_at(ring, last)->last_seq,
        .begin = item->begin,
        .end = run_at(ring, last)->end,
        .gone = item->gone,
        .records = is_whole ? item->count : 0,
        .first_seq = item->first_seq,
        .before_seq = first > 0 ? run_at(ring, first - 1)->last_seq : 0,
    };
}

/* Copy the records from a seq on that are in memory, side by side.  False: there is no memory. */
static int take_copy(nd_fetch *fetch, uint64_t first_seq, uint64_t *bytes)
{
    nd_span span;
    const nd_place place = nd_ring_slice_end(fetch->ring);
    if (nd_ring_span(fetch->ring, first_seq, &place, &span) != ND_OK) return 1;     /* whoever plans finds out */
    returning *copy = &fetch->items[fetch->count];
    *copy = (returning){
        .slot = ND_NOWHERE,
        .last_seq = span.last_seq,
        .begin = span.offset,
        .end = span.offset + span.bytes_count,
        .records = span.records,
        .first_seq = span.first_seq,
    };
    *bytes += copy->end;
    copy->chunk = nd_pool_take_reserved(fetch->ring->pool, copy->end, &copy->chunk_bytes);
    if (copy->chunk == NULL) return 0;
    memcpy(copy->chunk + copy->begin, span.bytes, span.bytes_count);
    fetch->count++;
    return 1;
}

/* Memory for every cold chunk, and for a copy.  False: there is none; *bytes: how much is wanted in all. */
static int take_memory(nd_fetch *fetch, const stretch *s, const nd_reach *reach, uint64_t *bytes)
{
    nd_ring *ring = fetch->ring;
    *bytes = 0;
    const int is_copied = reach->is_for_slice && !run_is_cold(run_at(ring, s->from));
    int has_all = !is_copied || take_copy(fetch, reach->first_seq, bytes);
    for (uint32_t i = s->from; i < s->to; i++) {                /* a chunk each turn */
        const uint32_t first = i;
        i = chunk_last(ring, i);
        if (!run_is_cold(run_at(ring, first))) continue;
        *bytes += run_at(ring, i)->end;
        if (!has_all) continue;
        returning *next = &fetch->items[fetch->count];
        *next = returning_of(ring, first, i);
        next->chunk = nd_pool_take_reserved(ring->pool, next->end, &next->chunk_bytes);
        has_all = next->chunk != NULL;
        fetch->count += has_all ? 1 : 0;
    }
    return has_all;
}

/* What a fetch is for is not to go to make room for it. */
static void want(nd_ring *ring, const stretch *s)
{
    nd_tenant *tenant = &ring->tenant;
    const uint64_t first_seq = run_at(ring, s->from)->first_seq, last_seq = run_at(ring, s->to - 1)->last_seq;
    if (tenant->fetches == 0 || first_seq < tenant->wanted_first_seq) tenant->wanted_first_seq = first_seq;
    if (tenant->fetches == 0 || last_seq > tenant->wanted_last_seq) tenant->wanted_last_seq = last_seq;
    tenant->fetches++;
}

static void give_memory(nd_fetch *fetch)
{
    for (uint32_t i = 0; i < fetch->count; i++) nd_pool_give(fetch->residency->pool, fetch->items[i].chunk);
    fetch->count = 0;
}

static void free_fetch(nd_fetch *fetch)
{
    const nd_io *io = &fetch->residency->io;
    io->release(io->context, fetch, bytes_of(fetch->capacity));
}

nd_status nd_fetch_begin(nd_ring *ring, const nd_reach *reach, uint64_t *bytes_out, nd_fetch **out)
{
    if (ring->tenant.runs_cold == 0) return ND_EMPTY;
    nd_residency *residency = nd_pool_residency(ring->pool);
    const stretch s = stretch_of(ring, reach);
    if (s.chunks_cold == 0) return ND_EMPTY;
    *bytes_out = 0;
    const uint32_t capacity = s.chunks_cold + 1;                /* and a copy */
    nd_fetch *fetch = residency->io.allocate(residency->io.context, bytes_of(capacity));
    if (fetch == NULL) return ND_ERR_FULL;
    fetch->residency = residency;
    fetch->ring = ring;
    fetch->incarnation = nd_ring_incarnation(ring);
    const uint64_t first_seq = nd_ring_next_seq(ring, reach->first_seq);
    fetch->epoch = nd_ring_epoch_of(ring, first_seq);
    fetch->limit_seq = nd_ring_slice_limit(ring, first_seq);
    fetch->capacity = capacity;
    fetch->status = ND_ERR_IO;                                  /* until it is read */
    want(ring, &s);
    int has_all = take_memory(fetch, &s, reach, bytes_out);
    if (!has_all) {
        give_memory(fetch);
        (void)nd_residency_drop_copies(residency, *bytes_out);
        has_all = take_memory(fetch, &s, reach, bytes_out);
    }
    if (!has_all) {
        nd_pool_stats_t pool;
        nd_pool_stats(ring->pool, &pool);
        give_memory(fetch);
        ring->tenant.fetches--;
        free_fetch(fetch);
        return *bytes_out > pool.bytes_max / ND_RESERVE_SHARE ? ND_NO_ROOM : ND_ERR_FULL;
    }
    fetch->next = residency->fetches;
    if (fetch->next != NULL) fetch->next->previous = fetch;
    residency->fetches = fetch;
    *out = fetch;
    return ND_OK;
}

/* --- reading ------------------------------------------------------------------------- */

void nd_fetch_read(nd_fetch *fetch)
{
    fetch->status = ND_OK;
    for (uint32_t i = 0; i < fetch->count && fetch->status == ND_OK; i++) {
        const returning *item = &fetch->items[i];
        if (item->slot == ND_NOWHERE) continue;
        fetch->status = nd_scratch_read(fetch->residency->scratch, item->slot, item->chunk + item->begin,
                                        item->end - item->begin, item->begin);
    }
}

/* Step over the records of a span that are not in their run any more.  False: a length on the way is damaged. */
static int step_over(nd_span *span, uint32_t gone, uint64_t first_seq)
{
    span->first_seq = ((const nd_record *)(const void *)span->bytes)->seq;
    span->records += gone;
    for (; gone > 0; gone--) {                                  /* a record each turn */
        if (nd_span_next(span) == NULL) return 0;
    }
    return span->first_seq == first_seq;
}

/* The records from a seq on, in memory that nobody else knows of yet; as nd_ring_span. */
static nd_status fetched_span(void *records, uint64_t seq, const nd_place *hint, nd_span *out)
{
    (void)hint;                                                 /* a walk costs the loop nothing here */
    const nd_fetch *fetch = records;
    const returning *item = fetch->items, *const end = item + fetch->count;
    while (item < end && item->last_seq < seq) item++;          /* a chunk each turn */
    if (item == end || item->before_seq >= seq || item->records == 0) return ND_COLD;
    *out = (nd_span){
        .bytes = item->chunk + item->begin,
        .bytes_count = item->end - item->begin,
        .records = item->records,
        .first_seq = item->first_seq,
        .last_seq = item->last_seq,
        .offset = item->begin,
    };
    if (item->gone > 0 && !step_over(out, item->gone, item->first_seq)) return ND_ERR_CORRUPT;
    while (out->records > 0 && out->first_seq < seq) {          /* a record each turn */
        if (nd_span_next(out) == NULL) return ND_ERR_CORRUPT;
    }
    return out->records > 0 ? ND_OK : ND_ERR_CORRUPT;
}

static uint64_t fetched_limit(void *records, uint64_t seq)
{
    (void)seq;
    const nd_fetch *fetch = records;
    return fetch->limit_seq;
}

static nd_frame_source source_of(nd_fetch *fetch)
{
    return (nd_frame_source){
        .span = fetched_span,
        .slice_limit = fetched_limit,
        .records = fetch,
        .crc = nd_pool_crc(fetch->residency->pool),
        .incarnation = fetch->incarnation,
    };
}

void nd_fetch_read_on(nd_fetch *fetch, const nd_batch *batch, uint64_t bytes_max, nd_framed **out)
{
    nd_fetch_read(fetch);
    if (fetch->status != ND_OK || *out != NULL) return;
    const nd_frame_source source = source_of(fetch);
    *out = nd_framed_write(&fetch->residency->io, &source, batch, bytes_max);
}

void nd_fetch_slice(nd_fetch *fetch, const nd_slice *slice, uint64_t bytes_max, nd_batch *batch, nd_framed **out)
{
    nd_fetch_read(fetch);
    if (fetch->status != ND_OK || *out != NULL) return;
    nd_framer *framer;
    if (nd_framer_open(fetch->residency->pool, &framer) != ND_OK) return;
    const nd_frame_source source = source_of(fetch);
    const nd_status status = nd_frame_plan_from(framer, &source, (nd_place){0}, slice, batch);
    nd_framer_close(framer);
    if (status != ND_OK) return;
    batch->epoch = fetch->epoch;
    *out = nd_framed_write(&fetch->residency->io, &source, batch, bytes_max);
}

/* --- ending -------------------------------------------------------------------------- */

/* Step over what went while a run was cold; how many bytes that were.  When a length on
 * the way is damaged, all is left: whoever reads the run will see it. */
static uint64_t step_over_gone(run *item)
{
    nd_span span = nd_run_span(item);
    const int is_sound = step_over(&span, item->gone, item->first_seq);
    item->gone = 0;
    if (!is_sound) return 0;
    const uint64_t bytes = span.offset - item->begin;
    item->begin = span.offset;
    const nd_record *oldest = nd_span_next(&span);
    if (oldest != NULL) item->oldest_unix_ms = oldest->received_unix_ms;
    return bytes;
}

/* Put a chunk into the ring, as far as records of it are left.  False: none are.  The slot
 * tells: those of the ring are given to no other chunk of it while it is being fetched for. */
static int put(nd_ring *ring, const returning *item, uint64_t *gone_bytes)
{
    uint32_t index = nd_run_reaching(ring, item->last_seq);
    if (index == ring->count || run_at(ring, index)->slot != item->slot) {
        if (index == 0) return 0;
        index--;                                                /* the last records went, not all */
        if (run_at(ring, index)->slot != item->slot) return 0;
    }
    if (!run_is_cold(run_at(ring, index))) return 0;
    int has_moved = 0;
    for (uint32_t i = chunk_first(ring, index), end = chunk_last(ring, index); i <= end; i++) {
        run *back = run_at(ring, i);
        back->chunk = item->chunk;
        back->chunk_bytes = item->chunk_bytes;
        ring->tenant.runs_cold--;
        has_moved |= nd_run_close_gaps(ring, back);
        nd_run_is_back(ring, back);
        if (back->gone > 0) *gone_bytes += step_over_gone(back);
    }
    ring->tenant.chunks++;
    ring->tenant.copies++;
    if (has_moved) nd_chunk_open(ring, index);
    return 1;
}

static void put_all(nd_fetch *fetch, nd_fetched *out)
{
    nd_ring *ring = fetch->ring;
    for (uint32_t i = 0; i < fetch->count; i++) {
        if (!put(ring, &fetch->items[i], &out->gone_bytes)) nd_pool_give(ring->pool, fetch->items[i].chunk);
    }
    fetch->count = 0;
    ring->bytes -= out->gone_bytes;
    nd_ring_recount_held(ring);
    out->expire_unix_ms = ring->tenant.expire_unix_ms;
    ring->tenant.expire_unix_ms = 0;
}

nd_status nd_fetch_end(nd_fetch *fetch, nd_fetched *out)
{
    *out = (nd_fetched){0};
    nd_ring *ring = fetch->ring;
    const nd_status status = fetch->status;
    if (ring != NULL) {
        ring->tenant.fetches--;
        if (status == ND_OK) put_all(fetch, out);
        nd_tenant_changed(ring);
    }
    give_memory(fetch);
    if (fetch->previous != NULL) fetch->previous->next = fetch->next;
    else fetch->residency->fetches = fetch->next;
    if (fetch->next != NULL) fetch->next->previous = fetch->previous;
    free_fetch(fetch);
    return status;
}

void nd_fetches_forget(nd_residency *residency, const nd_ring *ring)
{
    for (nd_fetch *fetch = residency->fetches; fetch != NULL; fetch = fetch->next) {
        if (fetch->ring == ring) fetch->ring = NULL;
    }
}
