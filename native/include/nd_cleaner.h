/* nd_cleaner.h -- what is live in the oldest segment, written again at the end.
 *
 * A cleaner reads one segment and goes through it in small steps.  Each step gathers
 * live records as moved units into the journal, with the epoch, seq and time that they
 * had, and answers that are still kept.  When all is moved and the groups that hold it
 * are durable, the segment can be unlinked.
 *
 * What is live is asked at each step: a record is, while its ring has it, and an answer,
 * while its account keeps answers as old as that.
 *
 * Threads: opening and closing may run on a worker; moving belongs to the journal's gathering side.
 */
#ifndef ND_CLEANER_H
#define ND_CLEANER_H

#include <stdint.h>

#include "nd_journal.h"
#include "nd_ring.h"
#include "nd_status.h"

#define ND_MOVED_RECORDS_MAX 1024u      /* in one unit */

/* cffi: begin */

typedef struct nd_cleaner nd_cleaner;

/* A channel that exists, and its ring. */
typedef struct {
    uint64_t       channel;
    uint64_t       incarnation;
    nd_ring *ring;
} nd_live_channel;

/* An account of which answers are kept: those given at a moment or later. */
typedef struct {
    uint64_t account;
    uint64_t answered_from_unix_ms;
} nd_live_account;

/* Read a segment that is not being written to.  What cannot be read of it is left out, and
 * *is_whole_out is 0 then: nd_cleaner_copy has it from the rings.
 *
 *   Owns    the caller gives it back with nd_cleaner_close; memory for the whole segment is held.
 *   Blocks  yes.
 *   Returns ND_OK, ND_ERR_FULL, ND_ERR_ARGUMENT.
 */
nd_status nd_cleaner_open(const nd_io *io, const nd_files *files, const char *folder,
                          uint64_t segment, nd_cleaner **out, uint32_t *is_whole_out);

/* NULL is nothing to do.
 *
 *   Blocks  a moment: the memory of the segment is given back.
 */
void nd_cleaner_close(nd_cleaner *cleaner);

/* Gather what comes next and is live: units of about step_bytes altogether.
 *
 * Channels and accounts rise by their number; what belongs to others, or to a channel
 * without a ring, is not live.  A record larger than step_bytes goes alone.
 *
 *   Blocks  no.
 *   Cost    O(units and records looked at): at most 16,384; what is gathered is copied.
 *   Returns ND_OK (go on), ND_EMPTY (all is gathered), ND_NO_ROOM (go on after the group
 *           is sealed), ND_ERR_POISONED.
 */
nd_status nd_cleaner_move(nd_cleaner *cleaner, nd_journal *journal, const nd_live_channel *channels,
                          uint64_t channels_count, const nd_live_account *accounts,
                          uint64_t accounts_count, uint64_t step_bytes);

/* Gather records as a ring has them, from *seq to upto_seq: for those whose place on the
 * disk cannot be read.  Some may stand elsewhere too; recovery takes one of them.  A record
 * that is damaged in the ring is left out.
 *
 *   Blocks  no.
 *   Cost    O(records gathered), a unit of about step_bytes at most.
 *   Returns as nd_cleaner_move, with *seq where to go on; ND_COLD when that record has to be
 *           fetched first (nd_fetch.h); ND_ERR_CORRUPT when nothing behind *seq can be found
 *           in the ring.
 */
nd_status nd_cleaner_copy(nd_cleaner *cleaner, nd_journal *journal, const nd_live_channel *channel,
                          uint64_t *seq, uint64_t upto_seq, uint64_t step_bytes);

/* cffi: end */

#endif /* ND_CLEANER_H */
