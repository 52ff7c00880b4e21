#include "nd_routes.h"
#include "nd_routes_inside.h"
#include "nd_test.h"

enum { SPACE_BYTES = 256u << 20 };

typedef struct {
    test_memory     memory;
    nd_route_space *space;
    nd_routes      *routes;
} house;

static void house_begin(house *h)
{
    test_memory_begin(&h->memory);
    CHECK_EQUAL(nd_route_space_open(&h->memory.io, SPACE_BYTES, 1, 2, &h->space), ND_OK);
    CHECK_EQUAL(nd_routes_open(h->space, &h->routes), ND_OK);
}

static void house_end(house *h)
{
    nd_routes_close(h->routes);
    nd_route_space_close(h->space);
    test_memory_end(&h->memory);
}

/* A text for each number, of many lengths. */
static uint64_t text_of(uint32_t number, uint8_t *text)
{
    const int digits = snprintf((char *)text, 32, "device-%u-", number);
    const uint64_t bytes = (uint64_t)digits + number % 40;
    memset(text + digits, 'x', number % 40);
    return bytes;
}

static nd_status put(nd_routes *routes, uint32_t number, uint32_t to)
{
    uint8_t text[96];
    return nd_routes_put(routes, number % 3, text, text_of(number, text), to);
}

static uint32_t get(const nd_routes *routes, uint32_t number)
{
    uint8_t text[96];
    return nd_routes_get(routes, number % 3, text, text_of(number, text));
}

static void take(nd_routes *routes, uint32_t number)
{
    uint8_t text[96];
    nd_routes_remove(routes, number % 3, text, text_of(number, text));
}

/* What the pages and chunks say of themselves is so. */
static void check_books(const nd_routes *routes)
{
    uint64_t edges = 0, live = 0, pages = 0;
    for (uint64_t at = 0; at < 1ull << routes->depth;) {
        const page *each = routes->directory[at];
        uint32_t filled = 0;
        for (uint32_t i = 0; i < PAGE_SLOTS; i++) {
            const slot held = each->slots[i];
            if (held.place == 0) continue;
            filled++;
            CHECK(routes_page(routes, held.tag) == each);
            const edge *found = routes_edge(routes, held.place);
            CHECK(!found->is_gone);
            CHECK_EQUAL(routes_tag(routes, found->from, found->text, found->text_bytes), held.tag);
            CHECK_EQUAL(nd_routes_get(routes, found->from, found->text, found->text_bytes), found->to);
            live += (offsetof(edge, text) + found->text_bytes + 7) / 8 * 8;
        }
        CHECK_EQUAL(filled, each->filled);
        CHECK(filled <= PAGE_FILLED_MAX);
        edges += filled;
        pages++;
        at += 1ull << (routes->depth - each->depth);
    }
    CHECK_EQUAL(edges, routes->edges);
    uint64_t held = 0, counted = 0;
    for (uint32_t i = 0; i < routes->chunks_count; i++) {
        const chunk *each = routes->chunks[i];
        if (each == NULL) continue;
        held += each->bytes;
        counted += each->live;
        CHECK(i == routes->current || each->live * 2 + ND_ROUTE_TEXT_BYTES_MAX * 2 >= each->bytes);
    }
    CHECK_EQUAL(counted, live);
    const uint64_t tables = (sizeof(page *) << routes->depth) + routes->chunks_room * sizeof(chunk *);
    CHECK_EQUAL(routes->bytes, sizeof *routes + tables + pages * sizeof(page) + held);
}

static void edges_are_found_until_they_are_removed(void)
{
    enum { EDGES = 50000 };
    house h;
    house_begin(&h);
    const uint64_t empty = nd_routes_bytes(h.routes);
    for (uint32_t i = 0; i < EDGES; i++) CHECK_EQUAL(put(h.routes, i, i + 1), ND_OK);
    check_books(h.routes);
    for (uint32_t i = 0; i < EDGES; i++) CHECK_EQUAL(get(h.routes, i), i + 1);
    CHECK_EQUAL(get(h.routes, EDGES), 0);
    for (uint32_t i = 0; i < EDGES; i += 2) take(h.routes, i);
    check_books(h.routes);
    for (uint32_t i = 0; i < EDGES; i++) CHECK_EQUAL(get(h.routes, i), i % 2 ? i + 1 : 0);
    for (uint32_t i = 1; i < EDGES; i += 2) take(h.routes, i);
    CHECK(nd_routes_bytes(h.routes) <= empty + CHUNK_BYTES_MAX);
    check_books(h.routes);
    CHECK_EQUAL(put(h.routes, 7, 7), ND_OK);
    CHECK_EQUAL(get(h.routes, 7), 7);
    house_end(&h);
}

