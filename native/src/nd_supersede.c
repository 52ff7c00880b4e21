/* nd_supersede.c -- mark from the oldest on, sweep downwards in place.
 *
 * Sweeping in place needs no memory.  Survivors are put into the chunks of the waiting
 * runs in their order, so none is ever put behind the place that it is taken from: its
 * own chunk has room for it, and a chunk is filled from another only when all of its own
 * records were taken.  A run is made for each chunk that is filled, so runs too are
 * written over old ones that were read before.
 */

#include "nd_supersede.h"

#include <string.h>

#include "nd_assert.h"
#include "nd_form.h"
#include "nd_mix.h"
#include "nd_ring_inside.h"

#define ENTRIES_MIN 256u
#define PATH_HEAD   "\",\"path\":\""

/* --- marking ----------------------------------------------------------------------- */

/* Length of a notification's ep and path, and what stands between them, from the ep on.
 * Escapes are canonical, so two resources are the same when these bytes are.  0: no path. */
static uint32_t key_bytes_of(const uint8_t *body, uint32_t body_bytes, uint32_t ep_bytes)
{
    const uint32_t key_at = ND_LITERAL_BYTES(ND_BODY_HEAD);
    uint64_t at = (uint64_t)key_at + ep_bytes;
    if (at + ND_LITERAL_BYTES(PATH_HEAD) > body_bytes) return 0;
    if (memcmp(body + at, PATH_HEAD, ND_LITERAL_BYTES(PATH_HEAD)) != 0) return 0;
    at += ND_LITERAL_BYTES(PATH_HEAD);
    while (at < body_bytes && body[at] != '"') at += body[at] == '\\' ? 2 : 1;         /* at most the body */
    return at < body_bytes ? (uint32_t)at - key_at : 0;
}

nd_candidate nd_candidate_of(const nd_ring *ring, uint32_t kind, const uint8_t *body, uint32_t body_bytes,
                             uint32_t ep_bytes)
{
    const uint32_t key_bytes = kind == ND_KIND_NOTIFICATION ? key_bytes_of(body, body_bytes, ep_bytes) : 0;
    if (key_bytes == 0) return (nd_candidate){0};
    const uint8_t *key = body + ND_LITERAL_BYTES(ND_BODY_HEAD);
    const uint64_t hash = nd_hash_bytes(key, key_bytes, ring->incarnation);
    return (nd_candidate){.hash = hash > 0 ? hash : 1, .key = key, .key_bytes = key_bytes};
}

static nd_candidate *first_entry_of(const nd_marking *marking, uint64_t hash)
{
    return &marking->entries[(uint32_t)(hash >> 32) & (marking->size - 1)];
}

/* Whether two are one resource.  Of what is cold no name is at hand: there the hash decides. */
static int is_same(const nd_candidate *a, const nd_candidate *b)
{
    if (a->hash != b->hash) return 0;
    if (a->key == NULL || b->key == NULL) return 1;
    return a->key_bytes == b->key_bytes && memcmp(a->key, b->key, a->key_bytes) == 0;
}

/* The entry of a resource, or the free one where it belongs. */
static nd_candidate *entry_of(const nd_marking *marking, const nd_candidate *wanted)
{
    nd_candidate *entry = first_entry_of(marking, wanted->hash);
    const nd_candidate *const end = marking->entries + marking->size;
    while (entry->hash != 0) {                         /* ends: half of the entries are free */
        if (is_same(entry, wanted)) break;
        entry++;
        if (entry == end) entry = marking->entries;
    }
    return entry;
}

static void entries_free(nd_marking *marking)
{
    if (marking->entries == NULL) return;
    nd_pool_release(marking->ring->pool, marking->entries, marking->size * sizeof *marking->entries);
    marking->entries = NULL;
}

static int entries_grow(nd_marking *marking)
{
    nd_candidate *old = marking->entries;
    const uint32_t old_size = marking->size, size = old_size > 0 ? old_size * 2 : ENTRIES_MIN;
    nd_candidate *entries = nd_pool_allocate(marking->ring->pool, size * sizeof *entries);
    if (entries == NULL) return 0;
    marking->entries = entries;
    marking->size = size;
    for (uint32_t i = 0; i < old_size; i++) {
        if (old[i].hash != 0) *entry_of(marking, &old[i]) = old[i];
    }
    if (old != NULL) nd_pool_release(marking->ring->pool, old, old_size * sizeof *old);
    return 1;
}

