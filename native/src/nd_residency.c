/* nd_residency.c -- lists of rings from cold to warm, and the step that moves chunks out. */

#include "nd_residency.h"

#include <string.h>

#include "nd_residency_inside.h"

/* --- the lists ----------------------------------------------------------------------- */

static void unlist(nd_residency *residency, nd_ring *ring)
{
    nd_tenant *tenant = &ring->tenant;
    if (tenant->list == LIST_NONE) return;
    if (tenant->colder != NULL) tenant->colder->tenant.warmer = tenant->warmer;
    else residency->coldest[tenant->list] = tenant->warmer;
    if (tenant->warmer != NULL) tenant->warmer->tenant.colder = tenant->colder;
    else residency->warmest[tenant->list] = tenant->colder;
    tenant->colder = tenant->warmer = NULL;
    tenant->list = LIST_NONE;
}

/* To the warm end of a list. */
static void enlist(nd_residency *residency, nd_ring *ring, uint32_t list)
{
    nd_tenant *tenant = &ring->tenant;
    unlist(residency, ring);
    residency->touches++;
    tenant->touched = residency->touches;
    tenant->list = list;
    if (list == LIST_NONE) return;
    tenant->colder = residency->warmest[list];
    if (tenant->colder != NULL) tenant->colder->tenant.warmer = ring;
    else residency->coldest[list] = ring;
    residency->warmest[list] = ring;
}

static int has_open_tail(const nd_ring *ring)
{
    return ring->count > 0 && run_is_open(run_at(ring, ring->count - 1));
}

static uint32_t list_of(const nd_ring *ring)
{
    const nd_tenant *tenant = &ring->tenant;
    if (tenant->chunks == 0) return LIST_NONE;
    if (tenant->copies > 0) return LIST_COPIES;
    return tenant->chunks == 1 && has_open_tail(ring) ? LIST_TAIL : LIST_DIRTY;
}

static void count(nd_residency *residency, nd_ring *ring, uint32_t is_counted)
{
    residency->rings += is_counted;
    residency->rings -= ring->tenant.is_counted;
    ring->tenant.is_counted = is_counted;
}

void nd_tenant_changed(nd_ring *ring)
{
    nd_residency *residency = nd_pool_residency(ring->pool);
    if (residency == NULL) return;
    count(residency, ring, ring->count > 0);
    const uint32_t list = list_of(ring);
    if (list != ring->tenant.list || list == LIST_TAIL) enlist(residency, ring, list);
}

void nd_tenant_leave(nd_ring *ring)
{
    nd_residency *residency = nd_pool_residency(ring->pool);
    if (residency == NULL) return;
    unlist(residency, ring);
    count(residency, ring, 0);
    nd_fetches_forget(residency, ring);
    for (uint32_t i = 0; i < residency->leaving_count; i++) {
        if (residency->leaving[i].ring == ring) residency->leaving[i].ring = NULL;
    }
}

int nd_ring_is_leaving(const nd_ring *ring)
{
    const nd_residency *residency = nd_pool_residency(ring->pool);
    if (residency == NULL || !residency->is_moving) return 0;
    for (uint32_t i = 0; i < residency->leaving_count; i++) {   /* at most ND_OUT_CHUNKS_MAX */
        if (residency->leaving[i].ring == ring) return 1;
    }
    return 0;
}

int nd_ring_is_warm(nd_ring *ring, uint64_t seq)
{
    const uint32_t index = nd_run_reaching(ring, seq);
    if (index < ring->count && run_is_cold(run_at(ring, index))) return 0;
    if (ring->tenant.list != LIST_NONE) enlist(nd_pool_residency(ring->pool), ring, ring->tenant.list);
    return 1;
}

/* --- chunks -------------------------------------------------------------------------- */

/* As large as wanted, if so many rings can each have one like it. */
static uint32_t chunk_bytes_for(const nd_residency *residency, uint32_t bytes_want)
{
    nd_pool_stats_t pool;
    nd_pool_stats(residency->pool, &pool);
    const uint64_t each = pool.bytes_max / ND_TAILS_SHARE / (residency->rings + 1);
    while (bytes_want > each && bytes_want > ND_CHUNK_BYTES_MIN) bytes_want /= 2;       /* at most 10 turns */
    return bytes_want;
}

uint8_t *nd_run_take(nd_ring *ring, uint32_t bytes_min, uint32_t bytes_want, uint32_t *bytes_out)
{
    const nd_residency *residency = nd_pool_residency(ring->pool);
    if (residency != NULL) bytes_want = chunk_bytes_for(residency, bytes_want);
    uint8_t *chunk = nd_pool_take(ring->pool, bytes_min, bytes_want, bytes_out);
    if (chunk != NULL) ring->tenant.chunks++;
    return chunk;
}