static void an_edge_put_again_leads_elsewhere_and_takes_no_room(void)
{
    house h;
    house_begin(&h);
    for (uint32_t i = 1; i < 100000; i++) CHECK_EQUAL(put(h.routes, 5, i), ND_OK);
    CHECK_EQUAL(get(h.routes, 5), 99999);
    CHECK(nd_routes_bytes(h.routes) < 3 * ND_CHUNK_BYTES_MIN);
    CHECK_EQUAL(put(h.routes, 5, 0), ND_ERR_ARGUMENT);
    house_end(&h);
}

static void memory_is_at_most_twice_what_lives_however_edges_come_and_go(void)
{
    house h;
    house_begin(&h);
    uint32_t state = 9;
    uint64_t most = 0;
    for (uint32_t turn = 0; turn < 400000; turn++) {            /* a window of 5,000 moves on, and some go early */
        CHECK_EQUAL(put(h.routes, turn, 1), ND_OK);
        if (turn >= 5000) take(h.routes, turn - 5000);
        state = state * 1664525u + 1013904223u;
        take(h.routes, turn - (state >> 8) % 5000);
        if (nd_routes_bytes(h.routes) > most) most = nd_routes_bytes(h.routes);
        if (turn % 50000 == 0) check_books(h.routes);
    }
    CHECK(most < 2ull * 5000 * 80 + 5000 * 32 + 8 * CHUNK_BYTES_MAX);
    check_books(h.routes);
    house_end(&h);
}

static void one_edge_that_comes_and_goes_for_ever_keeps_its_memory(void)
{
    house h;
    house_begin(&h);
    for (uint32_t turn = 0; turn < 100000; turn++) {
        CHECK_EQUAL(put(h.routes, turn, 1), ND_OK);
        take(h.routes, turn);
        CHECK(nd_routes_bytes(h.routes) < 4 * ND_CHUNK_BYTES_MIN);
    }
    house_end(&h);
}

static void texts_may_be_as_long_as_they_may_be_and_no_longer(void)
{
    house h;
    house_begin(&h);
    static uint8_t text[ND_ROUTE_TEXT_BYTES_MAX + 1];
    for (uint32_t turn = 0; turn < 500; turn++) {
        memset(text, 'a', sizeof text);
        memcpy(text, &turn, sizeof turn);
        CHECK_EQUAL(nd_routes_put(h.routes, 0, text, ND_ROUTE_TEXT_BYTES_MAX, turn + 1), ND_OK);
    }
    check_books(h.routes);
    CHECK_EQUAL(nd_routes_get(h.routes, 0, text, ND_ROUTE_TEXT_BYTES_MAX), 500);
    CHECK_EQUAL(nd_routes_get(h.routes, 0, text, ND_ROUTE_TEXT_BYTES_MAX - 1), 0);
    CHECK_EQUAL(nd_routes_put(h.routes, 0, text, sizeof text, 1), ND_ERR_ARGUMENT);
    CHECK_EQUAL(nd_routes_get(h.routes, 0, text, sizeof text), 0);
    nd_routes_remove(h.routes, 0, text, sizeof text);
    nd_routes_remove(h.routes, 0, text, ND_ROUTE_TEXT_BYTES_MAX);
    CHECK_EQUAL(nd_routes_get(h.routes, 0, text, ND_ROUTE_TEXT_BYTES_MAX), 0);
    house_end(&h);
}

static void the_key_decides_where_an_edge_lies(void)
{
    house h;
    house_begin(&h);
    const uint8_t text[] = "0190aa11bb2200000000000010010001";
    uint32_t tags[4];
    const uint64_t keys[4][2] = {{1, 2}, {1, 3}, {0, 2}, {2, 1}};
    for (uint32_t i = 0; i < 4; i++) {
        nd_route_space space = {.key_low = keys[i][0], .key_high = keys[i][1]};
        const nd_routes routes = {.space = &space};
        tags[i] = routes_tag(&routes, 0, text, 32);
        for (uint32_t j = 0; j < i; j++) CHECK(tags[i] != tags[j]);
        for (uint64_t bytes = 0; bytes < 32; bytes++) {         /* every length, byte and node counts */
            const uint32_t tag = routes_tag(&routes, 0, text, bytes);
            CHECK(tag != routes_tag(&routes, 0, text, bytes + 1));
            CHECK(tag != routes_tag(&routes, 1, text, bytes));
            uint8_t other[32];
            memcpy(other, text, 32);
            for (uint64_t at = 0; at < bytes; at++) {
                other[at] ^= 1;
                CHECK(tag != routes_tag(&routes, 0, other, bytes));
                other[at] ^= 1;
            }
        }
    }
    house_end(&h);
}