/* Enter the candidates ahead, in their order: each marks the one of its resource before it.
 * Entries, and names to compare with, come from memory for all at once.  False: no memory. */
static int enter_ahead(nd_marking *marking)
{
    const uint32_t count = marking->ahead_count;
    if (2 * ((uint64_t)marking->filled + count) > marking->size && !entries_grow(marking)) return 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *key = first_entry_of(marking, marking->ahead[i].hash)->key;
        if (key != NULL) __builtin_prefetch(key);
    }
    for (uint32_t i = 0; i < count; i++) {
        nd_candidate *entry = entry_of(marking, &marking->ahead[i]);
        if (entry->hash != 0) marking->out->gone[entry->number / 64] |= 1ull << (entry->number % 64);
        else marking->filled++;
        *entry = marking->ahead[i];
    }
    marking->ahead_count = 0;
    return 1;
}

/* A record in its turn.  False: no memory. */
static int mark(nd_marking *marking, nd_candidate candidate)
{
    const uint64_t number = marking->next++;
    if (candidate.hash == 0) return 1;
    if (marking->entries != NULL) __builtin_prefetch(first_entry_of(marking, candidate.hash));
    candidate.number = (uint32_t)number;
    marking->ahead[marking->ahead_count] = candidate;
    marking->ahead_count++;
    return marking->ahead_count < ND_CANDIDATES_AHEAD || enter_ahead(marking);
}

/* The first known record of a cold run that is not in flight; its count when there is none, or none is known. */
static uint32_t first_waiting(const nd_ring *ring, const run *item)
{
    if (item->known == NULL) return item->count;
    return item->first_seq > ring->in_flight_seq ? 0 : nd_run_known_before(item, ring->in_flight_seq + 1);
}

/* False: no memory. */
static int mark_known(nd_marking *marking, const run *item)
{
    for (uint32_t i = first_waiting(marking->ring, item); i < item->count; i++) {       /* the run's records */
        if (!mark(marking, (nd_candidate){.hash = item->known[i].hash})) return 0;
    }
    return 1;
}

/* The records of the runs in which there are some not in flight.  1; 0: no memory; -1: damage. */
static int mark_waiting(nd_marking *marking)
{
    const nd_ring *ring = marking->ring;
    for (uint32_t i = nd_run_reaching(ring, ring->in_flight_seq + 1); i < ring->count; i++) {
        const run *item = run_at(ring, i);
        if (run_is_cold(item)) {
            if (!mark_known(marking, item)) return 0;
            continue;
        }
        nd_span span = nd_run_span(item);
        while (span.records > 0) {                              /* the run's records */
            const nd_record *record = nd_span_next(&span);
            if (record == NULL || !nd_header_is_possible(record)) return -1;
            if (record->seq <= ring->in_flight_seq) continue;
            if (!mark(marking, nd_candidate_of(ring, record->kind, nd_record_body(record), record->body_bytes,
                                              record->ep_bytes))) {
                return 0;
            }
        }
        if (span.bytes_count != 0) return -1;
    }
    return 1;
}

int nd_marking_begin(nd_marking *marking, const nd_ring *ring, uint64_t new_count, nd_superseded *out)
{
    *marking = (nd_marking){.ring = ring, .out = out};
    *out = (nd_superseded){0};
    const uint64_t records = ring->records + new_count;
    if (records > UINT32_MAX) return 1;                         /* numbers have 32 bits; no machine holds as many */
    out->words = records / 64 + 1;
    out->gone = nd_pool_allocate(ring->pool, out->words * sizeof *out->gone);
    if (out->gone == NULL) return 0;
    const int marked = mark_waiting(marking);
    if (marked < 1) nd_superseded_free(out, ring->pool);
    out->waiting = marking->next;
    return marked != 0;
}

int nd_marking_add(nd_marking *marking, const uint8_t *body, uint64_t meta)
{
    if (marking->out->gone == NULL) return 1;
    if (body == NULL) {
        marking->next++;
        return 1;
    }
    return mark(marking, nd_candidate_of(marking->ring, nd_meta_kind(meta), body, nd_meta_body_bytes(meta),
                                        nd_meta_ep_bytes(meta)));
}

/* Counting what goes, while it lasts. */
typedef struct {
    nd_superseded *out;
    uint64_t holes_max;
    uint64_t number;            /* of the next record that is not in flight */
    int      was_gone;
} counting;

