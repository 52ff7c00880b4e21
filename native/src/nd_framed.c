/* nd_framed.c -- parts of a batch in one block of memory, and how the batch stands behind each. */

#include "nd_framed.h"

#include <string.h>

#include "nd_framed_inside.h"

typedef struct {
    uint64_t end;               /* of its bytes */
    nd_batch after;             /* how the batch stands behind it */
} part;

struct nd_framed {
    nd_io    io;
    uint64_t memory_bytes;
    nd_batch begin;             /* how the batch stands in front of the first part */
    uint8_t *bytes;
    uint32_t parts_count, parts_max;
    part     parts[];
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static nd_framed *framed_new(const nd_io *io, uint64_t capacity)
{
    /* Two neighbours fill a part, unless a kind or a message ends with one. */
    const uint32_t parts_max = 2u * (uint32_t)(capacity / ND_FRAMED_PART_BYTES) + 2u * ND_KINDS + 2u;
    const uint64_t books_bytes = sizeof(nd_framed) + parts_max * sizeof(part);
    nd_framed *framed = io->allocate(io->context, books_bytes + capacity);
    if (framed == NULL) return NULL;
    framed->io = *io;
    framed->memory_bytes = books_bytes + capacity;
    framed->bytes = (uint8_t *)framed + books_bytes;
    framed->parts_max = parts_max;
    return framed;
}

/* Write one part.  0 at the end, before what cannot be written, and when there is no room. */
static uint64_t write_part(const nd_frame_source *source, nd_batch *batch, uint8_t *at, uint64_t room)
{
    nd_status status = nd_batch_write_from(source, batch, at, smaller(room, ND_FRAMED_PART_BYTES));
    if (status == ND_NO_ROOM && batch->bytes_written <= room) {         /* a long record */
        status = nd_batch_write_from(source, batch, at, batch->bytes_written);
    }
    return status == ND_OK ? batch->bytes_written : 0;
}

nd_framed *nd_framed_write(const nd_io *io, const nd_frame_source *source, const nd_batch *batch, uint64_t bytes_max)
{
    const uint64_t capacity = smaller(batch->bytes_count, bytes_max);
    nd_framed *framed = framed_new(io, capacity);
    if (framed == NULL) return NULL;
    framed->begin = *batch;
    nd_batch next = *batch;
    uint64_t at = 0, written = 1;
    while (written > 0 && framed->parts_count < framed->parts_max) {    /* a part each turn */
        written = write_part(source, &next, framed->bytes + at, capacity - at);
        at += written;
        if (written > 0) framed->parts[framed->parts_count++] = (part){.end = at, .after = next};
    }
    const nd_batch *last = framed->parts_count > 0 ? &framed->parts[framed->parts_count - 1].after : batch;
    if (last->kind_at != batch->kind_at || last->events_left != batch->events_left) return framed;
    nd_framed_close(framed);                                    /* nothing, or a lone opening */
    return NULL;
}

uint64_t nd_framed_bytes(const nd_framed *framed)
{
    return framed->memory_bytes;
}

static int stand_alike(const nd_batch *one, const nd_batch *other)
{
    return one->kind_at == other->kind_at && one->stage == other->stage && one->events_left == other->events_left
           && one->next_seq == other->next_seq;
}

/* The part that begins where a batch stands; parts_count: none does. */
static uint32_t part_from(const nd_framed *framed, const nd_batch *batch)
{
    if (stand_alike(&framed->begin, batch)) return 0;
    uint32_t index = 1;
    while (index < framed->parts_count && !stand_alike(&framed->parts[index - 1].after, batch)) index++;
    return index;
}

int nd_framed_find(const nd_framed *framed, const nd_batch *batch, uint64_t capacity, nd_framed_piece *out)
{
    const uint32_t first = part_from(framed, batch);
    const uint64_t from = first > 0 ? framed->parts[first - 1].end : 0;
    uint32_t end = first;
    int is_over = 0;
    while (end < framed->parts_count && !is_over && framed->parts[end].end - from <= capacity) {        /* a part each turn */
        is_over = nd_batch_is_between(&framed->parts[end].after);
        end++;
    }
    if (end == first) return 0;
    const part *last = &framed->parts[end - 1];
    *out = (nd_framed_piece){.bytes = framed->bytes + from, .count = last->end - from, .after = &last->after};
    return 1;
}

int nd_framed_read(const nd_framed *framed, nd_batch *batch, uint8_t *buffer, uint64_t capacity)
{
    nd_framed_piece piece;
    if (!nd_framed_find(framed, batch, capacity, &piece)) return 0;
    memcpy(buffer, piece.bytes, piece.count);
    *batch = *piece.after;
    batch->bytes_written = piece.count;
    return 1;
}

void nd_framed_close(nd_framed *framed)
{
    if (framed == NULL) return;
    const nd_io io = framed->io;
    io.release(io.context, framed, framed->memory_bytes);
}
