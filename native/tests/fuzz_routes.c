/* fuzz_routes.c -- tries to break: whatever edges come and go, a table has those that a list
 * has; and a walk finds in it what one look after the other finds, or says that a request lies. */

#include "nd_routes.h"
#include "nd_test.h"

enum { EDGES_MAX = 64, TEXT_MAX = 24, EVENTS_MAX = 80 };

typedef struct {
    uint32_t from, to;
    uint8_t  text[TEXT_MAX];
    uint64_t bytes;
} known;

typedef struct {
    const uint8_t *data;
    size_t         left;
} choices;

static uint32_t next(choices *from)
{
    if (from->left == 0) return 0;
    from->left--;
    return *from->data++;
}

/* Texts of few letters, so that they meet again; never with a quote that is not escaped. */
static uint64_t text_from(choices *from, uint8_t *text)
{
    static const char *const letters[] = {"a", "b", "/", "1", "\\\"", "\\\\", "\xc3\xbc", "x"};
    uint64_t bytes = 0;
    const uint32_t count = next(from) % 12;
    for (uint32_t i = 0; i < count; i++) {
        const char *letter = letters[next(from) % 8];
        memcpy(text + bytes, letter, strlen(letter));
        bytes += strlen(letter);
    }
    return bytes;
}

static known *find(known *list, uint32_t count, uint32_t from, const uint8_t *text, uint64_t bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        if (list[i].from == from && list[i].bytes == bytes && memcmp(list[i].text, text, bytes) == 0) return &list[i];
    }
    return NULL;
}

static uint32_t lead(known *list, uint32_t count, uint32_t from, const uint8_t *text, uint64_t bytes)
{
    const known *found = find(list, count, from, text, bytes);
    return found == NULL ? 0 : found->to;
}

/* Walk events of these texts, and hold each pair against the list. */
static void walk_events(nd_routes *routes, known *list, uint32_t count, choices *from, uint32_t start)
{
    static uint8_t block[EVENTS_MAX * 80];
    static uint64_t meta[EVENTS_MAX], pairs[EVENTS_MAX];
    static uint32_t expected[EVENTS_MAX];
    uint64_t block_bytes = 0;
    const uint32_t events = next(from) % EVENTS_MAX;
    for (uint32_t i = 0; i < events; i++) {
        uint8_t ep[TEXT_MAX], path[TEXT_MAX];
        const uint64_t ep_bytes = text_from(from, ep), path_bytes = text_from(from, path);
        const int body = snprintf((char *)block + block_bytes, 80, "{\"ep\":\"%.*s\",\"path\":\"%.*s\"}",
                                  (int)ep_bytes, (const char *)ep, (int)path_bytes, (const char *)path);
        meta[i] = (uint64_t)body | ep_bytes << 40;
        block_bytes += (uint64_t)body;
        const uint32_t device = start != 0 ? start : lead(list, count, 0, ep, ep_bytes);
        expected[i] = device == 0 ? 0 : lead(list, count, device, path, path_bytes);
    }
    nd_route_walk walk = {.manual = start == 0 ? routes : NULL, .chosen = routes, .chosen_from = start};
    uint64_t missed = 0, misses = 0;
    nd_status status;
    while ((status = nd_routes_find(&walk, block, block_bytes, meta, events, pairs)) == ND_EMPTY) {
        CHECK(misses == 0 || walk.missed > missed);
        missed = walk.missed;
        CHECK_EQUAL(expected[missed], 0);
        CHECK(memcmp(block + walk.ep_at - 7, "{\"ep\":\"", 7) == 0);
        CHECK(block[walk.path_at + walk.path_bytes] == '"');
        misses++;
    }
    CHECK_EQUAL(status, ND_OK);
    CHECK_EQUAL(walk.next, events);
    for (uint32_t i = 0; i < events; i++) {
        CHECK_EQUAL(pairs[i] >> 32, expected[i]);
        CHECK_EQUAL(pairs[i] & UINT32_MAX, start == 0 ? expected[i] : 0);
        misses -= expected[i] == 0;
    }
    CHECK_EQUAL(misses, 0);
    /* The same bytes under metas that say anything: no more than an error. */
    for (uint32_t i = 0; i < events; i++) meta[i] ^= (uint64_t)next(from) << next(from) % 57;
    walk = (nd_route_walk){.manual = routes};
    uint8_t *exact = malloc(block_bytes + 1);                   /* so that a byte too far is noticed */
    memcpy(exact, block, block_bytes);
    status = nd_routes_find(&walk, exact, block_bytes, meta, events, pairs);
    CHECK(status == ND_OK || status == ND_ERR_ARGUMENT);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    choices from = {data, size};
    known list[EDGES_MAX];
    uint32_t count = 0;
    test_memory memory;
    test_memory_begin(&memory);
    nd_route_space *space;
    nd_routes *routes;
    CHECK_EQUAL(nd_route_space_open(&memory.io, 4u << 20, next(&from), next(&from), &space), ND_OK);
    CHECK_EQUAL(nd_routes_open(space, &routes), ND_OK);
    while (from.left > 0) {
        const uint32_t what = next(&from), node = next(&from) % 4;
        uint8_t text[TEXT_MAX];
        const uint64_t bytes = text_from(&from, text);
        known *found = find(list, count, node, text, bytes);
        CHECK_EQUAL(nd_routes_get(routes, node, text, bytes), found == NULL ? 0 : found->to);
        if (what % 8 < 5 && (found != NULL || count < EDGES_MAX)) {
            if (found == NULL) found = &list[count++];
            *found = (known){.from = node, .to = 1 + what / 8 % 3, .bytes = bytes};
            memcpy(found->text, text, bytes);
            CHECK_EQUAL(nd_routes_put(routes, node, text, bytes, found->to), ND_OK);
        } else if (what % 8 < 7) {
            nd_routes_remove(routes, node, text, bytes);
            if (found != NULL) *found = list[--count];
        } else {
            walk_events(routes, list, count, &from, node);
        }
    }
    nd_routes_close(routes);
    nd_route_space_close(space);
    test_memory_end(&memory);
    return 0;
}