typedef struct {
    uint32_t tag, number;
} tagged;

static int by_tag(const void *one, const void *other)
{
    const uint32_t a = ((const tagged *)one)->tag, b = ((const tagged *)other)->tag;
    return a < b ? -1 : a > b;
}

/* Among so many edges some pairs have one tag: a birthday.  They differ in the text alone, or in
 * the node alone. */
static void edges_of_one_tag_are_told_apart(void)
{
    enum { EDGES = 300000, TEXT_BYTES = 14 };
    static tagged all[EDGES];
    uint8_t texts[2][TEXT_BYTES + 1];
    for (int by_node = 0; by_node < 2; by_node++) {
        house h;
        house_begin(&h);
        for (uint32_t i = 0; i < EDGES; i++) {
            snprintf((char *)texts[0], sizeof texts[0], "device-%07u", by_node ? 0 : i);
            all[i] = (tagged){routes_tag(h.routes, by_node ? i : 0, texts[0], TEXT_BYTES), i};
        }
        qsort(all, EDGES, sizeof *all, by_tag);
        uint32_t pairs = 0;
        for (uint32_t i = 1; i < EDGES; i++) {
            if (all[i].tag != all[i - 1].tag) continue;
            pairs++;
            uint32_t from[2];
            for (uint32_t j = 0; j < 2; j++) {
                from[j] = by_node ? all[i - j].number : 0;
                snprintf((char *)texts[j], sizeof texts[j], "device-%07u", by_node ? 0 : all[i - j].number);
            }
            CHECK_EQUAL(nd_routes_put(h.routes, from[0], texts[0], TEXT_BYTES, 1), ND_OK);
            CHECK_EQUAL(nd_routes_get(h.routes, from[1], texts[1], TEXT_BYTES), 0);
            CHECK_EQUAL(nd_routes_put(h.routes, from[1], texts[1], TEXT_BYTES, 2), ND_OK);
            CHECK_EQUAL(nd_routes_get(h.routes, from[0], texts[0], TEXT_BYTES), 1);
            nd_routes_remove(h.routes, from[0], texts[0], TEXT_BYTES);
            CHECK_EQUAL(nd_routes_get(h.routes, from[0], texts[0], TEXT_BYTES), 0);
            CHECK_EQUAL(nd_routes_get(h.routes, from[1], texts[1], TEXT_BYTES), 2);
        }
        CHECK(pairs > 3);
        house_end(&h);
    }
}

/* Fill a table over an io that fails at one request; what was put before is all there. */
static void no_memory_changes_nothing(void)
{
    for (uint64_t fail_at = 1; fail_at < 40; fail_at++) {
        test_memory memory;
        test_memory_begin(&memory);
        memory.fail_at = fail_at;
        nd_route_space *space = NULL;
        nd_routes *routes = NULL;
        if (nd_route_space_open(&memory.io, SPACE_BYTES, 1, 2, &space) == ND_OK
            && nd_routes_open(space, &routes) == ND_OK) {
            for (uint32_t i = 0; i < 30000; i++) {
                const nd_status status = put(routes, i, i + 1);
                if (status == ND_OK) continue;
                CHECK_EQUAL(status, ND_ERR_FULL);
                CHECK_EQUAL(get(routes, i), 0);
                check_books(routes);
                CHECK_EQUAL(put(routes, i, i + 1), ND_OK);      /* the one failure is over */
            }
            for (uint32_t i = 0; i < 30000; i++) CHECK_EQUAL(get(routes, i), i + 1);
            for (uint32_t i = 0; i < 30000; i++) take(routes, i);
            check_books(routes);
        }
        nd_routes_close(routes);
        nd_route_space_close(space);
        test_memory_end(&memory);
    }
}

