/* nd_latest.c -- a hash table with open addressing, half a hash and half a seq in each entry. */

#include "nd_latest.h"

#include "nd_assert.h"

#define ENTRIES_MIN 16u
#define MOVE_STEP   8u          /* entries that move for each record that comes: all have before half of the new are used */

/* The half of a hash that an entry has; never 0. */
static uint64_t tag_of(uint64_t hash)
{
    return (hash >> 32) | 1;
}

static uint32_t first_of(uint64_t tag, uint32_t size)
{
    return (uint32_t)(tag >> 1) & (size - 1);
}

static uint64_t entry_of(uint64_t tag, uint64_t seq)
{
    return tag << 32 | (uint32_t)seq;
}

/* The seq that an entry means: less than 2^32 before the next one.  When it is farther away
 * the record that is found has another hash, or is the newest of this one all the same. */
static uint64_t seq_of(uint64_t entry, uint64_t next_seq)
{
    return next_seq - 1 - (uint32_t)((uint32_t)next_seq - 1u - (uint32_t)entry);
}

/* --- finding ------------------------------------------------------------------------- */

typedef enum { GONE, OTHER, FOUND } meaning;

/* What an entry means; if it is the resource that is wanted, where its record is. */
static meaning look(const nd_ring *ring, const nd_superseded *coming, uint64_t hash, uint64_t seq, nd_latest_place *out)
{
    out->seq = seq;
    if (seq > ring->last_seq) {
        if (coming == NULL || seq - ring->last_seq > coming->count) return GONE;
        return coming->newcomers[seq - ring->last_seq - 1].hash == hash ? FOUND : OTHER;
    }
    out->index = nd_run_reaching(ring, seq);
    if (out->index == ring->count) return GONE;
    const run *item = run_at(ring, out->index);
    if (item->first_seq > seq) return GONE;
    out->record = known_at(item, nd_run_known_before(item, seq));
    if (known_seq(item, out->record) != seq) return GONE;
    return out->record->hash == hash ? FOUND : OTHER;
}

void nd_latest_prefetch(const nd_ring *ring, uint64_t hash)
{
    const nd_latest *latest = ring->latest;
    __builtin_prefetch(&latest->entries[first_of(tag_of(hash), latest->size)]);
}

void nd_latest_prefetch_record(const nd_ring *ring, uint64_t hash, uint64_t seq)
{
    const nd_latest *latest = ring->latest;
    const uint64_t tag = tag_of(hash);
    uint32_t at = first_of(tag, latest->size);
    while (latest->entries[at] != 0 && latest->entries[at] >> 32 != tag) at = (at + 1) & (latest->size - 1);
    const uint64_t found = seq_of(latest->entries[at], seq);
    if (latest->entries[at] == 0 || found > ring->last_seq) return;
    const uint32_t index = nd_run_reaching(ring, found);
    if (index == ring->count || run_at(ring, index)->first_seq > found) return;
    const run *item = run_at(ring, index);
    if (run_is_dense(item)) __builtin_prefetch(known_at(item, (uint32_t)(found - item->first_seq)), 1);
}

nd_latest_place nd_latest_find(nd_ring *ring, const nd_superseded *coming, uint64_t hash, uint64_t seq)
{
    const nd_latest *latest = ring->latest;
    const uint64_t tag = tag_of(hash);
    uint64_t *free_entry = NULL;
    uint32_t at = first_of(tag, latest->size);
    for (; latest->entries[at] != 0; at = (at + 1) & (latest->size - 1)) {      /* ends: half of them are free */
        nd_latest_place place = {.entry = &latest->entries[at]};
        if (*place.entry >> 32 != tag) continue;
        const meaning means = look(ring, coming, hash, seq_of(*place.entry, seq), &place);
        if (means == FOUND) return place;
        if (means == GONE && free_entry == NULL) free_entry = place.entry;
    }
    if (free_entry == NULL) free_entry = &latest->entries[at];
    if (latest->before == NULL) return (nd_latest_place){.entry = free_entry};

    at = first_of(tag, latest->before_size);
    for (; latest->before[at] != 0; at = (at + 1) & (latest->before_size - 1)) {        /* as above */
        nd_latest_place place = {.entry = &latest->before[at]};
        if (*place.entry >> 32 != tag || at < latest->moved) continue;
        if (look(ring, coming, hash, seq_of(*place.entry, seq), &place) == FOUND) return place;
    }
    return (nd_latest_place){.entry = free_entry};
}

