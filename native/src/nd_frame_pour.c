/* nd_frame_pour.c -- a message from its ring to a socket, in as few calls as memory allows. */

#include "nd_frame.h"

#include <string.h>

/* How a message stands behind a part of what was written ahead: there it goes on if that is
 * the last one that a buffer holds. */
typedef struct {
    nd_batch batch;
    uint64_t end;               /* in what is ahead */
    uint64_t unread;
} part;

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Write the next parts of a message, none longer than a buffer, the tail behind the last one. */
static nd_status write_ahead(nd_ring *ring, nd_batch *batch, const nd_pour_memory *memory, uint64_t unread,
                             part *parts, uint32_t *parts_count)
{
    uint64_t at = 0;
    *parts_count = 0;
    while (*parts_count < ND_POUR_PARTS_MAX && unread > 0) {    /* a part each turn */
        const uint64_t room = smaller(memory->capacity, memory->ahead_bytes - at);
        if (room <= memory->tail_bytes) break;
        const nd_status status = nd_batch_write(ring, batch, memory->ahead + at, room - memory->tail_bytes);
        if (status == ND_NO_ROOM || status == ND_COLD) break;   /* up to the caller */
        if (status != ND_OK) return status;
        if (batch->bytes_written == 0 || batch->bytes_written > unread) return ND_ERR_ARGUMENT;
        at += batch->bytes_written;
        unread -= batch->bytes_written;
        if (unread == 0 && memory->tail_bytes > 0) {
            memcpy(memory->ahead + at, memory->tail, memory->tail_bytes);
            at += memory->tail_bytes;
        }
        parts[(*parts_count)++] = (part){.batch = *batch, .end = at, .unread = unread};
    }
    return ND_OK;
}

/* Send two pieces until the socket takes no more of them.  One that is asked for much takes what
 * it has room for, and has room again when it comes back: what is acknowledged meanwhile waits. */
static uint64_t send_all_it_takes(nd_send_function send, int32_t socket, nd_piece pieces[2])
{
    const uint64_t all = pieces[0].count + pieces[1].count;
    uint64_t sent = 0, taken = 1;
    while (taken > 0 && sent < all) {           /* at least a byte each turn but the last */
        taken = send(socket, pieces);
        sent += taken;
        const uint64_t of_first = smaller(taken, pieces[0].count);
        pieces[0] = (nd_piece){pieces[0].bytes + of_first, pieces[0].count - of_first};
        pieces[1] = (nd_piece){pieces[1].bytes + (taken - of_first), pieces[1].count - (taken - of_first)};
    }
    return sent;
}

nd_status nd_batch_pour(nd_ring *ring, nd_batch *batch, nd_send_function send, int32_t socket,
                        const nd_pour_memory *memory, nd_pouring *pouring)
{
    if (send == NULL || memory == NULL || pouring == NULL) return ND_ERR_ARGUMENT;
    if (pouring->filled > memory->capacity) return ND_ERR_ARGUMENT;
    const nd_batch before = *batch;
    const uint64_t filled = pouring->filled;
    part parts[ND_POUR_PARTS_MAX];
    uint32_t count = 0;
    if (!batch->is_behind) {
        const nd_status status = write_ahead(ring, batch, memory, pouring->unread, parts, &count);
        if (status != ND_OK) return status;
    }

    const uint64_t ahead = count > 0 ? parts[count - 1].end : 0;
    nd_piece pieces[2] = {{memory->buffer, filled}, {memory->ahead, ahead}};
    const uint64_t sent = send_all_it_takes(send, socket, pieces);
    *pouring = (nd_pouring){.unread = pouring->unread, .sent = sent, .is_full = sent < filled + ahead};
    if (sent < filled) {                        /* what is ahead is forgotten */
        *batch = before;
        pouring->begin = sent;
        pouring->filled = filled;
    }
    for (uint32_t i = 0; i < count && sent >= filled; i++) {    /* up to the part of which some was not taken */
        *batch = parts[i].batch;
        pouring->unread = parts[i].unread;
        if (parts[i].end > sent - filled) {
            pouring->filled = parts[i].end - (sent - filled);
            memcpy(memory->buffer, memory->ahead + (sent - filled), pouring->filled);
            break;
        }
    }
    batch->is_behind = (uint32_t)pouring->is_full;
    return ND_OK;
}