static void a_full_space_refuses_and_goes_on_when_there_is_room(void)
{
    test_memory memory;
    test_memory_begin(&memory);
    nd_route_space *space;
    nd_routes *routes, *other;
    CHECK_EQUAL(nd_route_space_open(&memory.io, 4u << 20, 1, 2, &space), ND_OK);
    CHECK_EQUAL(nd_routes_open(space, &routes), ND_OK);
    uint32_t count = 0;
    while (put(routes, count, 1) == ND_OK) count++;
    CHECK(count > 20000);
    CHECK_EQUAL(put(routes, count, 1), ND_ERR_FULL);
    check_books(routes);
    for (uint32_t i = 0; i < count; i++) CHECK_EQUAL(get(routes, i), 1);
    for (uint32_t i = 0; i < count; i++) take(routes, i);
    CHECK_EQUAL(nd_routes_open(space, &other), ND_OK);
    nd_route_space_close(space);                                /* the tables keep it */
    CHECK_EQUAL(put(routes, 1, 1), ND_OK);
    CHECK_EQUAL(put(other, 1, 2), ND_OK);
    CHECK_EQUAL(get(routes, 1), 1);
    nd_routes_close(routes);
    CHECK_EQUAL(get(other, 1), 2);
    nd_routes_close(other);
    test_memory_end(&memory);
}

/* --- requests ----------------------------------------------------------------------------- */

static test_request pair_of(const char *ep, const char *path)
{
    char body[400];
    snprintf(body, sizeof body, "{\"ep\":\"%s\",\"path\":\"%s\",\"ct\":\"\",\"payload\":\"\",\"max-age\":0}", ep, path);
    return test_record(0, ep, body, "");
}

static void a_request_that_lies_about_itself_is_refused(void)
{
    house h;
    house_begin(&h);
    test_request good = pair_of("a", "/1");
    uint64_t pairs[1];
    nd_route_walk walk = {.manual = h.routes};
    CHECK_EQUAL(nd_routes_find(&walk, good.block, good.block_bytes, good.meta, 1, pairs), ND_OK);
    CHECK_EQUAL(walk.next_byte, good.block_bytes);
    const uint64_t ep_one = 1ull << 40, kind_one = 1ull << 56;
    const uint64_t lies[] = {good.meta[0] + 1, good.meta[0] + kind_one, good.meta[0] + ep_one * 0xfff0,
                             good.meta[0] & ~0xffffffull, (good.meta[0] & ~0xffffffull) | 12,
                             (good.meta[0] & ~0xffffffull) | 20};
    for (uint32_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        walk = (nd_route_walk){.manual = h.routes};
        CHECK_EQUAL(nd_routes_find(&walk, good.block, good.block_bytes, &lies[i], 1, pairs), ND_ERR_ARGUMENT);
    }
    test_request open_end = test_record(0, "a", "{\"ep\":\"a\",\"path\":\"/1\\", "");
    walk = (nd_route_walk){.manual = h.routes};
    CHECK_EQUAL(nd_routes_find(&walk, open_end.block, open_end.block_bytes, open_end.meta, 1, pairs), ND_ERR_ARGUMENT);
    test_request_free(&open_end);
    test_request_free(&good);
    house_end(&h);
}

static void pairs_are_numbered_as_they_come(void)
{
    enum { COUNT = 1000 };
    static uint64_t pairs[COUNT], distinct[COUNT];
    static uint32_t groups[COUNT], slots[1024];
    for (uint32_t i = 0; i < COUNT; i++) pairs[i] = (uint64_t)(i / 2) << 32 | 7;
    CHECK_EQUAL(nd_routes_group(pairs, COUNT, groups, distinct, slots, 1024), COUNT / 2);
    for (uint32_t i = 0; i < COUNT; i++) CHECK_EQUAL(distinct[groups[i]], pairs[i]);
    for (uint32_t i = 0; i < COUNT; i++) pairs[i] = i % 3;
    CHECK_EQUAL(nd_routes_group(pairs, COUNT, groups, distinct, slots, 1024), 3);
    for (uint32_t i = 0; i < COUNT; i++) CHECK_EQUAL(groups[i], i % 3);
}

int main(void)
{
    RUN(edges_are_found_until_they_are_removed);
    RUN(an_edge_put_again_leads_elsewhere_and_takes_no_room);
    RUN(memory_is_at_most_twice_what_lives_however_edges_come_and_go);
    RUN(one_edge_that_comes_and_goes_for_ever_keeps_its_memory);
    RUN(texts_may_be_as_long_as_they_may_be_and_no_longer);
    RUN(the_key_decides_where_an_edge_lies);
    RUN(edges_of_one_tag_are_told_apart);
    RUN(no_memory_changes_nothing);
    RUN(a_full_space_refuses_and_goes_on_when_there_is_room);
    RUN(a_request_that_lies_about_itself_is_refused);
    RUN(pairs_are_numbered_as_they_come);
    return 0;
}
