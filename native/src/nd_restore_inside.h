/* nd_restore_inside.h -- what the files of a restore share of its inside. */
#ifndef ND_RESTORE_INSIDE_H
#define ND_RESTORE_INSIDE_H

#include <stdint.h>

#include "nd_assert.h"
#include "nd_restore.h"

/* An array that doubles. */
typedef struct {
    void    *items;
    uint64_t count, capacity;
} list;

typedef struct {
    nd_restored_channel known;
    nd_ring *ring;
    nd_overflow overflow;               /* the ring's, again after the load */
    uint64_t drops_at, drops_end;       /* in the sorted drops */
    uint64_t moved_at, moved_end;       /* in the sorted moved records; those before are restored */
    uint64_t drop_newest;               /* index of its latest drop + 1, while scanning */
    uint64_t newest_unix_ms;            /* restored last */
    uint64_t first_request_seq;         /* of the first request in the log; 0: there is none */
    uint64_t spoken_group;              /* the last that speaks of the channel */
    uint64_t stated_group;              /* the last that says how it stands */
    uint64_t checked_seq;               /* while looking for what is missing: all up to here is known */
    uint64_t checked_moved;             /* in the sorted moved records */
    uint64_t gaps_segment, gaps_at;     /* where its newest gaps stand in a segment's file */
    uint64_t records, bytes;            /* that the log has of it, as stored; about */
} channel;

typedef struct {
    uint64_t channel;           /* index */
    uint64_t first_seq, last_seq;
} drop;

typedef struct {
    uint64_t channel;           /* index */
    uint64_t seq;
    uint64_t segment;
    uint64_t record_at, body_at;        /* in the segment's file */
} moved;

struct nd_restore {
    nd_io        io;
    nd_recovery *recovery;
    nd_pool     *pool;
    int          is_scanning, is_scanned;
    list         channels;      /* channel */
    uint64_t    *table;         /* channel indices + 1 by hash; open addressing */
    uint64_t     table_size;
    list         drops;         /* drop */
    list         moves;         /* moved */
    list         indices;       /* uint32_t: of the run being restored */
    list         lost;          /* nd_lost */
    nd_restore_stats_t stats;
};

static inline channel *channel_at(const nd_restore *restore, uint64_t index)
{
    ND_ASSERT(index < restore->channels.count);
    return (channel *)restore->channels.items + index;
}

static inline uint64_t channel_index(const nd_restore *restore, const channel *c)
{
    return (uint64_t)(c - (const channel *)restore->channels.items);
}

static inline drop *drop_at(const nd_restore *restore, uint64_t index)
{
    return (drop *)restore->drops.items + index;
}

static inline moved *moved_at(const nd_restore *restore, uint64_t index)
{
    return (moved *)restore->moves.items + index;
}

static inline void raise_to(uint64_t *value, uint64_t to)
{
    if (to > *value) *value = to;
}

/* Room for count items, those that are there kept.  False: no memory. */
int nd_list_reserve(const nd_io *io, list *l, uint64_t item_bytes, uint64_t count);

/* The channel's entry, made when it is new; NULL: no memory.  Valid until the next one is made. */
channel *nd_restore_channel_of(nd_restore *restore, uint64_t number, uint64_t incarnation);

/* Take note of records that are lost; joined with the newest entry when they follow its. */
nd_status nd_restore_lose(nd_restore *restore, const nd_lost *lost);

#endif /* ND_RESTORE_INSIDE_H */
