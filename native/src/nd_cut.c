/* nd_cut.c -- walking a run, from a remembered place on if that is one in it. */

#include "nd_cut.h"

static void skip_to(const nd_ring *ring, nd_cut *at, const run *item, const nd_place *place)
{
    if (place->offset == 0 || place->seq <= ring->moved_seq || !run_is_dense(item)) return;
    if (place->seq <= item->first_seq || place->seq > item->last_seq) return;
    if (place->offset <= item->begin || place->offset >= item->end) return;
    const uint32_t bytes = place->offset - at->rest.offset;
    at->rest.bytes_count -= bytes;
    at->rest.records -= (uint32_t)(place->seq - at->rest.first_seq);
    at->rest.bytes += bytes;
    at->rest.first_seq = place->seq;
    at->rest.offset = place->offset;
    at->before_seq = place->seq - 1;
}

/* Where records are known, none has to be walked over. */
static void known_cut(const run *item, uint64_t seq, nd_cut *at)
{
    const uint32_t before = nd_run_known_before(item, seq);
    if (before == 0) return;
    const uint32_t bytes = (uint32_t)nd_run_known_bytes(item, before);
    at->rest.bytes += bytes;
    at->rest.bytes_count -= bytes;
    at->rest.offset += bytes;
    at->rest.records -= before;
    if (before < item->count) at->rest.first_seq = known_seq(item, known_at(item, before));
    at->before_seq = known_seq(item, known_at(item, before - 1));
    at->before_unix_ms = nd_run_known_unix_ms(item, known_at(item, before - 1));
}

int nd_cut_at(const nd_ring *ring, const run *item, uint64_t seq, const nd_place *hint, nd_cut *out)
{
    if (run_is_cold(item)) return 0;
    *out = nd_cut_of(item);
    if (item->known != NULL) {
        known_cut(item, seq, out);
        return 1;
    }
    if (hint != NULL && hint->seq <= seq) skip_to(ring, out, item, hint);
    while (out->rest.records > 0 && out->rest.first_seq < seq) {        /* at most the run's records */
        const nd_record *record = nd_span_next(&out->rest);
        if (record == NULL) return 0;
        out->before_seq = record->seq;
        out->before_unix_ms = record->received_unix_ms;
    }
    return 1;
}

void nd_cut_move(nd_cut *at, const run *item, uint64_t bytes_min)
{
    const uint32_t begin = at->rest.offset;
    while (at->rest.records > 0 && at->rest.offset - begin < bytes_min) {       /* at most the run's records */
        const nd_record *record = nd_span_next(&at->rest);
        if (record == NULL) {
            at->rest.records = 0;
        } else {
            at->before_seq = record->seq;
            at->before_unix_ms = record->received_unix_ms;
        }
    }
    if (at->rest.records > 0) return;
    at->rest.bytes = item->chunk + item->end;
    at->rest.offset = item->end;
    at->before_seq = item->last_seq;
    at->before_unix_ms = item->newest_unix_ms;
}
