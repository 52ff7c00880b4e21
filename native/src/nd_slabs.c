/* nd_slabs.c -- slabs of chunks, each with a bitmap of what is free of it. */

#include "nd_slabs.h"

#include <string.h>

#include "nd_assert.h"

#define NONE       UINT32_MAX
#define BLOCKS     (ND_SLAB_BYTES / ND_CHUNK_BYTES_MIN)
#define WORDS      (BLOCKS / 64u)
#define ITEMS_MIN  16u

struct nd_slab {
    uint64_t free_bits[WORDS];          /* blocks that are in no chunk; valid while some are */
    uint64_t first_bits[WORDS];         /* blocks that a chunk begins with */
    uint32_t next, previous;            /* in the list it stands in */
    uint32_t blocks_free;
    uint32_t touched_bytes;
    uint32_t class_index;               /* of the open list it stands in; NONE: of none */
};

/* The smallest class whose chunks hold this many bytes. */
static uint32_t class_of(uint32_t bytes)
{
    uint32_t class_index = 0;
    while (ND_CHUNK_BYTES_MIN << class_index < bytes) class_index++;    /* at most 10 turns: bytes is checked */
    return class_index;
}

/* --- bits ---------------------------------------------------------------------------- */

/* Free blocks for a chunk of a class, the first ones; NONE: there are none. */
static uint32_t find_free(const nd_slab *item, uint32_t class_index)
{
    const uint32_t blocks = 1u << class_index;
    const uint32_t words = blocks > 64 ? blocks / 64 : 1;
    for (uint32_t word = 0; word < WORDS; word += words) {
        uint64_t free = item->free_bits[word];
        for (uint32_t i = 1; i < words; i++) free &= item->free_bits[word + i];
        for (uint32_t by = 1; by < blocks && by < 64; by *= 2) {        /* all of a pair, at the place of its first */
            static const uint64_t firsts[] = {
                0x5555555555555555, 0x1111111111111111, 0x0101010101010101,
                0x0001000100010001, 0x0000000100000001, 0x0000000000000001,
            };
            free &= free >> by & firsts[__builtin_ctz(by)];
        }
        if (free != 0) return word * 64 + (uint32_t)__builtin_ctzll(free);
    }
    return NONE;
}

/* Change the free bits of a chunk. */
static void flip(nd_slab *item, uint32_t first, uint32_t blocks)
{
    for (uint32_t at = first; at < first + blocks; at += 64) {          /* a word each turn */
        item->free_bits[at / 64] ^= blocks >= 64 ? UINT64_MAX : ((1ull << blocks) - 1) << (at % 64);
    }
}

/* How long a chunk is: up to the next one, or to what is free. */
static uint32_t blocks_of(const nd_slab *item, uint32_t first)
{
    uint64_t behind = ~((2ull << (first % 64)) - 1);
    for (uint32_t word = first / 64; word < WORDS; word++) {
        const uint64_t ends = (item->first_bits[word] | item->free_bits[word]) & behind;
        if (ends != 0) return word * 64 + (uint32_t)__builtin_ctzll(ends) - first;
        behind = UINT64_MAX;
    }
    return BLOCKS - first;
}

/* --- lists --------------------------------------------------------------------------- */

static void list_push(nd_slabs *slabs, uint32_t *head, uint32_t index)
{
    nd_slab *item = &slabs->items[index];
    item->previous = NONE;
    item->next = *head;
    if (*head != NONE) slabs->items[*head].previous = index;
    *head = index;
}

static void list_remove(nd_slabs *slabs, uint32_t *head, uint32_t index)
{
    const nd_slab *item = &slabs->items[index];
    if (item->previous == NONE) {
        ND_ASSERT(*head == index);
        *head = item->next;
    } else {
        slabs->items[item->previous].next = item->next;
    }
    if (item->next != NONE) slabs->items[item->next].previous = item->previous;
}

static void close_slab(nd_slabs *slabs, uint32_t index)
{
    nd_slab *item = &slabs->items[index];
    if (item->class_index != NONE) list_remove(slabs, &slabs->open[item->class_index], index);
    item->class_index = NONE;
}

