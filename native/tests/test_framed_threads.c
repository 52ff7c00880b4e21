/* A worker plans and writes cold records while their ring is used by another thread. */

#include <pthread.h>

#include "cold_ring.h"

/* --- threads ------------------------------------------------------------------------------ */

/* What a worker thread does. */
typedef struct {
    nd_fetch  *fetch;
    nd_slice   slice;
    nd_batch   batch;
    nd_framed *framed;
    int        is_slice;
} work;

static void *carry_out(void *argument)
{
    work *w = argument;
    if (w->is_slice) nd_fetch_slice(w->fetch, &w->slice, UINT64_MAX, &w->batch, &w->framed);
    else nd_fetch_read_on(w->fetch, &w->batch, UINT64_MAX, &w->framed);
    return NULL;
}

static void a_thread_writes_while_the_ring_is_used_by_another(void)
{
    enum { KEPT, SETTLED, DROPPED, CLOSED, WAYS };
    for (int round = 0; round < 4 * WAYS; round++) {
        const int way = round % WAYS, is_slice = round / WAYS % 2, has_copy = round / WAYS % 4 >= 2;
        begin();
        append(10, 5);
        append_kinds(500);
        work w = {.slice = slice_after(10, FORM), .is_slice = is_slice};
        char *text = planned(&w.slice);
        if (is_slice) nd_ring_release(ring, 0);
        else w.batch = batch;
        if (has_copy) bring_back(first_chunk);
        w.fetch = is_slice ? slice_begun(&w.slice, everything) : fetch_begun(everything);
        pthread_t worker;
        CHECK_EQUAL(pthread_create(&worker, NULL, carry_out, &w), 0);
        append(200, 5000);
        CHECK_EQUAL(nd_ring_settle(ring, way == SETTLED ? 200 : 5, &removed), ND_OK);
        if (way == DROPPED) (void)nd_ring_drop(ring, 400 * STORED, &removed);
        if (way == CLOSED) nd_ring_close(ring);
        CHECK_EQUAL(pthread_join(worker, NULL), 0);
        framed = w.framed;
        if (is_slice || !has_copy) CHECK(framed != NULL);       /* who reads on has no copy of what is in memory */
        CHECK_EQUAL(nd_fetch_end(w.fetch, &fetched), ND_OK);
        batch = w.batch;
        if (way == CLOSED) ring = NULL;
        else if (is_slice) CHECK_EQUAL(nd_frame_hold(ring, &w.slice, &batch), way == KEPT);
        if (way == KEPT) check_reads(text, ND_FRAMED_PART_BYTES);
        if (way == SETTLED) CHECK_EQUAL(nd_batch_read(ring, framed, &batch, buffer, sizeof buffer), ND_ERR_TRIMMED);
        free(text);
        end();
    }
}

int main(void)
{
    RUN(a_thread_writes_while_the_ring_is_used_by_another);
    return 0;
}
