/* nd_writer.h -- a thread that writes a journal's groups.
 *
 *      Trio thread                      the writer's thread
 *      seal, nd_writer_begin  ------->  nd_journal_write_sync
 *      the descriptor is readable <---  done
 *      nd_writer_ended, group_done
 *
 * A thread of Python's would have to get hold of the interpreter's lock before it can say
 * that the disk is done, and wait for it behind whatever runs then: up to 5 ms, many times
 * what a sync takes.  This one never touches the interpreter.
 *
 * Threads: every function belongs to the one that gathers (nd_journal.h).  From
 *      nd_writer_begin until nd_writer_ended says so the writing side of the journal is in
 *      use, as during a call of nd_journal_write_sync.
 */
#ifndef ND_WRITER_H
#define ND_WRITER_H

#include <stdint.h>

#include "nd_io.h"
#include "nd_journal.h"
#include "nd_status.h"

/* cffi: begin */

typedef struct nd_writer nd_writer;

/* Start a thread for a journal.
 *
 *   Owns    the caller gives it back with nd_writer_close, before the journal is closed.
 *   Blocks  no.
 *   Cost    a thread, and a descriptor.
 *   Returns ND_OK, ND_ERR_ARGUMENT, ND_ERR_FULL (no memory, thread or descriptor left).
 */
nd_status nd_writer_open(const nd_io *io, nd_journal *journal, nd_writer **out);

/* The descriptor that becomes readable when a write has ended.  It belongs to the writer:
 * to be waited for, and for nothing else. */
int32_t nd_writer_descriptor(const nd_writer *writer);

/* Begin nd_journal_write_sync.
 *
 *   Blocks  no.
 *   Returns ND_OK, ND_ERR_ARGUMENT (the last one has not ended, or nobody asked whether).
 */
nd_status nd_writer_begin(nd_writer *writer);

/* Whether what was begun has ended; the descriptor is not readable any more then.
 *
 *   Blocks  no.
 *   Returns ND_OK (nd_journal_group_done tells how), ND_EMPTY (not yet, or nothing was begun).
 */
nd_status nd_writer_ended(nd_writer *writer);

/* End the thread.  NULL is nothing to do.
 *
 *   Blocks  until a write that was begun has ended.
 */
void nd_writer_close(nd_writer *writer);

/* cffi: end */

#endif /* ND_WRITER_H */
