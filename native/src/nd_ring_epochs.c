/* nd_ring_epochs.c -- whose seqs a ring's records have, and how far they may be shown.
 *
 * Seqs go on across epochs.  Records of an older epoch stand before those of a newer
 * one, so a ring needs only to know at which seq each epoch ended, and that only while
 * there are records of it.
 */

#include <string.h>

#include "nd_ring.h"
#include "nd_ring_inside.h"

#define PAST_MIN 4u

void nd_epochs_free(nd_ring *ring)
{
    if (ring->past != NULL) nd_pool_release(ring->pool, ring->past, ring->past_capacity * sizeof *ring->past);
    ring->past = NULL;
    ring->past_count = ring->past_capacity = 0;
}

static uint64_t oldest_seq(const nd_ring *ring)
{
    return ring->count > 0 ? run_at(ring, 0)->first_seq : ring->last_seq + 1;
}

/* Forget epochs of which no record is left. */
static void forget_gone(nd_ring *ring)
{
    uint32_t gone = 0;
    while (gone < ring->past_count && ring->past[gone].last_seq < oldest_seq(ring)) gone++;
    if (gone == 0) return;
    ring->past_count -= gone;
    memmove(ring->past, ring->past + gone, ring->past_count * sizeof *ring->past);
}

static int reserve_one(nd_ring *ring)
{
    if (ring->past_count < ring->past_capacity) return 1;
    const uint32_t capacity = ring->past_capacity > 0 ? ring->past_capacity * 2 : PAST_MIN;
    past_epoch *past = nd_pool_allocate(ring->pool, capacity * sizeof *past);
    if (past == NULL) return 0;
    const uint32_t count = ring->past_count;
    if (count > 0) memcpy(past, ring->past, count * sizeof *past);
    nd_epochs_free(ring);
    ring->past = past;
    ring->past_count = count;
    ring->past_capacity = capacity;
    return 1;
}

nd_status nd_ring_begin_epoch(nd_ring *ring, uint64_t epoch)
{
    if (epoch < ring->epoch) return ND_ERR_ARGUMENT;
    if (epoch == ring->epoch) return ND_OK;
    forget_gone(ring);
    if (ring->count > 0) {
        if (!reserve_one(ring)) return ND_ERR_FULL;
        ring->past[ring->past_count] = (past_epoch){.epoch = ring->epoch, .last_seq = ring->last_seq};
        ring->past_count++;
    }
    ring->epoch = epoch;
    return ND_OK;
}

nd_status nd_ring_resume(nd_ring *ring, uint64_t next_seq)
{
    if (next_seq == 0 || next_seq - 1 < ring->last_seq) return ND_ERR_ARGUMENT;
    ring->last_seq = next_seq - 1;
    return ND_OK;
}

uint64_t nd_ring_seq_of(const nd_ring *ring, uint64_t epoch, uint64_t seq)
{
    if (epoch >= ring->epoch) return seq;
    uint64_t end = 0;
    for (uint32_t i = 0; i < ring->past_count && ring->past[i].epoch <= epoch; i++) {
        if (ring->past[i].epoch == epoch && seq < ring->past[i].last_seq) return seq;
        end = ring->past[i].last_seq;
    }
    return end;
}

uint64_t nd_ring_epoch_of(const nd_ring *ring, uint64_t seq)
{
    for (uint32_t i = 0; i < ring->past_count; i++) {
        if (seq <= ring->past[i].last_seq) return ring->past[i].epoch;
    }
    return ring->epoch;
}

void nd_ring_show(nd_ring *ring, uint64_t upto_seq)
{
    ring->shown_seq = upto_seq;
}

uint64_t nd_ring_slice_limit(const nd_ring *ring, uint64_t seq)
{
    for (uint32_t i = 0; i < ring->past_count; i++) {
        const uint64_t end = ring->past[i].last_seq;
        if (seq <= end) return end < ring->shown_seq ? end : ring->shown_seq;
    }
    return ring->shown_seq;
}
