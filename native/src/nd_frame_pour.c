/* nd_frame_pour.c -- a message from its ring to a socket, through one buffer that stays in cache. */

#include "nd_frame.h"

/* Whether all that lay in the buffer was taken. */
static int send_out(nd_send_function send, int32_t socket, const uint8_t *buffer, nd_pouring *at)
{
    const uint64_t count = at->end - at->begin;
    const uint64_t taken = count > 0 ? send(socket, buffer + at->begin, count) : 0;
    at->sent += taken;
    at->begin += taken;
    at->is_full = at->begin < at->end;
    if (at->is_full) return 0;
    at->begin = at->end = 0;
    return 1;
}

nd_status nd_batch_pour(nd_ring *ring, nd_batch *batch, nd_send_function send, int32_t socket,
                        uint8_t *buffer, uint64_t capacity, uint64_t sent_max, nd_pouring *pouring)
{
    if (send == NULL || buffer == NULL || pouring == NULL) return ND_ERR_ARGUMENT;
    if (pouring->begin > pouring->end || pouring->end > capacity) return ND_ERR_ARGUMENT;
    pouring->sent = 0;
    pouring->is_full = 0;
    while (send_out(send, socket, buffer, pouring)) {           /* a buffer each turn */
        if (pouring->unread == 0 || pouring->sent + capacity > sent_max) break;
        const nd_status status = nd_batch_write(ring, batch, buffer, capacity);
        if (status != ND_OK) return status;
        if (batch->bytes_written == 0 || batch->bytes_written > pouring->unread) return ND_ERR_ARGUMENT;
        pouring->end = batch->bytes_written;
        pouring->unread -= batch->bytes_written;
        if (pouring->unread == 0) break;
    }
    return ND_OK;
}
