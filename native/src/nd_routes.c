/* nd_routes.c -- the table of edges, changed an edge at a time.
 *
 * Edges are written one behind the other into chunks, and never move for an edge that
 * comes.  A chunk of which less than half is live is left: what lives in it is written again
 * behind the newest edges, and the chunk given back.  So memory is at most twice what
 * lives, and an edge that goes pays for moving at most its own length.
 */

#include "nd_routes.h"

#include "nd_assert.h"
#include "nd_pool.h"
#include "nd_routes_inside.h"

#define CHUNKS_AT_FIRST 16u
#define CHUNKS_MAX      (1u << (32 - PLACE_BITS))

static void *allocate(nd_routes *routes, size_t bytes)
{
    void *memory = nd_pool_allocate(routes->space->pool, bytes);
    if (memory != NULL) routes->bytes += bytes;
    return memory;
}

static void release(nd_routes *routes, void *memory, size_t bytes)
{
    if (memory == NULL) return;
    routes->bytes -= bytes;
    nd_pool_release(routes->space->pool, memory, bytes);
}

/* --- pages ------------------------------------------------------------------------------ */

static size_t directory_bytes(uint32_t depth)
{
    return sizeof(page *) << depth;
}

static page *take_page(nd_routes *routes, uint32_t depth)
{
    uint32_t bytes;
    page *taken = (page *)(void *)nd_pool_take(routes->space->pool, sizeof *taken, sizeof *taken, &bytes);
    if (taken == NULL) return NULL;
    memset(taken, 0, sizeof *taken);
    taken->depth = depth;
    routes->bytes += sizeof *taken;
    return taken;
}

static void give_page(nd_routes *routes, page *taken)
{
    if (taken == NULL) return;
    routes->bytes -= sizeof *taken;
    nd_pool_give(routes->space->pool, (uint8_t *)taken);
}

static void page_insert(page *into, slot what)
{
    uint32_t at = tag_home(what.tag);
    while (into->slots[at].place != 0) at = slot_behind(at);    /* ends: a quarter is free */
    into->slots[at] = what;
    into->filled++;
}

/* How far one slot lies behind another. */
static uint32_t slots_between(uint32_t from, uint32_t to)
{
    return to >= from ? to - from : to + PAGE_SLOTS - from;
}

/* Free a slot, and move back those behind it that a search would not reach any more. */
static void page_erase(page *from, slot *erased)
{
    uint32_t hole = (uint32_t)(erased - from->slots);
    for (uint32_t at = slot_behind(hole); from->slots[at].place != 0; at = slot_behind(at)) {
        if (slots_between(tag_home(from->slots[at].tag), at) < slots_between(hole, at)) continue;
        from->slots[hole] = from->slots[at];                    /* its search comes past the hole */
        hole = at;
    }
    from->slots[hole].place = 0;
    from->filled--;
}

static int double_directory(nd_routes *routes)
{
    page **larger = allocate(routes, directory_bytes(routes->depth + 1));
    if (larger == NULL) return 0;
    for (uint64_t i = 0; i < 2ull << routes->depth; i++) larger[i] = routes->directory[i >> 1];
    release(routes, routes->directory, directory_bytes(routes->depth));
    routes->directory = larger;
    routes->depth++;
    return 1;
}

/* Make two pages of the one that holds a tag.  False: no memory, and nothing has changed. */
static int split_page(nd_routes *routes, uint32_t tag)
{
    page *old = routes_page(routes, tag);
    if (old->depth == DEPTH_MAX) return 0;                      /* never, with tags that are spread evenly */
    page *halves[2] = {take_page(routes, old->depth + 1), take_page(routes, old->depth + 1)};
    if (halves[0] == NULL || halves[1] == NULL || (old->depth == routes->depth && !double_directory(routes))) {
        give_page(routes, halves[0]);
        give_page(routes, halves[1]);
        return 0;
    }
    const uint32_t bit = 31 - old->depth;                       /* of the tag: which half */
    for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
        const slot each = old->slots[i];
        if (each.place != 0) page_insert(halves[each.tag >> bit & 1u], each);
    }
    const uint64_t entries = 1ull << (routes->depth - old->depth);
    const uint64_t first = ((uint64_t)tag << routes->depth >> 32) & ~(entries - 1);
    for (uint64_t i = 0; i < entries; i++) routes->directory[first + i] = halves[i >= entries / 2];
    give_page(routes, old);
    return 1;
}

/* --- chunks ----------------------------------------------------------------------------- */

static uint32_t edge_bytes(uint64_t text_bytes)
{
    const uint64_t bytes = offsetof(edge, text) + text_bytes;
    return (uint32_t)((bytes + PLACE_UNIT - 1) / PLACE_UNIT * PLACE_UNIT);
}

