/* nd_supersede.c -- mark what has become old, choose the oldest of it, sweep that out of the lists. */

#include "nd_supersede.h"

#include <string.h>

#include "nd_assert.h"
#include "nd_form.h"
#include "nd_latest.h"
#include "nd_mix.h"

#define PATH_HEAD   "\",\"path\":\""
#define MARKS_AHEAD 8u          /* records for which memory is on its way */

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

uint64_t nd_resource_hash(const nd_pool *pool, uint32_t kind, const uint8_t *body, uint32_t body_bytes,
                          uint32_t ep_bytes)
{
    const uint32_t key_bytes = kind == ND_KIND_NOTIFICATION ? key_bytes_of(body, body_bytes, ep_bytes) : 0;
    if (key_bytes == 0) return 0;
    const uint64_t hash = nd_hash_bytes(body + ND_LITERAL_BYTES(ND_BODY_HEAD), key_bytes, nd_pool_key(pool));
    return hash > 0 ? hash : 1;
}

/* --- marking ------------------------------------------------------------------------- */

int nd_supersede_begin(nd_superseded *superseded, nd_ring *ring, uint64_t count)
{
    *superseded = (nd_superseded){0};
    if (count == 0) return 1;
    if (!nd_latest_reserve(ring, count)) return 0;
    superseded->newcomers = nd_pool_allocate(ring->pool, count * sizeof *superseded->newcomers);
    if (superseded->newcomers == NULL) return 0;
    superseded->count = count;
    return 1;
}

/* A record is old now, or, when the append is not made, it is not. */
static void set_old(nd_ring *ring, const nd_newcomer *by, uint32_t is_old)
{
    run *item = run_at(ring, by->index);
    known_at(item, by->at)->is_old = is_old & 1u;
    item->known->old += is_old;
    item->known->old -= 1 - is_old;
}

static void mark_one(nd_superseded *superseded, nd_ring *ring, uint64_t place)
{
    nd_newcomer *one = &superseded->newcomers[place];
    const uint64_t seq = ring->last_seq + 1 + place;
    const nd_latest_place found = nd_latest_find(ring, superseded, one->hash, seq);
    one->entry = found.entry;
    one->before = nd_latest_set(ring, found, one->hash, seq);
    one->index = UINT32_MAX;
    if (found.seq > ring->last_seq) {
        superseded->newcomers[found.seq - ring->last_seq - 1].is_old = 1;
    } else if (found.record != NULL && !found.record->is_old) {
        one->index = found.index;
        one->at = (uint32_t)(found.record - known_at(run_at(ring, found.index), 0));
        set_old(ring, one, 1);
    }
}

void nd_supersede_mark(nd_superseded *superseded, nd_ring *ring)
{
    const nd_newcomer *newcomers = superseded->newcomers;
    const uint64_t first_seq = ring->last_seq + 1, count = superseded->count;
    for (uint64_t i = 0; i < count + 2 * MARKS_AHEAD; i++) {    /* a record each turn, in three places of the list */
        if (i < count && newcomers[i].hash != 0) nd_latest_prefetch(ring, newcomers[i].hash);
        const uint64_t near = i - MARKS_AHEAD, here = near - MARKS_AHEAD;
        if (near < count && newcomers[near].hash != 0) {
            nd_latest_prefetch_record(ring, newcomers[near].hash, first_seq + near);
        }
        if (here < count && newcomers[here].hash != 0) mark_one(superseded, ring, here);
    }
}

/* --- choosing ------------------------------------------------------------------------ */

/* The first known record of a run that is not in flight. */
static uint32_t first_waiting(const nd_ring *ring, const run *item)
{
    return nd_run_known_before(item, ring->in_flight_seq + 1);
}

/* Choose in the ring. */
static void choose_here(nd_superseded *superseded, nd_ring *ring, uint64_t bytes, uint64_t ahead_bytes, uint64_t holes_max)
{
    int was_chosen = 0;
    for (uint32_t i = superseded->first; i < ring->count; i++) {
        run *item = run_at(ring, i);
        if (item->known->old == 0) {
            was_chosen = 0;
            continue;
        }
        for (uint32_t k = first_waiting(ring, item); k < item->count; k++) {    /* the run's records */
            known_record *record = known_at(item, k);
            if (!record->is_old) {
                was_chosen = 0;
                continue;
            }
            const uint64_t with_it = superseded->bytes + known_bytes(record);
            if (superseded->bytes >= bytes && with_it > bytes + ahead_bytes) return;
            if (!was_chosen && superseded->holes == holes_max) return;
            superseded->holes += !was_chosen;
            superseded->bytes = with_it;
            superseded->end = i + 1;
            record->is_chosen = 1;
            was_chosen = 1;
        }
    }
}

