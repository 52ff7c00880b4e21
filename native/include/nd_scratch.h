/* nd_scratch.h -- the file that cold chunks lie in: slots, and the disk behind them.
 *
 * A working copy of what the journal holds: recovery never reads it, nothing in it is
 * synced, and what an earlier run left is removed.  Slots are chunks of slabs
 * (nd_slabs.h), and a slab has its place on the disk before a slot of it is given out:
 * the file is never sparse where it is written to, so a full disk is met while taking
 * space, as an error code, and never by data on its way out.
 *
 * Threads: slots and orders belong to the thread of the rings.  What is marked *Blocks*
 * works on files alone, and may run on other threads at the same time.
 */
#ifndef ND_SCRATCH_H
#define ND_SCRATCH_H

#include <stdint.h>

#include "nd_files.h"
#include "nd_io.h"
#include "nd_status.h"

#define ND_SPACE_SLABS_MAX  32u         /* in one order: 64 MiB */
#define ND_SPACE_SPARE_MIN   4u         /* free slabs on the disk; with less, more are ordered */
#define ND_SPACE_SPARE_MAX  64u         /* with more, some are given back to the disk */

typedef struct nd_scratch nd_scratch;

typedef struct {
    uint64_t bytes_max;
    uint64_t bytes_on_disk;     /* its place on the disk, free slots included */
    uint64_t bytes_out;         /* in slots */
} nd_scratch_stats_t;

/* Slabs whose place on the disk is to be taken, or given back. */
typedef struct {
    uint64_t slabs[ND_SPACE_SLABS_MAX];
    uint32_t count;
    uint32_t is_giving_back;
    uint32_t done;              /* so many of them were, from the first */
    nd_status status;           /* ND_EMPTY: not tried */
} nd_space_order;

/* A scratch file under this path, which is made when space is first taken.
 *
 *   Owns    the caller closes it; io and files must outlive it.
 *   Blocks  a moment: a file that is there already is unlinked.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL, ND_ERR_IO.
 */
nd_status nd_scratch_open(const nd_io *io, const nd_files *files, const char *path, uint64_t bytes_max,
                          nd_scratch **out);

/* Unlink the file.  NULL is nothing to do. */
void nd_scratch_close(nd_scratch *scratch);

void nd_scratch_stats(const nd_scratch *scratch, nd_scratch_stats_t *out);

/* A slot of at least so many bytes; ND_NOWHERE: there is none, space has to be ordered first.
 *
 *   Cost    constant.
 */
uint64_t nd_scratch_take(nd_scratch *scratch, uint32_t bytes);
void nd_scratch_give(nd_scratch *scratch, uint64_t slot);

/* What the disk should be asked for now: more space, or to take some back.
 *
 *   Returns ND_OK, ND_EMPTY (what there is will do), ND_ERR_NOSPACE (bytes_max is reached,
 *           and no slot is free).
 */
nd_status nd_space_order_begin(nd_scratch *scratch, nd_space_order *order);

/* Ask it.  *Blocks.* */
void nd_space_order_carry_out(nd_scratch *scratch, nd_space_order *order);

/* Take note of what came of it.
 *
 *   Returns ND_OK, ND_ERR_NOSPACE, ND_ERR_IO; what was got before a failure is kept.  Space
 *           that cannot be given back is no failure: it is used again.
 */
nd_status nd_space_order_end(nd_scratch *scratch, const nd_space_order *order);

/* Whether nd_space_order_begin would return ND_OK in order to give space back. */
int nd_scratch_has_spare(const nd_scratch *scratch);

/* Write to a slot, or read from it, at an offset in it.  *Blocks.*
 *
 *   Returns ND_OK, ND_ERR_NOSPACE (of a write), ND_ERR_IO.
 */
nd_status nd_scratch_write(const nd_scratch *scratch, uint64_t slot, const uint8_t *bytes, uint32_t count,
                           uint32_t offset);
nd_status nd_scratch_read(const nd_scratch *scratch, uint64_t slot, uint8_t *bytes, uint32_t count,
                          uint32_t offset);

#endif /* ND_SCRATCH_H */
