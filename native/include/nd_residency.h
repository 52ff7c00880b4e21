/* nd_residency.h -- which chunks lie in memory, and moving the coldest out of it.
 *
 *      append -->  [ memory: storage.memory_bytes ]  --> slice, frame
 *                      |  coldest         ^ read back (nd_fetch.h)
 *                      v                  |
 *                  [ scratch file: storage.disk_bytes ]
 *
 * A queue is written at its tail and read at its head, so what is coldest is the middle
 * of a deep one.  Rings stand in lists by when they were last read, or written to if
 * they have nothing but the chunk that is written to; of the coldest ring the newest
 * chunks move first, because they are read last.  Chunks are the smaller the more rings
 * share the pool, so that those that are written to can stay.
 *
 * Moving out goes in steps of three: *begin* chooses, *carry out* writes, on any thread,
 * *end* forgets the memory of what is still there and was not wanted meanwhile.  The
 * worker sees addresses of the pool and slots, never a ring.  What leaves its ring while
 * it is being written is written for nothing.
 *
 * A part of the pool is set aside for what comes back, so that a pool full of what cannot
 * be written out, because the disk is full, can still be read past.
 *
 * Threads: as the rings', but for what is marked *Blocks*.
 */
#ifndef ND_RESIDENCY_H
#define ND_RESIDENCY_H

#include <stdint.h>

#include "nd_files.h"
#include "nd_io.h"
#include "nd_pool.h"
#include "nd_ring.h"
#include "nd_status.h"

#define ND_OUT_BYTES_MAX   (4u * 1024 * 1024)   /* of one step: a few milliseconds of writing */
#define ND_OUT_CHUNKS_MAX  1024u                /* of one step */
#define ND_RESERVE_SHARE   4u                   /* this part of the pool is for what comes back */
#define ND_FREE_SHARE      8u                   /* and this one is kept free besides */
#define ND_KNOWN_SHARE     8u                   /* as much of it again may be taken for what is known of cold records */
#define ND_TAILS_SHARE     4u                   /* this part is enough for the chunks that are written to */

/* cffi: begin */

typedef struct {
    uint64_t bytes_max;         /* of the pool */
    uint64_t free_bytes;        /* of it, the reserve included */
    uint64_t reserve_bytes;
    uint64_t target_bytes;      /* of free bytes; with less, moving out should begin */
    uint64_t disk_bytes;        /* the scratch file's place on the disk */
    uint64_t disk_bytes_max;
    uint64_t slot_bytes;        /* of it, in use */
    uint64_t known_bytes;       /* of memory beside the pool, for what has to be known of cold records: */
    uint64_t known_bytes_max;   /* with more, chunks of rings that keep the latest stay in memory */
    uint32_t is_known_full;     /* some do; nothing that was known has been forgotten since */
    uint32_t is_wanted;         /* whether nd_out_begin has something to do */
} nd_residency_stats_t;

/* Let the chunks of a pool move to a scratch file, at this path, of at most disk_bytes_max.
 *
 *   Owns    the caller closes it; io, files and pool must outlive it.  No ring is open yet.
 *   Blocks  a moment: what an earlier run left at the path is unlinked.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL, ND_ERR_IO.
 */
nd_status nd_residency_open(const nd_io *io, const nd_files *files, nd_pool *pool, const char *path,
                            uint64_t disk_bytes_max, nd_residency **out);

/* Unlink the scratch file.  All rings are closed, nothing is being moved.  NULL is nothing to do. */
void nd_residency_close(nd_residency *residency);

/* The figures.
 *
 *   Cost    constant.
 */
void nd_residency_stats(const nd_residency *residency, nd_residency_stats_t *out);

/* The last of them alone. */
int nd_residency_is_wanted(const nd_residency *residency);

/* Begin a step towards so many free bytes in the pool, or towards a smaller scratch file.
 * Chunks of which the scratch file has a copy go at once.  One step at a time.
 *
 *   Blocks  no.
 *   Cost    O(chunks of the step, and of their rings).
 *   Returns ND_OK (carry it out, then end it), ND_EMPTY (there is nothing to move, or enough
 *           is free), ND_ERR_NOSPACE (the scratch file is as large as it may be).
 */
nd_status nd_out_begin(nd_residency *residency, uint64_t free_bytes);

/* Take space on the disk, and write.  *Blocks.* */
void nd_out_carry_out(nd_residency *residency);

/* Give the memory back of what was written.
 *
 *   Blocks  no.
 *   Returns ND_OK, ND_ERR_NOSPACE, ND_ERR_IO (the disk took nothing; it is all still in
 *           memory, and can be tried again).
 */
nd_status nd_out_end(nd_residency *residency);

/* Steps until so many bytes are free, for a thread that owns the rings and may block.
 *
 *   Returns ND_OK, ND_EMPTY (all was moved, and it is not enough), ND_ERR_NOSPACE, ND_ERR_IO.
 */
nd_status nd_residency_make_room(nd_residency *residency, uint64_t free_bytes);

/* Take memory back that needs no writing, until at least so many bytes came free; how many did.
 *
 *   Blocks  no.
 *   Cost    O(chunks of the rings that have copies).
 */
uint64_t nd_residency_drop_copies(nd_residency *residency, uint64_t bytes);

/* Whether the first record from a seq on is in memory; its ring then is the last to be
 * moved.  1 as well when there is no such record.
 *
 *   Cost    O(log chunks).
 */
int nd_ring_is_warm(nd_ring *ring, uint64_t seq);

/* cffi: end */

#endif /* ND_RESIDENCY_H */