void nd_run_give(nd_ring *ring, const run *item)
{
    if (item->chunk != NULL) {
        nd_pool_give(ring->pool, item->chunk);
        ring->tenant.chunks--;
    }
    if (item->slot == ND_NOWHERE) return;
    nd_scratch_give(nd_pool_residency(ring->pool)->scratch, item->slot);
    if (item->chunk != NULL) ring->tenant.copies--;
}

int nd_chunk_leave(nd_ring *ring, uint32_t first, uint32_t last)
{
    int can_leave = 1;
    for (uint32_t i = first; i <= last && can_leave; i++) can_leave = nd_run_know(ring, run_at(ring, i));
    if (!can_leave) {
        for (uint32_t i = first; i <= last; i++) nd_run_is_back(ring, run_at(ring, i));
        return 0;
    }
    nd_pool_give(ring->pool, run_at(ring, first)->chunk);
    for (uint32_t i = first; i <= last; i++) run_at(ring, i)->chunk = NULL;
    ring->tenant.chunks--;
    ring->tenant.copies--;
    ring->tenant.runs_cold += last - first + 1;
    const uint64_t in_flight_seq = ring->in_flight_seq;
    if (run_at(ring, first)->first_seq <= in_flight_seq && run_at(ring, last)->last_seq > in_flight_seq) {
        nd_ring_recount_held(ring);
    }
    return 1;
}

void nd_chunk_open(nd_ring *ring, uint32_t index)
{
    const run item = *run_at(ring, index);
    if (run_is_cold(&item) || item.slot == ND_NOWHERE) return;
    for (uint32_t i = chunk_first(ring, index); i < ring->count; i++) {         /* the chunk's runs */
        if (!runs_share(run_at(ring, i), &item)) break;
        run_at(ring, i)->slot = ND_NOWHERE;
    }
    nd_scratch_give(nd_pool_residency(ring->pool)->scratch, item.slot);
    ring->tenant.copies--;
}

/* --- choosing ------------------------------------------------------------------------ */

/* Rings from the coldest on, over lists that change on the way. */
typedef struct {
    nd_ring *next[LISTS];
} walk;

static walk walk_begin(const nd_residency *residency, uint32_t first_list)
{
    walk w = {{NULL}};
    for (uint32_t i = first_list; i < LISTS; i++) w.next[i] = residency->coldest[i];
    return w;
}

/* NULL at the end.  The ring may move to another list then, where it may be met again. */
static nd_ring *walk_next(walk *w)
{
    uint32_t coldest = LIST_NONE;
    for (uint32_t i = LIST_NONE + 1; i < LISTS; i++) {
        if (w->next[i] == NULL) continue;
        if (coldest == LIST_NONE || w->next[i]->tenant.touched < w->next[coldest]->tenant.touched) coldest = i;
    }
    nd_ring *ring = w->next[coldest];
    if (ring != NULL) w->next[coldest] = ring->tenant.warmer;
    return ring;
}

static int is_wanted(const nd_ring *ring, const run *first, const run *last)
{
    const nd_tenant *tenant = &ring->tenant;
    return tenant->fetches > 0 && first->first_seq <= tenant->wanted_last_seq
           && last->last_seq >= tenant->wanted_first_seq;
}

/* Drop what has a copy of one ring, the newest first; how many bytes came free. */
static uint64_t drop_copies_of(nd_ring *ring, uint64_t bytes)
{
    uint64_t freed = 0;
    for (uint32_t i = ring->count; i-- > 0 && freed < bytes && ring->tenant.copies > 0;) {      /* a chunk each turn */
        const uint32_t first = chunk_first(ring, i);
        const run *item = run_at(ring, first);
        if (!run_is_cold(item) && item->slot != ND_NOWHERE && !is_wanted(ring, item, run_at(ring, i))) {
            const uint32_t chunk_bytes = item->chunk_bytes;
            if (nd_chunk_leave(ring, first, i)) freed += chunk_bytes;
        }
        i = first;
    }
    nd_tenant_changed(ring);
    return freed;
}

uint64_t nd_residency_drop_copies(nd_residency *residency, uint64_t bytes)
{
    uint64_t freed = 0;
    walk w = walk_begin(residency, LIST_COPIES);
    nd_ring *ring;
    while (freed < bytes && (ring = walk_next(&w)) != NULL) {   /* a ring each turn */
        freed += drop_copies_of(ring, bytes - freed);
    }
    return freed;
}

/* Choose chunks of one ring that have to be written, the newest first, but for the one that
 * is being written to, unless there is no other.  False: no slot could be had. */