/* A number without a chunk; CHUNKS_MAX: there is none. */
static uint32_t free_number(nd_routes *routes)
{
    for (uint32_t i = 0; i < routes->chunks_count; i++) if (routes->chunks[i] == NULL) return i;
    if (routes->chunks_count == CHUNKS_MAX) return CHUNKS_MAX;
    if (routes->chunks_count == routes->chunks_room) {
        const uint32_t room = routes->chunks_room * 2;
        chunk **larger = allocate(routes, room * sizeof(chunk *));
        if (larger == NULL) return CHUNKS_MAX;
        memcpy(larger, routes->chunks, routes->chunks_room * sizeof(chunk *));
        release(routes, routes->chunks, routes->chunks_room * sizeof(chunk *));
        routes->chunks = larger;
        routes->chunks_room = room;
    }
    return routes->chunks_count++;
}

static int begin_chunk(nd_routes *routes)
{
    const uint32_t wanted = routes->edges < CHUNK_BYTES_MIN / PLACE_UNIT ? CHUNK_BYTES_MIN : CHUNK_BYTES_MAX;
    const uint32_t number = free_number(routes);
    if (number == CHUNKS_MAX) return 0;
    uint32_t bytes;
    uint8_t *memory = nd_pool_take(routes->space->pool, CHUNK_BYTES_MIN, wanted, &bytes);
    if (memory == NULL) return 0;
    routes->bytes += bytes;
    chunk *begun = (chunk *)(void *)memory;
    *begun = (chunk){.bytes = bytes, .used = sizeof(chunk)};
    routes->chunks[number] = begun;
    routes->current = number;
    return 1;
}

static void give_chunk(nd_routes *routes, uint32_t number)
{
    routes->bytes -= routes->chunks[number]->bytes;
    nd_pool_give(routes->space->pool, (uint8_t *)routes->chunks[number]);
    routes->chunks[number] = NULL;
}

/* Write an edge behind the newest.  Returns its place, 0: no memory. */
static uint32_t write_edge(nd_routes *routes, uint32_t from, const uint8_t *text, uint64_t text_bytes, uint32_t to)
{
    const uint32_t bytes = edge_bytes(text_bytes);
    const chunk *filled = routes->chunks[routes->current];
    if (filled->bytes - filled->used < bytes && !begin_chunk(routes)) return 0;
    chunk *into = routes->chunks[routes->current];
    const uint32_t place = routes->current << PLACE_BITS | into->used / PLACE_UNIT;
    edge *written = routes_edge(routes, place);
    written->from = from;
    written->to = to;
    written->text_bytes = (uint16_t)text_bytes;
    written->is_gone = 0;
    memcpy(written->text, text, text_bytes);
    into->used += bytes;
    into->live += bytes;
    return place;
}

/* Write what lives in a chunk again elsewhere, and give it back.  Without memory it stays as it is. */
static void leave_chunk(nd_routes *routes, uint32_t number)
{
    chunk *old = routes->chunks[number];
    uint32_t at = sizeof(chunk);
    while (at < old->used) {                                    /* an edge each turn */
        edge *each = (edge *)(void *)((uint8_t *)old + at);
        const uint32_t bytes = edge_bytes(each->text_bytes);
        if (!each->is_gone) {
            const uint32_t tag = routes_tag(routes, each->from, each->text, each->text_bytes);
            slot *held = routes_search(routes, routes_page(routes, tag), tag, each->from, each->text, each->text_bytes);
            const uint32_t place = write_edge(routes, each->from, each->text, each->text_bytes, each->to);
            if (place == 0) return;
            held->place = place;
            each->is_gone = 1;
            old->live -= bytes;
        }
        at += bytes;
    }
    ND_ASSERT(old->live == 0);
    give_chunk(routes, number);
}

/* Leave a chunk with little in it; the one that is being filled only when that is nearly done,
 * for what is yet to come may be more than what went. */
static void consider_leaving(nd_routes *routes, uint32_t number)
{
    const chunk *old = routes->chunks[number];
    if (number == routes->current && (old->used <= old->bytes / 2 || !begin_chunk(routes))) return;
    leave_chunk(routes, number);
}

/* --- the table -------------------------------------------------------------------------- */

/* With one page and one chunk, as small as it gets.  False: no memory, and end_table is to follow. */
static int begin_table(nd_routes *routes, nd_route_space *space)
{
    *routes = (nd_routes){.space = space, .chunks_room = CHUNKS_AT_FIRST, .bytes = sizeof *routes};
    routes->directory = allocate(routes, directory_bytes(0));
    routes->chunks = allocate(routes, CHUNKS_AT_FIRST * sizeof(chunk *));
    if (routes->directory == NULL || routes->chunks == NULL) return 0;
    routes->directory[0] = take_page(routes, 0);
    return routes->directory[0] != NULL && begin_chunk(routes);
}

