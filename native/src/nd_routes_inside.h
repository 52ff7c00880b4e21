/* nd_routes_inside.h -- what putting and finding edges share: where they lie.
 *
 *      directory      page of 511 slots            chunk
 *      [tag's first   [tag | place] ...  --------> [from, to, text] [from, to, text] ...
 *       bits]  -----> [tag | place]
 *
 * Extendible hashing: the first bits of a tag choose the page, its last ones the slot, and
 * a page that is full becomes two.  A tag has all the bits that are ever asked for, so to
 * split a page nothing but the page is read.
 */
#ifndef ND_ROUTES_INSIDE_H
#define ND_ROUTES_INSIDE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "nd_pool.h"
#include "nd_routes.h"

#define PAGE_SLOTS      511u
#define PAGE_FILLED_MAX (PAGE_SLOTS / 4 * 3)    /* a free slot ends every search, and is never far */
#define HOME_BITS       16u                     /* of a tag: they choose the slot */
#define DEPTH_MAX       (32u - HOME_BITS)       /* and the others the page: 20,000,000 edges */
#define CHUNK_BYTES_MIN ND_CHUNK_BYTES_MIN      /* for a table of few edges */
#define CHUNK_BYTES_MAX (64u * 1024)
#define PLACE_UNIT      8u
#define PLACE_BITS      13u                     /* of a place: the unit in its chunk; the others are the chunk */

typedef struct {
    uint32_t tag;
    uint32_t place;             /* 0: free */
} slot;

typedef struct {
    uint32_t depth;             /* bits of the tag that all edges in it share */
    uint32_t filled;
    slot     slots[PAGE_SLOTS];
} page;

_Static_assert(sizeof(page) == ND_CHUNK_BYTES_MIN, "a page fills the pool's smallest chunk");

typedef struct {
    uint32_t bytes, used, live; /* of which live belong to edges that are there */
    uint32_t _reserved[5];      /* so that the shortest edges lie within a line of the cache */
} chunk;

typedef struct {
    uint32_t from, to;
    uint16_t text_bytes;
    uint8_t  is_gone;
    uint8_t  text[];
} edge;

struct nd_route_space {
    const nd_io *io;
    nd_pool     *pool;
    uint64_t     key_low, key_high;
    uint64_t     users;         /* open tables, and whoever has not closed the space yet */
};

struct nd_routes {
    nd_route_space *space;
    page          **directory;  /* 2^depth entries; several for a page of lower depth */
    chunk         **chunks;
    uint32_t        depth;
    uint32_t        chunks_count, chunks_room;
    uint32_t        current;    /* the chunk that is being filled */
    uint64_t        edges, bytes;
};

_Static_assert(CHUNK_BYTES_MAX == PLACE_UNIT << PLACE_BITS, "a place reaches all of a chunk");
_Static_assert(sizeof(chunk) % PLACE_UNIT == 0 && sizeof(chunk) > 0, "no edge has the place 0");

static inline page *routes_page(const nd_routes *routes, uint32_t tag)
{
    return routes->directory[(uint64_t)tag << routes->depth >> 32];
}

static inline edge *routes_edge(const nd_routes *routes, uint32_t place)
{
    uint8_t *begin = (uint8_t *)routes->chunks[place >> PLACE_BITS];
    return (edge *)(void *)(begin + (uint64_t)(place & ((1u << PLACE_BITS) - 1)) * PLACE_UNIT);
}

static inline uint32_t tag_home(uint32_t tag)
{
    return (tag & ((1u << HOME_BITS) - 1)) * PAGE_SLOTS >> HOME_BITS;
}

static inline uint32_t slot_behind(uint32_t at)
{
    return at + 1 < PAGE_SLOTS ? at + 1 : 0;
}

/* The slot that an edge has, or the free one where the search for it ends. */
static inline slot *routes_search(const nd_routes *routes, page *in, uint32_t tag, uint32_t from,
                                  const uint8_t *text, uint64_t text_bytes)
{
    uint32_t at = tag_home(tag);
    while (in->slots[at].place != 0) {                          /* ends: a quarter of the slots are free */
        if (in->slots[at].tag == tag) {
            const edge *found = routes_edge(routes, in->slots[at].place);
            if (found->from == from && found->text_bytes == text_bytes
                && memcmp(found->text, text, text_bytes) == 0) break;
        }
        at = slot_behind(at);
    }
    return &in->slots[at];
}

#define SIP_ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))
#define SIP_ROUND(a, b, c, d)                                                               \
    do {                                                                                    \
        a += b; b = SIP_ROTATE(b, 13); b ^= a; a = SIP_ROTATE(a, 32);                       \
        c += d; d = SIP_ROTATE(d, 16); d ^= c;                                              \
        a += d; d = SIP_ROTATE(d, 21); d ^= a;                                              \
        c += b; b = SIP_ROTATE(b, 17); b ^= c; c = SIP_ROTATE(c, 32);                       \
    } while (0)

/* Up to eight bytes, with zeros behind them. */
static inline uint64_t sip_short_word(const uint8_t *text, uint64_t text_bytes)
{
    uint64_t word = 0;
    for (uint64_t i = 0; i < text_bytes; i++) word |= (uint64_t)text[i] << i * 8;
    return word;
}

/* SipHash-1-3 of the node, the length, and the text in words of eight bytes, the last of which
 * may reach back over the one before it: with the length known, no two texts have the same. */
static inline uint32_t routes_tag(const nd_routes *routes, uint32_t from, const uint8_t *text, uint64_t text_bytes)
{
    uint64_t a = routes->space->key_low ^ 0x736f6d6570736575u, b = routes->space->key_high ^ 0x646f72616e646f6du;
    uint64_t c = routes->space->key_low ^ 0x6c7967656e657261u, d = routes->space->key_high ^ 0x7465646279746573u;
    uint64_t word = from | text_bytes << 32, left = text_bytes;
    for (;;) {                                                  /* eight bytes a turn */
        d ^= word;
        SIP_ROUND(a, b, c, d);
        a ^= word;
        if (left == 0) break;
        if (text_bytes < 8) {
            word = sip_short_word(text, left);
            left = 0;
        } else {
            const uint64_t step = left < 8 ? left : 8;
            memcpy(&word, text + (text_bytes - left) - (8 - step), 8);
            left -= step;
        }
    }
    c ^= 0xff;
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    const uint64_t hash = a ^ b ^ c ^ d;
    return (uint32_t)(hash ^ hash >> 32);
}

#endif /* ND_ROUTES_INSIDE_H */