static void count_one(counting *c, uint64_t bytes)
{
    nd_superseded *out = c->out;
    const uint64_t number = c->number++;
    if (nd_is_gone(out, number) && !c->was_gone && out->holes == c->holes_max) {
        out->gone[number / 64] &= ~(1ull << (number % 64));
    }
    const int goes = nd_is_gone(out, number);
    if (goes) out->bytes += bytes;
    if (goes && !c->was_gone) out->holes++;
    c->was_gone = goes;
}

int nd_marking_end(nd_marking *marking, uint64_t holes_max)
{
    nd_superseded *out = marking->out;
    const int has_memory = out->gone == NULL || enter_ahead(marking);
    entries_free(marking);
    if (out->gone == NULL || !has_memory) return has_memory;
    const nd_ring *ring = marking->ring;
    counting c = {.out = out, .holes_max = holes_max};
    for (uint32_t i = nd_run_reaching(ring, ring->in_flight_seq + 1); i < ring->count; i++) {
        const run *item = run_at(ring, i);
        if (run_is_cold(item)) {
            if (item->known == NULL) c.was_gone = 0;
            for (uint32_t k = first_waiting(ring, item); k < item->count; k++) count_one(&c, item->known[k].bytes);
            continue;
        }
        nd_span span = nd_run_span(item);
        while (span.records > 0) {                              /* the run's records */
            const nd_record *record = nd_span_next(&span);
            if (record->seq > ring->in_flight_seq) count_one(&c, nd_record_stored_bytes(record->body_bytes));
        }
    }
    return 1;
}

void nd_superseded_free(nd_superseded *superseded, nd_pool *pool)
{
    if (superseded->gone != NULL) nd_pool_release(pool, superseded->gone, superseded->words * sizeof *superseded->gone);
    *superseded = (nd_superseded){0};
}

/* --- sweeping ---------------------------------------------------------------------- */

/* Where the next survivor goes: behind those in a run, which lies in the chunk that a run
 * further on, or the same, had before. */
typedef struct {
    nd_ring *ring;
    uint32_t to;                /* the run that is being filled */
    uint32_t chunk_of;          /* the first run that had its chunk; those before are written over */
    uint32_t end;               /* of the runs that are swept together */
} target;

static void chunk_begin(const target *t)
{
    run *item = run_at(t->ring, t->to);
    const run old = *run_at(t->ring, t->chunk_of);
    *item = (run){.chunk = old.chunk, .slot = ND_NOWHERE, .chunk_bytes = old.chunk_bytes};
}

/* Leave the chunk that is being filled; it goes back when nothing was put into it. */
static void chunk_end(target *t)
{
    const run *item = run_at(t->ring, t->to);
    const int is_shared = t->to > 0 && run_at(t->ring, t->to - 1)->chunk == item->chunk;
    if (item->count > 0) t->to++;
    else if (!is_shared) nd_run_give(t->ring, item);
}

/* The first run behind that had another chunk; the end when there is none. */
static uint32_t next_chunk_of(const target *t, const uint8_t *chunk)
{
    uint32_t next = t->chunk_of + 1;
    while (next < t->end && run_at(t->ring, next)->chunk == chunk) next++;
    return next;
}

static void put(target *t, const run *source, const nd_record *record, uint32_t bytes)
{
    run *item = run_at(t->ring, t->to);
    while (item->chunk != source->chunk && item->chunk_bytes - item->end < bytes) {     /* a chunk each turn */
        const uint32_t next = next_chunk_of(t, item->chunk);
        chunk_end(t);
        t->chunk_of = next;
        chunk_begin(t);
        item = run_at(t->ring, t->to);
    }
    if (item->count == 0) {
        item->first_seq = record->seq;
        item->oldest_unix_ms = record->received_unix_ms;
    }
    item->last_seq = record->seq;
    item->newest_unix_ms = record->received_unix_ms;
    if (item->chunk + item->end != (const uint8_t *)record) memmove(item->chunk + item->end, record, bytes);
    item->end += bytes;
    item->count++;
}

/* All survivors are put: give back the chunks behind. */
static void target_end(target *t)
{
    const uint8_t *chunk = run_at(t->ring, t->to)->chunk;
    uint32_t next = next_chunk_of(t, chunk);
    chunk_end(t);
    while (next < t->end) {                                     /* a chunk each turn */
        const run *left_over = run_at(t->ring, next);
        t->chunk_of = next;
        next = next_chunk_of(t, left_over->chunk);
        nd_run_give(t->ring, left_over);
    }
}