/* Put a slab where its largest free chunk belongs. */
static void open_slab(nd_slabs *slabs, uint32_t index)
{
    nd_slab *item = &slabs->items[index];
    if (item->blocks_free == 0) return;
    uint32_t largest = 31u - (uint32_t)__builtin_clz(item->blocks_free);
    while (find_free(item, largest) == NONE) largest--;         /* ends: a block is free */
    item->class_index = largest;
    list_push(slabs, &slabs->open[largest], index);
}

/* --- chunks -------------------------------------------------------------------------- */

/* Make a free slab serve chunks.  False: none is backed. */
static int serve(nd_slabs *slabs)
{
    const uint64_t at = nd_slabs_take_backed(slabs);
    if (at == ND_NOWHERE) return 0;
    const uint32_t index = (uint32_t)(at / ND_SLAB_BYTES);
    nd_slab *item = &slabs->items[index];
    memset(item->free_bits, 0xff, sizeof item->free_bits);
    memset(item->first_bits, 0, sizeof item->first_bits);
    item->blocks_free = BLOCKS;
    open_slab(slabs, index);
    return 1;
}

/* The first slab that has a chunk of a class left, and the smallest such chunk; NONE: none has. */
static uint32_t find_slab(const nd_slabs *slabs, uint32_t class_index)
{
    while (class_index < ND_SLAB_CLASSES && slabs->open[class_index] == NONE) class_index++;
    return class_index < ND_SLAB_CLASSES ? slabs->open[class_index] : NONE;
}

/* Take a chunk of a class from a slab that has one left. */
static uint64_t chunk_take(nd_slabs *slabs, uint32_t index, uint32_t class_index, uint32_t *bytes_out)
{
    nd_slab *item = &slabs->items[index];
    const uint32_t first = find_free(item, class_index), blocks = 1u << class_index;
    ND_ASSERT(first != NONE);
    close_slab(slabs, index);
    flip(item, first, blocks);
    item->first_bits[first / 64] |= 1ull << (first % 64);
    item->blocks_free -= blocks;
    open_slab(slabs, index);

    const uint32_t bytes = blocks * ND_CHUNK_BYTES_MIN, end = first * ND_CHUNK_BYTES_MIN + bytes;
    if (end > item->touched_bytes) {
        slabs->bytes_touched += end - item->touched_bytes;
        item->touched_bytes = end;
    }
    slabs->bytes_out += bytes;
    *bytes_out = bytes;
    return (uint64_t)index * ND_SLAB_BYTES + (uint64_t)first * ND_CHUNK_BYTES_MIN;
}

uint64_t nd_slabs_take(nd_slabs *slabs, uint32_t bytes_min, uint32_t bytes_want, uint32_t *bytes_out)
{
    ND_ASSERT(bytes_min <= ND_CHUNK_BYTES_MAX && bytes_want <= ND_CHUNK_BYTES_MAX);
    const uint32_t least = class_of(bytes_min);
    const uint32_t want = class_of(bytes_want > bytes_min ? bytes_want : bytes_min);
    if (find_slab(slabs, want) == NONE) (void)serve(slabs);
    for (uint32_t class_index = want + 1; class_index-- > least;) {     /* at most 10 turns */
        const uint32_t index = find_slab(slabs, class_index);
        if (index != NONE) return chunk_take(slabs, index, class_index, bytes_out);
    }
    return ND_NOWHERE;
}

int nd_slabs_has(const nd_slabs *slabs, uint32_t bytes)
{
    return slabs->backed != NONE || find_slab(slabs, class_of(bytes)) != NONE;
}

void nd_slabs_give(nd_slabs *slabs, uint64_t at)
{
    const uint32_t index = (uint32_t)(at / ND_SLAB_BYTES);
    ND_ASSERT(index < slabs->count);
    nd_slab *item = &slabs->items[index];
    const uint32_t first = (uint32_t)(at % ND_SLAB_BYTES) / ND_CHUNK_BYTES_MIN;
    const uint64_t bit = 1ull << (first % 64);
    ND_ASSERT(at % ND_CHUNK_BYTES_MIN == 0);
    ND_ASSERT((item->first_bits[first / 64] & bit) != 0);       /* given back once */

    const uint32_t blocks = blocks_of(item, first);
    close_slab(slabs, index);
    flip(item, first, blocks);
    item->first_bits[first / 64] &= ~bit;
    item->blocks_free += blocks;
    slabs->bytes_out -= (uint64_t)blocks * ND_CHUNK_BYTES_MIN;
    if (item->blocks_free < BLOCKS) open_slab(slabs, index);
    else nd_slabs_back(slabs, (uint64_t)index * ND_SLAB_BYTES);
}

