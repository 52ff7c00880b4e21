/* nd_restore.h -- rings made again from a journal.
 *
 * Twice through the log.  The *scan* learns where each channel ended: its last seq, up
 * to where it is settled, what was dropped behind that, and where moved records lie; on
 * the way it hands out the answers that were kept.
 * Then the caller says which channels exist, by giving each a ring, and the *load*
 * appends what is live, once, in the order of seqs.
 *
 *      scan --> channels --> bind a ring to each that exists --> load
 *
 * Records of one channel stand in the log in order, but for moved ones, whose seqs are
 * older than their place; these are sorted and merged in, and copies are told by their
 * seq.
 *
 * Threads: one at a time; while a load runs, the rings and their pool belong to it.
 */
#ifndef ND_RESTORE_H
#define ND_RESTORE_H

#include <stdint.h>

#include "nd_journal.h"
#include "nd_pool.h"
#include "nd_recovery.h"
#include "nd_ring.h"
#include "nd_status.h"

/* cffi: begin */

typedef struct nd_restore nd_restore;

/* A channel as the log ended. */
typedef struct {
    uint64_t channel;
    uint64_t incarnation;
    uint64_t epoch;             /* the newest that its records or state name */
    uint64_t last_seq;
    uint64_t settled_seq;
    uint64_t frozen_epoch, frozen_first_seq, frozen_last_seq;
    uint64_t frozen_events;     /* 0: gaps alone; with frozen_first_seq 0: no batch is frozen */
    uint32_t frozen_form;
    uint32_t is_deleted;
    uint64_t gaps;              /* for nd_restore_gaps */
} nd_restored_channel;

typedef struct {
    uint64_t records, bytes;            /* in rings now, as stored */
    uint64_t lost_records, lost_bytes;  /* live, but the ring had no room for them */
    uint64_t newest_unix_ms;            /* the latest time of a record or an answer in the log */
    uint64_t silent_channels;           /* of which nothing behind the damage speaks: what they lost is not known */
} nd_restore_stats_t;

/* Records that were durable and are in no ring. */
typedef struct {
    uint64_t   channel;         /* its index */
    nd_removed removed;         /* bytes 0: not known */
    uint32_t   reason;          /* corrupt: the log lost them; memory: the pool had no room; overflow: the
                                   ring had none, because the log lost what had left it */
    uint32_t   is_exact;        /* 0: some may have been settled, or dropped, before */
} nd_lost;

/* Prepare to read; the recovery is used until the close, and by nobody else.
 *
 *   Owns    the caller gives it back with nd_restore_close.
 *   Blocks  no.
 *   Returns ND_OK, ND_ERR_FULL, ND_ERR_ARGUMENT.
 */
nd_status nd_restore_open(const nd_io *io, nd_recovery *recovery, nd_restore **out);

/* NULL is nothing to do. */
void nd_restore_close(nd_restore *restore);

/* Read the whole log once, and stop at each answer that was given at a moment or later.
 * Answers come as they stand in the log: moved ones late, and some of them twice.
 *
 *   Owns    restore owns what *out points to, until the next call.
 *   Blocks  yes.
 *   Cost    O(bytes of the log), over all calls.
 *   Returns ND_OK (an answer; call again), ND_EMPTY (all is read), ND_ERR_IO, ND_ERR_FULL.
 */
nd_status nd_restore_scan(nd_restore *restore, uint64_t answers_from_unix_ms, nd_journal_answer *out);

uint64_t nd_restore_channels(const nd_restore *restore);

/* What the scan found of a channel, from 0.  Several may have the same number and
 * different incarnations. */
nd_status nd_restore_channel(const nd_restore *restore, uint64_t index, nd_restored_channel *out);

/* Read a damaged log once more, for the seqs that it lost: those that are in no record, not
 * settled and not dropped.  Nothing to do when it is whole.
 *
 *   Blocks  yes.
 *   Cost    O(bytes of the log), when it is damaged.
 *   Returns ND_OK, ND_ERR_IO, ND_ERR_FULL.
 */
nd_status nd_restore_find_missing(nd_restore *restore);

/* How many losses are known, and one of them, from 0; the load may add some. */
uint64_t nd_restore_losses(const nd_restore *restore);
nd_status nd_restore_loss(const nd_restore *restore, uint64_t index, nd_lost *out);

/* Read the gaps that a channel's receiver had not confirmed; out has room for all of them.
 *
 *   Blocks  yes.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_IO, ND_ERR_FULL.
 */
nd_status nd_restore_gaps(nd_restore *restore, uint64_t index, nd_gap *out);

/* This channel exists: its live records go into this ring, which is new and empty and
 * was opened with epoch 0.  Until the load has ended it drops its oldest when it is full,
 * whatever else it does then.
 *
 *   Owns    the caller keeps the ring.
 *   Returns ND_OK, ND_ERR_ARGUMENT.
 */
nd_status nd_restore_bind(nd_restore *restore, uint64_t index, nd_ring *ring);

/* About how many stored bytes the load will put into the rings that are bound.
 *
 *   Cost    O(channels).
 */
uint64_t nd_restore_live_bytes(const nd_restore *restore);

/* Read the log again, and fill the rings.  What a channel without a ring had is left out.
 *
 *   Blocks  yes.
 *   Cost    O(bytes of the log).
 *   Returns ND_OK, ND_ERR_IO, ND_ERR_FULL (the pool is too small, and nothing can be moved
 *           out of it), ND_ERR_NOSPACE (or could be, if the disk had room).
 */
nd_status nd_restore_load(nd_restore *restore, nd_pool *pool);

void nd_restore_stats(const nd_restore *restore, nd_restore_stats_t *out);

/* cffi: end */

#endif /* ND_RESTORE_H */
