/* nd_ep_table.c -- open addressing over hashes; at most half of the entries are filled. */

#include "nd_ep_table.h"

#include <string.h>

#include "nd_form.h"
#include "nd_mix.h"

#define ENTRIES_MIN 256u
#define ORDER_MASK  7u          /* an entry: the hash, and the kind's place in its lowest bits */

_Static_assert(ND_KINDS <= ORDER_MASK, "a place in the order fits into the free bits");

void nd_ep_table_free(nd_ep_table *table)
{
    if (table->entries == NULL) return;
    nd_pool_release(table->pool, table->entries, table->allocated * sizeof *table->entries);
    table->entries = NULL;
}

uint64_t nd_ep_hash(const nd_record *record, uint64_t key)
{
    const uint8_t *ep = nd_record_body(record) + ND_LITERAL_BYTES(ND_BODY_HEAD);
    const uint64_t hash = nd_hash_bytes(ep, record->ep_bytes, key) & ~(uint64_t)ORDER_MASK;
    return hash != 0 ? hash : ORDER_MASK + 1;
}

/* The entry of a hash, or the free one where it belongs. */
static uint64_t *table_entry(const nd_ep_table *table, uint64_t hash)
{
    const uint32_t mask = table->in_use - 1;
    uint32_t at = (uint32_t)(hash >> 32) & mask;
    while (table->entries[at] != 0 && (table->entries[at] & ~(uint64_t)ORDER_MASK) != hash) {
        at = (at + 1) & mask;                                   /* ends: half of the entries are free */
    }
    return &table->entries[at];
}

/* Empty the table at a size of its own, in new memory if need be.  False: no memory. */
static int table_begin(nd_ep_table *table, uint32_t entries)
{
    if (entries > table->allocated || table->entries == NULL) {
        nd_ep_table_free(table);
        table->entries = nd_pool_allocate(table->pool, entries * sizeof *table->entries);
        table->allocated = table->entries != NULL ? entries : 0;
        if (table->entries == NULL) return 0;
    } else {
        memset(table->entries, 0, entries * sizeof *table->entries);
    }
    table->in_use = entries;
    table->filled = 0;
    return 1;
}

static int table_double(nd_ep_table *table)
{
    uint64_t *old = table->entries;
    const uint32_t old_allocated = table->allocated, old_in_use = table->in_use;
    uint64_t *larger = nd_pool_allocate(table->pool, old_in_use * 2 * sizeof *larger);
    if (larger == NULL) return 0;
    table->entries = larger;
    table->allocated = table->in_use = old_in_use * 2;
    for (uint32_t i = 0; i < old_in_use; i++) {
        if (old[i] != 0) *table_entry(table, old[i] & ~(uint64_t)ORDER_MASK) = old[i];
    }
    nd_pool_release(table->pool, old, old_allocated * sizeof *old);
    return 1;
}

int nd_ep_table_put(nd_ep_table *table, uint64_t hash, uint32_t order)
{
    if (table->in_use == 0 && !table_begin(table, ENTRIES_MIN)) return 0;
    if (table->filled * 2 >= table->in_use && !table_double(table)) return 0;
    uint64_t *entry = table_entry(table, hash);
    if (*entry == 0) table->filled++;
    if ((*entry & ORDER_MASK) < order) *entry = hash | order;
    return 1;
}

uint32_t nd_ep_table_order(const nd_ep_table *table, uint64_t hash)
{
    return table->in_use == 0 ? 0 : (uint32_t)(*table_entry(table, hash) & ORDER_MASK);
}
