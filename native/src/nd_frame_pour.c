/* nd_frame_pour.c -- a message from its ring to a socket, a piece after the other. */

#include "nd_frame.h"

#include <string.h>

#include "nd_framed_inside.h"

/* Send until the socket takes no more: how many bytes.  One that is asked for much takes what it has
 * room for, and has room again when it comes back: what is acknowledged meanwhile waits. */
static uint64_t send_all_it_takes(nd_send_function send, int32_t socket, const uint8_t *bytes, uint64_t count)
{
    uint64_t sent = 0, taken = 1;
    while (taken > 0 && sent < count) {                         /* at least a byte each turn but the last */
        taken = send(socket, bytes + sent, count - sent);
        sent += taken;
    }
    return sent;
}

static void send_buffer(nd_send_function send, int32_t socket, const nd_pour_memory *memory, nd_pouring *pouring)
{
    pouring->begin = send_all_it_takes(send, socket, memory->buffer, pouring->filled);
    pouring->sent += pouring->begin;
}

/* Send the next piece from where it was written already, what is not taken into the buffer.  False: there is none,
 * or it is the last and the tail has to go behind it. */
static int send_framed(const nd_ring *ring, nd_batch *batch, nd_send_function send, int32_t socket,
                       const nd_pour_memory *memory, nd_pouring *pouring)
{
    nd_framed_piece piece;
    if (memory->framed == NULL || !nd_batch_is_whole(ring, batch)) return 0;
    if (!nd_framed_find(memory->framed, batch, memory->capacity, &piece) || piece.count >= pouring->unread) return 0;
    const uint64_t sent = send_all_it_takes(send, socket, piece.bytes, piece.count);
    *batch = *piece.after;
    *pouring = (nd_pouring){
        .filled = piece.count - sent, .unread = pouring->unread - piece.count, .sent = pouring->sent + sent,
    };
    memcpy(memory->buffer, piece.bytes + sent, pouring->filled);
    return 1;
}

/* Write the next piece into the buffer, the tail behind the last one. */
static nd_status write_next(nd_ring *ring, nd_batch *batch, const nd_pour_memory *memory, nd_pouring *pouring)
{
    const uint64_t room = memory->capacity - memory->tail_bytes;
    const nd_status status = nd_batch_read(ring, memory->framed, batch, memory->buffer, room);
    if (status != ND_OK) return status;
    if (batch->bytes_written == 0 || batch->bytes_written > pouring->unread) return ND_ERR_ARGUMENT;
    pouring->begin = 0;
    pouring->filled = batch->bytes_written;
    pouring->unread -= batch->bytes_written;
    if (pouring->unread == 0 && memory->tail_bytes > 0) {
        memcpy(memory->buffer + pouring->filled, memory->tail, memory->tail_bytes);
        pouring->filled += memory->tail_bytes;
    }
    return ND_OK;
}

nd_status nd_batch_pour(nd_ring *ring, nd_batch *batch, nd_send_function send, int32_t socket,
                        const nd_pour_memory *memory, uint32_t pieces_max, nd_pouring *pouring)
{
    if (send == NULL || memory == NULL || pouring == NULL) return ND_ERR_ARGUMENT;
    if (pouring->filled > memory->capacity || memory->tail_bytes > memory->capacity) return ND_ERR_ARGUMENT;
    pouring->sent = 0;
    send_buffer(send, socket, memory, pouring);
    for (uint32_t pieces = 1; pieces < pieces_max && pouring->unread > 0; pieces++) {
        if (pouring->begin < pouring->filled) break;            /* it is full */
        if (send_framed(ring, batch, send, socket, memory, pouring)) continue;
        const nd_status status = write_next(ring, batch, memory, pouring);
        if (status == ND_NO_ROOM || status == ND_COLD) break;   /* up to the caller */
        if (status != ND_OK) return status;
        send_buffer(send, socket, memory, pouring);
    }
    return ND_OK;
}