static int choose_of(nd_residency *residency, nd_ring *ring, uint64_t bytes, uint64_t *chosen)
{
    const int spares_tail = ring->tenant.list != LIST_TAIL && has_open_tail(ring);
    for (uint32_t i = ring->count; i-- > 0 && *chosen < bytes && residency->leaving_count < ND_OUT_CHUNKS_MAX;) {
        const uint32_t first = chunk_first(ring, i);
        const run *item = run_at(ring, i);
        if (run_is_open(item) && !(spares_tail && i == ring->count - 1)) {
            const uint64_t slot = nd_scratch_take(residency->scratch, item->end);
            if (slot == ND_NOWHERE) return 0;
            residency->leaving[residency->leaving_count] = (nd_leaving){
                .ring = ring, .chunk = item->chunk, .slot = slot, .last_seq = item->last_seq, .end = item->end,
            };
            residency->leaving_count++;
            *chosen += item->chunk_bytes;
        }
        i = first;
    }
    return 1;
}

/* Choose what to write out, from the coldest ring on; of rings that keep the latest, of which
 * each cold record has to be known, only when the others have nothing left. */
static void choose(nd_residency *residency, uint64_t bytes)
{
    if (bytes > ND_OUT_BYTES_MAX) bytes = ND_OUT_BYTES_MAX;
    uint64_t chosen = 0;
    int has_slots = 1;
    for (int keeps_latest = 0; keeps_latest < 2; keeps_latest++) {
        walk w = walk_begin(residency, LIST_TAIL);
        nd_ring *ring;
        while (has_slots && chosen < bytes && residency->leaving_count < ND_OUT_CHUNKS_MAX
               && (ring = walk_next(&w)) != NULL) {             /* a ring each turn, and each ring once */
            if ((ring->overflow == ND_OVERFLOW_KEEP_LATEST) != keeps_latest) continue;
            if (ring->tenant.fetches > 0 || ring->tenant.visited == residency->steps) continue;
            ring->tenant.visited = residency->steps;
            has_slots = choose_of(residency, ring, bytes, &chosen);
        }
    }
}

/* --- a step -------------------------------------------------------------------------- */

nd_status nd_out_begin(nd_residency *residency, uint64_t free_bytes)
{
    if (residency->is_moving) return ND_ERR_ARGUMENT;
    residency->steps++;
    residency->begun = residency->touches;
    residency->leaving_count = 0;
    residency->written = ND_ERR_IO;     /* until it is tried */
    uint64_t free = nd_pool_free_bytes(residency->pool);
    if (free < free_bytes) free += nd_residency_drop_copies(residency, free_bytes - free);
    if (free < free_bytes) choose(residency, free_bytes - free);
    const int has_enough = free >= free_bytes;
    nd_status status = ND_EMPTY;
    residency->space.count = 0;
    if (!has_enough || nd_scratch_has_spare(residency->scratch)) {
        status = nd_space_order_begin(residency->scratch, &residency->space);
    }
    residency->is_moving = residency->leaving_count > 0 || status == ND_OK;
    if (residency->is_moving) return ND_OK;
    return has_enough ? ND_EMPTY : status;
}

void nd_out_carry_out(nd_residency *residency)
{
    if (residency->space.count > 0) nd_space_order_carry_out(residency->scratch, &residency->space);
    residency->written = ND_OK;
    for (uint32_t i = 0; i < residency->leaving_count && residency->written == ND_OK; i++) {
        const nd_leaving *item = &residency->leaving[i];
        residency->written = nd_scratch_write(residency->scratch, item->slot, item->chunk, item->end, 0);
    }
}

/* The last run of a chunk that was written, if it is as it was; else UINT32_MAX. */
static uint32_t find_written(const nd_leaving *item)
{
    const nd_ring *ring = item->ring;
    if (ring == NULL) return UINT32_MAX;
    const uint32_t index = nd_run_reaching(ring, item->last_seq);
    if (index == ring->count) return UINT32_MAX;
    const run *last = run_at(ring, index);
    const int is_same = last->chunk == item->chunk && run_is_open(last) && last->last_seq == item->last_seq
                        && last->end == item->end;              /* else some before it were superseded */
    const int has_more = index + 1 < ring->count && runs_share(run_at(ring, index + 1), last);
    return is_same && !has_more ? index : UINT32_MAX;
}