/* Make room in the books for one slab more.  False: no memory, or no such slab. */
static int grow(nd_slabs *slabs, const nd_io *io)
{
    if (slabs->count == slabs->count_max) return 0;
    if (slabs->count == slabs->capacity) {
        const uint32_t capacity = slabs->capacity > 0 ? slabs->capacity * 2 : ITEMS_MIN;
        nd_slab *items = io->allocate(io->context, capacity * sizeof *items);
        if (items == NULL) return 0;
        if (slabs->items != NULL) {
            memcpy(items, slabs->items, slabs->count * sizeof *items);
            io->release(io->context, slabs->items, slabs->capacity * sizeof *items);
        }
        slabs->items = items;
        slabs->capacity = capacity;
    }
    slabs->items[slabs->count].class_index = NONE;
    slabs->count++;
    return 1;
}

uint64_t nd_slabs_take_bare(nd_slabs *slabs, const nd_io *io)
{
    uint32_t index = slabs->bare;
    if (index != NONE) {
        list_remove(slabs, &slabs->bare, index);
        slabs->bare_count--;
    } else if (grow(slabs, io)) {
        index = slabs->count - 1;
    } else {
        return ND_NOWHERE;
    }
    return (uint64_t)index * ND_SLAB_BYTES;
}

uint64_t nd_slabs_take_backed(nd_slabs *slabs)
{
    const uint32_t index = slabs->backed;
    if (index == NONE) return ND_NOWHERE;
    list_remove(slabs, &slabs->backed, index);
    slabs->backed_count--;
    if (slabs->backed_count < slabs->backed_least) slabs->backed_least = slabs->backed_count;
    return (uint64_t)index * ND_SLAB_BYTES;
}

void nd_slabs_back(nd_slabs *slabs, uint64_t at)
{
    list_push(slabs, &slabs->backed, (uint32_t)(at / ND_SLAB_BYTES));
    slabs->backed_count++;
}

void nd_slabs_bare(nd_slabs *slabs, uint64_t at)
{
    const uint32_t index = (uint32_t)(at / ND_SLAB_BYTES);
    slabs->bytes_touched -= slabs->items[index].touched_bytes;
    slabs->items[index].touched_bytes = 0;
    list_push(slabs, &slabs->bare, index);
    slabs->bare_count++;
}

void nd_slabs_touch(nd_slabs *slabs, uint64_t at)
{
    nd_slab *item = &slabs->items[at / ND_SLAB_BYTES];
    slabs->bytes_touched += ND_SLAB_BYTES - item->touched_bytes;
    item->touched_bytes = ND_SLAB_BYTES;
}

uint64_t nd_slabs_touch_all(nd_slabs *slabs, uint64_t end)
{
    for (uint32_t i = 0; i < slabs->count && (uint64_t)i * ND_SLAB_BYTES < end; i++) {
        nd_slabs_touch(slabs, (uint64_t)i * ND_SLAB_BYTES);
    }
    return (uint64_t)slabs->count * ND_SLAB_BYTES;
}

uint32_t nd_slabs_touched(const nd_slabs *slabs, uint64_t at)
{
    return slabs->items[at / ND_SLAB_BYTES].touched_bytes;
}

void nd_slabs_begin(nd_slabs *slabs, uint64_t bytes_max)
{
    *slabs = (nd_slabs){
        .count_max = (uint32_t)((bytes_max + ND_SLAB_BYTES - 1) / ND_SLAB_BYTES),
        .backed = NONE,
        .bare = NONE,
    };
    for (uint32_t i = 0; i < ND_SLAB_CLASSES; i++) slabs->open[i] = NONE;
}

void nd_slabs_end(nd_slabs *slabs, const nd_io *io)
{
    if (slabs->items != NULL) io->release(io->context, slabs->items, slabs->capacity * sizeof *slabs->items);
    slabs->items = NULL;
}