/* Give all that a table has back, or what there is of it. */
static void end_table(nd_routes *routes)
{
    uint64_t at = 0;
    while (routes->directory != NULL && at < 1ull << routes->depth && routes->directory[at] != NULL) {
        page *each = routes->directory[at];                     /* a page each turn */
        at += 1ull << (routes->depth - each->depth);
        give_page(routes, each);
    }
    for (uint32_t i = 0; i < routes->chunks_count; i++) {
        if (routes->chunks[i] != NULL) give_chunk(routes, i);
    }
    release(routes, routes->directory, directory_bytes(routes->depth));
    release(routes, routes->chunks, routes->chunks_room * sizeof(chunk *));
    ND_ASSERT(routes->bytes == sizeof *routes);
}

/* Of a table without edges, give back what it grew to.  Without memory it stays as it is. */
static void begin_again(nd_routes *routes)
{
    nd_routes fresh;
    const int begun = begin_table(&fresh, routes->space);
    end_table(begun ? routes : &fresh);
    if (begun) *routes = fresh;
}

static void leave_space(nd_route_space *space)
{
    const nd_io *io = space->io;
    if (--space->users > 0) return;
    nd_pool_close(space->pool);
    io->release(io->context, space, sizeof *space);
}

nd_status nd_route_space_open(const nd_io *io, uint64_t bytes_max, uint64_t key_low, uint64_t key_high,
                              nd_route_space **out)
{
    if (io == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_route_space *space = io->allocate(io->context, sizeof *space);
    if (space == NULL) return ND_ERR_FULL;
    *space = (nd_route_space){.io = io, .key_low = key_low, .key_high = key_high, .users = 1};
    const nd_status status = nd_pool_open(io, bytes_max, &space->pool);
    if (status != ND_OK) {
        leave_space(space);
        return status;
    }
    nd_pool_enlarge(space->pool);
    *out = space;
    return ND_OK;
}

void nd_route_space_close(nd_route_space *space)
{
    if (space != NULL) leave_space(space);
}

nd_status nd_routes_open(nd_route_space *space, nd_routes **out)
{
    if (space == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_routes *routes = nd_pool_allocate(space->pool, sizeof *routes);
    if (routes == NULL) return ND_ERR_FULL;
    space->users++;
    const int begun = begin_table(routes, space);
    if (!begun) nd_routes_close(routes);
    else *out = routes;
    return begun ? ND_OK : ND_ERR_FULL;
}

void nd_routes_close(nd_routes *routes)
{
    if (routes == NULL) return;
    nd_route_space *space = routes->space;
    end_table(routes);
    nd_pool_release(space->pool, routes, sizeof *routes);
    leave_space(space);
}

nd_status nd_routes_put(nd_routes *routes, uint32_t from, const uint8_t *text, uint64_t text_bytes, uint32_t to)
{
    if (to == 0 || text_bytes > ND_ROUTE_TEXT_BYTES_MAX) return ND_ERR_ARGUMENT;
    const uint32_t tag = routes_tag(routes, from, text, text_bytes);
    slot *found = routes_search(routes, routes_page(routes, tag), tag, from, text, text_bytes);
    if (found->place != 0) {
        routes_edge(routes, found->place)->to = to;
        return ND_OK;
    }
    while (routes_page(routes, tag)->filled >= PAGE_FILLED_MAX) {       /* ends at DEPTH_MAX */
        if (!split_page(routes, tag)) return ND_ERR_FULL;
    }
    const uint32_t place = write_edge(routes, from, text, text_bytes, to);
    if (place == 0) return ND_ERR_FULL;
    page_insert(routes_page(routes, tag), (slot){tag, place});
    routes->edges++;
    return ND_OK;
}

uint32_t nd_routes_get(const nd_routes *routes, uint32_t from, const uint8_t *text, uint64_t text_bytes)
{
    if (text_bytes > ND_ROUTE_TEXT_BYTES_MAX) return 0;
    const uint32_t tag = routes_tag(routes, from, text, text_bytes);
    const slot *found = routes_search(routes, routes_page(routes, tag), tag, from, text, text_bytes);
    return found->place == 0 ? 0 : routes_edge(routes, found->place)->to;
}

void nd_routes_remove(nd_routes *routes, uint32_t from, const uint8_t *text, uint64_t text_bytes)
{
    if (text_bytes > ND_ROUTE_TEXT_BYTES_MAX) return;
    const uint32_t tag = routes_tag(routes, from, text, text_bytes);
    page *in = routes_page(routes, tag);
    slot *found = routes_search(routes, in, tag, from, text, text_bytes);
    if (found->place == 0) return;
    const uint32_t number = found->place >> PLACE_BITS;
    chunk *holder = routes->chunks[number];
    routes_edge(routes, found->place)->is_gone = 1;
    holder->live -= edge_bytes(text_bytes);
    page_erase(in, found);
    routes->edges--;
    if (routes->edges == 0 && routes->depth > 0) begin_again(routes);
    else if (holder->live < holder->used / 2) consider_leaving(routes, number);
}

uint64_t nd_routes_edges(const nd_routes *routes)
{
    return routes->edges;
}

uint64_t nd_routes_bytes(const nd_routes *routes)
{
    return routes->bytes;
}
