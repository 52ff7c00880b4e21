/* nd_routes_find.c -- a request's notifications walked through the tables, many at a time.
 *
 * With a million devices an event's slot and edge are in memory that no cache holds, and
 * each fetch takes as long as all the rest.  So events go in batches, a step for all of
 * them before the next: what a step needs was asked for in the one before, and the
 * fetches of a batch wait together instead of one after the other.
 */

#include "nd_append.h"
#include "nd_mix.h"
#include "nd_routes.h"
#include "nd_routes_inside.h"

#define BATCH       32u
#define NEIGHBOURS  4u                          /* events of a fleet come with few paths, again and again */
#define BODY_HEAD   "{\"ep\":\""
#define BETWEEN     "\",\"path\":\""
#define BYTES_OF(literal) ((uint64_t)(sizeof(literal) - 1))
#define LINE_BYTES  64u

/* A text in the block. */
typedef struct {
    const uint8_t *text;
    uint64_t       bytes;
} piece;

/* An edge that is searched for. */
typedef struct {
    piece       text;
    uint32_t    from, tag;
    page       *in;
    const slot *held;           /* by the first edge of this tag; the only one, nearly always */
    uint32_t    to;
} probe;

typedef struct {
    uint32_t count;
    piece    eps[BATCH], paths[BATCH];
} batch;

/* Where the ep and the path of a record stand.  False: it is no notification in canonical form. */
static int read_record(const uint8_t *body, uint64_t meta, piece *ep, piece *path)
{
    const uint8_t *const end = body + nd_meta_body_bytes(meta);
    *ep = (piece){body + BYTES_OF(BODY_HEAD), nd_meta_ep_bytes(meta)};
    if (nd_meta_kind(meta) != 0) return 0;
    if ((uint64_t)(end - body) < BYTES_OF(BODY_HEAD) + ep->bytes + BYTES_OF(BETWEEN)) return 0;
    path->text = ep->text + ep->bytes + BYTES_OF(BETWEEN);
    const uint8_t *quote = memchr(path->text, '"', (uint64_t)(end - path->text));
    if (quote == NULL) return 0;
    if (quote[-1] == '\\') {                                    /* it may be an escaped one */
        quote = path->text;
        while (quote < end && *quote != '"') quote += *quote == '\\' ? 2 : 1;
        if (quote >= end) return 0;
    }
    path->bytes = (uint64_t)(quote - path->text);
    return 1;
}

static void probe_begin(probe *each, const nd_routes *routes, uint32_t from, piece text)
{
    *each = (probe){.text = text, .from = from, .tag = routes_tag(routes, from, text.text, text.bytes)};
}

