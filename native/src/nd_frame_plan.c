/* nd_frame_plan.c -- which records make up a batch, and how long it will be. */

#include "nd_frame.h"

#include <string.h>

#include "nd_ep_table.h"
#include "nd_form.h"
#include "nd_frame_inside.h"

#define FORMS_ALL 63u

struct nd_framer {
    nd_ep_table table;
};

nd_status nd_framer_open(nd_pool *pool, nd_framer **out)
{
    if (pool == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_framer *framer = nd_pool_allocate(pool, sizeof *framer);
    if (framer == NULL) return ND_ERR_FULL;
    framer->table.pool = pool;
    *out = framer;
    return ND_OK;
}

void nd_framer_close(nd_framer *framer)
{
    if (framer == NULL) return;
    nd_pool *pool = framer->table.pool;
    nd_ep_table_free(&framer->table);
    nd_pool_release(pool, framer, sizeof *framer);
}

typedef struct {
    nd_batch *batch;
    uint8_t   order_of[ND_KINDS];       /* place in batch->kinds, or ND_KINDS */
    uint64_t  hash_key;
    uint64_t  timestamp;                /* whose digits are counted */
    uint32_t  timestamp_bytes;
} plan;

static plan plan_begin(uint64_t incarnation, nd_batch *batch, uint32_t form)
{
    *batch = (nd_batch){.form = (uint8_t)form};
    plan p = {.batch = batch, .hash_key = incarnation, .timestamp_bytes = 1};
    memset(p.order_of, ND_KINDS, sizeof p.order_of);
    return p;
}

/* What a message adds around the arrays: braces, and commas between arrays. */
static uint64_t envelope_bytes(uint32_t kinds_count, uint32_t form)
{
    return (form & ND_FORM_MIXED_KINDS) != 0 ? 1u + kinds_count : 2u * kinds_count;
}

/* By how much a record makes the batch longer. */
static uint64_t growth(plan *p, const nd_record *record)
{
    if (record->received_unix_ms != p->timestamp) {
        p->timestamp = record->received_unix_ms;
        p->timestamp_bytes = nd_decimal_bytes(p->timestamp);
    }
    const nd_batch *batch = p->batch;
    const uint64_t bytes = nd_emitted_bytes(record, batch->form, p->timestamp_bytes);
    if (p->order_of[record->kind] < ND_KINDS) return bytes + 1;
    const uint64_t envelope = envelope_bytes(batch->kinds_count + 1u, batch->form)
                              - (batch->kinds_count > 0 ? envelope_bytes(batch->kinds_count, batch->form) : 0);
    return bytes + envelope + nd_array_head_of(record->kind).bytes + 1;
}

static void plan_take(plan *p, const nd_record *record, uint64_t bytes)
{
    nd_batch *batch = p->batch;
    if (batch->events == 0) batch->first_seq = record->seq;
    if (p->order_of[record->kind] == ND_KINDS) {
        p->order_of[record->kind] = batch->kinds_count;
        batch->kinds[batch->kinds_count] = record->kind;
        batch->kinds_count++;
    }
    const uint32_t order = p->order_of[record->kind];
    batch->kind_events[order]++;
    batch->kind_bytes[order] += bytes;
    batch->bytes_count += bytes;
    batch->last_seq = record->seq;
    batch->events++;
}

/* kind_bytes were summed with their share of the envelope; take it out again. */
static void plan_end(plan *p)
{
    nd_batch *batch = p->batch;
    for (uint32_t i = 0; i < batch->kinds_count; i++) {
        batch->kind_bytes[i] -= envelope_bytes(i + 1, batch->form) - (i > 0 ? envelope_bytes(i, batch->form) : 0);
    }
    nd_batch_rewind(batch);
}

/* A batch's records are in flight from now on. */
static void hold(nd_ring *ring, const nd_batch *batch)
{
    nd_ring_hold(ring, (nd_place){.seq = batch->last_seq + 1, .offset = batch->end_offset});
}

/* Whether a record may join the slice without passing an earlier one of its device;
 * if so, what later ones must know of it is remembered. */
static int keeps_order(nd_framer *framer, const plan *p, const nd_record *record)
{
    const nd_batch *batch = p->batch;
    if (record->ep_bytes == 0 || batch->kinds_count == 0) return 1;
    const uint32_t known = p->order_of[record->kind];
    const uint32_t order = known < ND_KINDS ? known : batch->kinds_count;
    if (order == 0 && framer->table.in_use == 0) return 1;
    const uint64_t hash = nd_ep_hash(record, p->hash_key);
    if (nd_ep_table_order(&framer->table, hash) > order) return 0;
    return order == 0 || nd_ep_table_put(&framer->table, hash, order);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

nd_status nd_frame_plan_from(nd_framer *framer, const nd_frame_source *source, nd_place place, const nd_slice *slice,
                             nd_batch *out)
{
    plan p = plan_begin(source->incarnation, out, slice->form);
    framer->table.in_use = 0;
    out->next_seq = slice->after_seq + 1;
    nd_span span = {0};
    uint64_t limit = 0;
    int is_cut = 0;
    while (!is_cut && out->events < slice->events_max) {        /* a span each turn */
        const nd_status status = source->span(source->records, out->next_seq, &place, &span);
        if (status == ND_EMPTY || (status == ND_COLD && out->events > 0)) break;
        if (status != ND_OK) return status;
        if (out->events == 0) limit = smaller(slice->upto_seq, source->slice_limit(source->records, span.first_seq));
        while (span.records > 0 && out->events < slice->events_max) {   /* a record each turn */
            is_cut = span.first_seq > limit;
            if (is_cut) break;
            const uint32_t before = span.offset;
            out->next_seq = span.first_seq;
            const nd_record *record = nd_span_next(&span);
            if (record == NULL || !nd_header_is_possible(record)) return ND_ERR_CORRUPT;
            const uint64_t bytes = growth(&p, record);
            is_cut = out->events > 0 && out->bytes_count + bytes > slice->bytes_max;
            is_cut = is_cut || !keeps_order(framer, &p, record);
            if (is_cut) {
                out->end_offset = before;
                break;
            }
            plan_take(&p, record, bytes);
            out->end_offset = span.offset;
        }
        out->next_seq = span.first_seq;
    }
    if (out->events == 0) return ND_EMPTY;
    plan_end(&p);
    return ND_OK;
}

nd_status nd_frame_plan(nd_framer *framer, nd_ring *ring, const nd_slice *slice, nd_batch *out)
{
    if (framer == NULL || ring == NULL || slice == NULL || out == NULL) return ND_ERR_ARGUMENT;
    if (slice->events_max == 0 || slice->form > FORMS_ALL) return ND_ERR_ARGUMENT;
    const nd_frame_source source = nd_frame_source_of(ring);
    const nd_status status = nd_frame_plan_from(framer, &source, nd_ring_slice_end(ring), slice, out);
    if (status != ND_OK) return status;
    out->epoch = nd_ring_epoch_of(ring, out->first_seq);
    hold(ring, out);
    return ND_OK;
}

int nd_frame_hold(nd_ring *ring, const nd_slice *slice, const nd_batch *batch)
{
    const uint64_t limit = smaller(slice->upto_seq, nd_ring_slice_limit(ring, batch->first_seq));
    const int is_there = batch->events > 0 && nd_ring_next_seq(ring, slice->after_seq + 1) == batch->first_seq
                         && nd_ring_epoch_of(ring, batch->first_seq) == batch->epoch && batch->last_seq <= limit
                         && nd_batch_is_whole(ring, batch);
    if (is_there) hold(ring, batch);
    return is_there;
}

nd_status nd_frame_plan_exact(nd_ring *ring, uint64_t first_seq, uint64_t last_seq,
                              uint64_t events, uint32_t form, nd_batch *out)
{
    if (ring == NULL || out == NULL || form > FORMS_ALL) return ND_ERR_ARGUMENT;
    if (first_seq == 0 || last_seq < first_seq) return ND_ERR_ARGUMENT;
    plan p = plan_begin(nd_ring_incarnation(ring), out, form);
    out->next_seq = first_seq;
    while (out->next_seq <= last_seq) {                         /* a span each turn */
        nd_span span;
        const nd_status status = nd_ring_span(ring, out->next_seq, NULL, &span);
        if (status == ND_COLD && nd_ring_next_seq(ring, out->next_seq) > last_seq) return ND_ERR_TRIMMED;
        if (status == ND_ERR_CORRUPT || status == ND_COLD) return status;
        if (status == ND_EMPTY || (out->events == 0 && span.first_seq != first_seq)) return ND_ERR_TRIMMED;
        while (span.records > 0 && span.first_seq <= last_seq) {        /* a record each turn */
            out->next_seq = span.first_seq;
            const nd_record *record = nd_span_next(&span);
            if (record == NULL || !nd_header_is_possible(record)) return ND_ERR_CORRUPT;
            plan_take(&p, record, growth(&p, record));
            out->end_offset = span.offset;
        }
        out->next_seq = span.first_seq;
    }
    if (out->last_seq != last_seq || (events != 0 && out->events != events)) return ND_ERR_TRIMMED;
    plan_end(&p);
    out->epoch = nd_ring_epoch_of(ring, out->first_seq);
    hold(ring, out);
    return ND_OK;
}