uint64_t nd_latest_set(nd_ring *ring, nd_latest_place place, uint64_t hash, uint64_t seq)
{
    const uint64_t before = *place.entry;
    if (before == 0) ring->latest->used++;
    *place.entry = entry_of(tag_of(hash), seq);
    return before;
}

void nd_latest_unset(nd_ring *ring, uint64_t *entry, uint64_t before)
{
    if (before == 0) ring->latest->used--;
    *entry = before;
}

/* --- making room --------------------------------------------------------------------- */

static void before_free(nd_ring *ring)
{
    nd_latest *latest = ring->latest;
    if (latest->before == NULL) return;
    nd_pool_release(ring->pool, latest->before, latest->before_size * sizeof *latest->before);
    latest->before = NULL;
}

/* Whether an entry may be of use: with few records for many entries, whether its own is there. */
static int is_of_use(const nd_ring *ring, uint64_t entry, uint64_t first_seq)
{
    if (entry == 0) return 0;
    const uint64_t seq = seq_of(entry, ring->last_seq + 1);
    if (seq < first_seq) return 0;
    nd_latest_place place;
    return !ring->latest->is_sparse || look(ring, NULL, 0, seq, &place) != GONE;
}

/* Move what is of use of so many entries. */
static void move(nd_ring *ring, uint64_t entries)
{
    nd_latest *latest = ring->latest;
    if (latest->before == NULL) return;
    const uint64_t first_seq = ring->count > 0 ? run_at(ring, 0)->first_seq : ring->last_seq + 1;
    for (; entries > 0 && latest->moved < latest->before_size; entries--) {
        const uint64_t entry = latest->before[latest->moved];
        latest->moved++;
        if (!is_of_use(ring, entry, first_seq)) continue;
        uint32_t at = first_of(entry >> 32, latest->size);
        while (latest->entries[at] != 0) at = (at + 1) & (latest->size - 1);    /* ends: half of them are free */
        latest->entries[at] = entry;
        latest->used++;
    }
    if (latest->moved == latest->before_size) before_free(ring);
}

int nd_latest_reserve(nd_ring *ring, uint64_t more)
{
    nd_latest *latest = ring->latest;
    if (latest == NULL) {
        latest = ring->latest = nd_pool_allocate(ring->pool, sizeof *latest);
        if (latest == NULL) return 0;
        latest->thin_seq = latest->join_seq = UINT64_MAX;
    }
    move(ring, more * MOVE_STEP);
    if (2 * (latest->used + more) > latest->size) {
        move(ring, UINT64_MAX);                                 /* rarely is there something left */
        const int is_sparse = latest->used / 2 > ring->records;
        const uint64_t there = is_sparse ? ring->records : latest->used;
        uint64_t size = latest->size > ENTRIES_MIN ? latest->size : ENTRIES_MIN;
        if (16 * there <= latest->size && size > ENTRIES_MIN) size /= 2;
        while (size < 3 * there + 2 * more) size *= 2;          /* at most 40 turns */
        if (size > UINT32_MAX / 2) return 0;
        uint64_t *entries = nd_pool_allocate(ring->pool, size * sizeof *entries);
        if (entries == NULL) return 0;
        latest->before = latest->entries;
        latest->before_size = latest->size;
        latest->moved = 0;
        latest->entries = entries;
        latest->size = (uint32_t)size;
        latest->used = 0;
        latest->is_sparse = (uint32_t)is_sparse;
        if (latest->before_size == 0) latest->before = NULL;
    }
    ND_ASSERT(2 * (latest->used + more) <= latest->size);
    return 1;
}

void nd_latest_free(nd_ring *ring)
{
    nd_latest *latest = ring->latest;
    if (latest == NULL) return;
    before_free(ring);
    if (latest->entries != NULL) nd_pool_release(ring->pool, latest->entries, latest->size * sizeof *latest->entries);
    nd_pool_release(ring->pool, latest, sizeof *latest);
    ring->latest = NULL;
}
