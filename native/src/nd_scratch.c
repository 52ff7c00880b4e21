/* nd_scratch.c -- slots in one file, and how its place on the disk grows and shrinks. */

#include "nd_scratch.h"

#include <string.h>

#include "nd_assert.h"
#include "nd_journal.h"
#include "nd_slabs.h"

#define NO_FILE        (-1)
#define PATH_BYTES_MAX (ND_FOLDER_BYTES_MAX + 64u)

struct nd_scratch {
    nd_io    io;
    nd_files files;
    nd_slabs slabs;             /* backed: has its place on the disk */
    uint64_t slabs_on_disk;
    int      keeps_all;         /* the file system cannot take a part of a file back */
    int32_t  file;              /* of whoever carries an order out */
    char     path[PATH_BYTES_MAX + 1];
};

nd_status nd_scratch_open(const nd_io *io, const nd_files *files, const char *path, uint64_t bytes_max,
                          nd_scratch **out)
{
    if (io == NULL || files == NULL || path == NULL || out == NULL) return ND_ERR_ARGUMENT;
    if (strlen(path) > PATH_BYTES_MAX || bytes_max == 0) return ND_ERR_ARGUMENT;
    nd_scratch *scratch = io->allocate(io->context, sizeof *scratch);
    if (scratch == NULL) return ND_ERR_FULL;
    scratch->io = *io;
    scratch->files = *files;
    scratch->file = NO_FILE;
    nd_slabs_begin(&scratch->slabs, bytes_max < ND_SLABS_BYTES_MAX ? bytes_max : ND_SLABS_BYTES_MAX);
    memcpy(scratch->path, path, strlen(path) + 1);
    const nd_status status = files->unlink(files->context, path);
    if (status != ND_OK && status != ND_EMPTY) {
        io->release(io->context, scratch, sizeof *scratch);
        return ND_ERR_IO;
    }
    *out = scratch;
    return ND_OK;
}

void nd_scratch_close(nd_scratch *scratch)
{
    if (scratch == NULL) return;
    const nd_io io = scratch->io;
    if (scratch->file != NO_FILE) {
        scratch->files.close(scratch->files.context, scratch->file);
        (void)scratch->files.unlink(scratch->files.context, scratch->path);     /* the next start tries again */
    }
    nd_slabs_end(&scratch->slabs, &io);
    io.release(io.context, scratch, sizeof *scratch);
}

void nd_scratch_stats(const nd_scratch *scratch, nd_scratch_stats_t *out)
{
    *out = (nd_scratch_stats_t){
        .bytes_max = nd_slabs_bytes_max(&scratch->slabs),
        .bytes_on_disk = scratch->slabs_on_disk * ND_SLAB_BYTES,
        .bytes_out = scratch->slabs.bytes_out,
    };
}

uint64_t nd_scratch_take(nd_scratch *scratch, uint32_t bytes)
{
    uint32_t got;
    return nd_slabs_take(&scratch->slabs, bytes, bytes, &got);
}

void nd_scratch_give(nd_scratch *scratch, uint64_t slot)
{
    nd_slabs_give(&scratch->slabs, slot);
}

/* --- space on the disk --------------------------------------------------------------- */

int nd_scratch_has_spare(const nd_scratch *scratch)
{
    return scratch->slabs.backed_count > ND_SPACE_SPARE_MAX && !scratch->keeps_all;
}

nd_status nd_space_order_begin(nd_scratch *scratch, nd_space_order *order)
{
    nd_slabs *slabs = &scratch->slabs;
    *order = (nd_space_order){.is_giving_back = (uint32_t)nd_scratch_has_spare(scratch), .status = ND_EMPTY};
    if (!order->is_giving_back && slabs->backed_count >= ND_SPACE_SPARE_MIN) return ND_EMPTY;
    while (order->count < ND_SPACE_SLABS_MAX) {                 /* a slab each turn */
        const uint64_t slab = order->is_giving_back ? nd_slabs_take_backed(slabs)
                                                    : nd_slabs_take_bare(slabs, &scratch->io);
        if (slab == ND_NOWHERE) break;
        order->slabs[order->count] = slab;
        order->count++;
    }
    if (order->count > 0) return ND_OK;
    return slabs->backed_count > 0 ? ND_EMPTY : ND_ERR_NOSPACE;
}

/* How many slabs of an order, from one on, lie side by side. */
static uint32_t neighbours(const nd_space_order *order, uint32_t from)
{
    uint32_t count = 1;
    while (from + count < order->count
           && order->slabs[from + count] == order->slabs[from] + (uint64_t)count * ND_SLAB_BYTES) count++;
    return count;
}

void nd_space_order_carry_out(nd_scratch *scratch, nd_space_order *order)
{
    const nd_files *files = &scratch->files;
    order->status = ND_OK;
    if (scratch->file == NO_FILE) order->status = files->create(files->context, scratch->path, &scratch->file);
    while (order->status == ND_OK && order->done < order->count) {      /* a slab or more each turn */
        const uint32_t count = neighbours(order, order->done);
        const uint64_t at = order->slabs[order->done], bytes = (uint64_t)count * ND_SLAB_BYTES;
        order->status = order->is_giving_back ? files->give_back(files->context, scratch->file, at, bytes)
                                              : files->preallocate(files->context, scratch->file, at, bytes);
        if (order->status == ND_OK) order->done += count;
    }
}

nd_status nd_space_order_end(nd_scratch *scratch, const nd_space_order *order)
{
    for (uint32_t i = 0; i < order->count; i++) {
        const int is_on_disk = (i < order->done) != (order->is_giving_back != 0);
        if (is_on_disk) nd_slabs_back(&scratch->slabs, order->slabs[i]);
        else nd_slabs_bare(&scratch->slabs, order->slabs[i]);
    }
    if (!order->is_giving_back) {
        scratch->slabs_on_disk += order->done;
        return order->status != ND_EMPTY ? order->status : ND_ERR_IO;
    }
    scratch->slabs_on_disk -= order->done;
    if (order->status < ND_OK) scratch->keeps_all = 1;
    return ND_OK;
}

/* --- slots --------------------------------------------------------------------------- */

nd_status nd_scratch_write(const nd_scratch *scratch, uint64_t slot, const uint8_t *bytes, uint32_t count,
                           uint32_t offset)
{
    const nd_files *files = &scratch->files;
    uint64_t at = 0;
    while (at < count) {                                        /* at least a byte each turn */
        uint64_t written = 0;
        const nd_status status = files->write(files->context, scratch->file, bytes + at, count - at,
                                              slot + offset + at, &written);
        if (status != ND_OK) return status;
        if (written == 0 || written > count - at) return ND_ERR_IO;
        at += written;
    }
    return ND_OK;
}

nd_status nd_scratch_read(const nd_scratch *scratch, uint64_t slot, uint8_t *bytes, uint32_t count,
                          uint32_t offset)
{
    const nd_files *files = &scratch->files;
    uint64_t at = 0;
    while (at < count) {                                        /* at least a byte each turn */
        uint64_t got = 0;
        const nd_status status = files->read(files->context, scratch->file, bytes + at, count - at,
                                             slot + offset + at, &got);
        if (status != ND_OK) return status;
        if (got == 0 || got > count - at) return ND_ERR_IO;
        at += got;
    }
    return ND_OK;
}
