/* nd_frame_pour.c -- a message from its ring to a socket, a piece after the other. */

#include "nd_frame.h"

#include <string.h>

/* Send what lies in the buffer until the socket takes no more of it.  One that is asked for much takes
 * what it has room for, and has room again when it comes back: what is acknowledged meanwhile waits. */
static void send_all_it_takes(nd_send_function send, int32_t socket, const uint8_t *buffer, nd_pouring *pouring)
{
    uint64_t taken = 1;
    while (taken > 0 && pouring->begin < pouring->filled) {     /* at least a byte each turn but the last */
        taken = send(socket, buffer + pouring->begin, pouring->filled - pouring->begin);
        pouring->begin += taken;
        pouring->sent += taken;
    }
}

/* Write the next piece into the buffer, the tail behind the last one. */
static nd_status write_next(nd_ring *ring, nd_batch *batch, const nd_pour_memory *memory, nd_pouring *pouring)
{
    const nd_status status = nd_batch_write(ring, batch, memory->buffer, memory->capacity - memory->tail_bytes);
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
    pouring->begin = pouring->sent = 0;
    send_all_it_takes(send, socket, memory->buffer, pouring);
    for (uint32_t pieces = 1; pieces < pieces_max && pouring->unread > 0; pieces++) {
        if (pouring->begin < pouring->filled) break;            /* it is full */
        const nd_status status = write_next(ring, batch, memory, pouring);
        if (status == ND_NO_ROOM || status == ND_COLD) break;   /* up to the caller */
        if (status != ND_OK) return status;
        send_all_it_takes(send, socket, memory->buffer, pouring);
    }
    return ND_OK;
}