/* Find where each probe leads; 0: nowhere. */
static void follow(const nd_routes *routes, probe *probes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        probes[i].in = routes_page(routes, probes[i].tag);
        __builtin_prefetch(&probes[i].in->slots[tag_home(probes[i].tag)]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const slot *slots = probes[i].in->slots;
        uint32_t at = tag_home(probes[i].tag);
        while (slots[at].place != 0 && slots[at].tag != probes[i].tag) at = slot_behind(at);
        probes[i].held = &slots[at];
        if (slots[at].place == 0) continue;
        const uint8_t *found = (const uint8_t *)routes_edge(routes, slots[at].place);
        __builtin_prefetch(found);
        if ((uintptr_t)found % LINE_BYTES + sizeof(edge) + probes[i].text.bytes > LINE_BYTES) {
            __builtin_prefetch(found + LINE_BYTES);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const probe *each = &probes[i];
        const slot *held = each->held;
        if (held->place != 0) {
            held = routes_search(routes, each->in, each->tag, each->from, each->text.text, each->text.bytes);
        }
        probes[i].to = held->place == 0 ? 0 : routes_edge(routes, held->place)->to;
    }
}

/* From the nodes where each event's ep led over its path; 0: there is no such edge. */
static void follow_paths(const nd_routes *routes, const batch *events, const uint32_t *from, uint32_t *to)
{
    probe probes[BATCH];
    uint32_t which[BATCH], count = 0;
    for (uint32_t i = 0; i < events->count; i++) {
        const piece path = events->paths[i];
        uint32_t known = count;
        for (uint32_t back = 1; back <= NEIGHBOURS && back <= count && known == count; back++) {
            const probe *before = &probes[count - back];
            if (before->from == from[i] && before->text.bytes == path.bytes
                && memcmp(before->text.text, path.text, path.bytes) == 0) known = count - back;
        }
        which[i] = known;
        if (known == count) probe_begin(&probes[count++], routes, from[i], path);
    }
    follow(routes, probes, count);
    for (uint32_t i = 0; i < events->count; i++) to[i] = from[i] == 0 ? 0 : probes[which[i]].to;
}

/* The audiences of a batch, as pairs. */
static void find_batch(const nd_route_walk *walk, const batch *events, uint64_t *pairs)
{
    const int by_device = walk->chosen != NULL && walk->chosen_from == ND_ROUTE_ROOT;
    probe probes[BATCH];
    uint32_t nodes[BATCH], manual[BATCH] = {0}, chosen[BATCH] = {0};
    if (walk->manual != NULL || by_device) {
        const nd_routes *either = walk->manual != NULL ? walk->manual : walk->chosen;   /* of one key */
        for (uint32_t i = 0; i < events->count; i++) probe_begin(&probes[i], either, ND_ROUTE_ROOT, events->eps[i]);
    }
    if (walk->manual != NULL) {
        follow(walk->manual, probes, events->count);
        for (uint32_t i = 0; i < events->count; i++) nodes[i] = probes[i].to;
        follow_paths(walk->manual, events, nodes, manual);
    }
    if (walk->chosen != NULL) {
        if (by_device) follow(walk->chosen, probes, events->count);
        for (uint32_t i = 0; i < events->count; i++) nodes[i] = by_device ? probes[i].to : walk->chosen_from;
        follow_paths(walk->chosen, events, nodes, chosen);
    }
    for (uint32_t i = 0; i < events->count; i++) pairs[i] = manual[i] | (uint64_t)chosen[i] << 32;
}

nd_status nd_routes_find(nd_route_walk *walk, const uint8_t *block, uint64_t block_bytes,
                         const uint64_t *meta, uint64_t count, uint64_t *pairs)
{
    batch events;
    uint64_t body_at[BATCH + 1];
    while (walk->next < count) {                                /* an event or more each turn */
        const uint64_t left = count - walk->next;
        events.count = left < BATCH ? (uint32_t)left : BATCH;
        body_at[0] = walk->next_byte;
        for (uint32_t i = 0; i < events.count; i++) {
            const uint64_t each = meta[walk->next + i];
            body_at[i + 1] = body_at[i] + nd_meta_body_bytes(each);
            if (body_at[i + 1] > block_bytes) return ND_ERR_ARGUMENT;
            if (!read_record(block + body_at[i], each, &events.eps[i], &events.paths[i])) return ND_ERR_ARGUMENT;
        }
        find_batch(walk, &events, pairs + walk->next);
        for (uint32_t i = 0; i < events.count && walk->chosen != NULL; i++) {
            if (pairs[walk->next + i] >> 32 != 0) continue;
            walk->missed = walk->next + i;
            walk->ep_at = (uint64_t)(events.eps[i].text - block);
            walk->path_at = (uint64_t)(events.paths[i].text - block);
            walk->ep_bytes = (uint32_t)events.eps[i].bytes;
            walk->path_bytes = (uint32_t)events.paths[i].bytes;
            walk->next_byte = body_at[i + 1];
            walk->next = walk->missed + 1;
            return ND_EMPTY;
        }
        walk->next += events.count;
        walk->next_byte = body_at[events.count];
    }
    return ND_OK;
}

uint64_t nd_routes_group(const uint64_t *pairs, uint64_t count, uint32_t *groups, uint64_t *distinct,
                         uint32_t *slots, uint64_t slots_count)
{
    uint64_t found = 0;
    memset(slots, 0, slots_count * sizeof *slots);
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0 && pairs[i] == pairs[i - 1]) {
            groups[i] = groups[i - 1];
            continue;
        }
        uint64_t at = nd_mix64(pairs[i]) & (slots_count - 1);
        while (slots[at] != 0 && distinct[slots[at] - 1] != pairs[i]) at = (at + 1) & (slots_count - 1);
        if (slots[at] == 0) {                                   /* at most count times: a slot stays free */
            distinct[found++] = pairs[i];
            slots[at] = (uint32_t)found;
        }
        groups[i] = slots[at] - 1;
    }
    return found;
}
