/* nd_restore.c -- what is known of a log's channels while it is restored. */

#include "nd_restore.h"

#include <string.h>

#include "nd_mix.h"
#include "nd_restore_inside.h"

#define ITEMS_MIN 64u

/* --- arrays -------------------------------------------------------------------------- */

int nd_list_reserve(const nd_io *io, list *l, uint64_t item_bytes, uint64_t count)
{
    if (count <= l->capacity) return 1;
    uint64_t capacity = l->capacity > 0 ? l->capacity : ITEMS_MIN;
    while (capacity < count) capacity *= 2;                     /* at most 64 turns */
    void *items = io->allocate(io->context, capacity * item_bytes);
    if (items == NULL) return 0;
    if (l->items != NULL) {
        memcpy(items, l->items, l->count * item_bytes);
        io->release(io->context, l->items, l->capacity * item_bytes);
    }
    l->items = items;
    l->capacity = capacity;
    return 1;
}

static void list_free(const nd_io *io, list *l, uint64_t item_bytes)
{
    if (l->items != NULL) io->release(io->context, l->items, l->capacity * item_bytes);
    *l = (list){0};
}

/* --- channels by number and incarnation ---------------------------------------------- */

static uint64_t *slot_of(const nd_restore *restore, uint64_t number, uint64_t incarnation)
{
    uint64_t at = nd_mix64(number * ND_GOLDEN ^ incarnation);
    for (;; at++) {                                             /* the table is half empty at least */
        uint64_t *slot = &restore->table[at & (restore->table_size - 1)];
        if (*slot == 0) return slot;
        const nd_restored_channel *known = &channel_at(restore, *slot - 1)->known;
        if (known->channel == number && known->incarnation == incarnation) return slot;
    }
}

static int table_grow(nd_restore *restore)
{
    const nd_io *io = &restore->io;
    const uint64_t size = restore->table_size > 0 ? restore->table_size * 2 : 2 * ITEMS_MIN;
    uint64_t *table = io->allocate(io->context, size * sizeof *table);
    if (table == NULL) return 0;
    if (restore->table != NULL) io->release(io->context, restore->table, restore->table_size * sizeof *table);
    restore->table = table;
    restore->table_size = size;
    for (uint64_t i = 0; i < restore->channels.count; i++) {
        const nd_restored_channel *known = &channel_at(restore, i)->known;
        *slot_of(restore, known->channel, known->incarnation) = i + 1;
    }
    return 1;
}

/* The channel's entry, made when it is new; NULL: no memory.  Valid until the next one is made. */
channel *nd_restore_channel_of(nd_restore *restore, uint64_t number, uint64_t incarnation)
{
    if (2 * (restore->channels.count + 1) > restore->table_size && !table_grow(restore)) return NULL;
    uint64_t *slot = slot_of(restore, number, incarnation);
    if (*slot != 0) return channel_at(restore, *slot - 1);
    if (!nd_list_reserve(&restore->io, &restore->channels, sizeof(channel), restore->channels.count + 1)) return NULL;
    restore->channels.count++;
    *slot = restore->channels.count;
    channel *c = channel_at(restore, *slot - 1);
    *c = (channel){.known = {.channel = number, .incarnation = incarnation}};
    return c;
}

/* --- the whole ----------------------------------------------------------------------- */

nd_status nd_restore_open(const nd_io *io, nd_recovery *recovery, nd_restore **out)
{
    if (io == NULL || recovery == NULL || out == NULL) return ND_ERR_ARGUMENT;
    nd_restore *restore = io->allocate(io->context, sizeof *restore);
    if (restore == NULL) return ND_ERR_FULL;
    restore->io = *io;
    restore->recovery = recovery;
    *out = restore;
    return ND_OK;
}

void nd_restore_close(nd_restore *restore)
{
    if (restore == NULL) return;
    const nd_io io = restore->io;
    list_free(&io, &restore->channels, sizeof(channel));
    list_free(&io, &restore->drops, sizeof(drop));
    list_free(&io, &restore->moves, sizeof(moved));
    list_free(&io, &restore->indices, sizeof(uint32_t));
    list_free(&io, &restore->lost, sizeof(nd_lost));
    if (restore->table != NULL) io.release(io.context, restore->table, restore->table_size * sizeof(uint64_t));
    io.release(io.context, restore, sizeof *restore);
}

uint64_t nd_restore_channels(const nd_restore *restore)
{
    return restore->channels.count;
}

nd_status nd_restore_channel(const nd_restore *restore, uint64_t index, nd_restored_channel *out)
{
    if (index >= restore->channels.count) return ND_ERR_ARGUMENT;
    *out = channel_at(restore, index)->known;
    return ND_OK;
}

nd_status nd_restore_gaps(nd_restore *restore, uint64_t index, nd_gap *out)
{
    if (index >= restore->channels.count) return ND_ERR_ARGUMENT;
    const channel *c = channel_at(restore, index);
    if (c->known.gaps == 0) return ND_OK;
    const uint8_t *bytes;
    const nd_status status = nd_recovery_read(restore->recovery, c->gaps_segment, c->gaps_at,
                                              c->known.gaps * sizeof *out, &bytes);
    if (status == ND_OK) memcpy(out, bytes, c->known.gaps * sizeof *out);
    return status;
}

uint64_t nd_restore_live_bytes(const nd_restore *restore)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < restore->channels.count; i++) {
        const channel *c = channel_at(restore, i);
        const uint64_t live = c->known.last_seq - c->known.settled_seq;
        if (c->ring == NULL || c->records == 0) continue;
        bytes += live < c->records ? c->bytes / c->records * live : c->bytes;
    }
    return bytes;
}

nd_status nd_restore_bind(nd_restore *restore, uint64_t index, nd_ring *ring)
{
    if (ring == NULL || index >= restore->channels.count || restore->pool != NULL) return ND_ERR_ARGUMENT;
    channel *c = channel_at(restore, index);
    c->ring = ring;
    c->overflow = nd_ring_set_overflow(ring, ND_OVERFLOW_DROP_OLDEST);
    return ND_OK;
}

void nd_restore_stats(const nd_restore *restore, nd_restore_stats_t *out)
{
    *out = restore->stats;
}