/* A chunk was written: its memory goes, unless its ring was wanted meanwhile. */
static void end_one(nd_residency *residency, const nd_leaving *item)
{
    const uint32_t last = residency->written == ND_OK ? find_written(item) : UINT32_MAX;
    if (last == UINT32_MAX) {
        nd_scratch_give(residency->scratch, item->slot);
        return;
    }
    nd_ring *ring = item->ring;
    const uint32_t first = chunk_first(ring, last);
    for (uint32_t i = first; i <= last; i++) run_at(ring, i)->slot = item->slot;
    ring->tenant.copies++;
    const int is_wanted_now = ring->tenant.touched > residency->begun || ring->tenant.fetches > 0;
    if (!is_wanted_now) (void)nd_chunk_leave(ring, first, last);        /* if it cannot, it stays as a copy */
}

nd_status nd_out_end(nd_residency *residency)
{
    nd_status status = residency->written;
    if (residency->space.count > 0) {
        const nd_status space = nd_space_order_end(residency->scratch, &residency->space);
        if (residency->leaving_count == 0) status = space;      /* else there is progress */
    }
    for (uint32_t i = 0; i < residency->leaving_count; i++) end_one(residency, &residency->leaving[i]);
    for (uint32_t i = 0; i < residency->leaving_count; i++) {   /* lists last: a touch would keep the next chunk */
        if (residency->leaving[i].ring != NULL) nd_tenant_changed(residency->leaving[i].ring);
    }
    residency->leaving_count = 0;
    residency->is_moving = 0;
    return status;
}

nd_status nd_residency_make_room(nd_residency *residency, uint64_t free_bytes)
{
    while (nd_pool_free_bytes(residency->pool) < free_bytes) {  /* each turn moves something, or takes space */
        nd_status status = nd_out_begin(residency, free_bytes);
        if (status != ND_OK) return nd_pool_free_bytes(residency->pool) < free_bytes ? status : ND_OK;
        nd_out_carry_out(residency);
        status = nd_out_end(residency);
        if (status != ND_OK) return status;
    }
    return ND_OK;
}

/* --- the rest ------------------------------------------------------------------------ */

nd_status nd_residency_open(const nd_io *io, const nd_files *files, nd_pool *pool, const char *path,
                            uint64_t disk_bytes_max, nd_residency **out)
{
    if (io == NULL || pool == NULL || out == NULL || nd_pool_residency(pool) != NULL) return ND_ERR_ARGUMENT;
    nd_residency *residency = io->allocate(io->context, sizeof *residency);
    if (residency == NULL) return ND_ERR_FULL;
    residency->io = *io;
    residency->pool = pool;
    const nd_status status = nd_scratch_open(io, files, path, disk_bytes_max, &residency->scratch);
    if (status != ND_OK) {
        io->release(io->context, residency, sizeof *residency);
        return status;
    }
    nd_pool_let_move(pool, residency, nd_pool_free_bytes(pool) / ND_RESERVE_SHARE);
    *out = residency;
    return ND_OK;
}

void nd_residency_close(nd_residency *residency)
{
    if (residency == NULL) return;
    const nd_io io = residency->io;
    ND_ASSERT(residency->fetches == NULL);
    nd_pool_let_move(residency->pool, NULL, 0);
    nd_scratch_close(residency->scratch);
    io.release(io.context, residency, sizeof *residency);
}

static uint64_t target_bytes(uint64_t bytes_max)
{
    return bytes_max / ND_RESERVE_SHARE + bytes_max / ND_FREE_SHARE;
}

int nd_residency_is_wanted(const nd_residency *residency)
{
    nd_pool_stats_t pool;
    nd_pool_stats(residency->pool, &pool);
    return pool.bytes_max - pool.bytes_out < target_bytes(pool.bytes_max) || nd_scratch_has_spare(residency->scratch);
}

void nd_residency_stats(const nd_residency *residency, nd_residency_stats_t *out)
{
    nd_pool_stats_t pool;
    nd_pool_stats(residency->pool, &pool);
    nd_scratch_stats_t scratch;
    nd_scratch_stats(residency->scratch, &scratch);
    const uint64_t reserve = pool.bytes_max / ND_RESERVE_SHARE;
    *out = (nd_residency_stats_t){
        .bytes_max = pool.bytes_max,
        .free_bytes = pool.bytes_max - pool.bytes_out,
        .reserve_bytes = reserve,
        .target_bytes = target_bytes(pool.bytes_max),
        .disk_bytes = scratch.bytes_on_disk,
        .disk_bytes_max = scratch.bytes_max,
        .slot_bytes = scratch.bytes_out,
        .known_bytes = residency->known_bytes,
        .known_bytes_max = pool.bytes_max / ND_KNOWN_SHARE,
        .is_known_full = residency->is_known_full,
    };
    out->is_wanted = (uint32_t)nd_residency_is_wanted(residency);
}