/* A sweep, while it lasts. */
typedef struct {
    const nd_superseded *superseded;
    uint64_t    number;         /* of the next record that is not in flight */
    nd_hole    *holes;          /* NULL, or room for the next one */
    nd_hole    *hole;           /* that goes on; NULL: none does */
    nd_removed *out;
} sweep;

/* Whether a record goes; if so, count it. */
static int goes(sweep *s, leaving record)
{
    const uint64_t number = s->number++;
    if (number >= s->superseded->waiting || !nd_is_gone(s->superseded, number)) return 0;
    removed_add(s->out, record);
    if (s->holes != NULL && s->hole == NULL) *(s->hole = s->holes++) = (nd_hole){.first_seq = record.first_seq};
    if (s->hole != NULL) s->hole->last_seq = record.last_seq;
    return 1;
}

/* Take what is marked off the list of a cold run; its records stay where they lie until it is back. */
static void sweep_known(const nd_ring *ring, sweep *s, run *item)
{
    if (item->known == NULL) s->hole = NULL;
    const uint32_t first = first_waiting(ring, item);
    uint32_t to = first;
    uint64_t bytes = 0;
    for (uint32_t i = first; i < item->count; i++) {            /* the run's records */
        const cold_record record = item->known[i];
        const leaving one = {
            .count = 1, .bytes = record.bytes,
            .first_seq = item->first_seq + record.seq, .last_seq = item->first_seq + record.seq,
            .first_unix_ms = item->oldest_unix_ms, .last_unix_ms = item->newest_unix_ms,
        };
        if (goes(s, one)) {
            bytes += record.bytes;
            continue;
        }
        s->hole = NULL;
        item->known[to++] = record;
    }
    nd_run_known_changed(item, item->count - to, bytes);
}

/* Sweep a cold run, and put what is left of it; the run behind that. */
static uint32_t sweep_cold(nd_ring *ring, sweep *s, uint32_t at, uint32_t to)
{
    run *item = run_at(ring, at);
    sweep_known(ring, s, item);
    if (item->count > 0) {
        *run_at(ring, to) = *item;
        return to + 1;
    }
    nd_run_forget(ring, item);
    ring->tenant.runs_cold--;
    const int is_shared = (to > 0 && runs_share(run_at(ring, to - 1), item))
                          || (at + 1 < ring->count && runs_share(run_at(ring, at + 1), item));
    if (!is_shared) nd_run_give(ring, item);
    return to;
}

/* Sweep runs [first, end) of the ring, none of which is cold, and put what survives from a
 * run on that is not behind them; the run behind the last that is left. */
static uint32_t sweep_runs(nd_ring *ring, sweep *s, uint32_t first, uint32_t end, uint32_t to)
{
    target t = {.ring = ring, .to = to, .chunk_of = first, .end = end};
    for (uint32_t i = first; i < end; i++) {
        const run source = *run_at(ring, i);
        if (i == first) {                                       /* what is in flight is put where it lies */
            run *item = run_at(ring, to);
            *item = source;
            item->end = item->begin;
            item->count = 0;
        }
        nd_span span = nd_run_span(&source);
        while (span.records > 0) {                              /* the run's records */
            const nd_record *record = nd_span_next(&span);
            const uint32_t bytes = nd_record_stored_bytes(record->body_bytes);
            const leaving one = leaving_one(bytes, record->seq, record->received_unix_ms);
            if (record->seq > ring->in_flight_seq && goes(s, one)) continue;
            put(&t, &source, record, bytes);
            s->hole = NULL;
        }
    }
    target_end(&t);
    return t.to;
}

void nd_supersede_sweep(nd_ring *ring, const nd_superseded *superseded, nd_hole *holes, nd_removed *out)
{
    *out = (nd_removed){0};
    if (superseded->holes == 0) return;
    sweep s = {.superseded = superseded, .holes = holes, .out = out};
    uint32_t to = nd_run_reaching(ring, ring->in_flight_seq + 1);
    for (uint32_t i = to; i < ring->count; i++) nd_chunk_open(ring, i);
    uint32_t next = to;
    while (next < ring->count) {                                /* a cold run, or all up to the next one, each turn */
        const uint32_t first = next;
        while (next < ring->count && !run_is_cold(run_at(ring, next))) next++;
        if (next > first) {
            to = sweep_runs(ring, &s, first, next, to);
        } else {
            to = sweep_cold(ring, &s, next, to);
            next++;
        }
    }
    ring->count = to;
    nd_runs_trim(ring);
    ring->records -= out->count;
    ring->bytes -= out->bytes;
    ring->moved_seq = ring->last_seq;
}
