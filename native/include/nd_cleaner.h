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
 * Threads: opening may run on a worker; moving belongs to the journal's gathering side.
 */
#ifndef ND_CLEANER_H
#define ND_CLEANER_H

#include <stdint.h>

#include "nd_journal.h"
#include "nd_ring.h"
#include "nd_status.h"

#define ND_MOVED_RECORDS_MAX 1024u              /* in one unit; a step is no longer than that */
#define ND_MOVED_BYTES_MAX   (256u * 1024)      /* of bodies in one unit, unless one record is larger */

/* cffi: begin */

typedef struct nd_cleaner nd_cleaner;

/* A channel that exists, and its ring. */
typedef struct {
    uint64_t       channel;
    uint64_t       incarnation;
    const nd_ring *ring;
} nd_live_channel;

/* An account of which answers are kept: those given at a moment or later. */
typedef struct {
    uint64_t account;
    uint64_t answered_from_unix_ms;
} nd_live_account;

/* Read a segment that is not being written to.
 *
 *   Owns    the caller gives it back with nd_cleaner_close; memory for the whole segment is held.
 *   Blocks  yes.
 *   Returns ND_OK, ND_ERR_IO, ND_ERR_FULL, ND_ERR_CORRUPT (not all of it can be read:
 *           what it lacks cannot be moved, so that it had better stay).
 */
nd_status nd_cleaner_open(const nd_io *io, const nd_files *files, const char *folder,
                          uint64_t segment, nd_cleaner **out);

/* NULL is nothing to do. */
void nd_cleaner_close(nd_cleaner *cleaner);

/* Gather what comes next and is live: units of about ND_MOVED_BYTES_MAX altogether.
 *
 * Channels and accounts rise by their number; what belongs to others is not live.
 *
 *   Blocks  no.
 *   Cost    O(records and answers looked at): up to 16 times ND_MOVED_RECORDS_MAX; what is
 *           gathered is copied.
 *   Returns ND_OK (go on), ND_EMPTY (all is gathered), ND_NO_ROOM (go on after the group
 *           is sealed), ND_ERR_POISONED.
 */
nd_status nd_cleaner_move(nd_cleaner *cleaner, nd_journal *journal, const nd_live_channel *channels,
                          uint64_t channels_count, const nd_live_account *accounts,
                          uint64_t accounts_count);

/* cffi: end */

#endif /* ND_CLEANER_H */