void nd_supersede_choose(nd_superseded *superseded, nd_ring *ring, uint64_t bytes, uint64_t ahead_bytes,
                         uint64_t holes_max)
{
    superseded->first = superseded->end = nd_run_reaching(ring, ring->in_flight_seq + 1);
    choose_here(superseded, ring, bytes, ahead_bytes, holes_max);
    uint64_t chosen = superseded->bytes;
    for (uint64_t i = 0; i < superseded->count && chosen < bytes; i++) {
        nd_newcomer *one = &superseded->newcomers[i];
        if (!one->is_old) continue;
        one->is_chosen = 1;
        superseded->chosen_new++;
        chosen += one->bytes;
    }
}

void nd_supersede_undo(nd_superseded *superseded, nd_ring *ring)
{
    for (uint32_t i = superseded->first; i < superseded->end; i++) {
        run *item = run_at(ring, i);
        for (uint32_t k = 0; k < item->count; k++) known_at(item, k)->is_chosen = 0;
    }
    for (uint64_t i = superseded->count; i-- > 0;) {
        const nd_newcomer *one = &superseded->newcomers[i];
        if (one->entry == NULL) continue;
        nd_latest_unset(ring, one->entry, one->before);
        if (one->index != UINT32_MAX) set_old(ring, one, 0);
    }
}

void nd_superseded_free(nd_superseded *superseded, nd_pool *pool)
{
    if (superseded->newcomers != NULL) {
        nd_pool_release(pool, superseded->newcomers, superseded->count * sizeof *superseded->newcomers);
    }
    *superseded = (nd_superseded){0};
}

/* --- sweeping ------------------------------------------------------------------------ */

/* A sweep, while it lasts. */
typedef struct {
    nd_hole    *holes;          /* NULL, or room for the next one */
    nd_hole    *hole;           /* that goes on; NULL: none does */
    nd_removed *out;
} sweep;

static void count_gone(sweep *s, const run *item, const known_record *record)
{
    const uint64_t seq = known_seq(item, record);
    nd_removed *out = s->out;
    if (out->count == 0) out->first_seq = seq;
    out->last_seq = seq;
    out->count++;
    out->bytes += known_bytes(record);
    if (s->holes != NULL && s->hole == NULL) *(s->hole = s->holes++) = (nd_hole){.first_seq = seq};
    if (s->hole != NULL) s->hole->last_seq = seq;
}

/* When a known record was received, as far as its run can tell. */
static uint64_t unix_ms_of(const run *item, const known_record *record, uint64_t otherwise)
{
    const uint64_t unix_ms = nd_run_known_unix_ms(item, record);
    return unix_ms > 0 ? unix_ms : otherwise;
}

/* Take what is chosen off a run's list.  Whether something is left. */
static int sweep_run(nd_ring *ring, sweep *s, run *item)
{
    const uint64_t count_before = s->out->count;
    uint64_t bytes = run_bytes(item);
    known_record last = {0};
    uint32_t to = 0;
    for (uint32_t i = 0; i < item->count; i++) {                /* the run's records */
        const known_record *record = known_at(item, i);
        if (!record->is_chosen) {
            s->hole = NULL;
            *known_at(item, to) = *record;
            to++;
            continue;
        }
        if (s->out->count == 0) s->out->first_unix_ms = unix_ms_of(item, record, item->oldest_unix_ms);
        count_gone(s, item, record);
        bytes -= known_bytes(record);
        last = *record;
    }
    const uint32_t gone = (uint32_t)(s->out->count - count_before);
    if (gone == 0) return 1;
    s->out->last_unix_ms = unix_ms_of(item, &last, item->newest_unix_ms);
    item->known->old -= gone;
    item->count = to;
    if (to == 0) return 0;
    nd_run_fit(ring, item, bytes);
    return 1;
}

/* A run of which nothing is left goes, and its chunk. */
static void run_end(nd_ring *ring, run *item)
{
    if (run_is_cold(item)) ring->tenant.runs_cold--;
    nd_run_forget(ring, item);
    nd_run_give(ring, item);
}

void nd_supersede_sweep(nd_ring *ring, const nd_superseded *superseded, nd_hole *holes, nd_removed *out)
{
    *out = (nd_removed){0};
    if (superseded->holes == 0) return;
    sweep s = {.holes = holes, .out = out};
    uint32_t to = superseded->first;
    for (uint32_t i = to; i < superseded->end; i++) {           /* a run each turn */
        run *item = run_at(ring, i);
        if (!sweep_run(ring, &s, item)) run_end(ring, item);
        else *run_at(ring, to++) = *item;
    }
    memmove(ring->runs + ring->head + to, ring->runs + ring->head + superseded->end,
            (ring->count - superseded->end) * sizeof *ring->runs);
    ring->count -= superseded->end - to;
    nd_runs_trim(ring);
    ring->records -= out->count;
    ring->bytes -= out->bytes;
}
